"""Whether this process tells a collector of OpenTelemetry what it does; `shared/spans.py` says what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.spans import Spans


def spans_for(settings: Settings, service: str) -> Spans | None:
    """What tells the collector, under the name of a service; None where the settings name no collector.

    Raises `ConfigurationError` when the packages for it are missing.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        from shared.spans import Spans  # noqa: PLC0415 - what has no collector has not its packages either
    except ModuleNotFoundError:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but what sends traces is not installed; "
            "run pip install -r requirements/otel.txt, or unset it."
        ) from None
    return Spans(service)
