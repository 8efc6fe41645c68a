"""Where spans are sent: the address of an OTLP/HTTP endpoint, by the rules of OpenTelemetry's exporters.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/: an endpoint for all signals is a base, to which the path of
the signal is added; one for traces alone is taken as it is.
"""

from __future__ import annotations

import os
from urllib.parse import SplitResult, urlsplit, urlunsplit

from agentkit_loop.errors import ConfigurationError

__all__ = ["GRPC_PORT", "shown_endpoint", "traces_endpoint"]

GRPC_PORT = 4317
"""Where collectors take OTLP over gRPC, and nothing over HTTP: that is at 4318."""

_TRACES_PATH = "/v1/traces"
_FOR_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_FOR_ALL = "OTEL_EXPORTER_OTLP_ENDPOINT"
_EXAMPLE = "give one like http://localhost:4318"


def traces_endpoint(given: str | None = None) -> str:
    """Return the whole address that traces are posted to.

    given: a base, or an address that ends with `/v1/traces` already; without it the environment is asked. Raises
    ConfigurationError for what is no address, in words that hold no credential, and where there is none.
    """
    if given:
        return _with_path(_parts(given, "endpoint"))
    for_traces, for_all = os.environ.get(_FOR_TRACES), os.environ.get(_FOR_ALL)
    if for_traces:
        return urlunsplit(_parts(for_traces, _FOR_TRACES))
    if for_all:
        return _with_path(_parts(for_all, _FOR_ALL))
    raise ConfigurationError(f"no endpoint to send to; give --endpoint, or set {_FOR_ALL}")


def shown_endpoint(url: str) -> str:
    """Return the address as it may be shown: without name and password, and without what comes after `?`."""
    parts = urlsplit(url)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _parts(text: str, source: str) -> SplitResult:
    """Return the parts of an address; raises ConfigurationError."""
    refused = f"{source} {_without_credentials(text)!r} refused because"
    try:
        parts = urlsplit(text)
        has_port = parts.port != 0
    except ValueError:
        raise ConfigurationError(f"{refused} it is no address; {_EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or "://" not in text:
        raise ConfigurationError(f"{refused} it does not begin with http:// or https://; {_EXAMPLE}")
    if not parts.hostname or not has_port or any(ord(each) <= 0x20 or ord(each) == 0x7F for each in text):  # noqa: PLR2004 - controls and the blank
        raise ConfigurationError(f"{refused} it is no address; {_EXAMPLE}")
    return parts._replace(fragment="")


def _with_path(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_TRACES_PATH) else path + _TRACES_PATH))


def _without_credentials(text: str) -> str:
    before, found, rest = text.partition("?")
    scheme, slashes, place = before.rpartition("://")
    place = f"…@{place.rpartition('@')[2]}" if "@" in place else place
    return f"{scheme}{slashes}{place}{found}{'…' if rest else ''}"
