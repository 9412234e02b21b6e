"""HTML and SVG put together so that text is always escaped: only what `tag` made is markup."""

from __future__ import annotations

from html import escape

#: Elements that have no content and no end.
_VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | float | None) -> Markup:
    """An element; a `_` in an attribute's name is a hyphen, one at its end is dropped, None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: str) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(one if isinstance(one, Markup) else escape(one) for one in content))
