"""Files and links as they are typed, looked at before the first byte is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from cli.errors import USAGE, CommandError
from shared.references import is_reference
from shared.types import is_url

_ASSET = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a link as it was typed; `name` is what its line and its finished files are called."""

    typed: str
    path: Path | None
    name: str


def sources(typed: Sequence[str]) -> list[Source]:
    """Check every file before the first one is sent, and give each a name of its own."""
    found: list[Source] = []
    taken: set[str] = set()
    for text in typed:
        path = None if is_url(text) else Path(text).expanduser()
        if path is not None:
            check_file(path)
        name = path.name if path else PurePosixPath(unquote(urlsplit(text).path)).name or urlsplit(text).netloc
        found.append(Source(text, path, _untaken(name, taken)))
    return found


def is_local(named: str, path: Path) -> bool:
    """Whether a source is a file here, and not a link, another job's file or an upload. Raises as `check_file`."""
    if is_url(named) or is_reference(named) or (_ASSET.fullmatch(named) and not path.exists()):
        return False
    check_file(path)
    return True


def check_file(path: Path) -> None:
    """Raise `CommandError` for what cannot be sent."""
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name the files in it, such as {path}/*.wav", USAGE)
    if not path.is_file():
        raise CommandError(f"There is no file {path}. Check the name, or give a link that begins with https://", USAGE)
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror}). Check its permissions.", USAGE) from None
    if not first:
        raise CommandError(f"{path} is empty. Wait until the recording is finished, then send it.", USAGE)


def _untaken(name: str, taken: set[str]) -> str:
    """The name, numbered when two sources share it."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(unique)
    return unique
