"""`collect` from a list on a web server to children in a real queue: each recording once, whatever happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from shared.errors import JobFailure
from shared.job import Job, NewJob, Outcome, Status, new_id
from shared.settings import load_settings
from shared.store.sql import Statement
from shared.store.values import ClaimRequest, Worker
from shared.text import is_plain
from tests.contract.conftest import Databases
from tests.contract.factory import due, expire
from tests.real.site import Site, answer, served
from worker.children import Children
from worker.fetch import fetch_url
from worker.pipelines import PIPELINES, collect
from worker.run import Run
from worker.stop import Reason, Stop, Stopped

WORKER = Worker(id="collector", host="here", version="0", types=("collect",), slots=4)


def episode(number: int, **parts: str) -> str:
    """One entry of a feed as hosting services write it; `number` is also its day."""
    about = {
        "title": f"<![CDATA[Episode {number}: <b>tea</b> &amp; cake]]>",
        "guid": f'<guid isPermaLink="false">episode-{number}</guid>',
        "link": f'<enclosure url="https://media.example/{number}.mp3?token=1" length="1" type="audio/mpeg"/>',
    } | parts
    day = f"{number:02d} Nov 2026 10:00:00 GMT"
    return f"<item><title>{about['title']}</title>{about['guid']}<pubDate>{day}</pubDate>{about['link']}</item>"


def feed(*entries: str) -> bytes:
    """A podcast's feed."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>Tea Time</title>'
        f"<itunes:author>Ann Onym</itunes:author>{''.join(entries)}</channel></rss>"
    ).encode()


class Collector:
    """Runs `collect` jobs from a claim to a finish, on a real queue and a real web server."""

    def __init__(self, run: Run, store: Any, site: Site) -> None:
        self.run, self.store, self.site = run, store, site

    def post(self, path: str, **params: Any) -> Job:
        """A new job on a list of the site."""
        params = {"source": self.site.url(path)} | params
        return self.store.create([NewJob(id=new_id(), type="collect", params=params, on_child_failure="continue")])[0]

    def claim(self) -> Job:
        """The next one, owned."""
        job = self.store.claim(ClaimRequest(WORKER, new_id(), 90))
        assert job is not None
        return job

    def work(self, job: Job, stop: Stop | None = None) -> dict[str, Any]:
        """Run its stages; returns its result."""
        stop = stop or Stop()
        children = Children(self.store, job, load_settings(), stop)
        attempt = dataclasses.replace(self.run, job=job, stop=stop, children=children)
        pipeline = PIPELINES["collect"]
        state = pipeline.begin(attempt)
        for stage in pipeline.stages:
            stage.work(attempt, state)
        return pipeline.result(state)[0]

    def __call__(self, path: str, **params: Any) -> tuple[dict[str, Any], list[Job]]:
        """A whole job: its result and its children."""
        posted = self.post(path, **params)
        job = self.claim()
        assert job.id == posted.id
        result = self.work(job)
        self.store.finish(job.claim, Outcome("completed", result=result))
        return result, list(self.store.children(job.id))


@pytest.fixture(scope="module")
def databases(tmp_path_factory) -> Iterator[Databases]:
    """Those of the contract."""
    with ExitStack() as stack:
        yield Databases(tmp_path_factory.mktemp("databases"), stack)


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server."""
    with served() as running:
        yield running


@pytest.fixture(params=["sqlite", "libsql"])
def collector(request, run: Run, databases: Databases, site: Site, monkeypatch) -> Iterator[Collector]:
    """On each database; the links of the site are as good as public ones."""
    monkeypatch.setattr(collect, "fetch_url", partial(fetch_url, network=site.network))
    with databases.open(request.param) as store:
        yield Collector(run, store, site)


def show(site: Site, path: str, body: bytes, kind: str = "application/rss+xml", **headers: str) -> None:
    """Let the site answer so."""
    site.answers[path] = lambda handler: answer(handler, body, Content_Type=kind, **headers)


def sources(children: list[Job]) -> list[str]:
    """What the children read."""
    return [child.params["source"].partition("example")[2] for child in children]


def test_every_episode_of_a_feed_becomes_a_child_with_its_title(collector, site):
    """Newest first, under the parent's claim, with the show as artist and the caller's wishes for the files."""
    show(site, "/feed", feed(episode(1), episode(3), episode(2)))
    result, children = collector("/feed", ingest={"preset": "spotify", "outputs": [{"format": "m4a"}]})
    assert sources(children) == ["/3.mp3?token=1", "/2.mp3?token=1", "/1.mp3?token=1"]
    assert children[0].params["title"] == "Episode 3: tea & cake" == children[0].name
    assert children[0].params["artist"] == "Ann Onym"
    assert (children[0].params["preset"], children[0].params["outputs"]) == ("spotify", [{"format": "m4a"}])
    assert {child.status for child in children} == {Status.PENDING}
    assert (result["kind"], result["title"], result["added"]) == ("feed", "Tea Time", 3)
    assert collector.store.get(children[0].parent_id).status is Status.WAITING_CHILDREN


def test_what_was_taken_is_not_taken_again_even_when_its_address_changes(collector, site):
    """An episode is known by the feed's own id: signed links differ at every visit."""
    show(site, "/feed", feed(episode(1), episode(2)))
    collector("/feed")
    moved = episode(2, link='<enclosure url="https://media.example/2.mp3?token=2" length="1" type="audio/mpeg"/>')
    show(site, "/feed", feed(episode(3), moved, episode(1)))
    result, children = collector("/feed")
    assert sources(children) == ["/3.mp3?token=1"]
    assert (result["added"], result["taken_before"]) == (1, 2)


def test_at_the_first_visit_the_past_is_passed_over_for_good(collector, site):
    """A show of many years does not arrive twenty episodes a week; what is new later all comes, some visits later."""
    show(site, "/feed", feed(*map(episode, range(1, 9))))
    result, children = collector("/feed", max_items=2)
    assert sources(children) == ["/8.mp3?token=1", "/7.mp3?token=1"]
    assert (result["passed_over"], result["left_for_later"]) == (6, 0)
    show(site, "/feed", feed(*map(episode, range(1, 12))))
    result, children = collector("/feed", max_items=2)
    assert sources(children) == ["/11.mp3?token=1", "/10.mp3?token=1"]
    assert (result["passed_over"], result["left_for_later"]) == (0, 1)
    assert sources(collector("/feed", max_items=2)[1]) == ["/9.mp3?token=1"]
    assert collector("/feed", max_items=2)[1] == []


def test_a_feed_that_has_not_changed_is_not_sent_again(collector, site):
    """The server's own words come back; while something is left for later the whole list is asked for."""
    asked = []

    def conditional(handler) -> None:
        asked.append(handler.headers["If-None-Match"])
        if asked[-1] == '"v1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            answer(handler, feed(episode(1)), Content_Type="application/rss+xml", ETag='"v1"')

    site.answers["/feed"] = conditional
    assert collector("/feed")[0]["added"] == 1
    result, children = collector("/feed")
    assert (asked, result["changed"], children) == ([None, '"v1"'], False, [])
    show(
        site, "/list.m3u", b"#EXTM3U\nhttp://a.example/1.mp3\nhttp://a.example/2.mp3\n", "audio/x-mpegurl", ETag='"l1"'
    )
    collector("/list.m3u", max_items=1)
    assert collector.store.feed("local", site.url("/list.m3u")).etag is None
    assert sources(collector("/list.m3u", max_items=1)[1]) == ["/2.mp3"]
    assert collector.store.feed("local", site.url("/list.m3u")).etag == '"l1"'


def test_a_worker_that_dies_half_way_adds_no_child_twice(collector, site):
    """Children, memory and visit are one transaction: the next attempt finds them all, or none."""
    show(site, "/feed", feed(episode(1), episode(2)))
    posted = collector.post("/feed")
    collector.work(collector.claim())
    expire(collector.store, posted.id)
    collector.store.reap()
    due(collector.store, posted.id)
    again = collector.claim()
    assert (again.id, again.attempt) == (posted.id, 2)
    collector.work(again)
    children = collector.store.children(posted.id)
    assert sources(children) == ["/2.mp3?token=1", "/1.mp3?token=1"]


def test_a_second_attempt_tells_of_what_the_first_has_added(collector, site):
    """Of a list that is as it was, which its server then does not send; and of one that has lost an entry since."""

    def conditional(handler) -> None:
        if handler.headers["If-None-Match"] == '"v1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            answer(handler, feed(episode(1), episode(2)), Content_Type="application/rss+xml", ETag='"v1"')

    site.answers["/feed"] = conditional
    job = collector.post("/feed")
    told = collector.work(collector.claim())
    assert (told["changed"], told["added"], told["taken_before"]) == (True, 2, 0)
    expire(collector.store, job.id)
    collector.store.reap()
    due(collector.store, job.id)
    again = collector.claim()
    assert collector.work(again) == told
    show(site, "/feed", feed(episode(2), episode(3)))
    told = collector.work(again)
    assert told["added"] == len(collector.store.children(job.id)) == 3


def test_two_jobs_at_once_share_the_new_episodes(collector, site, monkeypatch):
    """Both have seen that an episode is new; only one gets it."""
    show(site, "/feed", feed(episode(1)))
    first, second = collector.post("/feed"), collector.post("/feed")
    one, two = collector.claim(), collector.claim()
    monkeypatch.setattr(Children, "seen", lambda _self, _items: frozenset())
    assert collector.work(one)["added"] == 1
    result = collector.work(two)
    assert (result["added"], result["taken_before"]) == (0, 1)
    assert len(collector.store.children(first.id)) == 1
    assert list(collector.store.children(second.id)) == []


def test_a_job_that_lost_its_claim_adds_and_remembers_nothing(collector, site):
    """The fence holds for children, for the visit and for what was taken."""
    show(site, "/feed", feed(episode(1)))
    posted = collector.post("/feed")
    job = dataclasses.replace(collector.claim(), attempt=7)
    with pytest.raises(Stopped) as stopped:
        collector.work(job)
    assert stopped.value.reason is Reason.LOST
    assert list(collector.store.children(posted.id)) == []
    assert collector.store.feed("local", site.url("/feed")) is None
    assert collector.store._run([Statement("SELECT * FROM seen")]) == [[]]


def test_callers_do_not_see_what_others_took(collector, site):
    """Each caller has a memory of its own."""
    show(site, "/feed", feed(episode(1)))
    collector("/feed")
    collector.store.create([NewJob(id="theirs", type="collect", params={"source": site.url("/feed")}, caller="other")])
    assert collector.work(collector.claim())["added"] == 1


def test_again_takes_what_was_taken_before(collector, site):
    """For a show that is to be mastered anew."""
    show(site, "/feed", feed(episode(1)))
    collector("/feed")
    assert collector("/feed", again=True)[0]["added"] == 1


def test_only_what_is_newer_than_a_moment(collector, site):
    """By the feed's own dates."""
    show(site, "/feed", feed(episode(1), episode(2), episode(3)))
    result, children = collector("/feed", published_after="2026-11-02T12:00:00Z")
    assert (sources(children), result["too_old"]) == (["/3.mp3?token=1"], 2)


def test_a_playlist_with_titles_and_relative_names(collector, site):
    """A list's own address is where its relative names begin."""
    show(
        site, "/lists/all.m3u8",
        b"\xef\xbb\xbf#EXTM3U\n#PLAYLIST:Best of\n#EXTINF:12,One, two\none.mp3\n\n../two%20b.ogg\n/etc/passwd\nfile:///etc/passwd\n",
        "application/octet-stream",
    )  # fmt: skip
    result, children = collector("/lists/all.m3u8")
    assert [child.name for child in children] == ["One, two", "two b.ogg", "passwd"]
    assert [child.params["source"] for child in children] == [
        *(site.url("/lists/one.mp3"), site.url("/two%20b.ogg"), site.url("/etc/passwd")),
    ]
    assert (result["kind"], result["title"], result["unusable"]) == ("playlist", "Best of", 1)
    assert children[0].params["artist"] == "Best of"


PAGE = b"""<!doctype html><html><head><title>Archive</title><base href="/shows/"></head><body>
<a href="one.mp3"> The  first </a> <a href="https://other.example/two">elsewhere</a> <a href="more.html">more</a>
<audio controls><source src="/sound/three.ogg" type="audio/ogg"></audio> <a href="#top">up</a>
<a href="one.mp3">again</a> <a href="mailto:a@b.example">write</a> <a href="http://[">broken</a></body></html>"""


def test_a_page_and_the_pages_it_links_to(collector, site):
    """Linked pages of the same site are children of their own, one level less deep; a recording comes once."""
    show(site, "/archive", PAGE, "text/html")
    result, children = collector("/archive", depth=1)
    assert [(child.type, child.params["source"]) for child in children] == [
        ("ingest", site.url("/shows/one.mp3")),
        ("ingest", site.url("/sound/three.ogg")),
        ("collect", site.url("/shows/more.html")),
    ]
    assert children[0].name == "The first"
    assert (result["added"], result["pages"]) == (2, 1)
    show(
        site,
        "/shows/more.html",
        b'<html><a href="one.mp3">x</a><a href="four.mp3">y</a><a href="/archive">z</a></html>',
    )
    linked = collector.claim()
    assert (linked.params["depth"], linked.params["kind"]) == (0, "page")
    collector.work(linked)
    assert [child.params["source"] for child in collector.store.children(linked.id)] == [site.url("/shows/four.mp3")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "bad_input.not_a_list"),
        (b"", "bad_input.not_a_list"),
        (b'{"items": []}', "bad_input.not_a_list"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsegment.ts\n", "bad_input.stream"),
        (b"\x00" * 1000, "bad_input.not_a_list"),
    ],
    ids=["a recording", "nothing", "JSON", "a stream in pieces", "zeros"],
)
def test_what_is_no_list_is_a_sentence(collector, site, body, code):
    """Its code says what it is; nothing is remembered."""
    show(site, "/list", body, "application/octet-stream")
    posted = collector.post("/list")
    with pytest.raises(JobFailure) as failed:
        collector.work(collector.claim())
    assert (failed.value.failure_code, failed.value.kind) == (code, "permanent")
    assert collector.store.feed(posted.caller, site.url("/list")) is None


BOMB = b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">'.encode() for n in range(12)
)


@pytest.mark.parametrize(
    "body",
    [
        BOMB + b']><rss version="2.0"><channel><title>&m;</title></channel></rss>',
        b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss version="2.0"><channel>'
        b'<title>&x;</title><item><title>&x;</title><enclosure url="https://a.example/1.mp3" type="audio/mpeg"/></item>'
        b"</channel></rss>",
        feed(episode(1, title="<![CDATA[<script>alert(1)</script>\x0b\u202e" + "x" * 5000 + "]]>")),
        feed(episode(1, link='<enclosure url="file:///etc/passwd" type="audio/mpeg"/>')),
        b'<html><a href="' + b"x" * 100_000 + b'.mp3">x</a>' + b"<b>" * 200_000,
    ],
    ids=["entities that grow", "an entity of a file", "a long title of markup", "a file as a recording", "a deep page"],
)
def test_a_hostile_list_hurts_nobody(collector, site, body):
    """It is read by a limited program, and what it says is checked: no foreign file, no endless text."""
    show(site, "/list", body)
    posted = collector.post("/list")
    collector.work(collector.claim())
    for child in collector.store.children(posted.id):
        assert child.params["source"].startswith("https://")
        assert "root:" not in str(child.params)
        assert len(child.params.get("title", "")) <= 200
        assert is_plain(child.params.get("title", ""))


def test_a_hundred_thousand_pages_are_not_followed(collector, site):
    """Recordings and pages have their limits, and the same site is never left."""
    links = "".join(f'<a href="/page-{n}">x</a><a href="/sound-{n}.mp3">y</a>' for n in range(20_000))
    show(site, "/all", f"<html>{links}</html>".encode(), "text/html")
    result, _ = collector("/all", depth=2, max_items=200, max_pages=50)
    assert (result["added"], result["pages"], result["listed"]) == (200, 50, 5000)
