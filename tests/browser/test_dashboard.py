"""The pages without a browser: what is served, what it refers to, and that it agrees with the API."""

from __future__ import annotations

import posixpath
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import functions
from functions import pages
from functions.app import OPERATIONS
from shared.job import PHASES, TERMINAL, Status
from shared.presets import PRESETS
from shared.types import JOB_TYPES, IngestParams, OutputSpec
from worker.loudness import Measured

FOLDER = Path(functions.__file__).parent / "dashboard"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
SERVED = [name for name in FILES if not name.endswith("LICENSE")]
PAGES = {"/": "landing.html", "/dashboard": "index.html", "/docs": "docs.html"}
OURS = {name: (FOLDER / name).read_text() for name in SERVED if name.endswith(".js") and "vendor/" not in name}
#: What would need more than `script-src 'self'; style-src 'self'`, or would read the API's text as HTML.
FORBIDDEN = {
    "a style attribute": r"""\sstyle=["'$]""",
    "a handler attribute": r"""\son[a-z]+=["'$]""",
    "a script from text": r"\beval\(|new Function\b|setTimeout\(\s*[\"'`]|javascript:",
    "HTML from text": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|unsafeHTML|unsafeSVG|unsafeStatic",
}


class Markup(HTMLParser):
    """What a page refers to, and what it carries inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Collect references and handlers."""
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.inline += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        self._inside = tag if tag in {"script", "style"} else ""

    def handle_data(self, data):
        """Collect the text of scripts and styles."""
        if self._inside and data.strip():
            self.inline.append(f"{self._inside}: {data.strip()[:40]}")

    def handle_endtag(self, tag):
        """Leave scripts and styles."""
        self._inside = ""


@pytest.mark.parametrize("path", [*PAGES, *(f"/dashboard/{name}" for name in SERVED)])
def test_every_file_is_served_under_a_policy_that_allows_this_server_only(site, path):
    """Nothing inline, nothing from elsewhere, and no file is taken for another kind."""
    answer = site.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    kinds = {
        ".js": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
        "": "text/html",
        ".html": "text/html",
    }
    assert answer.status_code == 200
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    assert not re.search(r"unsafe|\*|https?:", answer.headers["content-security-policy"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith(kinds[Path(path).suffix])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_refers_only_to_what_this_server_has(site, path):
    """Every link, style, script and picture of a page is there."""
    links = Markup(site.get(path).text).links
    assert links
    for link in links:
        assert link.startswith("/"), f"{link} leads away"
        assert site.get(link).status_code == 200, link


@pytest.mark.parametrize("path", PAGES)
def test_a_page_carries_nothing_inline(site, path):
    """The policy would stop inline scripts, styles and handlers; pages have none."""
    assert Markup(site.get(path).text).inline == []


@pytest.mark.parametrize("name", [name for name in SERVED if name.endswith(".js")])
def test_a_module_imports_only_files_that_exist(site, name):
    """Imports are relative paths, resolved as a browser does without a build step."""
    text = (FOLDER / name).read_text()
    for found in re.findall(r"""(?<!["'])\b(?:import|from)\s*["']([^"']+)["']""", text):
        assert found.startswith(("./", "../")), f"{found} needs a build step"
        path = posixpath.normpath(posixpath.join("/dashboard", posixpath.dirname(name), found))
        assert site.get(path).status_code == 200, path


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_module_inserts_text_as_text(name, what):
    """What the API says can never become markup, style or script."""
    assert not re.findall(FORBIDDEN[what], OURS[name]), f"{name} has {what}"


def test_styles_load_nothing():
    """Style sheets name no other file and no other server."""
    for name in SERVED:
        if name.endswith(".css"):
            assert not re.search(r"url\(|@import", (FOLDER / name).read_text()), name


def test_the_pages_open_without_a_token_and_the_api_does_not(visit):
    """Where tokens are set the page comes first and asks for one; its data stays closed."""
    site = visit(api_tokens=["sesame"])
    for path in ("/", "/dashboard", *(f"/dashboard/{name}" for name in SERVED)):
        assert site.get(path).status_code == 200, path
    assert site.get("/api/jobs").status_code == 401
    assert site.get("/api/jobs", headers={"Authorization": "Bearer sesame"}).status_code == 200


def test_every_address_the_modules_call_is_a_route():
    """`/api/…` in a module is one of the API's paths; a placeholder on either side stands for any segment."""
    routes = [re.sub(r"\{\w+\}", "*", operation.path).split("/") for operation in OPERATIONS]
    called = {found for text in OURS.values() for found in re.findall(r"""["'`](/api/[^"'`?]*)""", text)}
    assert {"/api/jobs", "/api/events", "/api/stats", "/api/uploads", "/api/job-types"} <= called
    for path in called:
        segments = re.sub(r"\$\{[^}]+\}", "*", path).split("/")
        fitting = [route for route in routes if len(route) == len(segments) and all(map(_fit, route, segments))]
        assert fitting, path


def _fit(one: str, other: str) -> bool:
    return one == other or "*" in {one, other}


def test_the_new_job_card_finds_its_choices_in_the_published_schema(site):
    """Presets and formats come from `/api/job-types`, where create.js reads them, and each is accepted."""
    types = {item["name"]: item for item in site.get("/api/job-types").json()["items"]}
    params = types["ingest"]["params"]
    presets = [choice["const"] for choice in params["properties"]["preset"]["oneOf"] if "const" in choice]
    formats = params["$defs"]["OutputSpec"]["properties"]["format"]["enum"]
    assert presets == list(PRESETS)
    for preset in presets:
        IngestParams(source="x", preset=preset, outputs=tuple(OutputSpec(format=one) for one in formats))
    assert types["ingest"]["stages"] == list(JOB_TYPES["ingest"].stages)


def test_the_modules_know_every_state_and_phase():
    """A state that is added or renamed shows up here, not as a blank on the page."""
    standing = OURS["format.js"]
    ended_badly = re.search(r"BAD = new Set\(\[(.*?)\]\)", standing)
    assert ended_badly
    assert {*re.findall(r'"(\w+)"', ended_badly[1]), "completed"} == TERMINAL
    assert {*re.findall(r'case "(\w+)"', standing), *TERMINAL} == set(Status)
    dots = re.findall(r"\.dot\.(\w+)", (FOLDER / "style.css").read_text())
    assert set(dots) | {"pending"} == set(Status)
    waits = re.search(r"WAITS = new Set\(\[(.*?)\]\)", OURS["list.js"])
    assert waits
    assert set(re.findall(r'"(\w+)"', waits[1])) == set(Status) - TERMINAL - {"running"}
    assert f"PHASES = {list(PHASES)}".replace("'", '"') in OURS["family.js"]


def test_the_loudness_table_reads_measures_that_are_made():
    """Each row of the before/after table is a fact of the report."""
    table = re.search(r"MEASURES = \[(.*?)\n\];", OURS["job.js"], re.DOTALL)
    assert table
    shown = re.findall(r'^\s*\["(\w+)"', table[1], re.MULTILINE)
    assert len(shown) >= 4
    levels, points = np.full(200, -20.0, np.float32), np.zeros((2000, 2), np.int16)
    measured = Measured(
        sample_rate=48000, channels=1, samples=960_000, momentary=levels, short_term=levels, points=points,
        true_peak=0.5, sample_peak=0.5, clipped_samples=0, damaged_frames=0,
    )  # fmt: skip
    assert set(shown) <= set(measured.facts())


def test_the_library_comes_with_its_licence():
    """Every vendored folder carries the text under which it may be passed on."""
    vendored = [path for path in (FOLDER / "vendor").iterdir() if path.is_dir()]
    assert vendored
    for folder in vendored:
        assert "Redistribution" in (folder / "LICENSE").read_text()


def _address(site, path: str, name: str) -> str:
    """Where a page says that one of its files is."""
    (found,) = [link for link in Markup(site.get(path).text).links if link.endswith(f"/{name}")]
    return found


def test_the_first_view_is_small_on_its_way(site):
    """All that the dashboard loads, with what it asks the API first, fits into 80 kB: it opens at once on a phone."""
    loaded = [name for name in SERVED if not name.startswith(("docs.", "landing.", "pages."))]
    paths = [*(f"/dashboard/{name}" for name in loaded), "/api/job-types", "/api/stats", "/api/jobs", "/api/me"]
    sent = {path: int(site.get(path).headers["content-length"]) for path in paths}
    assert sum(sent.values()) < 80_000, sent


def test_what_a_page_loads_is_kept_for_good_and_the_page_itself_is_not(site):
    """Scripts and styles lie below the hash of them all; who asks by the plain name, or an old hash, asks again."""
    address = _address(site, "/dashboard", "main.js")
    assert re.fullmatch(r"/dashboard/[0-9a-f]{16}/main\.js", address)
    assert site.get(address).headers["cache-control"] == "public, max-age=31536000, immutable"
    assert site.get("/dashboard").headers["cache-control"] == "no-cache"
    assert site.get("/dashboard/main.js").headers["cache-control"] == "no-cache"
    old = site.get("/dashboard/0123456789abcdef/main.js")
    assert (old.headers["cache-control"], old.text) == ("no-store", OURS["main.js"])
    assert site.get("/dashboard/0123456789abcdef/nothing.js").status_code == 404
    known = {"If-None-Match": site.get("/dashboard").headers["etag"]}
    assert site.get("/dashboard", headers=known).status_code == 304
    assert site.get("/dashboard", headers=known | {"Accept-Encoding": "identity"}).status_code == 200


def test_the_hash_is_another_one_when_any_file_is(site, tmp_path, monkeypatch):
    """One changed letter in a module that no page names is enough to make every browser ask anew."""
    before = _address(site, "/dashboard", "main.js")
    shutil.copytree(FOLDER, tmp_path / "dashboard")
    shutil.copy(FOLDER.parent / "openapi.json", tmp_path)
    with (tmp_path / "dashboard" / "format.js").open("a") as file:
        file.write("\n")
    monkeypatch.setattr(pages, "_FOLDER", tmp_path / "dashboard")
    pages._site.cache_clear()
    try:
        assert _address(site, "/dashboard", "main.js") != before
    finally:
        pages._site.cache_clear()


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/main.js", "/openapi.json", "/api/job-types"])
def test_an_answer_is_packed_for_who_takes_it(site, path):
    """The same bytes come out, and far fewer go over the wire; who refuses gzip gets them plain."""
    plain = site.get(path, headers={"Accept-Encoding": "identity, gzip;q=0"})
    small = site.get(path, headers={"Accept-Encoding": "br, gzip;q=0.8"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in small.headers["vary"]
    assert small.content == plain.content
    assert int(small.headers["content-length"]) < len(plain.content)
    assert site.head(path).headers["content-length"] == small.headers["content-length"]


def test_short_answers_and_tagged_ones_are_left_as_they_are(site):
    """What fits into a packet is not worth packing, and an ETag names the bytes as they were sent."""
    made = site.post(
        "/api/jobs", json={"type": "ingest", "params": {"source": "https://a.example/" + "b" * 2000}}
    ).json()
    for path in ("/healthz", "/api/me", f"/api/jobs/{made['id']}"):
        assert "content-encoding" not in site.get(path).headers, path
