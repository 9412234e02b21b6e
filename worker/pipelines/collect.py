"""`collect`: every new recording of a feed, a playlist or a web page becomes a child that masters it.

The visit, what was taken and the children are written in one transaction: a worker that dies half-way leaves either
all of it or nothing, and no recording is taken twice, not even by two jobs at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from shared.job import Job
from shared.store.values import Feed, Visit
from shared.types import CollectParams, is_url
from worker.children import Child
from worker.fetch import fetch_url
from worker.listing import MAX_BYTES, Item, Listing, read_listing
from worker.run import Pipeline, Run, Stage
from worker.transfer import fetch_source


@dataclass(slots=True)
class CollectState:
    """What the stages hand on to each other; without a `listing` the source has not changed."""

    params: CollectParams
    path: Path
    #: The name under which the source is remembered, and what was said of it at the last visit, if there was one.
    url: str
    known: Feed | None = None
    #: The children that an earlier attempt of this job has added: what they take care of is this job's.
    before: dict[str, Job] = field(default_factory=dict)
    feed: Feed = field(default_factory=Feed)
    listing: Listing | None = None
    counts: dict[str, int] = field(default_factory=dict)
    added: int = 0
    pages: int = 0


def begin(run: Run) -> CollectState:
    """Read the parameters."""
    params = CollectParams.model_validate(run.job.params)
    url = urldefrag(params.source).url if is_url(params.source) else params.source
    return CollectState(params, run.work / "list", url)


# --- the stages --------------------------------------------------------------------------------------------------
def fetch(run: Run, state: CollectState) -> None:
    """Bring the list here, unless it has not changed since the last visit, and read it."""
    state.known, state.before = run.children.feed(state.url), run.children.there()
    base = ""
    if is_url(state.params.source):
        fetched = fetch_url(
            state.url,
            state.path,
            stop=run.stop,
            progress=run.report.progress,
            max_bytes=MAX_BYTES,
            pages=True,
            known=None if state.params.again or state.before else state.known,
        )
        if fetched.unchanged:
            run.report.log("info", "The list has not changed since the last visit")
            return
        state.feed, base = Feed(fetched.etag, fetched.last_modified), fetched.url
    else:
        fetch_source(run, state.params.source, state.path)
    state.listing = read_listing(run, state.path, kind=state.params.kind, url=base)
    run.report.log("info", f"The {state.listing.kind} lists {len(state.listing.items)} recordings")


def spawn(run: Run, state: CollectState) -> None:
    """Add a child for every recording that is new, and for the pages it links to, and remember the visit."""
    if state.listing is None:
        return
    params, listing = state.params, state.listing
    recent = [item for item in _newest_first(listing.items) if _recent(item, params.published_after)]
    names = {_remembered(state.url, item): item for item in recent}
    known = frozenset[str]() if params.again else run.children.seen(list(names)) - state.before.keys()
    fresh = sorted((name for name in names if name not in known), key=lambda name: name not in state.before)
    taken, rest = fresh[: params.max_items], fresh[params.max_items :]
    # Of a feed the past is over; a playlist and a page have no past, only more than fits into one visit.
    first = state.known is None and listing.kind == "feed"
    links = _same_site(state.url, listing.links)[: params.max_pages] if params.depth else []
    children = [_recording(name, names[name], listing, params) for name in taken]
    children += [_page(link, params) for link in links]
    passed_over, left = (rest, ()) if first else ((), rest)
    # What is left for later must be found again: a server that says "not changed" would hide it.
    visit = Visit(run.job.caller, state.url, Feed() if left else state.feed, passed_over)
    there = run.children.add(children, visit)
    own = state.before | {job.child_key: job for job in there if job.child_key is not None}
    state.added = sum(job.type == "ingest" for job in own.values())
    state.pages = len(own) - state.added
    state.counts = {
        "listed": len(listing.items),
        "too_old": len(listing.items) - len(recent),
        "taken_before": len(names) - len(fresh) + len(children) - len(there),
        "passed_over": len(passed_over),
        "left_for_later": len(left),
        "unusable": listing.unusable,
    }
    run.report.log("info", f"{state.added} new recordings", **state.counts)


def result(state: CollectState) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """What was found, and what became of it."""
    listing = state.listing
    return {
        "changed": listing is not None,
        "kind": listing.kind if listing else None,
        "title": listing.title if listing else None,
        "added": state.added,
        "pages": state.pages,
        **state.counts,
    }, ()


# --- what the stages ask -----------------------------------------------------------------------------------------
def _newest_first(items: Sequence[Item]) -> list[Item]:
    """By date where there is one; what has none keeps its place in the list, behind."""
    return sorted(items, key=lambda item: -(item.published_s or 0.0))


def _recent(item: Item, after: datetime | None) -> bool:
    return after is None or item.published_s is None or item.published_s > after.timestamp()


def _remembered(url: str, item: Item) -> str:
    """The name under which an item is remembered: a feed's ids are its own, an address is the same everywhere."""
    own = item.url if is_url(item.id) and item.id == item.url else f"{url}\n{item.id}"
    return hashlib.sha256(own.encode()).hexdigest()[:32]


def _same_site(url: str, links: Sequence[str]) -> list[str]:
    host = urlsplit(url).netloc
    return [link for link in links if urlsplit(link).netloc == host and link != url]


def _recording(name: str, item: Item, listing: Listing, params: CollectParams) -> Child:
    made = params.ingest.model_dump(mode="json", exclude_unset=True)
    about = {"title": item.title, "artist": item.author or listing.title}
    return Child(
        key=name,
        type="ingest",
        params={"source": item.url, **{key: value for key, value in about.items() if value}, **made},
        name=item.title or unquote(urlsplit(item.url).path.rpartition("/")[2])[:200] or None,
        once=None if params.again else name,
    )


def _page(link: str, params: CollectParams) -> Child:
    """A linked page is searched by a child of its own, one level less deep."""
    name = "page-" + hashlib.sha256(link.encode()).hexdigest()[:32]
    about = params.model_dump(mode="json", exclude_unset=True)
    return Child(
        key=name,
        type="collect",
        params={**about, "source": link, "kind": "page", "depth": params.depth - 1},
        name=link[:200],
    )


COLLECT: Pipeline[CollectState] = Pipeline(
    type="collect",
    begin=begin,
    stages=(Stage("fetching", fetch, weight=9), Stage("spawning", spawn, weight=1)),
    result=result,
)
