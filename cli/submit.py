"""`spool submit`: what was typed becomes uploads and jobs, and finished jobs become files on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from cli.client import INTERRUPTED, USAGE, Client, CommandError, JobView, OutputView, ended_badly
from cli.live import View, follow, summary
from cli.sending import upload
from shared.job import new_id
from shared.types import JOB_TYPES, is_url

_EXTENSIONS = {
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".opus",
    "audio/opus": ".opus",
    "audio/flac": ".flac",
    "audio/wav": ".wav",
    "video/mp4": ".mp4",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "application/json": ".json",
    "text/html": ".html",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a link as it was typed; `name` is what its line and its finished files are called."""

    typed: str
    path: Path | None
    name: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A finished file on this machine."""

    output: OutputView
    path: Path


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed after `spool submit`."""

    job_type: str
    files: tuple[str, ...] = ()
    preset: str | None = None
    params: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def run_submit(
    client: Client, order: Order, view: View, *, watch: bool, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Send and queue everything; with `watch` or a folder also follow and save. Returns the jobs and what to say."""
    found = sources(order.files)
    params = parameters(order.preset, order.params, order.outputs)
    check(order.job_type, params, with_source=bool(found), known=client.job_types())
    queued: dict[str, JobView] = {}
    names: dict[str, str] = {}
    try:
        with view:
            for source in found or (None,):
                job = create(client, order, params, source, view)
                queued[job["id"]] = job
                names[job["id"]] = source.name if source else order.job_type
                view.note(f"{names[job['id']]}: queued as {job['id']}")
            if not watch and folder is None:
                return list(queued.values()), [f"Follow it: spool watch {' '.join(names)}"]
            return _finish(client, names, view, folder)
    except KeyboardInterrupt:
        raise _interrupted(list(names), max(1, len(found)) - len(names)) from None
    except CommandError as error:
        if names:
            error.message += f"\nQueued before that: {' '.join(names)}"
        raise


def run_watch(
    client: Client, job_ids: Sequence[str], view: View, *, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Follow jobs that exist; returns them as they ended and what to say."""
    names = {job_id: f"{client.job(job_id)['type']}-{job_id[-6:]}" for job_id in job_ids}
    try:
        with view:
            return _finish(client, names, view, folder)
    except KeyboardInterrupt:
        raise _interrupted(list(names), 0) from None


def sources(typed: Sequence[str]) -> list[Source]:
    """Check every file before the first one is sent, and give each a name of its own."""
    found: list[Source] = []
    taken: set[str] = set()
    for text in typed:
        path = None if is_url(text) else Path(text).expanduser()
        if path is not None:
            _check_file(path)
        name = path.name if path else PurePosixPath(unquote(urlsplit(text).path)).name or urlsplit(text).netloc
        found.append(Source(text, path, _untaken(name, taken)))
    return found


def parameters(preset: str | None, params: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    """The `params` of a job from `--preset`, `--param key.path=value` and `--output format[:kbps]`."""
    made: dict[str, Any] = {} if preset is None else {"preset": preset}
    if outputs:
        specs = [_output_spec(text) for text in outputs]
        formats = [spec["format"] for spec in specs]
        made["outputs"] = [
            spec | {"name": f"{spec['format']}-{spec.get('bitrate_kbps', 'default')}"}
            if formats.count(spec["format"]) > 1
            else spec
            for spec in specs
        ]
    for text in params:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise CommandError(f"--param {text}: write it as name=value, such as --param target_lufs=-16.", USAGE)
        _put(made, key.split("."), _json_or_text(value), typed=text)
    return made


def check(job_type: str, params: Mapping[str, Any], *, with_source: bool, known: Iterable[str]) -> None:
    """Refuse what the API would refuse, before anything large is sent."""
    if job_type not in known:
        raise CommandError(f"There is no job type {job_type!r}; this API knows {', '.join(known)}.", USAGE)
    kind = JOB_TYPES.get(job_type)
    if kind is None:
        return
    takes_source = "source" in kind.params.model_fields
    if with_source and not takes_source:
        raise CommandError(f"A {job_type} takes no file; leave it out.", USAGE)
    if not with_source and takes_source and "source" not in params:
        raise CommandError(f"A {job_type} needs a file or a link: spool submit {job_type} recording.wav", USAGE)
    try:
        kind.params.model_validate({**params, "source": new_id()} if with_source else params)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'params'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)
        ]
        raise CommandError("\n  ".join(["These parameters do not fit:", *problems]), USAGE) from None


def create(client: Client, order: Order, params: Mapping[str, Any], source: Source | None, view: View) -> JobView:
    """Send the file, if there is one, and queue its job."""
    given = dict(params)
    if source is not None and source.path is not None:
        given["source"] = upload(client, source.path, partial(view.moving, source.name, "sending"))
    elif source is not None:
        given["source"] = source.typed
    return client.create({"type": order.job_type, "params": given, "tags": list(order.tags)})


def save(client: Client, name: str, job: JobView, folder: Path, view: View, *, replace: bool = False) -> list[Saved]:
    """Download the outputs of a completed job into `folder`. A file that is there already is kept, unless `replace`."""
    if ended_badly(job):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for output in client.outputs(job["id"]):
        path = folder / file_name(name, output)
        if not replace:
            path = _free(path)
        client.download(output, path, partial(view.moving, name, f"saving {output['name']}"))
        saved.append(Saved(output, path.absolute()))
    view.job(name, job)
    return saved


def file_name(source_name: str, output: OutputView) -> str:
    """`talk.wav` and output `mp3` give `talk.mp3`; other names stay visible: `talk.poster.jpg`. Never a path."""
    stem, name = PurePosixPath(source_name).stem, output["name"]
    extension = _EXTENSIONS.get(output["content_type"], "")
    if f".{name}" != extension and not name.lower().endswith(extension):
        name += extension
    return re.sub(r"[^\w. ()-]", "_", f"{stem}.{name}").lstrip(".")


def _finish(
    client: Client, names: Mapping[str, str], view: View, folder: Path | None
) -> tuple[list[JobView], list[str]]:
    """Follow the jobs, save what they made, and say what became of each."""
    ended = follow(client, names, view)
    lines = []
    for job in ended:
        lines += summary(names[job["id"]], job)
        if folder is not None:
            lines += [f"  {item.path}" for item in save(client, names[job["id"]], job, folder, view)]
    return ended, lines


def _interrupted(job_ids: Sequence[str], unsent: int) -> CommandError:
    """Ctrl-C leaves queued jobs alone; the sentence says how to go on."""
    if not job_ids:
        return CommandError("Stopped before anything was queued.", INTERRUPTED)
    ids = " ".join(job_ids)
    rest = f" {unsent} of the files were not sent." if unsent else ""
    return CommandError(
        f"Stopped watching; what is queued goes on.{rest}\n"
        f"  Watch again: spool watch {ids}\n  Cancel it:   spool cancel {ids}",
        INTERRUPTED,
    )


def _check_file(path: Path) -> None:
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


def _output_spec(text: str) -> dict[str, Any]:
    format_, colon, kbps = text.partition(":")
    if not colon:
        return {"format": format_}
    if not kbps.removesuffix("k").isdigit():
        raise CommandError(f"--output {text}: write it as format:kbps, such as --output mp3:192.", USAGE)
    rate = int(kbps.removesuffix("k"))
    return {"format": format_, "bitrate_kbps": rate}


def _json_or_text(value: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _put(into: dict[str, Any], path: Sequence[str], value: Any, *, typed: str) -> None:  # noqa: ANN401 - any JSON value
    """Set a value by its dotted path; a number in the path is a place in a list, which may grow by one."""
    here: Any = into
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        fresh: Any = value if last else [] if path[depth + 1].isdigit() else {}
        if isinstance(here, list):
            if not part.isdigit() or int(part) > len(here):
                raise CommandError(f"--param {typed}: {'.'.join(path[:depth])} is a list of {len(here)}.", USAGE)
            if int(part) == len(here):
                here.append(fresh)
            elif last:
                here[int(part)] = value
            here = here[int(part)]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            here = here.setdefault(part, fresh)
        else:
            raise CommandError(f"--param {typed}: {'.'.join(path[:depth])} has a value already.", USAGE)


def _untaken(name: str, taken: set[str]) -> str:
    """The name, numbered when two sources share it."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(unique)
    return unique


def _free(path: Path) -> Path:
    """The path, numbered when something is there: what a person has is never overwritten."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
