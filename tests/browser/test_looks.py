"""Every page in light and dark, on a desktop and on a phone: nobody is kept out, and nothing is let in."""

import re

import pytest
from playwright.sync_api import expect

from shared.job import Outcome
from tests.browser.screen import DESKTOP, PATIENCE_MS, PHONE, barriers, screen
from tests.browser.test_operator import EMPTY, claim, fail

expect.set_options(timeout=PATIENCE_MS)


def _pages(queue) -> dict[str, tuple[str, str]]:
    """Each page's address, and words that are there when it stands."""
    fail(queue, EMPTY)
    failed = queue.jobs()[0]["id"]
    part = {"type": "ingest", "params": {"source": "https://example.org/part.mp3"}}
    family = queue.submit(type="flow", params={}, children=[part, part | {"phase": "post"}])["id"]
    queue.store.finish(claim(queue), Outcome("completed", result={}))
    queue.submit(tags=["a tag"])
    return {
        "landing": ("/", "Drop a recording here"),
        "list": ("/dashboard", "a tag"),
        "by error": ("/dashboard#/?status=failed", "By error"),
        "failed job": (f"/dashboard#/jobs/{failed}", "Where the cause is"),
        "family": (f"/dashboard#/jobs/{family}", "Parts"),
        "new job": ("/dashboard#/new", "Ceiling"),
        "api": ("/docs", "Routes"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_keeps_anybody_out_or_sticks_out(browser, queue, scheme, size):
    """axe finds nothing serious, the page is as wide as the screen, and one heading says where one is."""
    found = []
    with screen(browser, queue.dev.url, color_scheme=scheme, viewport=size) as visitor:
        for name, (path, words) in _pages(queue).items():
            page = visitor.open(path)
            expect(page.get_by_text(words).first).to_be_visible()
            if size is DESKTOP:  # the same elements in the same colours as on a phone
                found += [f"{name}: {barrier}" for barrier in barriers(page)]
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{name}: is wider than the screen")
            if page.locator("h1").count() != 1:
                found.append(f"{name}: has no single heading")
            page.close()
    assert found == []


def test_the_job_of_a_finished_recording_keeps_nobody_out(visitor, studio, recordings):
    """Player, waveform, loudness and log of a real result, and the dialog of the keys, pass axe too."""
    page = visitor.open("/")
    page.set_input_files(".drop input", recordings.speech)
    expect(page.get_by_role("region", name="Finished files")).to_be_visible()
    assert barriers(page) == []
    page.locator("h1").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert barriers(page) == []


def test_the_policy_is_enforced(operator, queue):
    """A script, a style and a picture from elsewhere that got into the page would not run, show or load."""
    queue.submit(params={"source": "https://example.org/%3Cimg%20src=x%20onerror=window.broken=1%3E.mp3"})
    page = operator.open("/dashboard")
    expect(page.get_by_role("link", name="<img src=x onerror=window.broken=1>.mp3")).to_be_visible()
    operator.expected = [
        "violates the following Content Security Policy directive",
        "script-src",
        "style-src",
        "img-src",
    ]
    page.evaluate(
        """for (const [tag, text] of [["script", "window.broken = 1"], ["style", "main { display: none }"]])
          document.body.append(Object.assign(document.createElement(tag), {textContent: text}));
        document.body.append(Object.assign(new Image(), {src: "https://example.org/spy.png"}))"""
    )
    expect(page.get_by_role("link", name=re.compile("onerror"))).to_be_visible()
    assert page.evaluate("window.broken") is None
    page.wait_for_function("window.violations.length >= 3")


def test_light_and_dark_are_kept(operator):
    """The page follows the system until somebody says otherwise, and remembers that."""
    page = operator.open("/dashboard")
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.get_by_role("button", name="Light or dark").click()
    after = page.evaluate(background)
    assert after != before
    page.reload()
    assert page.evaluate(background) == after
