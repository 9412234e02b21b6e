"""A thin client of libSQL servers: Hrana over HTTP, `POST /v2/pipeline`, one request per batch.

Every published Python client fails a worker (they hold the interpreter's lock while they wait, never time out, or turn
large integers into floats), so Spool speaks the protocol itself. Requests are stateless: each closes its stream.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import urllib3

from shared.errors import Busy, ConfigurationError, Refused, Unavailable

Value = str | int | float | bytes | None
#: Named parameters, or positional ones in order.
Parameters = Mapping[str, Value] | Sequence[Value]
#: The server itself waits 5 s for a lock before it answers busy, so reading must be more patient than that.
TIMEOUT = urllib3.Timeout(connect=3.0, read=8.0)


class Unreachable(Unavailable):
    """No answer came. `sent` tells whether the server may have carried out the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Overloaded(Unavailable):
    """The server answered that it cannot serve now (429, 5xx, or no Hrana at all); what it executed is unknown."""


class Denied(Unavailable):
    """The server refuses the token, or what the token may do."""


class Blocked(Unavailable):
    """The provider has stopped this database: its plan or quota does not allow more."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one statement returned, and what the server counted for it."""

    columns: tuple[str, ...]
    values: list[tuple[Value, ...]]
    affected: int
    last_id: int | None
    rows_read: int
    rows_written: int

    @property
    def rows(self) -> list[dict[str, Value]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.values]


class Hrana:
    """One libSQL database. Safe to share between threads; connections are kept alive and reused."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        ca_certs: str | None = None,
        timeout: urllib3.Timeout = TIMEOUT,
    ) -> None:
        parts = urlsplit(url)
        schemes = {"libsql": "https", "https": "https", "http": "http"}
        if parts.scheme not in schemes or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no libSQL address; use libsql://…, https://… or http://…")
        self._home = f"{schemes[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"
        self._base = self._home
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(maxsize=64, timeout=timeout, retries=False, ca_certs=ca_certs)

    def batch(
        self, statements: Sequence[tuple[str, Parameters]], mode: str | None, only_if: Sequence[str | None] = ()
    ) -> list[Result]:
        """Run statements in one transaction and one request; `mode` is IMMEDIATE or DEFERRED, None for no transaction.

        Each step runs only when the one before it succeeded; whatever fails rolls everything back. `only_if` has a
        query for each statement, or None: of neighbours with the same query none is run when it finds nothing. Raises
        `Busy` (nothing was executed), `Refused` (a constraint or trigger), `Unreachable`, `Overloaded`, `Denied`,
        `Blocked` or, for a statement that the server does not understand, `Unavailable`.
        """
        chain = _Chain()
        if mode is not None:
            chain.add({"sql": f"BEGIN {mode}"})
        places = []
        for place, (text, params) in enumerate(statements):
            chain.ask(only_if[place] if only_if else None)
            places.append(chain.add(_statement(text, params)))
        chain.ask(None)
        if mode is not None:
            committed = chain.add({"sql": "COMMIT"})
            unless_committed = {"type": "not", "cond": {"type": "ok", "step": committed}}
            began = {"type": "ok", "step": 0}
            chain.steps.append(
                {"stmt": {"sql": "ROLLBACK"}, "condition": {"type": "and", "conds": [began, unless_committed]}}
            )
        answer = self._pipeline([{"type": "batch", "batch": {"steps": chain.steps}}, {"type": "close"}])
        results, errors = answer["step_results"], answer["step_errors"]
        wanted = len(chain.steps) - (mode is not None)
        failed = [error for place, error in enumerate(errors[:wanted]) if error and place not in chain.questions]
        if failed:
            raise _sql_error(failed[0])
        asked = {place + 1: results[place] for place in chain.questions}
        return [
            _result(results[place]) if results[place] is not None else _unneeded(asked.get(place)) for place in places
        ]

    @contextmanager
    def stream(self) -> Iterator[Stream]:
        """One connection of the server for several requests, such as a long look at one snapshot.

        The server ends it when nothing is asked for some seconds; then `Unavailable` is raised. Nothing is repeated.
        """
        stream = Stream(self._post, self._base)
        try:
            yield stream
        finally:
            stream.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._pool.clear()

    def _pipeline(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        answer = self._post(self._base, None, requests)
        self._follow(answer["base_url"])
        return _first(answer)

    def _post(self, base: str, baton: str | None, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """One request; the answer has `baton`, `base_url` and `results`."""
        body = json.dumps({"baton": baton, "requests": requests}, ensure_ascii=False).encode()
        try:
            response = self._pool.request("POST", f"{base}/v2/pipeline", body=body, headers=self._headers)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            self._base = self._home
            raise Unreachable(
                f"The database at {base} does not answer ({_cause(error)}); check that it runs and SPOOL_DATABASE_URL.",
                sent=False,
            ) from error
        except urllib3.exceptions.SSLError as error:
            sentence = f"The database at {base} shows no certificate that this machine trusts ({error})."
            raise Unreachable(sentence, sent=False) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"The connection to {base} broke ({_cause(error)}).", sent=True) from error
        if response.status != 200:
            raise _http_error(base, response.status, response.data)
        try:
            answer: dict[str, Any] = {"base_url": None, "baton": None} | json.loads(response.data)
            _ = answer["results"][0]["type"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Overloaded(f"{base} answered something that is not Hrana; is it a libSQL server?") from error
        return answer

    def _follow(self, base_url: str | None) -> None:
        self._base = _allowed(base_url, self._home) or self._base


class _Chain:
    """Steps of a batch, each of which runs only if the one before it did what it should.

    A condition of Hrana sees whether a step succeeded and not what it found, so a question fails when the answer is
    yes. One that fails for another reason is a yes, too: what it would have saved is done then, or fails in its turn.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        #: The places of questions, whose failure is an answer.
        self.questions: set[int] = set()
        self._before: dict[str, Any] | None = None
        self._asked: str | None = None
        self._no: dict[str, Any] | None = None

    def ask(self, query: str | None) -> None:
        """Let what follows run only if the query finds something; None: in any case."""
        if query == self._asked:
            return
        if self._no is not None:
            self._before = {"type": "or", "conds": [self._no, self._before]}
        self._asked, self._no = query, None
        if query is not None:
            before = self._before
            place = self.add({"sql": f"SELECT CASE WHEN EXISTS ({query}) THEN json('yes') END"})
            self.questions.add(place)
            yes = {"type": "error", "step": place}
            self._no = {"type": "ok", "step": place}
            self._before = yes if before is None else {"type": "and", "conds": [before, yes]}

    def add(self, statement: dict[str, Any]) -> int:
        """One more step; returns its place."""
        self.steps.append({"stmt": statement} | ({"condition": self._before} if self._before else {}))
        self._before = {"type": "ok", "step": len(self.steps) - 1}
        return len(self.steps) - 1


class Stream:
    """Statements on one connection of the server, one request each; made by `Hrana.stream`."""

    def __init__(self, post: Callable[[str, str | None, list[dict[str, Any]]], dict[str, Any]], base: str) -> None:
        self._post, self._base = post, base
        self._baton: str | None = None

    def run(self, text: str, params: Parameters = ()) -> Result:
        """Run one statement. Raises as `Hrana.batch` does."""
        return _result(self._ask({"type": "execute", "stmt": _statement(text, params)}))

    def close(self) -> None:
        """Give the connection back; an open transaction is rolled back."""
        if self._baton is not None:
            with suppress(Unavailable):  # the server gives up a silent stream by itself
                self._post(self._base, self._baton, [{"type": "close"}])
            self._baton = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._post(self._base, self._baton, [request])
        self._baton = answer["baton"]
        self._base = _allowed(answer["base_url"], self._base) or self._base
        return _first(answer)


def _allowed(base_url: str | None, home: str) -> str | None:
    """The address a server wants to be asked at. The token never goes from TLS to plain text for that."""
    same = base_url is not None and urlsplit(base_url).scheme == urlsplit(home).scheme
    return base_url.rstrip("/") if base_url and same else None


def _first(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the first request of a pipeline came to."""
    try:
        first = answer["results"][0]
        if first["type"] == "error":
            raise _sql_error(first["error"])
        result: dict[str, Any] = first["response"]["result"]
    except (KeyError, TypeError, AttributeError) as error:
        raise Overloaded("The database answered something that is not Hrana; is it a libSQL server?") from error
    return result


def _statement(text: str, params: Parameters) -> dict[str, Any]:
    if not isinstance(params, Mapping):
        return {"sql": text, "args": [_encode(f"Parameter {n}", value) for n, value in enumerate(params, 1)]}
    used = _names(text)
    return {
        "sql": text,
        "named_args": [{"name": name, "value": _encode(name, value)} for name, value in params.items() if name in used],
    }


@cache
def _names(text: str) -> frozenset[str]:
    # A server refuses parameters that a statement does not name.
    return frozenset(re.findall(r":([a-z_]\w*)", text))


def _encode(name: str, value: Value) -> dict[str, Any]:
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "integer", "value": str(int(value))}
        case int():
            if not -(2**63) <= value < 2**63:
                raise Refused(f"{name} = {value} does not fit into 64 bits.")
            return {"type": "integer", "value": str(value)}
        case float():
            if not math.isfinite(value):
                raise Refused(f"{name} is {value}, which no database column can hold.")
            return {"type": "float", "value": value}
        case str():
            if re.search("[\ud800-\udfff]", value):
                raise Refused(f"{name} holds half a character (a lone surrogate), which is no text.")
            return {"type": "text", "value": str(value)}
        case bytes():
            return {"type": "blob", "base64": base64.b64encode(value).decode().rstrip("=")}
    raise TypeError(f"{name} is a {type(value).__name__}, which is no SQL value")


def _decode(value: Mapping[str, Any]) -> Value:
    match value["type"]:
        case "null":
            return None
        case "integer":
            return int(value["value"])
        case "float":
            return math.nan if value["value"] is None else float(value["value"])
        case "blob":
            text = str(value["base64"])
            return base64.b64decode(text + "=" * (-len(text) % 4))
        case _:
            return str(value["value"])


def _result(result: Mapping[str, Any]) -> Result:
    last_id = result.get("last_insert_rowid")
    return Result(
        columns=tuple(column["name"] for column in result["cols"]),
        values=[tuple(map(_decode, row)) for row in result["rows"]],
        affected=int(result["affected_row_count"]),
        last_id=None if last_id is None else int(last_id),
        rows_read=int(result.get("rows_read", 0)),
        rows_written=int(result.get("rows_written", 0)),
    )


def _unneeded(question: Mapping[str, Any] | None) -> Result:
    """Of a statement that was not needed; the first of its neighbours has what the question cost."""
    read = 0 if question is None else int(question.get("rows_read", 0))
    return Result(columns=(), values=[], affected=0, last_id=None, rows_read=read, rows_written=0)


def _sql_error(error: Mapping[str, Any]) -> Exception:
    code, message = str(error.get("code")), str(error.get("message"))
    if code.startswith("SQLITE_BUSY") or code in {"SQLITE_LOCKED", "TRANSACTION_TIMEOUT", "TRANSACTION_BUSY"}:
        return Busy("The database is held by another writer; try again.")
    if code.startswith("SQLITE_CONSTRAINT"):
        return Refused(message)
    if code == "BLOCKED":
        return Blocked(f"The database refuses to work for this account ({message}); check its plan and usage.")
    return Unavailable(f"The database cannot run a statement ({code}: {message}); run `spool migrate`.")


def _http_error(base: str, status: int, body: bytes) -> Exception:
    text = body[:200].decode(errors="replace").strip()
    if status in {401, 403}:
        return Denied(f"{base} refuses the token ({status}); set SPOOL_DATABASE_TOKEN to one that may read and write.")
    if status == 404:
        return Unavailable(f"{base} is no libSQL database (404); check SPOOL_DATABASE_URL.")
    if status == 429 or status >= 500:
        return Overloaded(f"{base} cannot serve now ({status} {text}).")
    return Unavailable(f"{base} does not take Spool's request ({status} {text}); check SPOOL_DATABASE_URL.")


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error).split(">: ")[-1].split(": ", 1)[-1]
