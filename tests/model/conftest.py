"""The longer forms of the model test, by name: `--hypothesis-profile=long` and `--hypothesis-profile=shrink`."""

from hypothesis import HealthCheck, settings

from tests.contract.conftest import databases  # noqa: F401 - a fixture

_QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile("long", max_examples=4000, stateful_step_count=100, **_QUIET)
settings.register_profile("shrink", max_examples=300, stateful_step_count=50, **_QUIET)
