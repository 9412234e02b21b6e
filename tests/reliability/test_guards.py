"""The tests can fail: with any one guard taken out of a copy of the code, its test goes red."""

from collections.abc import Iterator

import pytest

from tests.reliability.copied import ROOT, Copy
from tests.reliability.guards import GUARDS

#: How long a test may take on the copy: most end by themselves. Where what must happen never does, all that a test can
#: do is wait, and a few seconds say as much as many.
TIMEOUT_S, WAITING_TIMEOUT_S = 60, 8


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The code, in one copy for all guards."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    yield made
    made.close()


@pytest.mark.parametrize("guard", GUARDS, ids=[f"promise {guard.promise}: {guard.what}" for guard in GUARDS])
def test_a_missing_guard_is_noticed(guard, copy):
    """The suite that holds a promise fails when the line that keeps it is changed, and says why unless it waits."""
    with copy.planted(guard.file, guard.old, guard.new):
        ran = copy.run(guard.test, timeout_s=WAITING_TIMEOUT_S if guard.waits else TIMEOUT_S)
    assert ran.code == 1, f"nothing noticed:\n{ran.said[-2000:]}"
    assert "error during collection" not in ran.said
    assert ("Failed: Timeout" in ran.said) == guard.waits, ran.said[-2000:]


def test_what_was_planted_is_gone_again(copy):
    """Compiled code included, of the same size too: else one guard's fault would be noticed by the test of the next."""
    source, test = (ROOT / "worker/stop.py").read_text(), "tests/worker/test_stop.py"
    with copy.planted("worker/stop.py", source, "raise ImportError\n".ljust(len(source))):
        assert "ImportError" in copy.run(test, timeout_s=TIMEOUT_S).said
    assert copy.run(test, timeout_s=TIMEOUT_S).code == 0


def test_the_page_lists_every_guard():
    """docs/reliability.md names each promise, guard and test, and no other."""
    page = (ROOT / "docs/reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [f"| {guard.promise} | {guard.what} | `{guard.file}` | `{guard.test}` |" for guard in GUARDS]
