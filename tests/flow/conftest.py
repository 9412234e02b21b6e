"""Fixtures of the flows."""

from __future__ import annotations

import pytest

from tests.flow.editor import Editor


@pytest.fixture
def edited(run, tmp_path, monkeypatch) -> Editor:
    """Applies edit lists to files: `edited(path, *entries, **params)`."""
    saved = tmp_path / "saved"
    saved.mkdir()
    editor = Editor(run, saved, [])
    real = run.processes.start

    def start(argv, **more):
        editor.started.append(list(argv))
        return real(argv, **more)

    monkeypatch.setattr(run.processes, "start", start)
    return editor
