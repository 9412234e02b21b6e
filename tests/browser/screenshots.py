"""`make screenshots`: every page in light and dark, on a desktop and on a phone.

They show a Spool with real work in it, and a queue in which more goes on than one machine could do for a picture.

All go into build/screenshots; the three that the README shows also into docs/images.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.busy import busy_queue, go_on
from tests.browser.conftest import Spool, spool
from tests.browser.screen import DESKTOP, PATIENCE_MS, PHONE, chromium, screen
from tests.media.recordings import Recordings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "screenshots"
IMAGES = ROOT / "docs" / "images"
#: What the README shows: a picture's name there, and where it comes from.
SHOWN = {"dashboard.png": "busy-light-desktop", "job.png": "job-light-desktop", "phone.png": "job-dark-phone"}
expect.set_options(timeout=PATIENCE_MS)


def main() -> None:
    """Make them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        spool(
            Path(folder), SPOOL_HEARTBEAT_S="0.5", SPOOL_PROGRAMS=str(ROOT / "examples" / "programs.toml")
        ) as running,
        tempfile.TemporaryDirectory() as closed_folder,
        spool(Path(closed_folder), "--workers", "0", SPOOL_API_TOKENS="sesame") as closed,
        tempfile.TemporaryDirectory() as busy_folder,
        spool(Path(busy_folder), "--workers", "0") as busy,
        chromium() as browser,
    ):
        with screen(browser, running.dev.url) as visitor:
            pages = _work(running, visitor.open("/"))
        owned = busy_queue(busy)
        for scheme in ("light", "dark"):
            for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
                with screen(browser, running.dev.url, color_scheme=scheme, viewport=viewport) as visitor:
                    for name, (path, words) in pages.items():
                        _shoot(visitor.open(path), name, words, f"{scheme}-{size}")
                with screen(browser, busy.dev.url, color_scheme=scheme, viewport=viewport) as visitor:
                    go_on(busy, owned)
                    _shoot(visitor.open("/dashboard"), "busy", "Two people talk", f"{scheme}-{size}")
                    _shoot(visitor.open("/dashboard#/?status=dead_letter"), "errors", "By error", f"{scheme}-{size}")
                    page = visitor.open("/dashboard")
                    page.get_by_role("button", name="Show 3 parts").first.click()
                    _shoot(page, "parts", "guest", f"{scheme}-{size}")
                with screen(browser, closed.dev.url, color_scheme=scheme, viewport=viewport) as visitor:
                    page = visitor.open("/dashboard")
                    expect(page.get_by_role("button", name="Log in")).to_be_visible()
                    page.screenshot(path=FOLDER / f"login-{scheme}-{size}.png")
    for name, source in SHOWN.items():
        shutil.copyfile(FOLDER / f"{source}.png", IMAGES / name)
    print(f"{len(list(FOLDER.glob('*.png')))} pictures are in {FOLDER.relative_to(ROOT)}")  # noqa: T201 - a command


def _shoot(page: Page, name: str, words: str, look: str) -> None:
    """What is seen at first, and all of it."""
    expect(page.get_by_text(words).first).to_be_visible()
    expect(page.locator(".skeleton, .link.connecting")).to_have_count(0)
    page.screenshot(path=FOLDER / f"{name}-{look}.png")
    page.screenshot(path=FOLDER / f"{name}-{look}-full.png", full_page=True)
    page.close()


def _work(running: Spool, page: Page) -> dict[str, tuple[str, str]]:
    """Real jobs of several kinds, and the addresses of the pages with words that are on each."""
    recordings = Recordings()
    made = {}
    for name, path in {"talk": recordings.speech, "film": recordings.video, "bad": recordings.silent_video}.items():
        page.goto(running.dev.url)
        page.set_input_files(".drop input", path)
        ended = page.get_by_text("What to do") if name == "bad" else page.get_by_role("region", name="Finished files")
        expect(ended).to_be_visible()
        made[name] = page.url.removeprefix(running.dev.url)
    source = running.jobs()[-1]["params"]["source"]
    part = {"type": "ingest", "params": {"source": source}}
    children = [
        part | {"phase": phase, "child_key": key}
        for phase, key in (("core", "host"), ("core", "guest"), ("post", "mix"))
    ]
    family = running.submit(type="flow", params={}, children=children, tags=["season 2"])["id"]
    running.submit(run_at=f"{datetime.now(UTC) + timedelta(hours=9):%Y-%m-%dT%H:%M:%SZ}", tags=["tonight"])
    for preset in ("youtube", "ebu-r128", "spotify"):
        running.submit(params={"source": source, "preset": preset, "title": f"Two people talk, for {preset}"})
    talk = {"program": "assistant", "title": "Episode 12", "message": {"text": "Trim it please"}}
    session = running.api.post("/api/sessions", json=talk).json()["id"]
    running.api.post("/api/sessions", json={"program": "assistant", "title": "Trailer"})
    page.goto(f"{running.dev.url}/dashboard#/sessions/{session}")
    expect(page.get_by_text("Needs input")).to_be_visible()
    page.get_by_label("Reply").fill("How loud is this?")
    page.set_input_files(".reply input[type=file]", recordings.speech)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("LUFS").first).to_be_visible()
    page.get_by_label("Reply").fill("Make it a podcast")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Show its part")).to_be_visible()
    expect(page.locator(".stand")).to_have_text("Done")
    page.goto(f"{running.dev.url}/dashboard")
    expect(page.get_by_text("season 2")).to_be_visible()
    return {
        "landing": ("/", "Drop a recording here"),
        "jobs": ("/dashboard", "season 2"),
        "job": (made["talk"], "True peak"),
        "video": (made["film"], "True peak"),
        "failed": (made["bad"], "Where the cause is"),
        "family": (f"/dashboard#/jobs/{family}", "Parts"),
        "new": ("/dashboard#/new", "Ceiling"),
        "sessions": ("/dashboard#/sessions", "Trailer"),
        "session": (f"/dashboard#/sessions/{session}", "too quiet"),
    }


if __name__ == "__main__":
    main()
