"""Which ffmpeg a worker uses, and the proof that it can do what Spool asks of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg

from shared.crash import around
from shared.errors import ConfigurationError, JobFailure
from worker.process import Processes
from worker.stop import Stop

if TYPE_CHECKING:
    from shared.settings import Settings

OLDEST = (5, 1)
ENCODERS = frozenset({"aac", "flac", "libmp3lame", "libopus", "libx264", "mjpeg", "pcm_s16le", "pcm_s24le"})
FILTERS = frozenset(
    {"aformat", "ametadata", "amultiply", "anull", "aresample", "asplit", "ebur128", "pan", "scale", "volume"}
)
#: One second of a tone through what every job needs; prints loudness when all of it works.
SELF_TEST = (
    *("-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=sample_rate=48000:duration=1"),
    *("-af", "volume=-3dB,aresample=44100,ebur128=metadata=1,ametadata=mode=print:key=lavfi.r128.M:file=-"),
    *("-c:a", "libmp3lame", "-f", "null", os.devnull),
)


@dataclass(frozen=True, slots=True)
class Engine:
    """The ffmpeg this worker uses, and what it can do. `ffprobe` is set only when it came with it."""

    ffmpeg: Path
    ffprobe: Path | None
    version: str
    encoders: frozenset[str]
    filters: frozenset[str]


class UnfitError(Exception):
    """This ffmpeg cannot be used; the message completes the sentence "… cannot be used: …"."""


def find_engine(settings: Settings) -> Engine:
    """The configured ffmpeg, else a capable pair of the system, else the embedded one.

    Raises `ConfigurationError` with one sentence that says what is missing and how to mend it.
    """
    if settings.ffmpeg is not None:
        return _configured(settings.ffmpeg, settings.ffprobe)
    reasons = []
    system, system_probe = shutil.which("ffmpeg"), settings.ffprobe or shutil.which("ffprobe")
    if system and system_probe:
        try:
            return examine(Path(system), Path(system_probe))
        except UnfitError as unfit:
            reasons.append(f"{system} cannot be used: {unfit}")
    try:
        return examine(Path(imageio_ffmpeg.get_ffmpeg_exe()), None)
    except UnfitError as unfit:
        reasons.append(f"the embedded ffmpeg cannot be used: {unfit}")
    except RuntimeError:
        reasons.append("the package imageio-ffmpeg has no ffmpeg for this machine")
    raise ConfigurationError(
        f"Spool needs ffmpeg and found none that it can use ({'; '.join(reasons)}); "
        "install ffmpeg 5.1 or newer, or set SPOOL_FFMPEG to one."
    )


def _configured(ffmpeg: Path, ffprobe: Path | None) -> Engine:
    found = shutil.which(ffmpeg)
    if found is None:
        raise ConfigurationError(
            f"SPOOL_FFMPEG is {ffmpeg}, which is no program that can be started; correct or remove it."
        )
    if ffprobe is not None and shutil.which(ffprobe) is None:
        raise ConfigurationError(
            f"SPOOL_FFPROBE is {ffprobe}, which is no program that can be started; correct or remove it."
        )
    beside = Path(found).with_name("ffprobe")
    try:
        return examine(Path(found), ffprobe or (beside if beside.exists() else None))
    except UnfitError as unfit:
        raise ConfigurationError(
            f"SPOOL_FFMPEG is {ffmpeg}, which cannot be used: {unfit}; set another or remove it."
        ) from None


def examine(ffmpeg: Path, ffprobe: Path | None) -> Engine:
    """Prove that an ffmpeg can do what Spool asks; the proof is kept until the file changes. Raises `UnfitError`."""
    ffmpeg = ffmpeg.resolve()
    stat = ffmpeg.stat()
    state = [str(ffmpeg), stat.st_mtime_ns, stat.st_size, OLDEST, sorted(ENCODERS), sorted(FILTERS), SELF_TEST]
    kept = _kept_at(hashlib.sha256(json.dumps(state).encode()).hexdigest())
    facts = None if kept is None else _read(kept)
    if facts is None:
        facts = _facts(ffmpeg)
        if kept is not None:
            _write(kept, facts)
    return Engine(
        ffmpeg=ffmpeg,
        ffprobe=ffprobe,
        version=facts["version"],
        encoders=frozenset(facts["encoders"]),
        filters=frozenset(facts["filters"]),
    )


def _facts(ffmpeg: Path) -> dict[str, Any]:
    head = _output(ffmpeg, ["-version"])
    version = (head.split() + [""] * 3)[2]
    number = re.match(r"n?(\d+)\.(\d+)", version)
    if number and (int(number[1]), int(number[2])) < OLDEST:
        raise UnfitError(f"it is version {version}, and Spool needs {OLDEST[0]}.{OLDEST[1]} or newer")
    encoders = {words[1] for words in map(str.split, _output(ffmpeg, ["-encoders"]).splitlines()) if len(words) > 2}
    filters = {words[1] for words in map(str.split, _output(ffmpeg, ["-filters"]).splitlines()) if len(words) > 2}
    missing = sorted((ENCODERS - encoders) | (FILTERS - filters))
    if missing:
        raise UnfitError(f"it lacks {', '.join(missing)}")
    if "lavfi.r128.M=" not in _output(ffmpeg, SELF_TEST):
        raise UnfitError("it failed to encode and measure one second of sound")
    return {"version": version, "encoders": sorted(encoders), "filters": sorted(filters)}


def _output(ffmpeg: Path, args: Sequence[str]) -> str:
    """What it prints; raises `UnfitError` when it cannot be run."""
    processes = Processes(Stop(), grace_s=1.0)
    try:
        with processes.start([str(ffmpeg), *args], cwd=ffmpeg.parent, stdout=True) as child:
            assert child.stdout is not None
            printed = child.stdout.read().decode(errors="replace")
            ended = child.wait()
    except (OSError, JobFailure) as error:
        raise UnfitError(f"it cannot be started ({error})") from None
    finally:
        processes.close()
    if ended.returncode != 0:
        raise UnfitError(f"it stops with exit code {ended.returncode} when asked for {args[0]}")
    return printed


def _kept_at(key: str) -> Path | None:
    with contextlib.suppress(FileNotFoundError):  # none can be written to, as on a full disk: no proof is kept then
        return Path(tempfile.gettempdir(), f"spool-engines-{os.getuid()}", f"{key}.json")
    return None


def _read(kept: Path) -> dict[str, Any] | None:
    """An earlier proof, when it is our own: the folder for temporary files belongs to everybody."""
    try:
        if kept.parent.stat().st_uid != os.getuid() or kept.parent.stat().st_mode & 0o077:
            return None
        facts = json.loads(kept.read_text())
        return facts if {"version", "encoders", "filters"} <= facts.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _write(kept: Path, facts: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it is only a shortcut for the next start
        with around("engine.folder"):
            kept.parent.mkdir(mode=0o700, exist_ok=True)
        if kept.parent.stat().st_uid == os.getuid():
            part = kept.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(facts))
            with around("engine.proof"):
                part.replace(kept)
            for left in kept.parent.glob("*.part"):  # of a process that died here, or of one that will do without
                with around("engine.left"):
                    left.unlink()
