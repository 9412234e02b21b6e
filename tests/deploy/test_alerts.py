"""infra/alerts.yaml: every alert asks for metrics and states that exist, and is explained to the operator."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from functions.metrics import Metrics
from shared.job import Status
from shared.store.local import LocalJobStore
from tests.contract.factory import DONE, WORKER, running

ROOT = Path(__file__).parents[2]
RULES = [
    rule for group in yaml.safe_load((ROOT / "infra/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]


def test_alerts_ask_for_what_is_told(tmp_path):
    """Names of metrics are those of a real exposition; states are those of a job."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    store.finish(running(store).claim, DONE)
    store.heartbeat(WORKER, [], lease_s=90, metrics={"reaped": 0})
    told = set(re.findall(r"^(spool_\w+)", Metrics().text(store, usage=store.usage).decode(), re.MULTILINE))
    store.close()
    for rule in RULES:
        asked = set(re.findall(r"spool_\w+", rule["expr"]))
        assert asked, rule
        assert asked <= told, rule
        states = re.findall(r'state=?!?~?"([^"]+)"', rule["expr"])
        assert {state for found in states for state in found.split("|")} <= set(Status), rule


def test_the_page_says_what_to_do_about_each():
    """docs/operating.md names every alert, and no other."""
    page = (ROOT / "docs/operating.md").read_text()
    assert set(re.findall(r"`(Spool[A-Z]\w+)`", page)) == {rule["alert"] for rule in RULES}
