"""A Spool that is closed: who comes in, what a key that may only read shows, and how one goes out."""

import re

import pytest
from playwright.sync_api import expect

from shared.keys import new_key
from tests.browser.conftest import spool
from tests.browser.screen import PATIENCE_MS, PHONE, barriers, screen
from tests.browser.test_creator import drop
from tests.browser.test_operator import EMPTY, claim, fail, rows

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A Spool with a token, a key that may only read, and jobs that are waiting, running and ended badly."""
    with spool(tmp_path_factory.mktemp("closed"), "--workers", "0", SPOOL_API_TOKENS="sesame") as running:
        running.api.headers["Authorization"] = "Bearer sesame"
        fail(running, EMPTY)
        running.submit()
        claim(running)
        running.submit(params={"source": "https://example.org/waits.mp3"})
        yield running


@pytest.fixture
def stranger(browser, closed):
    """Somebody at the door."""
    with screen(browser, closed.dev.url) as found:
        yield found


def log_in(page, text):
    """Give the key, and be let in."""
    page.get_by_label("Key or token").fill(text)
    page.get_by_role("button", name="Log in").click()


def test_a_closed_spool_lets_in_who_has_a_key_and_keeps_them_in(stranger, closed):
    """Every page asks once; a wrong word is said so; a reload, another tab and the live view need nothing more."""
    landing = stranger.open("/")
    expect(landing.get_by_role("button", name="Log in")).to_be_visible()
    page = stranger.open("/dashboard#/?status=pending")
    expect(page.get_by_text("Login needed")).to_be_visible()
    assert barriers(page) == []
    stranger.expected = ["401"]
    log_in(page, "open")
    expect(page.get_by_role("alert")).to_have_text("This is no key or token of this Spool, or it was revoked.")
    log_in(page, "sesame")
    expect(page.get_by_role("link", name="waits.mp3")).to_be_visible()
    expect(rows(page)).to_have_count(1)
    expect(page.locator(".link")).to_have_text(re.compile("Live"))
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    landing.reload()
    expect(landing.get_by_text("Drop a recording here")).to_be_visible()

    made = closed.submit(params={"source": "https://example.org/later.mp3"})
    expect(rows(page)).to_have_count(2)
    page.get_by_role("button", name="Cancel later.mp3").click()
    expect(rows(page)).to_have_count(1)
    assert closed.job(made["id"])["status"] == "cancelled"

    other = stranger.open("/dashboard")
    expect(rows(other)).to_have_count(4)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert stranger.context.cookies() == []
    closed.api.post(f"/api/jobs/{made['id']}/retry")
    expect(other.get_by_role("button", name="Log in")).to_be_visible()  # it asked again, and was not let in


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_key_that_may_only_read_sees_everything_and_is_offered_nothing(browser, closed, size):
    """No button that would be refused; a dropped file, a key press and a request by hand change nothing."""
    made, text = new_key(f"visitor-{size}", ("read",))
    closed.store.add_key(made)
    before = closed.jobs()
    with screen(browser, closed.dev.url, **({"viewport": PHONE} if size == "phone" else {})) as visitor:
        visitor.expected = ["403"]
        page = visitor.open("/dashboard")
        log_in(page, text)
        expect(page.get_by_role("link", name="waits.mp3")).to_be_visible()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        if size == "desktop":
            expect(page.get_by_text("Read only")).to_be_visible()
        changes = re.compile(r"^(Cancel|Retry|Delete|Select|Again|New)\b")
        pages = {
            "#/": "Next in line",
            "#/?status=failed": "By error",
            f"#/jobs/{before[0]['id']}": "Waited",
            f"#/jobs/{before[-1]['id']}": "Where the cause is",
        }
        for path, words in pages.items():
            page.goto(f"{closed.dev.url}/dashboard{path}")
            expect(page.get_by_text(words).first).to_be_visible()
            for role in ("button", "link", "checkbox"):
                expect(page.get_by_role(role, name=changes)).to_have_count(0)
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        page.goto(f"{closed.dev.url}/dashboard#/")
        expect(rows(page).first).to_be_visible()
        for press in "jxc":
            page.keyboard.press(press)
        drop(page, "main", closed.dev.folder / ".spool" / "spool.db")
        page.goto(f"{closed.dev.url}/dashboard#/new")
        expect(page.get_by_text("You may look, but not start jobs.")).to_be_visible()
        asked = [f"POST /api/jobs/{before[0]['id']}/cancel", f"DELETE /api/jobs/{before[0]['id']}", "POST /api/uploads"]
        answers = page.evaluate(
            """(asked) => Promise.all(asked.map((one) => one.split(" ")).map(
              ([method, path]) => fetch(path, {method}).then((answer) => answer.status)))""",
            asked,
        )
        assert answers == [403] * 3
    assert [(job["id"], job["status"]) for job in closed.jobs()] == [(job["id"], job["status"]) for job in before]
