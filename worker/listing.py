"""What is in a list of recordings: asked of a short-lived, limited child, because the list may be hostile."""

from __future__ import annotations

import html
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import JobFailure
from shared.text import cleaned, is_plain
from shared.types import is_url
from worker.failures import last_words
from worker.process import Limits

if TYPE_CHECKING:
    from worker.run import Run

LISTER = Path(__file__).with_name("lister.py")
LIMITS = Limits(address_space_bytes=1 << 30, file_size_bytes=0, cpu_s=20, open_files=32)
#: Larger lists are refused; the longest known podcasts have feeds of about 10 MB.
MAX_BYTES = 32 << 20
#: More recordings and links than this are not looked at.
MOST = 5000
_ANSWER_BYTES = 32 << 20
_TITLE = 200
_UNREADABLE = (
    "bad_input.not_a_list",
    "The source is no feed, no playlist and no web page that lists recordings; check its link, or say its kind.",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of a list. `id` is what the list calls it, for good; times are seconds UTC."""

    id: str
    url: str
    title: str | None
    author: str | None
    published_s: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as it was read: recordings in its own order, links to other pages, and entries that lead nowhere."""

    kind: str
    title: str | None
    items: tuple[Item, ...]
    links: tuple[str, ...]
    unusable: int


def read_listing(run: Run, path: Path, *, kind: str, url: str) -> Listing:
    """Read a list. Raises `JobFailure` (`bad_input.*`) for what is none."""
    argv = [sys.executable, "-I", str(LISTER), str(path.absolute()), kind, url, str(MOST)]
    with run.processes.start(argv, cwd=path.parent, limits=LIMITS, stdout=True) as child:
        assert child.stdout is not None
        answer = child.stdout.read(_ANSWER_BYTES)
        child.stdout.close()
        ended = child.wait()
    if ended.returncode != 0:
        run.report.log("error", "The list could not be read", lines=last_words(ended))
        raise JobFailure(*_UNREADABLE)
    try:
        return _listing(json.loads(answer))
    except (ValueError, KeyError, TypeError, AttributeError):
        run.report.log("error", "The look into the list gave no usable answer")
        raise JobFailure(*_UNREADABLE) from None


def _listing(found: dict[str, Any]) -> Listing:
    if found["kind"] == "stream":
        raise JobFailure(
            "bad_input.stream",
            "The playlist is that of a stream in pieces (HLS), not a list of recordings; give the link of the file.",
        )
    if found["kind"] not in {"feed", "playlist", "page"}:
        raise JobFailure(*_UNREADABLE)
    items = {
        str(item["id"])[:2000]: Item(
            id=str(item["id"])[:2000],
            url=str(item["url"]),
            title=_plain(item["title"]),
            author=_plain(item["author"]),
            published_s=None if item["published_s"] is None else float(item["published_s"]),
        )
        for item in reversed(found["items"])
        if _usable(str(item["url"]))
    }
    return Listing(
        kind=str(found["kind"]),
        title=_plain(found["title"]),
        items=tuple(reversed(items.values())),
        links=tuple(link for link in map(str, found["links"]) if _usable(link)),
        unusable=sum(not _usable(str(item["url"])) for item in found["items"]),
    )


def _usable(url: str) -> bool:
    return is_url(url) and len(url) <= 2048 and is_plain(url)


def _plain(text: object) -> str | None:
    """A title, which feeds write as HTML, as one line of text that is short enough for a tag; None for nothing."""
    if not isinstance(text, str):
        return None
    line = " ".join(html.unescape(re.sub(r"<[^>]{0,500}>", "", text)).split())
    return cleaned(line)[:_TITLE].strip() or None
