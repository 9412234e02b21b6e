"""Files made to harm, each made when it is asked for, with what must become of a job that is given it.

`RIGHT` stands for finished files of the promised loudness. The rest are codes of permanent failures; a case names
more than one where versions of ffmpeg differ in how much they forgive.
"""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.craft import (
    atom,
    avi,
    bitmap_info,
    cover,
    flac_of_silence,
    fmt,
    gab2,
    id3,
    jpeg,
    mov,
    movie,
    ogg_page,
    opus_head,
    packed_text,
    png,
    reference,
    riff,
    sine,
    wav,
)

RIGHT = "right"
#: Of the preset that a job has unless it says otherwise.
TARGET_LUFS = -16.0
FORMAT, NOT_MEDIA, CORRUPT, CODEC = (
    "unsupported.format",
    "bad_input.not_media",
    "bad_input.corrupt",
    "unsupported.codec",
)
TOO_LARGE, TOO_LONG, TRUNCATED = "bad_input.too_large", "bad_input.too_long", "bad_input.truncated"
#: What is refused as no recording, whichever way it is seen through.
REFUSED = (FORMAT, NOT_MEDIA, CORRUPT)


@dataclass(frozen=True, slots=True)
class Bait:
    """What must not be touched: `file` is a sound of its own, `web` a server on this machine; `mp3` is a good MP3."""

    file: Path
    web: str
    mp3: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """`make` builds the file; `ends` are the ways in which its job may end."""

    make: Callable[[Bait], bytes]
    ends: tuple[str, ...]


# --- scripts that point elsewhere ------------------------------------------------------------------------------
def playlist(target: str, more: str = "") -> str:
    """An HLS playlist of one piece."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{more}#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"


def dash(target: str) -> str:
    """A DASH manifest whose media is elsewhere."""
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    )


#: `{file}` is the bait's path, `{name}` its name, `{web}` the server.
POINTERS = {
    "HLS to a file": playlist("file://{file}"),
    "HLS to a bare path": playlist("{file}"),
    "HLS to a sibling": playlist("{name}"),
    "HLS to the network": playlist("{web}/hls.ts"),
    "HLS through subfile": playlist("subfile,,start,0,end,0,,:{file}"),
    "HLS through concat": playlist("concat:{file}|{file}"),
    "HLS through crypto": playlist("crypto+file:{file}"),
    "HLS through async and cache": playlist("async:cache:{web}/cached"),
    "HLS key from the network": playlist("{name}", '#EXT-X-KEY:METHOD=AES-128,URI="{web}/key"\n'),
    "HLS map from a file": playlist("{web}/piece", '#EXT-X-MAP:URI="file://{file}"\n'),
    "HLS master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{web}/master.m3u8\n",
    "concat script to a sibling": "ffconcat version 1.0\nfile {name}\n",
    "concat script to a file": "ffconcat version 1.0\nfile '{file}'\n",
    "concat script to the network": "ffconcat version 1.0\nfile {web}/concat\n",
    "concat script with options": "ffconcat version 1.0\nfile '{file}'\noption safe 0\n"
    "option protocol_whitelist file,http\n",
    "concat script without its first line": "file '{file}'\n",
    "DASH to a file": dash("file://{file}"),
    "DASH to the network": dash("{web}/dash"),
    "SVG with a picture of a file": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{file}"/></svg>',
    "SVG with an entity": '<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{file}">]><svg>&x;</svg>',
    "SDP session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "ffmetadata": ";FFMETADATA1\ntitle={file}\n",
    "IMF": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
    "M3U": "#EXTM3U\n#EXTINF:2,x\n{file}\n{web}/m3u\n",
    "PLS": "[playlist]\nFile1={web}/pls\nFile2={file}\nNumberOfEntries=2\nVersion=2\n",
    "ASX": '<asx version="3.0"><entry><ref href="{web}/asx"/></entry></asx>',
    "SMIL": '<smil><body><audio src="{web}/smil"/></body></smil>',
    "Real link": "{web}/real.rm\nrtsp://127.0.0.1/real.rm\n",
    "QuickTime link": '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?>'
    '<embed src="{web}/qt"/>',
    "VobSub index": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"
    "timestamp: 00:00:01:000, filepos: 000000000\n",
    "AviSynth script": 'DirectShowSource("{file}")\n',
    "a numbered name": "img-%03d.png\n{file}\n",
}


def pointer(script: str) -> Callable[[Bait], bytes]:
    """A script, aimed at the bait."""

    def made(bait: Bait) -> bytes:
        text = script.replace("{file}", str(bait.file)).replace("{name}", bait.file.name).replace("{web}", bait.web)
        return text.encode()

    return made


def _subtitled(bait: Bait, script: str) -> bytes:
    return avi((b"txts", b"", [gab2(pointer(script)(bait).decode())]))


def _linked(kind: bytes, place: str) -> Callable[[Bait], bytes]:
    return lambda bait: mov(dref=reference(kind, place.replace("{file}", str(bait.file)).replace("{web}", bait.web)))


_MOVIE_LINK = atom(
    b"rmra", atom(b"rmda", atom(b"rdrf", bytes(4), b"url ", struct.pack(">I", 16), b"file:///etc/x\0\0\0"))
)
HIDDEN: dict[str, Case] = {
    "AVI with HLS for subtitles": Case(lambda b: _subtitled(b, POINTERS["HLS to a file"]), (RIGHT,)),
    "AVI with a concat script for subtitles": Case(
        lambda b: _subtitled(b, POINTERS["concat script to a file"]), (RIGHT,)
    ),
    "MOV whose sound is in another file": Case(_linked(b"url ", "file://{file}"), (RIGHT,)),
    "MOV whose sound is at an alias": Case(_linked(b"alis", "{file}"), (CORRUPT,)),
    "MOV whose sound is on the network": Case(_linked(b"url ", "{web}/dref"), (RIGHT,)),
    "MOV that is a link to a film": Case(
        lambda b: atom(b"ftyp", b"qt  ", bytes(4)) + movie(_MOVIE_LINK), (CORRUPT, "bad_input.no_audio", NOT_MEDIA)
    ),
    "MP3 whose cover is a link": Case(lambda b: id3(cover(f"{b.web}/cover".encode(), b"-->")) + b.mp3, (RIGHT,)),
    "MP3 with links in its tag": Case(
        lambda b: id3((b"WXXX", 0, f"\0\0{b.web}/w".encode()), (b"WOAF", 0, f"file://{b.file}".encode())) + b.mp3,
        (RIGHT,),
    ),
    "HLS behind a tag": Case(lambda b: id3((b"TIT2", 0, b"\0x")) + pointer(POINTERS["HLS to a file"])(b), REFUSED),
    "HLS behind a byte order mark": Case(lambda b: b"\xef\xbb\xbf" + pointer(POINTERS["HLS to a file"])(b), REFUSED),
    "WAV with a playlist in it": Case(lambda b: wav((b"PAD ", pointer(POINTERS["HLS to the network"])(b))), (RIGHT,)),
    "WAV whose sound is a playlist": Case(
        lambda b: riff(fmt(code=0x55), (b"data", pointer(POINTERS["HLS to a file"])(b) * 50)), (CORRUPT,)
    ),
}

# --- sizes and numbers that lie --------------------------------------------------------------------------------
_DAYS_S = 3 * 24 * 3600


def _many_ogg_streams(count: int) -> bytes:
    return b"".join(ogg_page(serial, 0, opus_head(2, 0), first=True) for serial in range(count))


def _many_tags(bait: Bait, count: int) -> bytes:
    return id3(*((b"TXXX", 0, b"\0name-%d\0value" % n) for n in range(count))) + bait.mp3


def _nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = struct.pack(">I4s", 8 + len(content), b"moov") + content
    return atom(b"ftyp", b"isom", bytes(4)) + content


def _packed_movie() -> bytes:
    claimed = struct.pack(">I", 0x7FFFFFF0) + b"x\x9c" + bytes(1000)
    packed = atom(b"cmov", atom(b"dcom", b"zlib"), atom(b"cmvd", claimed))
    return atom(b"ftyp", b"qt  ", bytes(4)) + atom(b"moov", packed)


def _aiff(rate: bytes) -> bytes:
    sound = sine(1.0)
    common = b"COMM" + struct.pack(">IhIh", 18, 2, len(sound) // 4, 16) + rate
    return (
        b"FORM"
        + struct.pack(">I", 46 + len(sound))
        + b"AIFF"
        + common
        + b"SSND"
        + struct.pack(">III", 8 + len(sound), 0, 0)
        + sound
    )


def _caf(rate: float) -> bytes:
    sound = sine(1.0)
    described = struct.pack(">d4sIIIII", rate, b"lpcm", 2, 4, 1, 2, 16)
    return (
        b"caff\0\1\0\0desc"
        + struct.pack(">q", 32)
        + described
        + b"data"
        + struct.pack(">qI", 4 + len(sound), 0)
        + sound
    )


def _au(rate: int, channels: int) -> bytes:
    return b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, rate, channels) + sine(1.0)


BOMBS: dict[str, Case] = {
    "a picture of 100,000 by 100,000": Case(lambda b: png(100_000, 100_000), (FORMAT,)),
    "a JPEG of 65,500 by 65,500": Case(lambda b: jpeg(65_500, 65_500), (FORMAT,)),
    "a cover of 100,000 by 100,000": Case(lambda b: id3(cover(png(100_000, 100_000))) + b.mp3, (RIGHT,)),
    "a JPEG cover of 65,500 by 65,500": Case(
        lambda b: id3(cover(jpeg(65_500, 65_500), b"image/jpeg")) + b.mp3, (RIGHT,)
    ),
    "AVI with a picture of 32,000 by 32,000": Case(
        lambda b: avi((b"vids", bitmap_info(b"MJPG", 32_000, 32_000), [jpeg(32_000, 32_000)])), (RIGHT, TOO_LARGE)
    ),
    "AVI with raw pictures of 2^31 by 2^31": Case(
        lambda b: avi((b"vids", bitmap_info(b"DIB ", 2**31 - 1, 2**31 - 1), [bytes(100)])), (RIGHT, CORRUPT)
    ),
    "days of silence": Case(lambda b: flac_of_silence(_DAYS_S, rate=8000, tell=True), (TOO_LONG,)),
    "10,000 tracks": Case(lambda b: mov(tracks=10_000), (FORMAT,)),
    "17 tracks": Case(lambda b: mov(tracks=17), (FORMAT,)),
    "1,000 Ogg streams": Case(lambda b: _many_ogg_streams(1000), (FORMAT,)),
    "a tag that claims 256 MB": Case(lambda b: id3(size=2**28 - 1) + b.mp3, (NOT_MEDIA, CORRUPT)),
    "a tag that unpacks to 20 MB": Case(lambda b: id3(packed_text(20 << 20)) + b.mp3, (RIGHT,)),
    "a tag of 2,000 entries": Case(lambda b: _many_tags(b, 2000), (RIGHT,)),
    "10,000 boxes in each other": Case(lambda b: _nested(10_000), (*REFUSED, TRUNCATED)),
    "a box that holds itself": Case(
        lambda b: atom(b"ftyp", b"isom", bytes(4)) + b"\0\0\0\0moov" * 1000, (CORRUPT, TRUNCATED)
    ),
    "boxes of no length": Case(
        lambda b: atom(b"ftyp", b"isom", bytes(4)) + b"\0\0\0\1moov" + bytes(8) * 1000, (*REFUSED, TRUNCATED)
    ),
    "an index packed to nothing": Case(lambda b: _packed_movie(), (CORRUPT, TOO_LARGE, TRUNCATED)),
    "four billion samples in a table": Case(
        lambda b: mov(sizes=atom(b"stsz", struct.pack(">III", 0, 0, 0xFFFFFFFF))), (CORRUPT, TOO_LARGE)
    ),
    "four billion samples of a byte": Case(
        lambda b: mov(sizes=atom(b"stsz", struct.pack(">III", 0, 4, 0xFFFFFFF0))), (CORRUPT, TOO_LARGE, TOO_LONG, RIGHT)
    ),
    "one sample a second": Case(lambda b: wav(rate=1), (FORMAT, TOO_LONG)),
    "nine samples a second": Case(lambda b: wav(rate=9), (FORMAT,)),
    "four billion samples a second": Case(lambda b: wav(rate=2**32 - 1), (FORMAT, CORRUPT, CODEC)),
    "two billion samples a second": Case(lambda b: wav(rate=2**31 - 1), (FORMAT, CORRUPT, CODEC)),
    "a million samples a second": Case(lambda b: wav(rate=1_000_000), (FORMAT,)),
    "no samples a second": Case(lambda b: wav(rate=0), (FORMAT, CORRUPT)),
    "AIFF of an endless rate": Case(lambda b: _aiff(b"\x7f\xff" + bytes(8)), (FORMAT, CORRUPT)),
    "CAF of a rate that is no number": Case(lambda b: _caf(float("nan")), (FORMAT, CORRUPT)),
    "CAF of a rate of 1e300": Case(lambda b: _caf(1e300), (FORMAT, CORRUPT)),
    "AU of 1024 channels": Case(lambda b: _au(48_000, 1024), (FORMAT, CORRUPT, CODEC)),
    "AU of no rate": Case(lambda b: _au(0, 2), (NOT_MEDIA, CORRUPT)),
    "Opus of 255 channels": Case(
        lambda b: (
            ogg_page(1, 0, opus_head(255, 255), first=True)
            + ogg_page(1, 1, b"OpusTags" + bytes(8))
            + ogg_page(1, 2, bytes([0xFC]) + bytes(2000), at=960)
        ),
        (FORMAT, CORRUPT, CODEC),
    ),
}

#: The same for whoever has minutes: work that grows with the square of the tags, and half a day of sound.
SLOW_BOMBS: dict[str, Case] = {
    "days of silence that tell no length": Case(
        lambda b: flac_of_silence(13 * 3600, rate=8000, tell=False), (TOO_LONG,)
    ),
    "a tag that unpacks to 200 MB": Case(lambda b: id3(packed_text(200 << 20)) + b.mp3, (RIGHT, TOO_LARGE)),
    "a tag of 100,000 entries": Case(lambda b: _many_tags(b, 100_000), (TOO_LARGE,)),
    "10,000 Ogg streams": Case(lambda b: _many_ogg_streams(10_000), (FORMAT,)),
}

# --- names and words -------------------------------------------------------------------------------------------
_ODD = "a\nb\"c'd\\e%s%n{0}\u202efed\u202c \U0001f469\u200d\U0001f680 -x; rm -rf / \x1b[31m"


def _opus_tags(comment: bytes) -> bytes:
    packet = b"OpusTags" + struct.pack("<I", 1) + b"x" + struct.pack("<II", 1, len(comment)) + comment
    silent = bytes([0xFC, 0xFF, 0xFE])
    pages = [ogg_page(7, 0, opus_head(2, 0), first=True), ogg_page(7, 1, packet)]
    return b"".join(pages + [ogg_page(7, 2 + n, silent, at=960 * (n + 1)) for n in range(60)])


def _info(text: bytes) -> tuple[bytes, bytes]:
    return b"LIST", b"INFOINAM" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)


def _zipped() -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../talk.wav", bytes(10 << 20))
    return kept.getvalue()


WORDS: dict[str, Case] = {
    "a title in Latin-1": Case(lambda b: wav(_info("Café für Ånna".encode("latin-1"))), (RIGHT,)),
    "a title of odd characters": Case(lambda b: wav(_info(_ODD.encode())), (RIGHT,)),
    "a title of all bytes": Case(lambda b: wav(_info(bytes(range(1, 256)))), (RIGHT,)),
    "a title with NUL": Case(lambda b: wav(_info(b"a\0b\0c")), (RIGHT,)),
    "a title of 10 MB": Case(lambda b: wav(_info(b"title " * 1_700_000)), (RIGHT,)),
    "an MP3 title of odd characters": Case(lambda b: id3((b"TIT2", 0, b"\3" + _ODD.encode())) + b.mp3, (RIGHT,)),
    "an MP3 title that is no UTF-8": Case(
        lambda b: id3((b"TIT2", 0, b"\3\xff\xfe\xc0\x80\xed\xa0\x80")) + b.mp3, (RIGHT,)
    ),
    "an MP3 tag name of odd bytes": Case(lambda b: id3((b"TXXX", 0, b"\0\xff\xfe\n\0x")) + b.mp3, (RIGHT,)),
    "an Opus title that is no UTF-8": Case(lambda b: _opus_tags(b"TITLE=\xff\xfe\xc0\x80"), ("bad_input.silent",)),
    "an Opus comment without a name": Case(lambda b: _opus_tags(b"=" * 60_000), ("bad_input.silent",)),
    "nothing but zeros": Case(lambda b: bytes(200_000), (NOT_MEDIA, CORRUPT)),
    "text": Case(lambda b: b"Dear diary, this is not a podcast.\n" * 400, (NOT_MEDIA,)),
    "JSON": Case(lambda b: b'{"type": "ingest"}\n' * 100, (NOT_MEDIA, FORMAT)),
    "a web page": Case(lambda b: b"<!doctype html><html><body>404</body></html>", (NOT_MEDIA,)),
    "a PDF": Case(lambda b: b"%PDF-1.7\n1 0 obj<<>>endobj\n%%EOF\n" * 50, (NOT_MEDIA, FORMAT)),
    "a ZIP archive": Case(lambda b: _zipped(), (NOT_MEDIA, CORRUPT, FORMAT)),
    "a packed WAV": Case(lambda b: gzip.compress(wav(), mtime=0), (NOT_MEDIA, CORRUPT, FORMAT)),
    "a WAV as text": Case(lambda b: base64.encodebytes(wav()), (NOT_MEDIA, CORRUPT, FORMAT)),
    "a program": Case(lambda b: b"\x7fELF\2\1\1" + bytes(5000), (NOT_MEDIA, CORRUPT, FORMAT)),
    "one byte": Case(lambda b: b"x", (NOT_MEDIA,)),
}
