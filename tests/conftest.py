"""Fixtures that any test may ask for, the order of the tests, and which of them one process takes together."""

import pytest

pytest_plugins = ["tests.media.fixtures", "tests.real.figures"]

#: Packages whose tests share what is dear to start: a browser, `spool dev`, the zip. One process takes such a package.
TOGETHER = ("tests/browser/", "tests/cli/", "tests/deploy/")
#: What takes longest, in this order. Last, it would keep all processes but one waiting.
LONGEST = (
    *("tests/browser/", "tests/cli/", "tests/reliability/test_guards.py", "tests/flow/test_ingest.py"),
    *("tests/chaos/test_crash_points.py", "tests/chaos/test_chaos.py", "tests/deploy/", "tests/hostile/test_media.py"),
    *("tests/attack/test_document.py", "tests/network/test_outages.py", "tests/model/test_model.py"),
    *("tests/network/test_whole_way.py", "tests/flow/test_episode.py", "tests/flow/test_edit.py"),
    *("tests/flow/test_collect.py", "tests/functions/test_answers.py", "tests/contract/test_storage.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; the others keep their order."""
    items.sort(key=lambda item: _turn(_share(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Under `-n`: whoever is free takes the next file or package, whole, so that its fixtures are made once."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - most runs have one process

    class InShares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _share(nodeid)

    config.option.loadscopereorder = False
    return InShares(config, log)


def _share(nodeid: str) -> str:
    return next((package for package in TOGETHER if nodeid.startswith(package)), nodeid.partition("::")[0])


def _turn(share: str) -> int:
    return LONGEST.index(share) if share in LONGEST else len(LONGEST)
