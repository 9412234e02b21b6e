"""Words that strangers give: which characters may be kept, shown on a terminal and handed to a program."""

from __future__ import annotations

import unicodedata

#: Controls, halves of characters, and separators that end a line. Not what merely joins, turns or widens: the names of
#: macOS's own recordings hold a narrow space, and an emoji of a family is held together by invisible characters.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_plain(text: str) -> bool:
    """Whether a text is one line without control characters."""
    return not any(unicodedata.category(character) in _REFUSED for character in text)


def plain(text: str) -> str:
    """The text, when it is plain. Raises `ValueError` otherwise."""
    if not is_plain(text):
        raise ValueError("may not hold control characters or line breaks")
    return text


def readable(text: str) -> str:
    """The text, which may have several lines. Raises `ValueError` when it is blank or holds control characters."""
    if not text.strip():
        raise ValueError("is blank; say something")
    for line in text.replace("\r\n", "\n").replace("\t", " ").split("\n"):
        if not is_plain(line):
            raise ValueError("may not hold control characters but line breaks and tabs")
    return text


def cleaned(text: str) -> str:
    """The text without what is not plain."""
    return "".join(character for character in text if is_plain(character))
