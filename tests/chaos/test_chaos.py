"""Workers, API, database, network, disk and clock are harmed at random while jobs come in; all counts must be zero.

`make chaos` does it for five minutes on each database; CHAOS_S sets the seconds, and CHAOS_SEED the faults and their
order. What happens when is up to the machine as well, so a seed repeats the faults and not the whole run.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import nullcontext

import pytest

from tests.chaos import audit
from tests.chaos.place import placed
from tests.chaos.run import Run, figures
from tests.real.sqld import Sqld

#: The short form deals every kind of fault once, or nearly.
SECONDS = float(os.environ.get("CHAOS_S", "10"))
#: The short form does the same every time, as the model test does; the long one looks for what is new.
_CHOSEN = 940_228 if "CHAOS_S" not in os.environ else random.SystemRandom().randrange(1, 1_000_000)
SEED = int(os.environ.get("CHAOS_SEED", "0")) or _CHOSEN


@pytest.mark.media
@pytest.mark.timeout(2 * SECONDS + 900)
@pytest.mark.parametrize("database", ["sqlite", "libsql"])
def test_nothing_is_lost_doubled_orphaned_or_wrong(database, tmp_path, engine, record_property):
    """Whatever is done to the parts, every job ends once and rightly, and nothing of it is left."""
    began, run = time.monotonic(), Run(SEED)
    with (
        Sqld(tmp_path / "sqld") if database == "libsql" else nullcontext() as server,
        placed(tmp_path, engine.ffmpeg, server=server) as place,
    ):
        run.do(place, SECONDS, engine.ffmpeg)
    run.found["integrity"] = audit.unsound(place.deployment)
    record_property("figure", f"{database}, CHAOS_SEED={SEED}, {time.monotonic() - began:.0f} s: {figures(run.counts)}")
    record_property("figure", figures({name: len(findings) for name, findings in run.found.items()}))
    assert not any(run.found.values()), run.report()
