"""Who sees two owners at once, and programs that outlive their worker or their job."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

from shared.errors import Unavailable
from shared.store.sql import SqlJobStore, Statement
from tests.network.deployment import Deployment, Program

#: Jobs whose first attempt hangs, by the random end of their id; those with the first of these hang twice.
HANGS = "01"
#: Longer than a launcher takes to end what a dead worker left (grace and a little), shorter than what is left of a
#: lease then, which would end it too.
ORPHAN_S = 5.0
_LOOK_S = 0.2
#: An ffmpeg that signs a book of owners before it begins. Every attempt has a line of its own, a file that its programs
#: keep locked for as long as one of them lives, whatever becomes of whoever started it: so each program, when it
#: begins, can tell for certain whether a program of another attempt of its job still lives. Some attempts hang, deaf to
#: SIGTERM, with a child that left its session and lost its parent. It is for bash, which opens files under numbers that
#: ffmpeg was not handed.
BOOK_FFMPEG = """#!/bin/bash
case $HOME in {work}/*) ;; *) exec {ffmpeg} "$@" ;; esac
attempt=${{HOME##*/}} rest=${{HOME%/*}}
job=${{rest##*/}} worker=${{rest%/*}}
book={book}/$job mine={book}/$job/$attempt.${{worker##*/}}
mkdir -p "$book"
exec {{turn}}>>{book}/$job.lock {{line}}>>"$mine"
flock $turn
flock -s $line
for other in "$book"/*; do
  [ "$other" = "$mine" ] || flock -n -x "$other" true || echo "$job ${{other##*/}} ${{mine##*/}}" >>{twice}
done
exec {{turn}}>&-
case $job-$attempt in *[{hangs}]-1|*{hangs_twice}-2)
  trap '' TERM
  ( setsid sleep 120 & )
  exec sleep 120 ;;
esac
exec {ffmpeg} "$@"
"""


class Book:
    """The book of owners, and the ffmpeg that signs it."""

    def __init__(self, folder: Path, ffmpeg: Path, *, hangs: str = HANGS) -> None:
        self._twice, self.ffmpeg = folder / "twice", folder / "ffmpeg"
        paths = {"work": folder / "work", "book": folder / "book", "twice": self._twice, "ffmpeg": ffmpeg}
        (folder / "book").mkdir(parents=True)
        quoted = {name: shlex.quote(str(path)) for name, path in paths.items()}
        self.ffmpeg.write_text(BOOK_FFMPEG.format(**quoted, hangs=hangs or "-", hangs_twice=hangs[:1] or "-"))
        self.ffmpeg.chmod(0o700)

    def two_owners(self) -> list[str]:
        """Jobs for which programs of two attempts lived at one time, once each; with the attempts."""
        lines = self._twice.read_text().splitlines() if self._twice.exists() else []
        return [f"{line.split()[0]}: programs of {line.split(' ', 1)[1]} at once" for line in sorted(set(lines))]


class Witness:
    """Looks all the time for programs that live when they should not. `ended_at` says when a worker ended, or None."""

    def __init__(self, deployment: Deployment, store: SqlJobStore, ended_at: Callable[[str], float | None]) -> None:
        self._deployment, self._store, self._ended_at = deployment, store, ended_at
        self.orphans: dict[Program, str] = {}
        #: When the database's clock jumped last: a cancel may then be ahead of the end of the program for a moment.
        self.jumped_at = float("-inf")
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._store.close()

    def clock_jumps(self) -> None:
        """The database's clock is about to jump."""
        self.jumped_at = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """One look: whoever was there before the database told that its job had ended, and still is after, is late."""
        before = self._deployment.programs()
        ended = self._ended({program.job for program in before if program.job})
        late = before & self._deployment.programs()
        self.looks += 1
        for program in late - self.orphans.keys():
            died_at = self._ended_at(program.worker)
            if died_at is not None and time.monotonic() - died_at > ORPHAN_S:
                self.orphans[program] = f"{program.job}: a program outlived its worker {program.worker}"
            elif program.job in ended and time.monotonic() - self.jumped_at > ORPHAN_S:
                self.orphans[program] = f"{program.job}: a program outlived its job"

    def _ended(self, jobs: set[str]) -> set[str]:
        if not jobs:
            return set()
        names = ", ".join(f"'{job}'" for job in jobs)
        text = f"SELECT id FROM job WHERE completed_at IS NOT NULL AND id IN ({names})"
        try:
            return {str(row["id"]) for row in self._store._read([Statement(text)])[0]}
        except Unavailable:  # part of the chaos
            return set()
