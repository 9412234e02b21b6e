"""Pages that stay true: while the server is away, when it is back, in two tabs, and on a host that cannot stream."""

import re
import socket

import pytest
from playwright.sync_api import expect

from shared.job import Progress
from shared.store.values import Beat
from tests.browser.conftest import spool
from tests.browser.screen import PATIENCE_MS, screen
from tests.browser.test_operator import WORKER, claim
from tests.cli.conftest import DEADLINE_S

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def port():
    """A port that is free, for a server that comes back at the same address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_a_page_outlives_its_server(browser, tmp_path, port):
    """Killed, the page says since when it knows nothing; started again, it goes on by itself with what it missed."""
    with spool(tmp_path, "--workers", "0", "--port", port) as first:
        job = first.submit()
        with screen(browser, first.dev.url) as visitor:
            visitor.expected = ["ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY", "ERR_SOCKET"]
            page = visitor.open("/dashboard")
            expect(page.get_by_role("link", name="talk.mp3")).to_be_visible()
            expect(page.locator(".link")).to_have_text(re.compile("Live"))
            first.dev.process.kill()
            first.dev.process.wait(DEADLINE_S)
            stale = page.get_by_role("alert")
            expect(stale).to_contain_text("The server does not answer; what you see is as of")
            expect(page.get_by_role("link", name="talk.mp3")).to_be_visible()
            with spool(tmp_path, "--workers", "0", "--port", port) as second:
                second.api.post(f"/api/jobs/{job['id']}/cancel")
                expect(page.locator(".link")).to_have_text(re.compile("Live"))
                expect(stale).to_be_hidden()
                expect(page.get_by_text("Cancelled · ingest")).to_be_visible()


def test_two_tabs_tell_the_same(operator, queue):
    """What is done in one tab shows in the other, without a reload."""
    one, other = operator.open("/dashboard"), operator.open("/dashboard")
    job = queue.submit()
    for page in (one, other):
        expect(page.get_by_text("Pending · ingest")).to_be_visible()
    one.get_by_role("button", name=re.compile("^Cancel ")).click()
    expect(other.get_by_text("Cancelled · ingest")).to_be_visible()
    assert queue.job(job["id"])["status"] == "cancelled"


def test_a_change_shows_by_itself(operator, queue, record_property):
    """Each new job comes into the page without a reload; how soon, by the page's own clock, is measured."""
    page = operator.open("/dashboard")
    expect(page.locator(".link")).to_have_text(re.compile("Live"))
    page.evaluate(
        """window.seen = {};
        new MutationObserver(() => document.querySelectorAll(".jobs tr[data-id]").forEach((row) => {
          window.seen[row.dataset.id] ??= Date.now();
        })).observe(document.body, {subtree: true, childList: true, attributes: true})"""
    )
    jobs = []
    for count in range(1, 6):
        jobs.append(queue.submit())
        expect(page.locator("main > .jobs tbody tr")).to_have_count(count)
    late = page.evaluate(
        "(jobs) => jobs.map(({id, created_at}) => window.seen[id] - Date.parse(created_at)).sort((a, b) => a - b)", jobs
    )
    record_property("figure", f"from the commit to the page: median {late[2]} ms, most {late[-1]} ms")
    assert len(late) == 5


def test_progress_never_goes_back(operator, queue):
    """An answer that other pages were given a moment before does not undo what the live view has told since."""
    queue.submit()
    page = operator.open("/dashboard")
    owned = claim(queue)
    queue.store.heartbeat(WORKER, [Beat(owned, Progress("encoding", 3, 5, 42.0, 252.0, 600.0, 21.0))], lease_s=90)
    row = page.locator(f"[data-id='{owned.job_id}']")
    expect(row).to_contain_text("42 %")

    def older(route):
        answer = route.fetch()
        found = answer.json()
        for job in found["items"]:
            job["progress"] = job["progress"] and job["progress"] - 30
        route.fulfill(response=answer, json=found)

    page.route("**/api/jobs?**", older)
    queue.submit()
    expect(page.locator("main > .jobs tbody tr")).to_have_count(2)
    expect(row).to_contain_text("42 %")


def test_a_page_that_cannot_stream_asks_instead(operator, queue):
    """Behind a host that ends every answer, the page says that it polls, and shows what comes."""
    operator.context.route("**/api/events*", lambda route: route.fulfill(status=503, body=""))
    operator.expected = ["503", "ERR_FAILED"]
    page = operator.open("/dashboard")
    expect(page.locator(".link")).to_have_text(re.compile("Updates every 2 s"))
    queue.submit()
    expect(page.get_by_text("Pending · ingest")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
