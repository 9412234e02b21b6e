"""Links are downloaded from the public internet only, whole or not at all, and a job that is stopped lets go."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import JobFailure
from shared.store.values import Feed
from tests.real.site import BODY, LOOPBACK, Site, answer, served
from worker.addresses import Address, is_public, public
from worker.fetch import Fetched, Network, fetch_url
from worker.stop import Reason, Stop, Stopped


@pytest.fixture
def site() -> Iterator[Site]:
    """A running site without TLS."""
    with served() as running:
        yield running


@pytest.fixture
def fetch(site, tmp_path) -> Callable[..., Fetched]:
    """Downloads a path of the site into `tmp_path / "source"`."""

    def fetched(path: str, **options) -> Fetched:
        options = {"stop": Stop(), "progress": lambda *_: None, "network": site.network} | options
        return fetch_url(site.url(path), tmp_path / "source", **options)

    return fetched


def refused(fetch: Callable[[], Fetched], folder: Path) -> JobFailure:
    """The failure of a download that must leave nothing behind."""
    with pytest.raises(JobFailure) as failed:
        fetch()
    assert list(folder.glob("source*")) == []
    return failed.value


def test_a_file_arrives_whole_with_its_hash_and_true_progress(site, fetch, tmp_path) -> None:
    """Progress starts at nothing, rises, and ends at the size the server named."""
    site.answers["/a.mp3?x=1%20y"] = answer
    steps: list[tuple[int, int | None]] = []
    got = fetch("/a.mp3?x=1 y", progress=lambda done, total: steps.append((done, total)))
    assert (tmp_path / "source").read_bytes() == BODY
    assert got == Fetched(site.url("/a.mp3?x=1 y"), len(BODY), "audio/mpeg", hashlib.sha256(BODY).hexdigest())
    assert steps[0] == (0, len(BODY))
    assert steps[-1] == (len(BODY), len(BODY))
    assert steps == sorted(steps)
    assert site.asked == [("/a.mp3?x=1%20y", f"files.example:{site.port}")]


def test_a_file_that_has_not_changed_is_not_sent_again(site, fetch, tmp_path) -> None:
    """What the server said of it comes back word by word; without its words there is no condition."""
    heard: list[tuple[str | None, str | None]] = []

    def conditional(handler) -> None:
        heard.append((handler.headers["If-None-Match"], handler.headers["If-Modified-Since"]))
        if heard[-1][0] == '"v1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            answer(handler, ETag='"v1"', Last_Modified="Sat, 21 Nov 2026 20:00:00 GMT")

    site.answers["/feed"] = conditional
    first = fetch("/feed", known=Feed())
    assert (first.etag, first.last_modified, first.unchanged) == ('"v1"', "Sat, 21 Nov 2026 20:00:00 GMT", False)
    (tmp_path / "source").unlink()
    again = fetch("/feed", known=Feed(first.etag, first.last_modified))
    assert (again.etag, again.unchanged, again.size_bytes) == ('"v1"', True, 0)
    assert not (tmp_path / "source").exists()
    assert heard == [(None, None), ('"v1"', "Sat, 21 Nov 2026 20:00:00 GMT")]


def test_a_server_cannot_say_that_nothing_changed_unasked(site, fetch, tmp_path) -> None:
    """304 without a condition is no answer."""
    site.answers["/a"] = lambda handler: (handler.send_response(304), handler.end_headers())
    assert refused(lambda: fetch("/a"), tmp_path).failure_code == "network.http_4xx"


def test_words_that_could_break_a_request_are_not_kept(site, fetch) -> None:
    """A header comes back in a later request: it must be short and printable."""
    site.answers["/a"] = lambda handler: answer(handler, ETag='"' + "x" * 300 + '"', Last_Modified="caf\xe9")
    got = fetch("/a")
    assert (got.etag, got.last_modified) == (None, None)


def test_a_file_of_unknown_length_arrives_too(site, fetch, tmp_path) -> None:
    """Chunked answers have no total."""

    def chunked(handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (BODY[:1000], BODY[1000:]):
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    site.answers["/a"] = chunked
    assert fetch("/a").size_bytes == len(BODY)
    assert (tmp_path / "source").read_bytes() == BODY


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that sends the client elsewhere."""
    return lambda handler: answer(handler, b"", 302, Location=to)


def test_five_redirects_are_followed_and_no_sixth(site, fetch, tmp_path) -> None:
    """Relative ones too; the answer names the final link."""
    for hop in range(6):
        site.answers[f"/{hop}"] = redirect(f"{hop + 1}")
    site.answers["/6"] = answer
    assert fetch("/1").url == site.url("/6")
    (tmp_path / "source").unlink()
    assert refused(lambda: fetch("/0"), tmp_path).failure_code == "network.redirects"


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "file:///etc/passwd",
        "gopher://x/",
        "//u:p@x/",
    ],
)
def test_a_redirect_is_checked_like_the_link_itself(site, tmp_path, to) -> None:
    """A public server may not lead inside."""
    site.answers["/a"] = redirect(to)
    network = Network(
        allow=lambda address, _: address == LOOPBACK,
        resolve=lambda host, _: [LOOPBACK if host == "files.example" else ipaddress.ip_address(host)],
    )
    failure = refused(
        lambda: fetch_url(site.url("/a"), tmp_path / "source", stop=Stop(), progress=lambda *_: None, network=network),
        tmp_path,
    )
    assert failure.failure_code in {"network.blocked_address", "network.bad_url"}
    assert failure.kind == "permanent"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost", "10.1.2.3", "172.16.0.1",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.192", "198.18.0.1", "203.0.113.9", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]",
        "[64:ff9b::a00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[2001:db8::1]", "[3fff::1]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[100::1]",
        "[5f00::1]", "[2606:4700::5efe:a00:1]",
    ],
)  # fmt: skip
def test_the_product_connects_to_no_address_that_is_not_public(tmp_path, host) -> None:
    """However it is written; the default policy, with the system's own resolver."""
    failure = refused(
        lambda: fetch_url(f"http://{host}/a.mp3", tmp_path / "source", stop=Stop(), progress=lambda *_: None), tmp_path
    )
    assert failure.failure_code == "network.blocked_address"
    assert failure.kind == "permanent"


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"])
def test_public_addresses_are_open_on_web_ports_only(address) -> None:
    """Embedded ones count as what they lead to."""
    assert is_public(ipaddress.ip_address(address))
    assert [port for port in (22, 25, 80, 443, 6379, 8080) if public(ipaddress.ip_address(address), port)] == [80, 443]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://files.example/a", "file:///etc/passwd", "http://", "http:///a", "http://user:pw@files.example/a",
        "http://user@files.example/a", "http://files.example:99999/a", "http://files.example:x/a",
        "http://[fe80::1%25eth0]/a", "http://a b/", "http://files.example\\@127.0.0.1/", "data:,x", "",
        "http://[::1/", "http://a\u2100b/",
    ],
)  # fmt: skip
def test_a_link_that_is_no_ordinary_web_address_is_refused_before_any_look_up(tmp_path, url) -> None:
    """With one sentence about the link."""
    looked_up: list[str] = []

    def resolve(host: str, _: int) -> list[Address]:
        looked_up.append(host)
        return [LOOPBACK]

    network = Network(allow=lambda *_: True, resolve=resolve)
    failure = refused(
        lambda: fetch_url(url, tmp_path / "source", stop=Stop(), progress=lambda *_: None, network=network), tmp_path
    )
    assert failure.failure_code == "network.bad_url"
    assert looked_up == []


def test_one_private_address_among_public_ones_blocks_the_name(site, tmp_path) -> None:
    """Otherwise the second try would go inside."""
    network = Network(resolve=lambda *_: [ipaddress.ip_address("1.1.1.1"), LOOPBACK])
    failure = refused(
        lambda: fetch_url(
            "http://x.example/", tmp_path / "source", stop=Stop(), progress=lambda *_: None, network=network
        ),
        tmp_path,
    )
    assert failure.failure_code == "network.blocked_address"


def test_a_name_that_changes_its_address_after_the_check_changes_nothing(site, fetch) -> None:
    """It is resolved once, and the connection goes to what was checked."""
    site.answers["/a"] = answer
    answers = iter([[LOOPBACK]])
    network = Network(allow=site.network.allow, resolve=lambda *_: next(answers))
    assert fetch("/a", network=network).size_bytes == len(BODY)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (404, ("network.http_4xx", "permanent")),
        (403, ("network.http_4xx", "permanent")),
        (429, ("network.http_4xx", "transient")),
        (500, ("network.http_5xx", "transient")),
        (503, ("network.http_5xx", "transient")),
        (206, ("network.http_4xx", "permanent")),
    ],
)
def test_a_refusal_is_told_with_its_status_and_tried_again_only_if_it_may_pass(
    site, fetch, tmp_path, status, meaning
) -> None:
    """4xx is the link's fault, 5xx and 429 pass."""
    site.answers["/a"] = lambda handler: answer(handler, b"no", status)
    failure = refused(lambda: fetch("/a"), tmp_path)
    assert (failure.failure_code, failure.kind) == meaning
    assert str(status) in failure.message


def test_a_name_nobody_knows_and_a_closed_port_are_tried_again(site, fetch, tmp_path) -> None:
    """DNS and refused connections are often passing."""

    def unknown(*_: object) -> list[Address]:
        raise OSError

    for network, code in (
        (Network(resolve=unknown), "network.dns"),
        (Network(resolve=lambda *_: []), "network.dns"),
        (Network(allow=lambda *_: True, resolve=lambda *_: [ipaddress.ip_address("127.0.0.2")]), "network.refused"),
    ):
        failure = refused(lambda network=network: fetch("/a", network=network), tmp_path)
        assert (failure.failure_code, failure.kind) == (code, "transient")


def test_the_next_address_is_tried_when_one_does_not_answer(site, fetch) -> None:
    """127.0.0.2 has no server on this port."""
    site.answers["/a"] = answer
    addresses: list[Address] = [ipaddress.ip_address("127.0.0.2"), LOOPBACK]
    assert fetch("/a", network=Network(allow=lambda *_: True, resolve=lambda *_: addresses)).size_bytes == len(BODY)


def test_a_broken_transfer_is_no_file(site, fetch, tmp_path) -> None:
    """Less than the server promised is tried again, and leaves nothing."""
    site.answers["/a"] = lambda handler: answer(handler, BODY, Content_Length=str(2 * len(BODY)))
    failure = refused(lambda: fetch("/a"), tmp_path)
    assert (failure.failure_code, failure.kind) == ("network.reset", "transient")


def test_a_file_over_the_limit_is_refused_by_its_announcement(site, fetch, tmp_path) -> None:
    """Before a byte of it is read."""
    site.answers["/a"] = answer
    steps: list[int] = []
    failure = refused(lambda: fetch("/a", max_bytes=1000, progress=lambda done, _: steps.append(done)), tmp_path)
    assert failure.failure_code == "bad_input.too_large"
    assert steps == []


def test_a_file_over_the_limit_is_refused_although_nothing_was_announced(site, fetch, tmp_path) -> None:
    """An endless answer ends at the limit."""

    def endless(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(BODY)

    site.answers["/a"] = endless
    assert refused(lambda: fetch("/a", max_bytes=10 * len(BODY)), tmp_path).failure_code == "bad_input.too_large"


def test_a_packed_answer_is_refused(site, fetch, tmp_path) -> None:
    """It could unpack to anything, and it was not asked for."""
    site.answers["/a"] = lambda handler: answer(handler, Content_Encoding="gzip")
    assert refused(lambda: fetch("/a"), tmp_path).failure_code == "network.refused"


def test_a_web_page_is_called_a_web_page(site, fetch, tmp_path) -> None:
    """The most common mistake: the link of the page instead of the file."""
    page = b"\n<!doctype html><title>My show</title>"
    site.answers["/a"] = lambda handler: answer(handler, page, Content_Type="text/html; charset=utf-8")
    failure = refused(lambda: fetch("/a"), tmp_path)
    assert failure.failure_code == "bad_input.not_media"
    assert "web page" in failure.message


@pytest.mark.parametrize("announced", [True, False])
def test_a_stopped_job_lets_go_of_a_server_that_sends_nothing(site, fetch, tmp_path, announced) -> None:
    """In the middle of a silent transfer, also one whose end would be taken for the end of the file."""
    stop = Stop()

    def stall(handler) -> None:
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"begin")
        site.release.wait()

    site.answers["/a"] = stall

    def progress(done: int, _: int | None) -> None:
        if done:
            threading.Thread(target=stop.request, args=(Reason.CANCEL,)).start()

    with pytest.raises(Stopped):
        fetch("/a", stop=stop, progress=progress)
    assert list(tmp_path.glob("source*")) == []


def test_a_stopped_job_does_not_wait_for_a_name_server(site, fetch) -> None:
    """The system's resolver may hang for long."""
    stop = Stop()

    def hang(*_: object) -> list[Address]:
        stop.request(Reason.CANCEL)
        site.release.wait()
        return [LOOPBACK]

    with pytest.raises(Stopped):
        fetch("/a", stop=stop, network=Network(resolve=hang))


@pytest.mark.parametrize("where", ["before the answer", "in the answer"])
def test_time_is_up_for_a_server_that_drips(site, fetch, tmp_path, where) -> None:
    """However many bytes it sends, the whole may take only so long."""

    def drip(handler) -> None:
        if where == "in the answer":
            handler.send_response(200)
            handler.end_headers()
        while not site.release.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    site.answers["/a"] = drip
    failure = refused(lambda: fetch("/a", timeout_s=0.5), tmp_path)
    assert (failure.failure_code, failure.kind) == ("network.timeout", "transient")


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS, of a certificate for `name` that only this client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, secret)
    return server, ssl.create_default_context(cafile=str(pem))


def test_over_tls_the_name_in_the_link_is_proven_although_an_address_is_dialled(tmp_path) -> None:
    """The right name passes; a wrong name and an unknown issuer do not."""
    server, client = certificate(tmp_path, "files.example")
    with served(server) as site:
        site.answers["/a"] = answer

        def get(host: str, tls: ssl.SSLContext | None, site: Site = site) -> Fetched:
            network = Network(allow=site.network.allow, resolve=site.network.resolve, tls=tls)
            url = site.url("/a", host=host, scheme="https")
            return fetch_url(url, tmp_path / "source", stop=Stop(), progress=lambda *_: None, network=network)

        assert get("files.example", client).sha256 == hashlib.sha256(BODY).hexdigest()
        assert site.asked == [("/a", f"files.example:{site.port}")]
        (tmp_path / "source").unlink()
        for host, tls in (("other.example", client), ("files.example", None)):
            assert refused(lambda host=host, tls=tls: get(host, tls), tmp_path).failure_code == "network.tls"
        assert len(site.asked) == 1
