"""A `source` that names a file another job has made: `job:<job id>/<output>`, or `child:<child key>/<output>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from shared.job import Output, Status
from shared.store.values import Made

_KINDS = ("job:", "child:")
_REFERENCE = re.compile(r"(job|child):([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([^/\s]{1,128})")


@dataclass(frozen=True, slots=True)
class Reference:
    """`key` is a job's id, or the child key of a sibling; `output` is the name of the file."""

    to: Literal["job", "child"]
    key: str
    output: str

    @property
    def what(self) -> str:
        """Whom it names, in words."""
        return f"job {self.key}" if self.to == "job" else f"child {self.key!r}"


def is_reference(source: str) -> bool:
    """Whether a source is meant to name another job's file."""
    return source.startswith(_KINDS)


def reference(source: str) -> Reference:
    """The source, read. Raises `ValueError` with what is wrong, as a phrase."""
    match = _REFERENCE.fullmatch(source)
    if match is None:
        raise ValueError("names no file of a job; write it as job:<job id>/<output> or child:<child key>/<output>")
    to, key, output = match.groups()
    return Reference("job" if to == "job" else "child", key, output)


def output_of(named: Reference, made: Made | None) -> Output:
    """The file that is meant. Raises `LookupError` with why there is none, as a phrase."""
    if made is None:
        more = "it may have been deleted" if named.to == "job" else "it is no child of the same parent"
        raise LookupError(f"there is no {named.what}; {more}")
    if made.status is not Status.COMPLETED:
        raise LookupError(f"{named.what} is {made.status}, and only a completed job has files")
    for output in made.outputs:
        if output.name == named.output:
            return output
    names = ", ".join(output.name for output in made.outputs) or "no files"
    raise LookupError(f"{named.what} has no output {named.output!r}; it has {names}")
