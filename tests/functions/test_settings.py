"""Settings that cannot be right stop the start, each with a sentence that names it."""

from __future__ import annotations

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings

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


def test_timeouts_are_read(monkeypatch):
    """Spaces and fractions are fine, and other types keep their own."""
    monkeypatch.setenv("SPOOL_TIMEOUTS", "ingest=7200, edit = 0.5")
    settings = load_settings(_env_file=None)
    assert [settings.timeout_s(name) for name in ("ingest", "edit", "render")] == [7200, 0.5, 7200]
