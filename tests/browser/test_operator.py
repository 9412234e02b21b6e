"""An operator at the page: what is wrong is seen at once, found, and mended in two clicks, by mouse or keyboard."""

import json
import re

from playwright.sync_api import Page, expect

from shared.job import Failure, Line, Outcome, Progress, new_id
from shared.store.sql import Statement
from shared.store.values import Beat, ClaimRequest, Worker
from tests.browser.screen import PATIENCE_MS, barriers

expect.set_options(timeout=PATIENCE_MS)
WORKER = Worker(id=new_id(), host="the-machine", version="9.9", types=("ingest",), slots=1)
NO_ROOM = Failure("out_of_disk", "permanent", "The disk is full; free some space.", "encoding")
EMPTY = Failure("bad_input.empty", "permanent", "The file is empty.", "analyzing")


def claim(queue):
    """The next job, owned by a worker of the test."""
    job = queue.store.claim(ClaimRequest(WORKER, new_id(), 90))
    assert job is not None
    return job.claim


def fail(queue, failure: Failure, times: int = 1) -> None:
    """Jobs that end badly."""
    for _ in range(times):
        queue.submit()
        queue.store.finish(claim(queue), Outcome("failed", failure=failure))


def rows(page: Page):
    """The rows of the list."""
    return page.locator("main > .jobs tbody tr")


def tab(page: Page, name: str):
    """A tab of the list, by the state it shows."""
    return page.get_by_role("navigation", name="Jobs by state").get_by_role("link", name=re.compile(f"^{name}"))


def test_tabs_count_live_and_waiting_ones_only_so_far(operator, queue):
    """What is beyond a hundred is counted to a thousand after the first view, and said as 1,000+ beyond that."""
    page = operator.open("/dashboard")
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    queue.submit()
    expect(tab(page, "Pending")).to_have_text(re.compile(r"Pending\s*1$"))
    for count in (500, 499):
        queue.submit(
            type="flow",
            params={},
            children=[{"type": "ingest", "params": {"source": "https://a.example/b"}}] * (count - 1),
        )
    page.reload()
    expect(tab(page, "Pending")).to_have_text(re.compile(r"Pending\s*998$"))
    for _ in range(2):
        queue.submit()
    page.reload()
    expect(tab(page, "Pending")).to_have_text(re.compile(r"Pending\s*1,000\+$"))
    expect(page.get_by_text("No worker is running")).to_be_visible()


def test_filters_find_jobs_and_the_address_keeps_them(operator, queue):
    """Text, type, tag, time and parts narrow the list; the address shows the same to somebody else."""
    queue.submit(tags=["show"])
    queue.submit(params={"source": "https://example.org/other.mp3"})
    queue.submit(
        type="flow", params={}, children=[{"type": "ingest", "params": {"source": "https://example.org/part.mp3"}}]
    )
    page = operator.open("/dashboard")
    expect(rows(page)).to_have_count(3)
    page.get_by_label("Parts of jobs too").check()
    expect(rows(page)).to_have_count(4)
    page.get_by_label("Name, title or id").fill("OTHER")
    page.get_by_label("Name, title or id").press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(operator.open(page.url.removeprefix(operator.url)).get_by_role("link", name="other.mp3")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_label("Type").select_option("flow")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Type").select_option("")
    expect(rows(page)).to_have_count(3)
    page.get_by_label("Tag").fill("show")
    page.get_by_label("Tag").press("Enter")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Created").select_option("3600")
    expect(rows(page)).to_have_count(1)


def test_dead_letters_go_by_error_and_are_mended_all_at_once(operator, queue):
    """Those of one cause are retried together, after a question that names the number; the others stay."""
    fail(queue, NO_ROOM, 3)
    fail(queue, EMPTY)
    page = operator.open("/dashboard#/?status=failed")
    group = page.get_by_role("listitem").filter(has_text="out_of_disk")
    group.get_by_role("button", name="Retry 3").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Retry 3 jobs?")
    dialog.get_by_role("button", name="Keep as it is").click()
    expect(dialog).to_be_hidden()
    assert queue.jobs(status="pending") == []
    group.get_by_role("button", name="Retry 3").click()
    dialog.get_by_role("button", name="Retry 3 jobs").click()
    expect(page.get_by_text("Retry: 3 in the queue again.")).to_be_visible()
    again = queue.jobs(status="pending")
    assert {job["retry_of"] for job in again} == {job["id"] for job in queue.jobs(status="failed")[1:]}
    expect(group).to_have_count(0)  # what was run again is no longer a task
    expect(page.get_by_role("listitem").filter(has_text="bad_input.empty")).to_have_count(1)
    page.get_by_role("link", name="Run again").first.click()
    expect(page.locator(".life")).to_contain_text("in line")


def test_dead_letters_have_a_tab_of_their_own(operator, queue):
    """What used up its tries stands apart from what no try would mend; the tile of failures leads to both."""
    fail(queue, EMPTY)
    queue.submit(max_failures=1)
    queue.store.finish(claim(queue), Outcome("failed", failure=Failure("network", "transient", "It hung up.", "x")))
    page = operator.open("/dashboard")
    expect(tab(page, "Dead letter")).to_have_text(re.compile(r"Dead letter\s*1$"))
    expect(tab(page, "Failed")).to_have_text(re.compile(r"Failed\s*1$"))
    page.get_by_role("region", name="The queue at a glance").get_by_role("link", name="1 dead letter").click()
    expect(rows(page)).to_have_count(1)
    groups = page.get_by_role("region", name="By error")
    expect(groups).to_contain_text("Tried as often as they may be")
    expect(groups.get_by_role("listitem")).to_have_text([re.compile("1.*network.*It hung up.")])
    assert barriers(page) == []
    groups.get_by_role("button", name="Retry 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry talk.mp3").click()
    expect(groups).to_be_hidden()
    assert [job["retry_of"] for job in queue.jobs(status="pending")] == [queue.jobs(status="dead_letter")[0]["id"]]


def test_more_dead_letters_than_are_shown_are_retried_with_them(operator, queue):
    """Where there are older ones the question says so, and the server takes all of that error, once each."""
    fail(queue, NO_ROOM, 4)
    fail(queue, EMPTY)

    def fewer(route):  # the page reads three where it would read two hundred
        route.continue_(url=route.request.url.replace("limit=200", "limit=3"))

    def smaller(route):  # and the server takes two at a time instead of a hundred
        route.continue_(post_data=json.dumps(route.request.post_data_json | {"limit": 2}))

    operator.context.route(re.compile("limit=200"), fewer)
    operator.context.route("**/api/jobs/retry", smaller)
    page = operator.open("/dashboard#/?status=failed")
    group = page.get_by_role("listitem").filter(has_text="out_of_disk")
    group.get_by_role("button", name="Retry all").click()
    expect(page.get_by_role("dialog")).to_contain_text("They are 2 of the newest 200, and the older ones too.")
    page.get_by_role("dialog").get_by_role("button", name="Retry all").click()
    expect(page.get_by_text("Retry: 4 in the queue again.")).to_be_visible()
    assert len(queue.jobs(status="pending")) == 4


def test_what_holds_jobs_back_is_said_and_let_go(operator, queue):
    """A paused type is named where one looks first, its jobs say it too; one click lets it go on, another stops it."""
    queue.store.heartbeat(WORKER, [], lease_s=90)
    queue.submit()
    page = operator.open("/dashboard")
    page.get_by_label("Pause one kind of job").select_option("ingest")
    glance = page.get_by_role("region", name="The queue at a glance")
    expect(glance).to_contain_text("Ingest is paused, for")
    expect(rows(page)).to_contain_text("Ingest is paused")
    assert queue.api.get("/api/stats").json()["steering"][0]["type"] == "ingest"
    glance.get_by_role("button", name="Resume Ingest").click()
    expect(glance).not_to_contain_text("paused")
    assert queue.api.get("/api/stats").json()["steering"] == []


def test_a_schedule_runs_now_and_rests(operator, queue):
    """Each with its next time and its last job; without any, the page says which command adds the usual ones."""
    page = operator.open("/dashboard")
    page.get_by_role("button", name="Schedules…").click()
    expect(page.get_by_role("dialog")).to_contain_text("spool schedules defaults")
    page.get_by_role("button", name="Close").click()
    body = {"cron": "0 3 * * *", "type": "maintenance", "params": {"duty": "backup"}}
    assert queue.api.put("/api/schedules/nightly", json=body).status_code == 201
    page.get_by_role("button", name="Schedules…").click()
    listed = page.get_by_role("dialog")
    expect(listed).to_contain_text("nightly 0 3 * * * backup")
    listed.get_by_role("button", name="Run now nightly").click()
    expect(listed).to_contain_text("nightly: its job is in the queue.")
    assert [job["params"] for job in queue.jobs(tag="schedule:nightly")] == [{"duty": "backup"}]
    listed.get_by_role("button", name="Pause nightly").click()
    expect(listed).to_contain_text("nightly is paused.")
    assert queue.api.get("/api/schedules").json()["items"][0]["paused"]
    assert barriers(page) == []
    listed.get_by_role("button", name="Resume nightly").click()
    expect(listed).to_contain_text("nightly goes on.")
    assert not queue.api.get("/api/schedules").json()["items"][0]["paused"]
    listed.get_by_role("link", name="last").click()
    expect(page).to_have_url(re.compile("#/jobs/"))


def test_a_place_in_line_comes_with_a_time(operator, queue):
    """As far as the usual length of such jobs and the free hands tell; nobody works, and nothing is promised."""
    queue.submit()
    queue.store.finish(claim(queue), Outcome("completed", result={}))
    queue.store._run([Statement("UPDATE tally SET run_ms = 60000")])
    for _ in range(3):
        queue.submit()
    page = operator.open("/dashboard")
    expect(rows(page).first).to_contain_text("Number 3 in line")
    expect(rows(page).first).not_to_contain_text("done in about")
    queue.store.heartbeat(WORKER, [], lease_s=90)
    queue.submit()  # whatever happens makes the page look again
    expect(rows(page).nth(1)).to_contain_text("done in about 3 min")
    expect(rows(page).last).to_contain_text("Done")


def test_ticked_jobs_are_cancelled_and_deleted_together(operator, queue):
    """The bar counts what fits each verb; what was refused is said, the rest is done."""
    fail(queue, EMPTY)
    for _ in range(2):
        queue.submit()
    page = operator.open("/dashboard")
    expect(rows(page)).to_have_count(3)
    for box in page.get_by_label(re.compile("^Select ")).all():
        box.check()
    bar = page.get_by_role("toolbar")
    expect(bar).to_contain_text("3 selected")
    bar.get_by_role("button", name="Cancel 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 2 jobs").click()
    expect(tab(page, "Cancelled")).to_have_text(re.compile(r"Cancelled\s*2$"))
    bar.get_by_role("button", name="Clear").click()
    expect(bar).to_be_hidden()
    for box in page.get_by_label(re.compile("^Select ")).all():
        box.check()
    bar.get_by_role("button", name="Delete 3").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 3 jobs").click()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    assert queue.jobs() == []


def test_a_running_job_is_watched_and_stopped(operator, queue):
    """Stage, percentage, time left and log arrive as the worker tells them; cancel shows at once."""
    job = queue.submit()
    page = operator.open(f"/dashboard#/jobs/{job['id']}")
    expect(page.get_by_text("Next in line")).to_be_visible()
    owned = claim(queue)
    lines = (
        Line(1, "info", "stage", "encoding", {"index": 3, "count": 5}),
        Line(2, "warn", "log", "two frames are damaged"),
    )
    at = Progress("encoding", 3, 5, 42.0, 252.0, 600.0, 21.0)
    queue.store.heartbeat(WORKER, [Beat(owned, at, lines)], lease_s=90)
    life = page.get_by_role("region", name="Progress")
    expect(life).to_contain_text("42 % · 21 s left")
    expect(life.locator(".moving")).to_contain_text("Encoding")
    queue.store.heartbeat(WORKER, [Beat(owned, Progress("encoding", 3, 5, 43.0, 258.0, 600.0, 20.0))], lease_s=90)
    expect(life).to_contain_text("× real time")
    page.get_by_label("Lowest level").select_option("warn")
    log = page.get_by_role("region", name="Log")
    expect(log.get_by_role("listitem")).to_have_text([re.compile("two frames are damaged")])
    page.get_by_label("Search the log").fill("nothing like that")
    expect(log).to_contain_text("No line fits.")
    page.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(life).to_contain_text("Stopping")
    queue.store.finish(owned, Outcome("cancelled"))
    expect(page.get_by_role("button", name=re.compile("^Retry "))).to_be_visible()


def test_a_family_is_seen_from_its_row_and_on_its_page(operator, queue):
    """Children open over the list; on the parent's page they stand in the order of their phases, and lead back."""
    part = {"type": "ingest", "params": {"source": "https://example.org/part.mp3"}}
    children = [
        part | {"phase": phase, "child_key": key}
        for phase, key in (("core", "host"), ("core", "guest"), ("post", "mix"))
    ]
    parent = queue.submit(type="flow", params={}, children=children, tags=["family"])
    page = operator.open("/dashboard")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Show 3 parts").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tbody tr")).to_have_count(3)
    expect(dialog.get_by_role("heading", level=2)).to_have_text(
        [re.compile("Flow"), re.compile("^Core"), re.compile("^Post")]
    )
    assert barriers(page) == []
    owned = claim(queue)
    queue.store.heartbeat(WORKER, [Beat(owned, Progress("encoding", 3, 5, 42.0))], lease_s=90)
    expect(dialog.locator(f"[data-id='{owned.job_id}']")).to_contain_text("42 %")
    queue.store.finish(owned, Outcome("completed", result={}))
    expect(dialog.locator(f"[data-id='{owned.job_id}']")).to_contain_text("Completed")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(f"{operator.url}/dashboard#/jobs/{parent['id']}")
    graph = page.locator(".graph > li")
    expect(graph).to_have_text([re.compile("^Core"), re.compile("^Post")])
    expect(page.get_by_role("region", name="Progress")).to_contain_text("1 of 3 parts done")
    queue.store.finish(claim(queue), Outcome("completed", result={}))
    expect(page.get_by_role("region", name="Progress")).to_contain_text("2 of 3 parts done")
    graph.nth(1).get_by_role("link").click()
    expect(page.get_by_role("link", name="The job it is part of")).to_be_visible()


def test_the_keyboard_alone_is_enough(operator, queue):
    """Down the list, tick, cancel with a yes, search, open, back; keys do nothing while something is typed."""
    for name in ("one", "two", "three"):
        queue.submit(params={"source": f"https://example.org/{name}.mp3"})
    page = operator.open("/dashboard")
    expect(rows(page)).to_have_count(3)
    for key in "jjx":
        page.keyboard.press(key)
    expect(page.get_by_role("toolbar")).to_contain_text("1 selected")
    expect(page.get_by_label("Select two.mp3")).to_be_checked()
    page.keyboard.press("c")
    expect(tab(page, "Cancelled")).to_have_text(re.compile(r"Cancelled\s*1$"))
    page.keyboard.press("/")
    page.keyboard.type("xjcn")
    assert len(queue.jobs(status="pending")) == 2
    page.keyboard.press("Control+a")
    page.keyboard.type("three")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    page.locator("h1").focus()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(re.compile("three.mp3"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next and previous job")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("New job")
    page.keyboard.press("g")
    expect(rows(page)).to_have_count(3)


def test_a_paused_page_stands_still_and_catches_up(operator, queue):
    """Paused, it says as of when, and shows nothing new; resumed, all of it."""
    page = operator.open("/dashboard")
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    witness = operator.open("/dashboard")
    page.get_by_role("button", name="Pause").click()
    queue.submit()
    expect(rows(witness)).to_have_count(1)
    expect(page.get_by_text("as of")).to_be_visible()
    expect(rows(page)).to_have_count(0)
    page.get_by_role("button", name="Resume").click()
    expect(rows(page)).to_have_count(1)


def test_workers_are_shown_with_their_heartbeat_and_a_silent_one_in_red(operator, queue):
    """A worker that was not heard of for longer than it may be silent is said to be."""
    queue.store.heartbeat(WORKER, [], lease_s=90)
    page = operator.open("/dashboard")
    worker = page.locator(".workers > ul > li")
    expect(worker).to_contain_text("the-machine")
    expect(worker).to_contain_text("idle")
    queue.submit(params={"source": "https://example.org/talk.mp3", "title": "Two people"})
    owned = claim(queue)
    hands = worker.get_by_role("list", name="What it runs")
    expect(hands.get_by_role("link", name="Two people")).to_have_attribute("href", f"#/jobs/{owned.job_id}")
    queue.store.heartbeat(WORKER, [Beat(owned, Progress("encoding", 3, 5, 42.0))], lease_s=90)
    expect(hands).to_contain_text("Encoding")
    expect(worker).to_contain_text(re.compile(r"heard \d+ s ago"))
    assert barriers(page) == []
    page.route("**/api/**", lambda _request: None)  # a new answer would set the page's clock right again
    page.clock.install()
    page.clock.fast_forward("02:00")
    expect(worker).to_contain_text("silent")
