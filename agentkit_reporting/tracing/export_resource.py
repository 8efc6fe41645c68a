"""Whose spans they are: the attributes of the resource, of spans of a log and of those that are made live."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from agentkit_reporting.tracing.scope import scope_version

__all__ = ["DEFAULT_SERVICE", "export_resource", "given_attributes", "service_attributes"]

DEFAULT_SERVICE: Final = "agentkit"
"""The name of the service where nobody gave one."""


def export_resource(service_name: str | None = None) -> dict[str, str]:
    """Return the attributes: those of OTEL_RESOURCE_ATTRIBUTES, the service's, and who made the spans.

    The same in each process: no id of an instance, no host. https://opentelemetry.io/docs/specs/otel/resource/sdk/
    """
    told = given_attributes()
    own = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "agentkit_reporting",  # `opentelemetry` is reserved for its own SDKs
        "telemetry.sdk.version": scope_version(),
        **service_attributes(service_name),
    }
    return {_whole(key): _whole(value) for key, value in {**told, **own}.items() if value}


def service_attributes(
    service_name: str | None = None, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the name of the service, and the version where that is ours.

    The name is the one given, else that of the given attributes, else OTEL_SERVICE_NAME, else that of
    OTEL_RESOURCE_ATTRIBUTES, else DEFAULT_SERVICE, which alone has a version of ours.
    """
    told = {**given_attributes(), **(given or {})}
    name = service_name or (given or {}).get("service.name") or os.environ.get("OTEL_SERVICE_NAME")
    name = name or told.get("service.name") or DEFAULT_SERVICE
    if name == DEFAULT_SERVICE and "service.version" not in told and scope_version():
        return {"service.name": name, "service.version": scope_version()}
    return {"service.name": name}


def given_attributes() -> dict[str, str]:
    """Return what OTEL_RESOURCE_ATTRIBUTES says."""
    from urllib.parse import unquote  # noqa: PLC0415 - only where a log is exported

    told = {}
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, found, value = pair.partition("=")
        if found and key.strip():
            told[key.strip()] = unquote(value.strip())
    return told


def _whole(text: str) -> str:
    """Return the text without bytes of the environment that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()
