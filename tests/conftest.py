"""Fixtures that any test may ask for."""

pytest_plugins = ["tests.media.fixtures", "tests.real.figures"]
