"""A deployment's own presets, from the command's side: the API has a file of them, and nobody else."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.cli.conftest import SPOOL, Spool, environment, start_dev


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """An API with a file of presets, and a worker that knows of none."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "presets.toml").write_text('[house]\ntitle = "Our show"\ntarget_lufs = -17\nceiling_dbtp = -1.5\n')
    dev = start_dev(folder, "--workers", "0", SPOOL_PRESETS="presets.toml", SPOOL_RATE_LIMIT="0")
    worker = subprocess.Popen([SPOOL, "worker"], cwd=folder, env=environment(), stderr=subprocess.PIPE)
    try:
        yield dev
    finally:
        worker.terminate()
        said = worker.communicate(timeout=120)[1]
        dev.end()
    assert worker.returncode == 0, said.decode()


def test_the_api_names_the_preset_and_the_worker_masters_to_it(house, tone, tmp_path):
    """Neither the command nor the worker has the file: the numbers came with the API's answer and with the job."""
    spool = Spool(tmp_path, {"SPOOL_API_URL": house.url})
    assert re.search(r"^house +-17 +-1.5 +Our show *$", spool("presets").out, re.MULTILINE)
    done = spool("submit", "ingest", str(tone), "--preset", "house", "--output", "wav", "--watch", "--json")
    assert done.code == 0, done.err
    (job,) = done.lines()
    assert job["params"]["preset"] == {
        "name": "house", "title": "Our show", "target_lufs": -17, "ceiling_dbtp": -1.5
    }  # fmt: skip
    assert job["result"]["preset"] == "house"
    assert job["result"]["after"]["wav"]["integrated_lufs"] == pytest.approx(-17, abs=0.1)


def test_doctor_says_which_presets_are_a_deployments_own(house, tmp_path):
    """And a wrong file ends it, and everything else, with the sentence."""
    spool = Spool(house.folder, {"SPOOL_API_URL": house.url, "SPOOL_PRESETS": "presets.toml"})
    (line,) = [line for line in spool("doctor").out.splitlines() if " presets " in line]
    assert "10 known; presets.toml says what house mean" in line
    (tmp_path / "wrong.toml").write_text("[house]\ntarget_lufs = -99\nceiling_dbtp = -1\n")
    broken = Spool(house.folder, {"SPOOL_PRESETS": str(tmp_path / "wrong.toml")})
    for command in ("doctor", "worker"):
        ran = broken(command)
        assert ran.code == 2
        assert "wrong.toml: house.target_lufs should be greater than or equal to -40" in ran.err
