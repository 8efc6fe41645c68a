"""What OpenTelemetry's own loggers say of our exports is left out: it repeats itself, with tracebacks and values.

Theirs log under one name for every exporter of the process, so that their level is not ours to change. A filter looks
whether the record is made by a thread that exports for us at the moment, and lets all others pass.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

__all__ = ["ENVIRONMENT_LOGGER", "EXPORT_LOGGERS", "quieted"]

ENVIRONMENT_LOGGER: Final = "opentelemetry.util.re"
"""Shows a header of the environment that it cannot read, value and all."""

EXPORT_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "urllib3.connection",  # these three: the address with its query
    "urllib3.connectionpool",
    "urllib3.util.retry",
)

_here = threading.local()


class _ThisThread(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        left_out: list[str] | None = getattr(_here, "left_out", None)
        if left_out is None or record.name not in _here.names:
            return True
        left_out.append(record.name)
        return False


_FILTER = _ThisThread()


@contextlib.contextmanager
def quieted(*names: str) -> Iterator[list[str]]:
    """Leave out what this thread logs under these names; gives the names of what was left out. Not nested."""
    for name in names:
        logging.getLogger(name).addFilter(_FILTER)  # does nothing the second time
    left_out: list[str] = []
    _here.names, _here.left_out = names, left_out
    try:
        yield left_out
    finally:
        _here.left_out = None
