"""Files on their way to the API and back, over a network that breaks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cli.client import Client
from cli.errors import Broken, CommandError
from cli.sending import upload
from tests.real.proxy import Proxy


@pytest.fixture
def at_once(monkeypatch):
    """Pauses between tries are none."""
    monkeypatch.setattr("cli.sending._PAUSES_S", (0.0, 0.0, 0.0, 0.0, None))


@pytest.mark.parametrize("fault", ["drop before", "reset after", "503 before", "truncate"])
def test_a_file_arrives_although_the_connection_breaks(idle, tone, at_once, fault):
    """What had arrived while its answer was lost is not a failure, and progress ends at the whole."""
    faults = iter([None, fault])
    seen: list[int] = []
    with Proxy(idle.url, fault=lambda: next(faults, None)) as proxy:
        client = Client(proxy.url)
        asset = upload(client, tone, lambda done, _: seen.append(done))
        client.close()
    client = Client(idle.url)
    client.complete_upload(asset)
    client.close()
    assert seen[-1] == tone.stat().st_size


def test_a_file_that_never_arrives_is_given_up_with_a_sentence(idle, tone, at_once):
    """After five tries."""
    faults = itertools.chain([None], itertools.repeat("drop before"))
    with Proxy(idle.url, fault=lambda: next(faults)) as proxy:
        client = Client(proxy.url)
        with pytest.raises(Broken, match=r"The connection to http://127.0.0.1:\d+ broke"):
            upload(client, tone, lambda _done, _total: None)
        client.close()
        assert proxy.requests == 6


def test_a_file_that_shrinks_while_it_is_sent_is_not_sent_again(idle, tmp_path, at_once):
    """Only the person can mend that."""
    path = tmp_path / "growing.wav"
    path.write_bytes(b"x" * 10**6)

    def shrink(_done: int, _total: int) -> None:
        path.write_bytes(b"x")

    client = Client(idle.url)
    with pytest.raises(CommandError, match="became shorter while it was sent"):
        upload(client, path, shrink)
    client.close()


@pytest.mark.parametrize("fault", ["truncate", "drop before", "reset after", "503 before"])
def test_a_download_goes_on_where_it_broke(dev, spool, tone, tmp_path, fault):
    """Whole, with the right checksum, and no half file beside it."""
    job = spool("submit", "ingest", str(tone), "--watch", "--json").lines()[-1]
    faults = iter([None, fault, None, fault])
    with Proxy(dev.url, fault=lambda: next(faults, None)) as proxy:
        client = Client(proxy.url)
        output = client.outputs(job["id"])[0]
        target = Path(tmp_path / "out" / "tone.mp3")
        target.parent.mkdir()
        client.download(output, target, lambda _done, _total: None)
        client.close()
    assert target.stat().st_size == output["size_bytes"]
    assert list(target.parent.iterdir()) == [target]
