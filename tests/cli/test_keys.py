"""`spool keys`: on the database itself, since the first key cannot come through the API."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

from tests.cli.conftest import DEADLINE_S, Spool, running_dev


def test_a_key_is_made_used_listed_and_revoked(tmp_path: Path):
    """The whole life of a key, against an API that it opens to others; its text is printed once and kept nowhere."""
    spool = Spool(tmp_path, {})
    assert spool("migrate").code == 0
    assert "No keys" in spool("keys", "list").out
    ran = spool("keys", "create", "studio")
    assert ran.code == 0, ran.err
    assert "nobody gets in without one" in ran.out
    text = re.search(r"^spl_[0-9a-f]{12}_[0-9a-f]{64}$", ran.out, re.MULTILINE)[0]
    made = spool("keys", "create", "studio", "--scope", "admin", "--json").json()
    assert made["scopes"] == ["admin"]
    assert made["last_used_at"] is None
    for file in (tmp_path / ".spool").iterdir():
        assert text.rpartition("_")[2].encode() not in file.read_bytes(), file

    api = spool.start("api", "--host", "0.0.0.0", "--port", "0")
    try:
        line = api.stdout.readline()
        port = re.search(r":(\d+)/", line)[1]
        url = f"http://127.0.0.1:{port}"
        with_key = Spool(tmp_path, {"SPOOL_API_URL": url, "SPOOL_API_TOKEN": text})
        assert with_key("jobs").code == 0
        without = Spool(tmp_path, {"SPOOL_API_URL": url})("jobs")
        assert without.code != 0
        assert "spool keys create" in without.err
        assert urllib.request.urlopen(f"{url}/healthz", timeout=DEADLINE_S).status == 200
    finally:
        api.send_signal(signal.SIGTERM)
        api.communicate(timeout=DEADLINE_S)
    listed = {row["id"]: row for row in spool("keys", "list", "--json").json()["items"]}
    assert listed[text.split("_")[1]]["last_used_at"] is not None
    shown = spool("keys", "list").out
    assert made["id"] in shown
    assert made["key"] not in shown

    third = spool("keys", "create", "studio")
    assert (third.code, "2 live keys" in third.err) == (1, True)
    assert spool("keys", "revoke", made["id"]).code == 0
    assert spool("keys", "create", "studio").code == 0
    assert spool("keys", "revoke", "000000000000").code == 2


def test_dev_starts_on_a_database_that_has_keys(tmp_path: Path):
    """It has no key itself: that the API asks for one is the sign that it is up."""
    spool = Spool(tmp_path, {})
    spool("migrate")
    key = spool("keys", "create", "studio", "--json").json()["key"]
    with running_dev(tmp_path, "--workers", "0") as dev:
        assert Spool(tmp_path, {"SPOOL_API_URL": dev.url, "SPOOL_API_TOKEN": key})("jobs").code == 0


def test_wrong_names_and_scopes_are_refused_with_a_sentence(tmp_path: Path):
    """Exit code 2, before anything is made; and a database without tables asks for `spool migrate`."""
    spool = Spool(tmp_path, {})
    assert "spool migrate" in spool("keys", "create", "studio").err
    spool("migrate")
    for arguments, sentence in ((("A B",), "is no name"), (("studio", "--scope", "all"), "is no scope")):
        ran = spool("keys", "create", *arguments)
        assert ran.code == 2
        assert sentence in ran.err
    assert spool("keys", "list", "--json").json() == {"items": []}
