"""The client of libSQL servers, against a real server and a proxy that spoils its answers."""

import json
import math
import time
from contextlib import ExitStack

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import Busy, ConfigurationError, Refused, Unavailable
from shared.store.hrana import TIMEOUT, Blocked, Denied, Hrana, Overloaded, Unreachable, _sql_error
from tests.real.authority import Authority, Tokens
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

QUICK = urllib3.Timeout(connect=5, read=2)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Keys for the tokens of the module's server."""
    return Tokens(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, tokens):
    """A server that wants a token."""
    with Sqld(tmp_path_factory.mktemp("sqld"), "--auth-jwt-key-file", str(tokens.key_file)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server, tokens):
    """A client that may read and write."""
    client = Hrana(server.url, tokens.sign(a="rw"))
    run(client, "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER NOT NULL)")
    yield client
    client.close()


@pytest.fixture
def proxy(server):
    """A proxy before the server, as yet without faults."""
    with Proxy(server.url) as proxy:
        yield proxy


def run(client: Hrana, text: str, **params):
    """The rows of one statement as tuples."""
    return client.batch([(text, params)], None)[0].values


def count(client: Hrana) -> int:
    """How many things there are."""
    return run(client, "SELECT COUNT(*) FROM thing")[0][0]


VALUES = [
    None, 0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, 1.5, -1e300, 5e-324, "", "a", "\0", "a\0b", "é", "🎙",
    "line\u2028para\u2029next\u0085", "'\"\\", b"", b"\0", b"ab", b"abc", bytes(range(256)),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_comes_back_as_it_went(client, value):
    """Integers are exact to 64 bits, text is any Unicode, blobs are any bytes."""
    back = run(client, "SELECT :value", value=value)[0][0]
    assert (type(back), back) == (type(value), value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, width=64)))
def test_any_value_comes_back_or_is_refused(client, value):
    """Whatever Hypothesis finds. The server reads floats from JSON to within their last bit."""
    if isinstance(value, float) and math.isinf(value):
        with pytest.raises(Refused, match="no database column can hold"):
            run(client, "SELECT :value", value=value)
        return
    back = run(client, "SELECT :value", value=value)[0][0]
    assert back == (pytest.approx(value, rel=3e-16, abs=5e-323) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (2**63, "does not fit into 64 bits"),
        (-(2**63) - 1, "does not fit into 64 bits"),
        (math.nan, "no database column can hold"),
        (-math.inf, "no database column can hold"),
        ("half \ud83d", "half a character"),
    ],
    ids=ascii,
)
def test_what_no_column_can_hold_is_refused_with_a_sentence(client, value, sentence):
    """Nothing is sent that would come back as something else."""
    with pytest.raises(Refused, match=sentence):
        run(client, "SELECT :value", value=value)


def test_a_value_of_another_type_is_a_mistake_of_the_caller(client):
    """No silent NULL for a date or a list."""
    with pytest.raises(TypeError, match="list"):
        run(client, "SELECT :value", value=[1])


def test_true_and_false_are_one_and_zero(client):
    """As the standard library's driver stores them."""
    assert run(client, "SELECT :yes, :no", yes=True, no=False) == [(1, 0)]


def test_infinity_made_by_the_database_is_read_as_not_a_number(client):
    """JSON has no word for it; it is never read as zero or as text."""
    assert math.isnan(run(client, "SELECT 1e999")[0][0])


def test_only_named_parameters_are_sent(client):
    """A name that begins another name is not that name: the server refuses what a statement does not name."""
    assert run(client, "SELECT :token", token="t", to="no", t="no") == [("t",)]


def test_positional_parameters_keep_their_order(client):
    """What a PEP 249 cursor sends."""
    assert client.batch([("SELECT ?, ?", (1, "b"))], None)[0].values == [(1, "b")]


def test_a_batch_is_all_or_nothing_in_one_request(server, tokens, client, proxy):
    """The second statement is refused, and the first is undone."""
    before = count(client)
    through = Hrana(proxy.url, tokens.sign(a="rw"))
    insert = "INSERT INTO thing (name, size) VALUES (:name, :size)"
    with pytest.raises(Refused, match="NOT NULL"):
        through.batch([(insert, {"name": "x", "size": 1}), (insert, {"name": "y", "size": None})], "IMMEDIATE")
    through.close()
    assert count(client) == before
    assert proxy.requests == 1


def test_a_broken_constraint_says_which(client):
    """`Refused` carries the database's own words."""
    run(client, "INSERT INTO thing (name, size) VALUES ('twice', 1)")
    with pytest.raises(Refused, match=r"UNIQUE constraint failed: thing\.name"):
        run(client, "INSERT INTO thing (name, size) VALUES ('twice', 1)")


def test_a_statement_that_does_not_fit_the_schema_asks_for_a_migration(client):
    """An older database answers with a sentence that mends it."""
    with pytest.raises(Unavailable, match="spool migrate"):
        run(client, "SELECT nothing FROM nowhere")


@pytest.mark.parametrize("there", [True, False])
def test_statements_that_are_not_needed_are_not_run(client, there):
    """Only if the query finds something, all neighbours run, and what follows them runs in any case."""
    run(client, "DELETE FROM thing")
    insert = "INSERT INTO thing (name, size) VALUES (:name, 1) RETURNING name"
    names = ["first", "second", "third", "last"]
    query = f"SELECT 1 FROM thing WHERE name = '{'first' if there else 'second'}'"
    statements = [(insert, {"name": name}) for name in names]
    results = client.batch(statements, "IMMEDIATE", [None, query, query, None])
    needed = names if there else ["first", "last"]
    assert [row["name"] for result in results for row in result.rows] == needed
    assert [name for (name,) in run(client, "SELECT name FROM thing ORDER BY id")] == needed


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_batch_with_a_question_is_all_or_nothing_too(client, fails):
    """Whichever statement is refused, one that depends on the question or the one after it, nothing stays."""
    run(client, "DELETE FROM thing")
    insert = "INSERT INTO thing (name, size) VALUES (:name, :size)"
    statements = [(insert, {"name": str(place), "size": None if place == fails else 1}) for place in range(4)]
    query = "SELECT 1 FROM thing"
    with pytest.raises(Refused, match="NOT NULL"):
        client.batch(statements, "IMMEDIATE", [None, query, query, None])
    assert count(client) == 0


def test_a_question_that_cannot_be_answered_saves_nothing(client):
    """It counts as a yes: the statement is run, rather than left out because of somebody's fault."""
    run(client, "DELETE FROM thing")
    insert = ("INSERT INTO thing (name, size) VALUES ('x', 1)", {})
    client.batch([insert], "IMMEDIATE", ["SELECT 1 FROM nowhere"])
    assert count(client) == 1


def test_rows_read_and_written_are_the_servers_own_counts(client):
    """What a provider bills."""
    run(client, "DELETE FROM thing")
    results = client.batch(
        [("INSERT INTO thing (name, size) VALUES ('one', 1)", {}), ("SELECT * FROM thing", {})], "IMMEDIATE"
    )
    assert [(result.rows_read, result.rows_written) for result in results] == [(0, 2), (1, 0)]
    assert results[0].affected == 1
    assert results[1].rows == [{"id": results[0].last_id, "name": "one", "size": 1}]


@pytest.mark.parametrize("code", ["SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "TRANSACTION_TIMEOUT"])
def test_a_held_lock_is_busy(code):
    """All of the server's words for it mean that nothing was executed."""
    assert isinstance(_sql_error({"code": code, "message": ""}), Busy)


def test_a_blocked_account_is_told_to_check_its_plan():
    """It is no fault of the statement."""
    error = _sql_error({"code": "BLOCKED", "message": "reads are blocked"})
    assert isinstance(error, Blocked)
    assert "plan" in str(error)


def test_a_lock_held_by_another_writer_answers_busy(server, tokens):
    """A stream that keeps its transaction open makes the next writer wait, then fail or take over: never both."""
    token = tokens.sign(a="rw")
    begin = {"type": "execute", "stmt": {"sql": "BEGIN IMMEDIATE"}}
    stuck = urllib3.request(
        "POST",
        f"{server.url}/v2/pipeline",
        body=json.dumps({"baton": None, "requests": [begin]}),
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert json.loads(stuck.data)["baton"]
    client = Hrana(server.url, token, timeout=QUICK)
    with pytest.raises((Busy, Unreachable)):
        client.batch([("DELETE FROM thing", {})], "IMMEDIATE")
    client.close()
    patient = Hrana(server.url, token)
    patient.batch([("DELETE FROM thing", {})], "IMMEDIATE")
    patient.close()


@pytest.mark.parametrize("token", ["none", "garbage", "foreign", "expired"])
def test_a_token_that_does_not_count_is_denied(server, tokens, token, tmp_path):
    """The sentence names the setting."""
    made = {
        "none": None,
        "garbage": "xyz",
        "foreign": Tokens(tmp_path).sign(a="rw"),
        "expired": tokens.sign(a="rw", exp=int(time.time()) - 600),
    }
    client = Hrana(server.url, made[token])
    with pytest.raises(Denied, match="SPOOL_DATABASE_TOKEN"):
        run(client, "SELECT 1")
    client.close()


def test_a_token_that_may_only_read_cannot_write(server, tokens, client):
    """And says so, rather than looking like a network fault."""
    reader = Hrana(server.url, tokens.sign(a="ro"))
    assert run(reader, "SELECT 1") == [(1,)]
    with pytest.raises(Denied):
        run(reader, "DELETE FROM thing")
    reader.close()


def test_the_wrong_address_is_named(server, tokens):
    """A web server that is no database."""
    client = Hrana(f"{server.url}/somewhere/else", tokens.sign(a="rw"))
    with pytest.raises(Unavailable, match=r"404.*SPOOL_DATABASE_URL"):
        run(client, "SELECT 1")
    client.close()


FAULTS = {
    "429 before": (Overloaded, 0),
    "502 before": (Overloaded, 0),
    "503 before": (Overloaded, 0),
    "html before": (Overloaded, 0),
    "500 after": (Overloaded, 1),
    "drop before": (Unreachable, 0),
    "drop after": (Unreachable, 1),
    "reset after": (Unreachable, 1),
    "truncate": (Unreachable, 1),
    "black hole": (Unreachable, 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoiled_exchange_is_a_typed_error_and_the_next_one_works(server, tokens, client, proxy, fault):
    """Whether the request was carried out stays open, `sent` says so, and no connection is left wedged."""
    error, executed = FAULTS[fault]
    run(client, "DELETE FROM thing")
    through = Hrana(proxy.url, tokens.sign(a="rw"), timeout=QUICK)
    assert run(through, "SELECT 1") == [(1,)]
    proxy.fault = lambda: fault
    with pytest.raises(error) as caught:
        run(through, "INSERT INTO thing (name, size) VALUES ('a', 1)")
    assert getattr(caught.value, "sent", True)
    proxy.fault = lambda: None
    assert count(through) == executed
    through.close()


def test_an_address_without_a_server_was_not_sent(client):
    """Asking again is safe whatever the request was."""
    with Proxy("http://127.0.0.1:9") as gone:
        url = gone.url
    away = Hrana(url)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        run(away, "SELECT 1")
    assert not caught.value.sent
    away.close()


def test_the_limits_are_three_seconds_to_connect_and_eight_to_answer():
    """Longer than the server's own 5 s wait for a lock, shorter than anyone's patience."""
    assert (TIMEOUT.connect_timeout, TIMEOUT.read_timeout) == (3.0, 8.0)


@pytest.mark.parametrize("url", ["ws://host", "wss://host", "ftp://host", "host", "https://", "sqlite:///x.db", ""])
def test_only_addresses_of_libsql_servers_are_taken(url):
    """urllib3 would take ws:// for http://."""
    with pytest.raises(ConfigurationError, match="libsql://"):
        Hrana(url)


@pytest.mark.parametrize(
    ("home", "told", "then"),
    [
        ("http://a:1", "http://b:2/x/", "http://b:2/x"),
        ("http://a:1", None, "http://a:1"),
        ("https://a:1", "http://b:2", "https://a:1"),
    ],
)
def test_the_address_that_a_server_names_is_used_from_then_on(home, told, then):
    """Unless it would take the token out of TLS."""
    client = Hrana(home)
    client._follow(told)
    assert client._base == then


def test_no_stream_is_left_open(client):
    """Unclosed streams exhaust a server after 128; 140 requests, some that fail, leave none."""
    for number in range(140):
        if number % 10:
            run(client, "SELECT 1")
        else:
            with pytest.raises(Unavailable):
                run(client, "SELECT nothing FROM nowhere")


def test_connections_that_died_while_idle_are_replaced(tokens, proxy):
    """Nothing of a request outlives it but the connection, so a pause of any length costs a new connection at most."""
    through = Hrana(proxy.url, tokens.sign(a="rw"))
    for _ in range(3):
        assert run(through, "SELECT 1") == [(1,)]
        proxy.hang_up()
    assert proxy.faults == {}
    through.close()


def test_a_private_authority_is_trusted_when_named_and_not_otherwise(server, tokens, tmp_path, monkeypatch):
    """By argument, or by the variable SSL_CERT_FILE that TLS itself reads."""
    authority = Authority(tmp_path)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.url, tls=authority.context))
        strict = Hrana(proxy.url, tokens.sign(a="rw"))
        stack.callback(strict.close)
        with pytest.raises(Unreachable, match="certificate") as caught:
            run(strict, "SELECT 1")
        assert not caught.value.sent
        named = Hrana(proxy.url, tokens.sign(a="rw"), ca_certs=str(authority.ca_file))
        stack.callback(named.close)
        assert run(named, "SELECT 1") == [(1,)]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        told = Hrana(proxy.url, tokens.sign(a="rw"))
        stack.callback(told.close)
        assert run(told, "SELECT 1") == [(1,)]
