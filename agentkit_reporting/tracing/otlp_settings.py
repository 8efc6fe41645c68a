"""The standard variables of OpenTelemetry that are read here, before its SDK, which raises or logs tracebacks for some.

All others (samplers, limits, certificates, compression, timeouts, resources, temporality) the SDK reads itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import one_line
from agentkit_reporting.tracing.delivery import SPEAKER
from agentkit_reporting.tracing.sdk_logs import ENVIRONMENT_LOGGER, quieted

__all__ = ["is_disabled", "number_of", "queue_settings", "reading_headers", "reading_limits"]

logger = logging.getLogger(__name__)


def is_disabled(signal: str) -> bool:
    """Whether the environment says that a signal, `TRACES` or `METRICS`, is not exported, or nothing is."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return is_off or os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none"


def queue_settings() -> dict[str, Any]:
    """Return the settings of the batching processor, as its variables say and its constructor takes them.

    A batch is no larger than the queue, so that a smaller queue alone is no error. OTEL_BSP_EXPORT_TIMEOUT is not among
    them: the SDK does nothing with it, OTEL_EXPORTER_OTLP_TIMEOUT is what bounds a batch.
    """
    size = number_of("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    return {
        "max_queue_size": size,
        "max_export_batch_size": min(size, number_of("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        "schedule_delay_millis": number_of("OTEL_BSP_SCHEDULE_DELAY", 5000),
    }


def number_of(variable: str, default: int) -> int:
    """Return a variable that is a number of at least 1; for any other text, which is logged, the specification's."""
    text = os.environ.get(variable, "").strip()
    try:
        number = int(text) if text else default
    except ValueError:
        number = 0
    if number < 1:
        logger.warning(
            "%s: %s=%.60r is left out, which is no whole number above 0; it is %d",
            SPEAKER,
            variable,
            text,
            default,
        )
        return default
    return number


@contextlib.contextmanager
def reading_limits() -> Iterator[None]:
    """Have the SDK read the limits of spans, as it does where it is loaded and where a provider is made.

    Raises ConfigurationError for one that is no number, which is a ValueError of the SDK's.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"{one_line(str(error), 200)}; OpenTelemetry's SDK refuses it, set a number or unset it"
        ) from None


@contextlib.contextmanager
def reading_headers(speaker: str = SPEAKER) -> Iterator[None]:
    """Have the SDK read the headers of the environment; of one that it cannot read, its value is not told.

    speaker: who tells that, in the log.
    """
    with quieted(ENVIRONMENT_LOGGER) as unreadable:
        yield
    if unreadable:
        logger.warning(
            "%s: a header in OTEL_EXPORTER_OTLP_HEADERS is left out because it cannot be read; "
            "write name=value,name=value with each value URL-encoded",
            speaker,
        )
