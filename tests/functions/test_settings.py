"""Settings that cannot be right stop the start, each with a sentence that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.misspelt import misspelt
from shared.settings import KNOWN, load_settings

ROOT = Path(__file__).parents[2]

WRONG = {
    "SPOOL_SLOTS": ("0", "should be greater than or equal to 1"),
    "SPOOL_DRAIN_S": ("301", "should be less than or equal to 300"),
    "SPOOL_RATE_LIMIT": ("many", "should be a valid integer"),
    "SPOOL_LOG_FORMAT": ("xml", "should be 'json', 'human' or 'auto'"),
    "SPOOL_DATABASE_URL": ("postgres://host/db", "use sqlite:///path/to/file.db, libsql://"),
}
TIMEOUTS = {
    "ingest": "'ingest' has no number of seconds; write ingest=3600,edit=600",
    "ingest=1 hour": "'ingest' has no number of seconds; write ingest=3600,edit=600",
    "ingest=-1": "the timeout of ingest must be over 0 seconds",
    "encode=60": "'encode' is no job type; choose from ingest, ",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named(name, monkeypatch):
    """The sentence begins with the setting, and says what it may be."""
    value, sentence = WRONG[name]
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as stopped:
        load_settings(_env_file=None)
    assert stopped.value.message.startswith(f"{name}: {sentence}")


@pytest.mark.parametrize("value", TIMEOUTS)
def test_timeouts_that_cannot_be_read_are_told_by_type(value, monkeypatch):
    """Of several types, the one that is wrong is named."""
    monkeypatch.setenv("SPOOL_TIMEOUTS", f"render=60, {value}")
    with pytest.raises(ConfigurationError) as stopped:
        load_settings(_env_file=None)
    assert stopped.value.message.startswith(f"SPOOL_TIMEOUTS: {TIMEOUTS[value]}")


def test_capitals_do_not_matter_where_a_word_is_chosen(monkeypatch):
    """INFO is what other programs call it."""
    monkeypatch.setenv("SPOOL_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("SPOOL_LOG_FORMAT", "Json")
    settings = load_settings(_env_file=None)
    assert (settings.log_level, settings.log_format) == ("warning", "json")


def test_what_is_no_setting_is_told_with_the_one_it_is_most_like(monkeypatch, tmp_path):
    """In the environment and in `.env`, once each, without its value; what is set to nothing is left alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SPOOL_API_TOKN=hidden\nSPOOL_SLOTS=2\nOTHER=1\n")
    monkeypatch.setenv("SPOOL_RETENTION", "7")
    monkeypatch.setenv("spool_slts", "4")
    monkeypatch.setenv("SPOOL_QQQ", "x")
    monkeypatch.setenv("SPOOL_EMPTY", "")
    assert list(misspelt()) == [
        "SPOOL_API_TOKN is no setting; did you mean SPOOL_API_TOKEN?",
        "SPOOL_QQQ is no setting; docs/deploy.md lists them all.",
        "SPOOL_RETENTION is no setting; did you mean SPOOL_RETENTION_DAYS?",
        "SPOOL_SLTS is no setting; did you mean SPOOL_SLOTS?",
    ]


def test_every_setting_that_a_page_or_a_template_names_is_one():
    """Nobody copies a name that sets nothing."""
    places = [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.glob("infra/*"), ROOT / "render.yaml"]
    text = "".join(place.read_text() for place in places if place.is_file())
    named = set(re.findall(r"\bSPOOL_[A-Z_]*[A-Z]\b", text))
    assert len(named) > 30
    assert named - KNOWN == {"SPOOL_TEST_CRASH_AT"}


def test_timeouts_are_read(monkeypatch):
    """Spaces and fractions are fine, and other types keep their own."""
    monkeypatch.setenv("SPOOL_TIMEOUTS", "ingest=7200, edit = 0.5")
    settings = load_settings(_env_file=None)
    assert [settings.timeout_s(name) for name in ("ingest", "edit", "render")] == [7200, 0.5, 7200]
