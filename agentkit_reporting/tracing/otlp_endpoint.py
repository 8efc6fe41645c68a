"""Where spans and metrics are sent over OTLP/HTTP, and with which headers, refused in one sentence where it cannot be.

The rules are those of OpenTelemetry's "OTLP Exporter Configuration": a signal's own variable is its whole address; the
variable for all signals, and what a program gives, is a base, to which `/v1/traces` or `/v1/metrics` is added.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from agentkit_loop.credentials import MASK
from agentkit_loop.errors import ConfigurationError

__all__ = [
    "DEFAULT_ENDPOINT",
    "GRPC_PORT",
    "Signal",
    "checked_headers",
    "endpoint_of",
    "shown_endpoint",
    "traces_endpoint",
]

Signal: TypeAlias = Literal["traces", "metrics"]

DEFAULT_ENDPOINT: Final = "http://localhost:4318"
"""Where a collector on this machine listens, by the specification."""

GRPC_PORT: Final = 4317
"""Where collectors take OTLP over gRPC, and nothing over HTTP: that is at 4318."""

_SPOKEN: Final = "http/protobuf"
_PATHS: Final = ("/v1/traces", "/v1/metrics")
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f]")
# To the last `@`, also without a scheme: what is no URL may have a password with any sign in it.
_USER = re.compile(r"\A((?:[^/@:]*:)?//)?.*@", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a header's name, RFC 9110 section 5.6.2
_WORDS = re.compile(r"([A-Za-z-]{1,40})[: ]")  # without digits, which hardly a credential lacks
# A header's value, section 5.5; without what starts a new line.
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")


def endpoint_of(
    signal: Signal, endpoint: str | None = None, *, environ: Mapping[str, str] | None = None
) -> str:
    """Return the whole address for a signal: of the argument, else of the environment, else of this machine.

    endpoint: a base such as `http://collector:4318`; one that ends in a signal's path is taken for its base. environ:
    os.environ unless given. Raises ConfigurationError for what is no http(s) URL, and for a protocol that is asked for
    in the environment and is not spoken here.
    """
    environ = os.environ if environ is None else environ
    if endpoint is not None:
        return _with_path(_checked(endpoint, "endpoint"), signal)
    _check_protocol(signal, environ)
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if environ.get(own):
        return _checked(environ[own], own).geturl()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
    return _with_path(_checked(base, "OTEL_EXPORTER_OTLP_ENDPOINT"), signal)


def traces_endpoint(given: str | None = None) -> str:
    """Return the whole address that traces are sent to where nobody means this machine without saying so.

    Raises ConfigurationError as `endpoint_of` does, and where neither the argument nor the environment names one.
    """
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not given and not any(os.environ.get(name) for name in names):
        raise ConfigurationError(f"no endpoint to send to; give --endpoint, or set {names[1]}")
    return endpoint_of("traces", given or None)


def shown_endpoint(endpoint: str) -> str:
    """Return an address as it may be shown: without the user, the password and what stands in its query."""
    masked = _USER.sub(rf"\g<1>{MASK}@", endpoint)
    return masked.split("?", 1)[0].split("#", 1)[0]


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers that a program gives. Raises ConfigurationError for one that HTTP has not; shows no value."""
    given: dict[Any, Any] = dict(headers or {})
    for name, value in given.items():
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ConfigurationError(
                f"a header's name{_beginning(name)} refused for a sign that HTTP does not allow; use letters, digits "
                "and '-'"
            )
        if not isinstance(value, str) or value != value.strip() or _VALUE.fullmatch(value) is None:
            raise ConfigurationError(
                f"the value of header {name!r} refused; give a text of one line without spaces around it"
            )
    return given


def _beginning(name: object) -> str:
    """Say how a name begins, if with a word before the sign that is wrong.

    A value may stand behind it: `Authorization: Bearer …` is curl's way to give one.
    """
    words = _WORDS.match(name) if isinstance(name, str) else None
    return "" if words is None else f" that begins with {words[1]!r}"


def _check_protocol(signal: Signal, environ: Mapping[str, str]) -> None:
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        asked = environ.get(name, "").strip()
        if asked and asked != _SPOKEN:
            raise ConfigurationError(
                f"{name}={asked!r:.60} refused; use {_SPOKEN!r} (port 4318 of most collectors), or give a provider "
                "with an exporter of that protocol to TracingReporter"
            )
        if asked:
            return


def _checked(endpoint: str, source: str) -> SplitResult:
    if not isinstance(endpoint, str):
        raise ConfigurationError(
            f"{source}={endpoint!r:.60} refused; give a URL such as {DEFAULT_ENDPOINT!r}"
        )
    endpoint = endpoint.strip()
    shown = f"{source}={shown_endpoint(endpoint)!r:.200}"
    if _UNSAFE.search(endpoint):
        raise ConfigurationError(
            f"{shown} refused for the space in it; give a URL such as {DEFAULT_ENDPOINT!r}"
        )
    if "://" not in endpoint:
        instead = f"http://{shown_endpoint(endpoint).lstrip('/')}" if endpoint else DEFAULT_ENDPOINT
        raise ConfigurationError(f"{shown} refused, which has no scheme; write {instead!r:.200}")
    try:
        parts = urlsplit(endpoint)
        is_whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, or brackets that do not close
        is_whole = False
        parts = SplitResult("", "", "", "", "")
    if is_whole and parts.scheme not in {"http", "https"}:
        raise ConfigurationError(f"{shown} refused; use http:// or https://, over which OTLP is sent here")
    if not is_whole:
        raise ConfigurationError(f"{shown} refused, which is no URL; give one such as {DEFAULT_ENDPOINT!r}")
    return parts


def _with_path(parts: SplitResult, signal: Signal) -> str:
    path = parts.path.rstrip("/")
    for known in _PATHS:
        path = path.removesuffix(known)
    return parts._replace(path=f"{path}/v1/{signal}", fragment="").geturl()
