"""A loopback proxy before a real HTTP server: counts requests, and spoils exchanges the way networks do."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import urlsplit

#: What may happen to one exchange. `before` and `after` say whether the server has carried the request out; after a
#: black hole it has, and after `late` it will, once the client has given up.
FAULTS = (
    "slow",
    "drop before",
    "drop after",
    "reset after",
    "truncate",
    "repeat",
    "429 before",
    "500 after",
    "502 before",
    "503 before",
    "html before",
    "black hole",
    "late",
)
#: How much later a slow answer comes: longer than everything that answers at once, shorter than anyone's patience.
SLOW_S = 0.4
Request = tuple[str, str, dict[str, str], bytes]
Reply = tuple[int, list[tuple[str, str]], bytes]


class Faults:
    """Spoils `share` of all exchanges, by kinds from a shuffled deck, so that every kind comes up.

    Each kind is `often` in the deck, but the two that cost somebody all his patience are there once.
    """

    def __init__(self, share: float, *, seed: int, often: int = 9) -> None:
        self._share, self._chance = share, random.Random(seed)
        self._all = [fault for fault in FAULTS for _ in range(1 if fault in {"black hole", "late"} else often)]
        self._deck: list[str] = []
        self._lock = threading.Lock()

    def __call__(self) -> str | None:
        """The fault of one exchange, or None."""
        with self._lock:
            if self._chance.random() >= self._share:
                return None
            if not self._deck:
                self._deck = self._chance.sample(self._all, len(self._all))
            return self._deck.pop()


class Proxy:
    """Passes requests on to `target`. `fault` is asked once per request and names a fault, or None.

    `edit` changes the body of a request on its way. While it is `silent` the proxy passes on and answers nothing, like
    a network without a way to the server. With `tls` it answers encrypted, which makes it the TLS terminator of a
    server that speaks plain HTTP. It passes on `at_once` requests at a time: the test server stalls when more than a
    few clients write at once.
    """

    def __init__(
        self,
        target: str,
        *,
        fault: Callable[[], str | None] = lambda: None,
        delay_s: float = 0.0,
        at_once: int = 64,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._target = urlsplit(target).netloc
        self.fault = fault
        self.edit: Callable[[bytes], bytes] = lambda body: body
        self.delay_s = delay_s
        self.silent = False
        self._room = threading.Semaphore(at_once)
        self._tls = tls
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, name="proxy")]

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def hang_up(self) -> None:
        """Break every connection that clients keep open."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Answer nothing more on the connections that are open, and do not tell: what a router does to idle ones."""
        with self._lock:
            self._forgotten |= self._open

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="proxied")
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            with self._lock:
                self._open.add(connection)
            with connection.makefile("rb") as stream:
                while not self._ended.is_set() and (request := _read(stream)):
                    if self.silent or connection in self._forgotten:
                        connection.recv(1)  # returns when the client gives up
                        return
                    if not self._exchange(connection, request):
                        return
        except (OSError, http.client.HTTPException):
            pass  # either side has gone, which is what this proxy is for
        finally:
            with self._lock:
                self._open.discard(connection)
                self._forgotten.discard(connection)
            connection.close()

    def _exchange(self, connection: socket.socket, request: Request) -> bool:
        """One request and its reply; False when the connection is over."""
        fault = self.fault()
        with self._lock:
            self.requests += 1
            self.faults.update([fault] if fault else [])
        time.sleep(self.delay_s + (SLOW_S if fault == "slow" else 0.0))
        if fault == "drop before":
            return False
        if fault and fault.endswith("before"):
            word = fault.split()[0]
            connection.sendall(_reply((200 if word == "html" else int(word), [], b"<html><body>Sorry.</body></html>")))
            return True
        if fault == "late":
            connection.recv(1)  # returns when the client gives up
        whole = _reply(self._forward(request))
        match fault:
            case "repeat":
                whole = _reply(self._forward(request))
            case "500 after":
                whole = _reply((500, [], b"Sorry."))
            case "truncate":
                whole = whole[:-20]
            case "drop after" | "reset after" | "black hole" | "late":
                whole = b""
        connection.sendall(whole)
        if fault == "reset after":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault == "black hole":
            connection.recv(1)  # returns when the client gives up
        return fault in {None, "slow", "repeat", "500 after"}

    def _forward(self, request: Request) -> Reply:
        method, path, headers, sent = request
        body = self.edit(sent)
        headers = headers | ({"content-length": str(len(body))} if body != sent else {})
        upstream = http.client.HTTPConnection(self._target, timeout=30)
        with self._room, closing(upstream):
            upstream.request(method, path, body, headers)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()


def _read(stream) -> Request | None:
    """The next request of a connection, None at its end."""
    first = stream.readline().decode().split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return first[0], first[1], headers, stream.read(int(headers.get("content-length", 0)))


def _reply(reply: Reply) -> bytes:
    status, headers, body = reply
    ours = {"content-length", "transfer-encoding", "connection"}
    # The answer to a HEAD tells the length of a body that does not come.
    declared = {name.lower(): value for name, value in headers}.get("content-length", "0")
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body) or declared}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in ours]
    return "\r\n".join([*lines, "", ""]).encode() + body
