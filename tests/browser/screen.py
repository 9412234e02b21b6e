"""A real browser on the pages: Debian's own Chromium, driven by Playwright, which downloads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

#: How long a test waits for what must happen before it calls it a failure, in ms.
PATIENCE_MS = 60_000
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(
  `${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
_AXE = (files("axe_playwright_python") / "axe.min.js").read_text()


def executable() -> str:
    """The browser's path. Without one the test is skipped, except in CI, where it fails."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sentence = "there is no Chromium; `make browser` installs it"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a fresh profile."""
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else _FLAGS
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Screen:
    """The tabs of one visitor of one Spool, and whatever they complained about."""

    context: BrowserContext
    url: str
    complaints: list[str] = field(default_factory=list)
    #: Parts of console messages that the test provokes.
    expected: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    documents: list[Response] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """A new tab at this address."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self._hear(f"{said.text} ({said.location})") if said.type == "error" else None)
        page.on("pageerror", lambda error: self._hear(str(error)))
        page.on("response", lambda answer: self.documents.append(answer) if _is_document(answer) else None)
        self.pages.append(page)
        page.goto(self.url + path)
        return page

    def _hear(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def judge(self) -> None:
        """Fail for any error on a console, any breach of the policy, and any page that came without the policy."""
        for page in self.pages:
            if not page.is_closed():
                self.complaints += page.evaluate("window.violations")
        unexpected = [one for one in self.complaints if not any(part in one for part in self.expected)]
        assert not unexpected, "\n".join(unexpected)
        assert self.documents, "no page was opened"
        for answer in self.documents:
            policy = answer.headers.get("content-security-policy", "")
            assert "default-src 'none'" in policy, answer.url
            assert "script-src 'self';" in policy, answer.url
            assert "style-src 'self';" in policy, answer.url


def _is_document(answer: Response) -> bool:
    return answer.request.resource_type == "document"


@contextmanager
def screen(browser: Browser, url: str, **options: object) -> Iterator[Screen]:
    """A visitor with a profile of their own; `options` are Playwright's, such as `viewport` and `color_scheme`."""
    context = browser.new_context(
        **{"viewport": DESKTOP, "reduced_motion": "reduce", "accept_downloads": True} | options
    )
    context.add_init_script(_WATCH)
    visitor = Screen(context, url)
    try:
        yield visitor
        visitor.judge()
    finally:
        context.close()


def barriers(page: Page) -> list[str]:
    """What axe finds that keeps people out, in words; only what it calls serious or critical."""
    page.evaluate(_AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']} at {node['target']}: {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]
