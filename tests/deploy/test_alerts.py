"""infra/alerts.yaml and infra/grafana.json ask for what exists, and every alert is explained to the operator."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from functions.metrics import Metrics
from shared.job import Status
from shared.store.local import LocalJobStore
from tests.contract.factory import DONE, WORKER, create, running
from tests.functions.test_metrics import WORKER_SAID

ROOT = Path(__file__).parents[2]
RULES = [
    rule for group in yaml.safe_load((ROOT / "infra/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]

PANELS = json.loads((ROOT / "infra/grafana.json").read_text())["panels"]
ASKED = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_alerts_and_panels_ask_for_what_is_told(tmp_path):
    """Names of metrics are those of a real exposition; states are those of a job or of a program."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    store.finish(running(store).claim, DONE)
    create(store)
    store.heartbeat(WORKER, [], lease_s=90, metrics=WORKER_SAID)
    text = Metrics().text(store, usage=store.usage).decode()
    told, known = set(re.findall(r"^(spool_\w+)", text, re.MULTILINE)), set(re.findall(r"(\w+)=\"", text))
    store.close()
    for question in ASKED:
        asked = set(re.findall(r"spool_\w+", question))
        assert asked, question
        assert asked <= told, question
        states = re.findall(r'state=?!?~?"([^"]+)"', question)
        assert {state for found in states for state in found.split("|")} <= {*Status, "up", "down"}, question
        labels = set(re.findall(r"by \(([^)]*)\)", question))
        assert {label for found in labels for label in found.split(", ")} <= known, question


def test_the_page_says_what_to_do_about_each():
    """docs/operating.md names every alert, and no other."""
    page = (ROOT / "docs/operating.md").read_text()
    assert set(re.findall(r"`(Spool[A-Z]\w+)`", page)) == {rule["alert"] for rule in RULES}
