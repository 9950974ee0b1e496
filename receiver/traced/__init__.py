"""OpenTelemetry traces, as an extra: a span for each callback, each batch and each write.

The standard variables configure it (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
Until one of them names an endpoint, nothing of OpenTelemetry is imported, and the parts run without a branch for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.log import Logger
    from receiver.traced.tracing import Tracing

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_ADVICE: Final = "pip install 'sms-callback-receiver[tracing]', or OTEL_TRACES_EXPORTER=none"


def start_tracing(environ: Mapping[str, str], logger: Logger) -> Tracing | None:
    """Return the traces, or None if the environment does not ask for them, or if they cannot be had."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from receiver.traced.tracing import Tracing  # noqa: PLC0415 only when it is asked for
    except ImportError as error:  # a platform may set the variables for all services
        logger.warning("tracing.not_installed", error=str(error), advice=_ADVICE)
        return None
    return Tracing(logger)
