"""The instrumentation scope under which our spans and metrics stand, live and exported."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Final

from agentkit_reporting.tracing.conventions import CONVENTIONS_VERSION

__all__ = ["SCHEMA_URL", "SCOPE_NAME", "scope_version"]

SCOPE_NAME: Final = "agentkit"

SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{CONVENTIONS_VERSION}"
"""Which version of the semantic conventions the names are of, in the form of OpenTelemetry's schema files."""


@functools.cache
def scope_version() -> str:
    """Return the version of this distribution; empty where it is not installed."""
    try:
        return importlib.metadata.version("agentkit-loop")
    except importlib.metadata.PackageNotFoundError:
        return ""
