"""A good file of every kind that Spool reads, and the ways in which it comes broken, the same for the same seed."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import imageio_ffmpeg

#: ffmpeg's arguments for each kind. Two seconds of a tone in noise; where it says `v`, with a small picture.
KINDS: dict[str, str] = {
    "wav": "-c:a pcm_s16le -f wav",
    "wav of 24 bits": "-c:a pcm_s24le -f wav",
    "wav with ADPCM": "-c:a adpcm_ms -f wav",
    "rf64": "-c:a pcm_s16le -rf64 always -f wav",
    "w64": "-c:a pcm_s16le -f w64",
    "aiff": "-c:a pcm_s16be -f aiff",
    "au": "-c:a pcm_s16be -f au",
    "caf": "-c:a pcm_s16be -f caf",
    "caf with ALAC": "-c:a alac -f caf",
    "mp3": "-c:a libmp3lame -f mp3",
    "aac": "-c:a aac -f adts",
    "ac3": "-c:a ac3 -f ac3",
    "eac3": "-c:a eac3 -f eac3",
    "amr": "-c:a libopencore_amrnb -ar 8000 -ac 1 -f amr",
    "flac": "-c:a flac -f flac",
    "ogg with Vorbis": "-c:a libvorbis -f ogg",
    "ogg with FLAC": "-c:a flac -f ogg",
    "opus": "-c:a libopus -f opus",
    "wavpack": "-c:a wavpack -f wv",
    "m4a": "-c:a aac -f ipod",
    "m4a with its index in front": "-c:a aac -movflags +faststart -f ipod",
    "m4a in fragments": "-c:a aac -movflags +frag_keyframe+empty_moov -frag_duration 500000 -f mp4",
    "mov": "v -c:v mjpeg -c:a pcm_s16le -f mov",
    "mp4": "v -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -f mp4",
    "3gp": "v -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -f 3gp",
    "matroska": "v -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a libvorbis -f matroska",
    "webm": "v -c:v libvpx -deadline realtime -c:a libopus -f webm",
    "mpegts": "v -c:v mpeg2video -c:a mp2 -f mpegts",
    "mpeg": "v -c:v mpeg2video -c:a mp2 -f vob",
    "avi": "v -c:v mpeg4 -c:a libmp3lame -f avi",
    "asf": "v -c:v wmv2 -c:a wmav2 -f asf",
    "flv": "v -c:v flv -ar 44100 -c:a libmp3lame -f flv",
}
_TONE = "aevalsrc=0.3*sin(2*PI*(300+200*t)*t)+0.02*(random(0)-0.5):s=48000:d=2"


def good_files(folder: Path) -> dict[str, Path]:
    """One good file of each kind, made by one run of ffmpeg; kinds that it has no encoder for are left out."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    encoders = subprocess.run([ffmpeg, "-v", "quiet", "-encoders"], check=True, capture_output=True, text=True).stdout
    inputs = ["-f", "lavfi", "-i", _TONE, "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2"]
    outputs, files = list[str](), dict[str, Path]()
    for kind, options in KINDS.items():
        if any(name not in encoders for name in _encoders(options)):
            continue
        files[kind] = folder / kind.replace(" ", "-")
        picture, _, rest = options.rpartition("v -c:v")
        del picture
        maps = ["-map", "0:a", "-map", "1:v"] if options.startswith("v ") else ["-map", "0:a"]
        args = f"-c:v{rest}" if options.startswith("v ") else options
        outputs += [*maps, *args.split(), "-fflags", "+bitexact", "-flags:a", "+bitexact", str(files[kind])]
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", "-y", *inputs, *outputs], check=True, capture_output=True)
    return files


def _encoders(options: str) -> list[str]:
    words = options.split()
    return [words[n + 1] for n, word in enumerate(words) if word in {"-c:a", "-c:v"}]


def broken(content: bytes, seed: int) -> bytes:
    """The file as a bad disk, a broken transfer or a malicious hand leaves it."""
    chance = random.Random(seed)
    ways = (_cut_off, _flip_anywhere, _flip_in_head, _hole, _swap, _repeat)
    made = ways[seed % len(ways)](bytearray(content), chance)
    return bytes(made) or b"\0"


def _cut_off(content: bytearray, chance: random.Random) -> bytearray:
    return content[: chance.randrange(1, len(content))]


def _flip_anywhere(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randrange(1, 200)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def _flip_in_head(content: bytearray, chance: random.Random) -> bytearray:
    """Where sizes, rates and counts are: in the first bytes, or in the last where the index is there."""
    reach = min(len(content), 1500)
    start = chance.choice((0, len(content) - reach))
    for _ in range(chance.randrange(1, 12)):
        content[start + chance.randrange(reach)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return content


def _hole(content: bytearray, chance: random.Random) -> bytearray:
    """A stretch of zeros, as a download that skipped a block has it."""
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.randrange(1, 1 + len(content) // 2))
    content[start:end] = bytes(end - start)
    return content


def _swap(content: bytearray, chance: random.Random) -> bytearray:
    """Two halves in the wrong order."""
    cut = chance.randrange(len(content))
    return content[cut:] + content[:cut]


def _repeat(content: bytearray, chance: random.Random) -> bytearray:
    """A stretch that comes several times."""
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.randrange(1, 5000))
    return content[:end] + content[start:end] * chance.randrange(1, 20) + content[end:]
