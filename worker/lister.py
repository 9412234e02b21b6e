"""The program that reads a list of recordings which a stranger made: a feed, a playlist or a web page.

`python -I lister.py FILE KIND URL MOST` runs alone, limited and for a moment, prints what it found as one JSON object,
and decides nothing: worker/listing.py does not trust it either. `URL` is where the file was, for its relative links.
"""

from __future__ import annotations

import calendar
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

import feedparser

#: How the links of recordings end.
MEDIA = re.compile(
    r"\.(mp3|m4a|m4b|aac|mp4|m4v|mov|mkv|webm|ogg|oga|opus|flac|wav|aif|aiff|caf|wma|3gp)$", re.IGNORECASE
)
_SOUND_OR_PICTURE = ("audio/", "video/")
_PLAYLIST_TYPES = ("audio/x-mpegurl", "audio/mpegurl", "application/vnd.apple.mpegurl")
#: Tags of a list for players that switch between pieces of one recording.
_STREAM = "#EXT-X-"


def look(data: bytes, kind: str, url: str, most: int) -> dict[str, Any]:
    """What kind of list it is, its title, its recordings, and the pages it links to."""
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff")
    kinds = {"feed": lambda: read_feed(data, url, most), "playlist": lambda: read_playlist(text, url, most)}
    kinds["page"] = lambda: read_page(text, url, most)
    chosen = guess(text) if kind == "auto" else kind
    if chosen is not None:
        return kinds[chosen]()
    return {"kind": None, "title": None, "items": [], "links": []}


def guess(text: str) -> str | None:
    """What a list is by how it begins."""
    head = text[:4000].lstrip().lower()
    if re.search(r"<(rss|feed|rdf:rdf)[\s>]", head):
        return "feed"
    if head.startswith("#extm3u"):
        return "playlist"
    if re.search(r"<(!doctype html|html|head|body|a|audio|video)[\s>]", head):
        return "page"
    lines = [line.strip() for line in text.splitlines()[:50] if line.strip() and not line.startswith("#")]
    if lines and all(re.match(r"(https?://\S+|[^<>\s][^<>]*\.\w{2,4})$", line) for line in lines):
        return "playlist"
    return None


def read_feed(data: bytes, url: str, most: int) -> dict[str, Any]:
    """RSS and Atom: the first recording of each entry."""
    # As a stream, because text would be taken for the name of a file or an address.
    found = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    if not found.get("version") and not found.entries:
        return {"kind": None, "title": None, "items": [], "links": []}
    items = []
    for entry in found.entries[:most]:
        link = _recording(entry)
        if link is None:
            continue
        date = entry.get("published_parsed") or entry.get("updated_parsed")
        items.append(
            {
                "id": entry.get("id") or link,
                "url": urljoin(url, link),
                "title": entry.get("title"),
                "author": entry.get("author") or found.feed.get("author"),
                "published_s": calendar.timegm(date) if date else None,
            }
        )
    return {"kind": "feed", "title": found.feed.get("title"), "items": items, "links": []}


def read_playlist(text: str, url: str, most: int) -> dict[str, Any]:
    """M3U: one recording per line, with its title in the comment before it."""
    if _STREAM in text:
        return {"kind": "stream", "title": None, "items": [], "links": []}
    items: list[dict[str, Any]] = []
    title = list_title = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#EXTINF:"):
            title = line.partition(",")[2].strip() or None
        elif line.startswith("#PLAYLIST:"):
            list_title = line.partition(":")[2].strip() or None
        elif line and not line.startswith("#") and len(items) < most:
            items.append(_item(urljoin(url, line), title))
            title = None
    return {"kind": "playlist", "title": list_title, "items": items, "links": []}


def read_page(text: str, url: str, most: int) -> dict[str, Any]:
    """A web page: what it plays, the recordings it links to, and the other pages it links to."""
    page = _Page(url)
    page.feed(text)
    page.close()
    items = [_item(link, title) for link, title in page.recordings.items()][:most]
    return {"kind": "page", "title": page.title, "items": items, "links": list(page.pages)[:most]}


class _Page(HTMLParser):
    """Collects links; the text of a link to a recording is its title."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = url
        self.title: str | None = None
        self.recordings: dict[str, str | None] = {}
        self.pages: dict[str, None] = {}
        self._text: list[str] | None = None
        self._link: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "base" and about.get("href"):
            self.base = urljoin(self.base, about["href"] or "")
        elif tag == "title":
            self._text = []
        elif tag in {"audio", "video", "source"} and about.get("src"):
            self.recordings.setdefault(self._absolute(about["src"] or ""), about.get("title"))
        elif tag == "a" and not (about.get("href") or "#").startswith("#"):
            link = self._absolute(about["href"] or "")
            if MEDIA.search(link.partition("?")[0]) or (about.get("type") or "").startswith(_SOUND_OR_PICTURE):
                self.recordings.setdefault(link, None)
                self._link, self._text = link, []
            elif link.startswith(("http://", "https://")):
                self.pages.setdefault(link, None)

    def handle_data(self, data: str) -> None:
        if self._text is not None and len(self._text) < 100:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"a", "title"} or self._text is None:
            return
        text = " ".join("".join(self._text).split()) or None
        if tag == "title":
            self.title = self.title or text
        elif self._link is not None:
            self.recordings[self._link] = self.recordings[self._link] or text
        self._text = self._link = None

    def _absolute(self, link: str) -> str:
        try:
            return urldefrag(urljoin(self.base, link.strip())).url
        except ValueError:  # no address at all, such as http://[
            return ""


def _recording(entry: Any) -> str | None:  # noqa: ANN401 - feedparser carries no types
    """The first enclosure that is sound or video, by its type or its name."""
    links = [link for link in entry.get("links", []) if link.get("rel") == "enclosure" and link.get("href")]
    links += [{"href": media.get("url"), "type": media.get("type")} for media in entry.get("media_content", [])]
    for link in links:
        kind, href = link.get("type") or "", link.get("href") or ""
        known = kind.startswith(_SOUND_OR_PICTURE) and kind not in _PLAYLIST_TYPES
        if href and (known or MEDIA.search(href.partition("?")[0])):
            return str(href)
    return None


def _item(link: str, title: str | None) -> dict[str, Any]:
    return {"id": link, "url": link, "title": title, "author": None, "published_s": None}


if __name__ == "__main__":
    FILE, KIND, URL, MOST = sys.argv[1:]
    json.dump(look(Path(FILE).read_bytes(), KIND, URL, int(MOST)), sys.stdout)
