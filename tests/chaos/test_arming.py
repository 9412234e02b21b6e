"""Crash points are off, and cannot be turned on by accident."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from shared import crash
from shared.errors import ConfigurationError
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from tests.chaos.nursery import ROOT

HERE = {"database_url": "sqlite:///x.db"}


def test_points_are_off_unless_a_test_asks(monkeypatch) -> None:
    """Without the variable nothing is armed, whatever is passed; classes stay what they are."""
    monkeypatch.delenv("SPOOL_TEST_CRASH_AT", raising=False)
    crash.arm(load_settings(**HERE))
    assert not crash.armed()
    with crash.around("child.spawn"):
        crash.crash_point("child.spawn.before")
    assert crash.with_points(LocalStorage, ("put",), str) is LocalStorage


@pytest.mark.parametrize(
    ("order", "settings"),
    [
        ("child.spawn.before", {"database_url": "libsql://example.turso.io"}),
        ("child.spawn.before", {"database_url": "https://db.example.org"}),
        ("child.spawn.before", {**HERE, "lambda_function": "spool"}),
        ("1", HERE),
        ("", HERE),
        ("child.spawn", HERE),
    ],
)
def test_an_order_that_can_be_no_test_stops_the_start(monkeypatch, order, settings) -> None:
    """A database elsewhere, a Lambda function, a word that names no point: one sentence, and nothing is armed."""
    monkeypatch.setenv("SPOOL_TEST_CRASH_AT", order)
    monkeypatch.setattr(crash, "_order", None)
    with pytest.raises(ConfigurationError, match=r"SPOOL_TEST_CRASH_AT is set .*remove it"):
        crash.arm(load_settings(**settings))
    assert not crash.armed()


def test_a_process_that_is_to_die_says_so_loudly_and_dies(tmp_path) -> None:
    """The real command: one critical line, then SIGKILL by itself, at the point and the pass that were named."""
    ended = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "SPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/spool.db",
            "SPOOL_STORAGE_URL": f"file:{tmp_path}/storage",
            "SPOOL_WORK_DIR": f"{tmp_path}/work",
            "SPOOL_LOG_FORMAT": "json",
            "SPOOL_TEST_CRASH_AT": "claim.read.before#2",
        },
        capture_output=True,
        check=False,
    )
    first = json.loads(ended.stderr.splitlines()[0])
    assert ended.returncode == -signal.SIGKILL
    assert (first["level"], first["at"], first["passes"]) == ("critical", "claim.read.before", 2)
    assert "SPOOL_TEST_CRASH_AT is set" in first["event"]
