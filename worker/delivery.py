"""From a measured mix to finished files: one ffmpeg makes them all, and every file is decoded again to prove it.

Files that only grow are decoded while they are made; the others afterwards. A long MP3 is made in parts on all cores,
which are joined as they grow. What misses its loudness or its ceiling is corrected by what it missed, and made again.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.crash import around
from shared.errors import JobFailure
from worker import excerpts, mp3, opus
from worker.command import command
from worker.deliverable import LOSSLESS_ROOM_DB, LOSSY_ROOM_DB, Delivery, Limited, Source
from worker.failures import CORRUPT, SOURCE
from worker.ffmpeg import encoded_samples, shown, transcode
from worker.growing import envelopes, feed, growth, heard
from worker.limiter import MOST_LOSS_LU, held, solve
from worker.loudness import Measured, raised

if TYPE_CHECKING:
    from worker.ahead import Ahead
    from worker.process import Ended
    from worker.run import Run

#: How far a finished file may be from its target, by our own meter; others read up to 0.01 LU differently.
LINEAR_LU, LIMITED_LU = 0.04, 0.07
#: By how much all of a file comes further down when a moment of it came out too high; that moment does all it must.
MOST_ROOM_DB = 0.5
#: What a finished file must stay under its ceiling by our own meter, so that it does by others.
GUARD_DB = 0.05
DURATION_S = 0.05
#: How often a file is made: once, nearly always. A second of noise moves a lossy encoder's loudness about each time.
PASSES = 5
#: Shorter files are decoded afterwards: it costs nothing, and an MP3's header then says where the sound ends.
_WATCH_FROM_S = 30.0
#: So many files are decoded while they grow; one that waited for its turn would be decoded when all else is done.
_MOST_WATCHED = 4
#: More parts than this would wait for the disk and for each other.
_MOST_PARTS = 4
#: Samples by which a resampled sound may be longer or shorter.
_RESAMPLED = 64


@dataclass(slots=True)
class Master:
    """Makes the deliveries of one source under one ceiling."""

    run: Run
    source: Source
    ceiling_dbtp: float
    deliveries: Sequence[Delivery]
    metadata: Sequence[str] = ()
    #: Input arguments of files of ours whose content goes into the finished ones: ffmpeg's inputs from 1 on.
    inputs: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    #: The only delivery, which is being made already, as loud as the source is.
    ahead: Ahead | None = None

    def plan(self) -> None:
        """Decide each file's gain, and solve the limiter where the gain alone would pass the ceiling."""
        lossy = {item.mix for item in self.deliveries if item.made.lossy}
        for item in self.deliveries:
            item.trim_db = item.made.loss_db
            if item.target_lufs is None:
                continue
            item.gain_db = item.target_lufs - item.before.integrated_lufs
            # One room per mix, so that its files share a limiter.
            item.room_db = LOSSY_ROOM_DB if item.mix in lossy else LOSSLESS_ROOM_DB
            if item.before.true_peak_dbtp + item.gain_db > self.ceiling_dbtp - LOSSLESS_ROOM_DB:
                self._limit(item)
            limited = f", limited by up to {item.solved.deepest_db:.1f} dB" if item.solved else ""
            self.run.report.log("info", f"{item.made.name}: gain {item.gain_db:+.2f} dB{limited}")
            self._foretell(item)
        if self.ahead is not None and self.deliveries[0].solved is not None:
            self.ahead.drop()
            self.ahead = None

    def make(self, on_time: Callable[[float], None]) -> None:
        """Encode, prove, correct. Raises `JobFailure` when a file cannot be made right."""
        pending = list(self.deliveries)
        for number in range(1, PASSES + 1):
            if self.ahead is not None:
                self._take(self.ahead, pending[0], on_time)
            else:
                self._encode(pending, on_time if number == 1 else lambda _: None)
            for item in pending:
                self._level(item)
            pending = [item for item in pending if not self._proven(item, final=number == PASSES)]
            if not pending:
                return
            for item in pending:
                self._correct(item)

    def facts(self) -> dict[str, Any]:
        """What a result tells of all the files together."""
        first = self.deliveries[0]
        return {
            "target_lufs": first.target_lufs,
            "ceiling_dbtp": self.ceiling_dbtp,
            "after": {item.made.name: item.facts() for item in self.deliveries},
            "gain_db": round(first.gain_db, 3),
            "limited": any(item.solved is not None for item in self.deliveries),
        }

    # --- loudness --------------------------------------------------------------------------------------------
    def _limit(self, item: Delivery) -> None:
        assert item.target_lufs is not None
        ceiling = self.ceiling_dbtp - item.room_db
        item.solved = solve(item.before, item.target_lufs, ceiling, check=self.run.stop.check, holds=item.holds)
        item.gain_db = item.solved.gain_db
        if not item.solved.landed:
            self._warn(
                f"The recording cannot reach {item.target_lufs:g} LUFS under {self.ceiling_dbtp:g} dBTP without being "
                f"crushed; the files are as loud as a limiter makes them that takes {MOST_LOSS_LU:g} LU away, about "
                f"{item.solved.integrated_lufs:.1f} LUFS."
            )

    def _foretell(self, item: Delivery) -> None:
        """Hear in excerpts what AAC takes away of this recording; where they do not tell, the table's number stays.

        A sound that is made on the way has no file in which they could be sought.
        """
        sought = self.source.making is None and item.before.seconds >= excerpts.WORTH_FROM_S
        if item.made.format.encoder != "aac" or not sought:
            return
        name = item.made.name
        # The limiter does not work on them. What is over full scale the encoder would treat otherwise.
        gain_db = min(item.gain_db, self.ceiling_dbtp - item.before.true_peak_dbtp)
        try:
            loss = excerpts.loss_db(self.run, self.source, item.made, item.mix, item.before, gain_db=gain_db)
        except JobFailure as failure:
            self.run.report.log("warn", f"{name}: no excerpt could be heard before it is made: {failure}")
            return
        if loss is not None:
            item.trim_db = loss
            self.run.report.log("info", f"{name}: the encoder will take {loss:.3f} dB away")

    def _proven(self, item: Delivery, *, final: bool) -> bool:
        """Whether the finished file is what was promised; moves it to its place when it is."""
        assert item.after is not None
        expected, seconds = item.before.seconds, item.after.seconds
        if abs(seconds - expected) > DURATION_S:
            raise self._failed(
                item, f"The file {item.made.name} came out {seconds:.2f} s long instead of {expected:.2f} s"
            )
        if item.goal_lufs is None:
            return _kept(item)
        miss = item.after.integrated_lufs - item.goal_lufs
        over = item.after.true_peak_dbtp - self.ceiling_dbtp + GUARD_DB
        allowed = LIMITED_LU if item.solved else LINEAR_LU
        self.run.report.log(
            "info" if abs(miss) <= allowed and over <= 0 else "warn",
            f"{item.made.name} has {item.after.integrated_lufs:.2f} LUFS, {item.after.true_peak_dbtp:.2f} dBTP",
        )
        if abs(miss) <= allowed and over <= (GUARD_DB if final else 0):
            return _kept(item)
        if final:
            raise self._failed(
                item,
                f"The file {item.made.name} could not be made exact: it is {miss:+.2f} LU from its loudness "
                f"and {over - GUARD_DB:+.2f} dB from its ceiling",
            )
        return False

    def _level(self, item: Delivery) -> None:
        """What an Opus file misses goes into its header, instead of into a second encode.

        A peak that is a hair too high is lowered so too, as far as the loudness allows.
        """
        if item.made.kind != "opus" or item.goal_lufs is None:
            return
        assert item.after is not None
        miss = item.goal_lufs - item.after.integrated_lufs
        room = self.ceiling_dbtp - GUARD_DB - item.after.true_peak_dbtp
        allowed = LIMITED_LU if item.solved else LINEAR_LU
        if math.isfinite(miss):
            # The header has steps of 1/256 dB.
            gain = min(miss, max(room - 0.002, miss - 0.9 * allowed))
            item.after = raised(item.after, opus.raise_gain(item.part, gain))

    def _failed(self, item: Delivery, sentence: str) -> JobFailure:
        """Why a file cannot be made. What is damaged is decoded otherwise each time, and trying again is no help."""
        if item.before.damaged_frames:
            return CORRUPT.failure(SOURCE)
        return JobFailure("internal", f"{sentence}; it is tried again while it has tries left.", kind="transient")

    def _correct(self, item: Delivery) -> None:
        """Make up for what the encoder turned out to do to loudness and peaks."""
        assert item.after is not None
        assert item.goal_lufs is not None
        item.trim_db += item.goal_lufs - item.after.integrated_lufs
        if item.after.true_peak_dbtp > self.ceiling_dbtp - GUARD_DB:
            again = self._check(item, None, profiled=True)
            item.holds = held(again, self.ceiling_dbtp - GUARD_DB, item.holds)
            over = item.after.true_peak_dbtp - self.ceiling_dbtp + GUARD_DB
            item.room_db += min(over, MOST_ROOM_DB)
            self._limit(item)

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            self.run.report.log("warn", sentence)

    # --- files -----------------------------------------------------------------------------------------------
    def _take(self, ahead: Ahead, item: Delivery, on_time: Callable[[float], None]) -> None:
        """What is being made since before the gain was known."""
        self.ahead = None
        item.after = ahead.result(on_time)
        self.commands.append(ahead.command)

    def _encode(self, items: Sequence[Delivery], on_time: Callable[[float], None]) -> None:
        """Make these files and measure each of them."""
        spans = self._spans(items)
        if len(spans) > 1:
            try:
                self._watched(items, lambda: self._in_parts(items[0], spans, on_time))
            except mp3.Unjoinable as error:
                self.run.report.log("warn", f"{items[0].made.name} is made again in one piece: {error}")
            else:
                return
        self._watched(items, lambda: self._whole(items, on_time))

    def _spans(self, items: Sequence[Delivery]) -> list[tuple[int, int | None]]:
        """The parts, in samples, in which a lone MP3 can be made at the same time; one when it cannot."""
        item, rate = items[0], self.source.exact_rate
        alike = item.made.kind == "mp3" and item.mix.sample_rate == item.made.sample_rate == rate
        if len(items) > 1 or not alike or item.made.sample_rate < mp3.LOWEST_RATE:
            return [(0, None)]
        return mp3.spans(item.before.samples, min(_cores(), _MOST_PARTS, int(item.before.seconds / _WATCH_FROM_S)))

    def _watched(self, items: Sequence[Delivery], work: Callable[[], None]) -> None:
        """Do the work that writes these files, and measure them: some while they grow."""
        longest = max(item.before.seconds for item in items)
        growing = [item for item in items if item.made.appended and longest >= _WATCH_FROM_S][:_MOST_WATCHED]
        finished = threading.Event()
        with ThreadPoolExecutor(max_workers=max(2, len(growing)), thread_name_prefix="check") as pool:
            checks: dict[int, Future[Measured]] = {}
            try:
                for item in growing:
                    item.part.write_bytes(b"")
                    checks[id(item)] = pool.submit(self._check, item, feed(self.run, item.part, finished))
                work()
            finally:
                finished.set()
            for item in items:
                if id(item) not in checks:
                    checks[id(item)] = pool.submit(self._check, item, None)
            for item in items:
                item.after = checks[id(item)].result()

    def _whole(self, items: Sequence[Delivery], on_time: Callable[[float], None]) -> None:
        """Make these files with one ffmpeg."""
        longest = max(item.before.seconds for item in items)
        with envelopes({(item.mix, item.solved): item.before for item in items if item.solved}) as fds:
            ended = self._transcode(self._command(items, fds), longest, on_time, fds)
        self._counted(ended, [item.before.samples for item in items], items)

    def _in_parts(
        self, item: Delivery, spans: Sequence[tuple[int, int | None]], on_time: Callable[[float], None]
    ) -> None:
        """Make one MP3 with as many ffmpegs as there are parts, and join them as they grow. Raises `mp3.Unjoinable`."""
        paths = [item.path.with_name(f"{item.path.name}.{number}") for number in range(len(spans))]
        ended = [threading.Event() for _ in spans]
        done = [0.0 for _ in spans]

        def make(number: int) -> None:
            begin, end = spans[number]

            def progress(seconds: float) -> None:
                done[number] = seconds
                on_time(min(sum(done), item.before.seconds))

            try:
                _stay_on_core(number, len(spans))
                with envelopes({(item.mix, item.solved): item.before} if item.solved else {}, begin) as fds:
                    samples = (end or item.before.samples) - begin
                    args = self._command([item], fds, spans[number], paths[number])
                    ended_well = self._transcode(args, samples / item.mix.sample_rate, progress, fds)
                self._counted(ended_well, [samples], [item])
            finally:
                ended[number].set()

        with ThreadPoolExecutor(max_workers=len(spans), thread_name_prefix="part") as pool:
            making = [pool.submit(make, number) for number in range(len(spans))]
            joined = mp3.Joined(
                [
                    mp3.Part(growth(self.run, path, over), begin // mp3.SAMPLES)
                    for path, over, (begin, _) in zip(paths, ended, spans, strict=True)
                ]
            )
            try:
                with item.part.open("wb") as file:
                    file.writelines(joined.pieces())
                    at, header = joined.header(paths[-1])
                    file.seek(at)
                    file.write(header)
            except mp3.Unjoinable:
                for part in making:
                    part.result()  # where one failed, that is what is to be told
                raise
        for part, path in zip(making, paths, strict=True):
            part.result()
            path.unlink()

    def _transcode(
        self,
        args: list[str],
        expected_s: float,
        on_time: Callable[[float], None],
        fds: Mapping[Limited, int],
    ) -> Ended:
        self.commands.append(shown([str(self.run.engine.ffmpeg), *args], self.run.work))
        return transcode(self.run, args, expected_s=expected_s, on_time=on_time, pass_fds=list(fds.values()))

    def _counted(self, ended: Ended, samples: Sequence[int], items: Sequence[Delivery]) -> None:
        """Of a sound that was made on the way: not one sample more or less. Raises `JobFailure`."""
        if self.source.making is None:
            return
        for item, found, wanted in zip(items, encoded_samples(ended), samples, strict=True):
            # A resampler rounds, and has a beginning and an end of its own.
            if abs(found - wanted) > (_RESAMPLED if item.mix.filters else 0):
                raise self._failed(
                    item,
                    f"The edit came out {found / item.mix.sample_rate:.3f} s long instead of "
                    f"{wanted / item.mix.sample_rate:.3f} s",
                )

    def _command(
        self,
        items: Sequence[Delivery],
        fds: Mapping[Limited, int],
        span: tuple[int, int | None] = (0, None),
        path: Path | None = None,
    ) -> list[str]:
        words = {"beside": self.inputs, "metadata": self.metadata}
        return command(self.run.engine, self.source, items, fds, **words, span=span, path=path)

    def _check(self, item: Delivery, growing: Callable[[BinaryIO], None] | None, *, profiled: bool = False) -> Measured:
        return heard(self.run, item.made, item.part, growing, profiled=profiled)


def _cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stay_on_core(number: int, parts: int) -> None:
    """Keep this thread, and the programs it starts, on one processor when there is one for each part: an ffmpeg whose
    threads hand frames to each other there, and not across, takes 5 % less time."""
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) == parts:
        os.sched_setaffinity(0, {cores[number]})


def _kept(item: Delivery) -> bool:
    """Move a proven file to its place."""
    with around("output.proven"):
        item.part.replace(item.path)
    return True
