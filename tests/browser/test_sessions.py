"""A person and an agent: the cards say how each session stands, and its page is where one reads on and replies."""

import os
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import spool
from tests.browser.screen import PATIENCE_MS, PHONE, barriers, screen

expect.set_options(timeout=PATIENCE_MS)
#: Waits for the test, which opens the gate, or fails, or has others work where it is told to; else it asks back.
AGENT = """
from spool_program import Turn
turn = Turn.begin()
turn.say("a note for the page", role="system")
if "wait" in turn.text:
    turn.say("I think about it.")
    open("gate").read()
if "long" in turn.text:
    for number in range(3):
        turn.say(f"{number} is a number of which there is a lot to say. " * 6)
if "check" in turn.text:
    for upload in turn.uploads:
        turn.job("check", {"source": upload["asset"]}, key=upload["filename"])
    dot = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    turn.preview("What I see", {"spoons": 2, "image": "data:image/gif;base64," + dot})
if "break" in turn.text:
    turn.fail("The kettle is empty; fill it.", "no_water")
elif "thanks" in turn.text:
    turn.say("You are welcome.")
    turn.finish()
else:
    turn.ask(f"You said {turn.text!r}. What now?")
    turn.finish()
"""
PROGRAMS = """
[programs.tea]
kind = "agent"
title = "Tea maker"
command = ["{python}", "tea.py"]
params = { sugar = { type = "integer", minimum = 0, maximum = 3, default = 1 } }
"""


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """A Spool whose worker runs an agent."""
    folder = tmp_path_factory.mktemp("kitchen")
    (folder / "tea.py").write_text(AGENT)
    os.mkfifo(folder / "gate")  # whoever opens it waits until the other side does
    (folder / "programs.toml").write_text(PROGRAMS)
    with spool(folder, SPOOL_PROGRAMS=str(folder / "programs.toml"), SPOOL_HEARTBEAT_S="0.5") as running:
        yield running


@pytest.fixture
def guest(browser, kitchen):
    """Somebody who looks at it."""
    with screen(browser, kitchen.dev.url) as found:
        yield found


def card(page, title):
    """A session's card."""
    return page.locator(".session").filter(has=page.get_by_role("link", name=title, exact=True))


def reply(page, text):
    """Say something on a session's page."""
    page.get_by_label("Reply").fill(text)
    page.get_by_label("Reply").press("Enter")


def test_an_agent_is_answered_and_its_card_follows(guest, kitchen):
    """Grey before it begins, pulsing while it works, a badge when it asks, red when it failed; all without a reload."""
    cards = guest.open("/dashboard#/sessions")
    expect(cards.get_by_text("No sessions yet.")).to_be_visible()
    kitchen.api.post("/api/sessions", json={"program": "tea", "title": "Later"})
    expect(card(cards, "Later")).to_contain_text("Not started")

    page = guest.open("/dashboard#/")
    page.get_by_role("link", name="Sessions").click()
    page.get_by_role("link", name="New session").click()
    page.get_by_label("Title").fill("Breakfast")
    page.get_by_label(re.compile("^Sugar")).fill("2")
    page.get_by_label("First message").fill("wait")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("h1")).to_have_text("Breakfast")
    expect(page.get_by_role("log")).to_contain_text("I think about it.")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    breakfast = card(cards, "Breakfast")
    expect(breakfast).to_contain_text("At work")
    expect(breakfast.locator(".preview")).to_have_text("I think about it.")
    shown = "(one) => [getComputedStyle(one).animationName, getComputedStyle(one).backgroundColor]"
    moves, green = breakfast.locator(".dot").evaluate(shown)
    still, grey = card(cards, "Later").locator(".dot").evaluate(shown)
    assert (moves, still) == ("alive", "none")

    (kitchen.dev.folder / "gate").write_text("")
    expect(page.get_by_role("log")).to_contain_text("You said 'wait'. What now?")
    expect(page.get_by_role("log")).to_contain_text("a note for the page")
    expect(breakfast).to_contain_text("Needs input")
    expect(breakfast.locator(".preview")).not_to_contain_text("a note")
    assert breakfast.locator(".dot").evaluate(shown) == ["none", green]

    reply(page, "break")
    expect(page.get_by_role("region", name="What went wrong")).to_contain_text("The kettle is empty; fill it.")
    expect(breakfast.locator(".preview")).to_have_text("The kettle is empty; fill it.")
    red = breakfast.locator(".dot").evaluate(shown)[1]
    assert len({red, green, grey}) == 3
    reply(page, "thanks")
    expect(page.get_by_role("log").get_by_role("listitem").last).to_contain_text("You are welcome.")
    expect(breakfast).to_contain_text("Done")
    session = kitchen.api.get("/api/sessions").json()["items"][0]
    assert (session["title"], session["params"]) == ("Breakfast", {"sugar": 2})


def test_a_turn_is_stopped_and_files_go_with_a_reply(guest, kitchen):
    """Stop ends the agent and it is one's own turn again; what is attached is named with what was said."""
    made = kitchen.api.post("/api/sessions", json={"program": "tea", "message": {"text": "wait"}}).json()
    page = guest.open(f"/dashboard#/sessions/{made['id']}")
    expect(page.get_by_role("log")).to_contain_text("I think about it.")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Needs input")).to_be_visible()
    assert kitchen.job(made["active_job_id"])["status"] == "cancelled"
    (path := kitchen.dev.folder / "recipe.txt").write_text("Water, then leaves.")
    page.set_input_files(".reply input[type=file]", path)
    page.get_by_label("Reply").fill("long")
    page.get_by_role("button", name="Send").click()
    own = page.get_by_role("listitem").filter(has_text="recipe.txt")
    expect(own).to_contain_text("long")
    expect(page.get_by_role("log")).to_contain_text("You said 'long'. What now?")
    expect(page.get_by_label("Reply")).to_have_value("")
    log = page.get_by_role("log")
    assert log.evaluate("(one) => one.scrollHeight - one.scrollTop - one.clientHeight < 40")


def test_the_jobs_that_a_turn_has_added_open_over_its_session(guest, kitchen, recordings):
    """From the message, the card and the turn's own row; each leads to its job, whose page shows what was said."""
    page = guest.open("/dashboard#/sessions/new")
    page.get_by_label("Title").fill("Stock-taking")
    page.set_input_files(".new input[type=file]", [recordings.counting, recordings.speech])
    page.get_by_label("First message").fill("check them")
    expect(page.get_by_role("button", name="Begin")).to_be_enabled()
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("button", name="Show 2 parts").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tbody tr").filter(has_text="Completed")).to_have_count(2)  # comes by itself
    expect(dialog.locator(".graph li.completed")).to_have_count(2)
    assert barriers(page) == []
    page.keyboard.press("Escape")
    cards = guest.open("/dashboard#/sessions")
    stock = card(cards, "Stock-taking")
    expect(stock).to_contain_text("Show 2 parts, 2 done")
    stock.get_by_role("button", name="Show 2 parts").click()
    expect(cards.get_by_role("dialog").locator("tbody tr")).to_have_count(2)
    cards.get_by_role("dialog").locator("tbody").get_by_role("link", name=recordings.counting.name).click()
    expect(cards.locator("h1")).to_have_text(re.compile(recordings.counting.name))
    cards.get_by_role("link", name="The job it is part of").click()
    expect(cards.get_by_role("region", name="Messages")).to_contain_text("What now?")
    expect(cards.get_by_role("region", name="Previews")).to_contain_text("spoons 2")
    expect(cards.get_by_role("img", name="What I see")).to_be_visible()
    assert barriers(cards) == []
    cards.get_by_role("link", name="its session").click()
    expect(cards.locator("h1")).to_have_text("Stock-taking")


def test_sessions_keep_nobody_out_on_any_screen(browser, kitchen):
    """Cards, page and form pass axe, a preview of two to three lines scrolls, and nothing sticks out on a phone."""
    made = kitchen.api.post("/api/sessions", json={"program": "tea", "message": {"text": "long"}}).json()
    pages = {"sessions": "Needs input", f"sessions/{made['id']}": "What now?", "sessions/new": "First message"}
    for look in ({}, {"viewport": PHONE, "color_scheme": "dark"}):
        with screen(browser, kitchen.dev.url, **look) as visitor:
            for path, words in pages.items():
                page = visitor.open(f"/dashboard#/{path}")
                expect(page.get_by_text(words).first).to_be_visible()
                if not look or path == "sessions":  # the same elements on a phone, and most colours in its cards
                    assert barriers(page) == []
                assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
                if path == "sessions":
                    preview = page.locator(f"[data-id='{made['id']}'] .preview")
                    expect(preview).to_contain_text("What now?")
                    lines, hidden = preview.evaluate(
                        "(one) => [one.clientHeight / parseFloat(getComputedStyle(one).lineHeight), one.scrollTop > 0]"
                    )
                    assert 2 <= lines <= 3.2
                    assert hidden
                page.close()
