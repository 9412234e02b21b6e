"""Large files on their way into a bucket: in parts, past this server, and on from where they broke off."""

import os
import re

import pytest
from playwright.sync_api import expect

from shared.settings import load_settings
from shared.store.local import LocalJobStore
from tests.browser.screen import PATIENCE_MS, screen
from tests.functions.api import Api
from tests.functions.test_events import Server
from tests.real.s3 import Ministack

expect.set_options(timeout=PATIENCE_MS)
PART = 5 << 20


@pytest.fixture
def bucket(tmp_path):
    """An API whose files live in a bucket; those above ten megabytes go in parts of five."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    with Ministack(tmp_path / "s3") as running:
        storage = running.storage(parts_above=10 << 20, part_bytes=PART)
        settings = load_settings(_env_file=None, database_url=f"sqlite:///{tmp_path}/spool.db")
        api = Api(settings, store, storage)
        with Server(api) as server:
            yield server
    store.close()


def test_an_upload_goes_on_where_it_broke_off_even_in_another_tab(browser, bucket, tmp_path):
    """The tab is closed while one of three parts is missing; the same file dropped again sends that part alone."""
    (path := tmp_path / "long.wav").write_bytes(os.urandom(2 * PART + 1000))
    with screen(browser, bucket.url) as visitor:
        visitor.expected = ["ERR_FAILED"]
        first = visitor.open("/")
        third = re.compile("partNumber=3")
        first.route(third, lambda route: route.abort())
        with (
            first.expect_event("requestfinished", lambda one: "partNumber=1" in one.url),
            first.expect_event("requestfinished", lambda one: "partNumber=2" in one.url),
            first.expect_event("requestfailed", lambda one: bool(third.search(one.url))),
        ):
            first.set_input_files(".drop input", path)
        first.close()

        sent = []
        page = visitor.open("/")
        page.on("request", lambda one: sent.append(one) if one.method == "PUT" else None)
        page.set_input_files(".drop input", path)
        expect(page.locator("h1")).to_have_text(re.compile("long.wav"))
        assert [re.search(r"partNumber=(\d)", one.url)[1] for one in sent] == ["3"]
        (job,) = page.evaluate("fetch('/api/jobs').then((answer) => answer.json())")["items"]
        asset = page.evaluate(
            "(id) => fetch(`/api/assets/${id}`).then((answer) => answer.json())", job["params"]["source"]
        )
        assert (asset["state"], asset["size_bytes"]) == ("ready", path.stat().st_size)
        assert page.evaluate("localStorage.length") == 0
