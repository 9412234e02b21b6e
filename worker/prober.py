"""The program that looks into a file a stranger made.

`python -I prober.py FILE DEMUXER FORMATS MAX_STREAMS PROBE_BYTES ANALYZE_US` runs alone, limited and for a moment,
prints what it found as one JSON object, and decides nothing: worker/probe.py does not trust it either. An empty DEMUXER
leaves the choice to the library.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.logging

#: Give up on a track that yields no frame after this many packets, and on the file after this many in all.
TRACK_PACKETS, FILE_PACKETS = 64, 4000
#: Chapters worth telling.
MOST_CHAPTERS = 500
#: MP4 boxes on the way to the table that names each track's encryption.
CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
#: Sample entries of encrypted tracks (common encryption, FairPlay, Audible).
PROTECTED_ENTRIES = frozenset({b"enca", b"encv", b"drms", b"drmi", b"aavd"})
#: How an ASF file begins, and its header objects that announce protected content.
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_PROTECTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


def look(path: str, demuxer: str, *limits: str) -> dict[str, Any]:
    """Everything worth knowing about the file: container, tracks, whether they decode, and what the library said."""
    av.logging.set_level(av.logging.WARNING)
    found: dict[str, Any] = {"format": None, "tracks": [], "error": None, "said": []}
    found["protected"] = protected(Path(path))
    if found["protected"]:
        return found
    formats, max_streams, probe_bytes, analyze_us = limits
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": formats,
        "max_streams": max_streams,
        "probesize": probe_bytes,
        "analyzeduration": analyze_us,
    }
    with av.logging.Capture(local=False) as said:
        try:
            # A tag in an older encoding, Latin-1 in many a WAV file, is no reason to refuse the recording.
            with av.open(
                path, format=demuxer or None, container_options=options, metadata_errors="replace"
            ) as container:
                describe(container, found)
                try_decoding(container, found)
        except (av.error.FFmpegError, MemoryError) as error:
            found["error"] = type(error).__name__
    found["said"] = [[name, message[:300]] for _, name, message in said[:200]]
    return found


def describe(container: Any, found: dict[str, Any]) -> None:  # noqa: ANN401 - PyAV carries no usable types
    """What the container and its headers claim."""
    found["format"] = container.format.name
    found["duration_s"] = None if container.duration is None else container.duration / av.time_base
    found["bit_rate"] = container.bit_rate
    found["tags"] = {key[:40].lower(): value[:500] for key, value in list(container.metadata.items())[:64]}
    found["chapters"] = [
        {
            "start_s": float(chapter["start"] * chapter["time_base"]),
            "end_s": float(chapter["end"] * chapter["time_base"]),
            "title": chapter["metadata"].get("title", "")[:500],
        }
        for chapter in container.chapters()[:MOST_CHAPTERS]
    ]
    for stream in container.streams:
        codec = stream.codec_context
        track: dict[str, Any] = {"index": stream.index, "kind": stream.type, "decodes": False}
        track |= {name: stream.metadata.get(name, "")[:100] for name in ("language", "title")}
        if stream.duration is not None and stream.time_base is not None:
            track["duration_s"] = float(stream.duration * stream.time_base)
        found["tracks"].append(track)
        if codec is None or stream.type not in {"audio", "video"}:
            continue
        track |= {"codec": codec.codec.canonical_name, "bit_rate": codec.bit_rate, "profile": codec.profile}
        if stream.type == "video":
            track["attached_picture"] = bool(stream.disposition & av.stream.Disposition.attached_pic)
            track["pixel_aspect"] = float(stream.sample_aspect_ratio or 1)
            track["fps"] = 0.0 if track["attached_picture"] else float(stream.average_rate or stream.base_rate or 0)


def try_decoding(container: Any, found: dict[str, Any]) -> None:  # noqa: ANN401 - PyAV carries no usable types
    """Decode one frame of each track: what comes out is what the track really is."""
    open_tracks = {track["index"]: track for track in found["tracks"] if "codec" in track}
    tries = dict.fromkeys(open_tracks, 0)
    if not open_tracks:
        return
    packets = container.demux([container.streams[index] for index in open_tracks])
    for number, packet in enumerate(packets):
        index = packet.stream.index
        if index in open_tracks:
            tries[index] += 1
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, MemoryError) as error:
                open_tracks[index]["error"] = type(error).__name__
                frames = []
            if frames:
                open_tracks.pop(index).update(decodes=True, **what(frames[0]))
            elif tries[index] > TRACK_PACKETS:
                del open_tracks[index]
        if not open_tracks or number > FILE_PACKETS:
            return


def what(frame: Any) -> dict[str, Any]:  # noqa: ANN401 - PyAV carries no usable types
    """The facts of a decoded frame."""
    if isinstance(frame, av.AudioFrame):
        return {"sample_rate": frame.sample_rate, "channels": frame.layout.nb_channels, "layout": frame.layout.name}
    return {
        "width": frame.width,
        "height": frame.height,
        "pix_fmt": frame.format.name,
        "rotation": -frame.rotation % 360,
    }


def protected(path: Path) -> bool:
    """Whether the file says it is copy-protected, which the library does not report."""
    with path.open("rb") as file:
        head = file.read(65_536)
        if head[4:8] == b"ftyp":
            return not PROTECTED_ENTRIES.isdisjoint(sample_entries(file))
        return head.startswith(ASF_HEADER) and any(guid in head for guid in ASF_PROTECTION)


def sample_entries(file: BinaryIO) -> list[bytes]:
    """The four-letter codes of the sample descriptions of an MP4 file, one per track and kind."""
    size = file.seek(0, 2)
    names: list[bytes] = []
    spans = [(0, size)]
    for _ in range(10_000):
        if not spans:
            break
        start, end = spans.pop()
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or start >= end:
            continue
        length, kind, payload = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if length == 1:
            length, payload = int.from_bytes(head[8:16], "big"), start + 16
        stop = end if length == 0 else start + length
        if stop < payload or stop > end:
            continue
        spans.append((stop, end))
        if kind in CONTAINERS:
            spans.append((payload, stop))
        elif kind == b"stsd":
            file.seek(payload + 4)
            count, entry = int.from_bytes(file.read(4), "big"), payload + 8
            for _ in range(min(count, 16)):
                file.seek(entry)
                head = file.read(8)
                names.append(head[4:8])
                entry += max(8, int.from_bytes(head[:4], "big"))
    return names


if __name__ == "__main__":
    json.dump(look(*sys.argv[1:]), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # nothing is left to tidy, and tidying takes a tenth of the whole look
