"""The instrumentation scope under which our spans and metrics stand, live and exported."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Final

from agentkit_reporting.tracing.conventions import CONVENTIONS_VERSION, Profile, ProfileName

__all__ = ["SCHEMA_URL", "SCOPE_NAME", "schema_url_of", "scope_version"]

SCOPE_NAME: Final = "agentkit"

_SCHEMAS: Final = "https://opentelemetry.io/schemas/"

SCHEMA_URL: Final = f"{_SCHEMAS}{CONVENTIONS_VERSION}"
"""Which version of the semantic conventions the names are of, in the form of OpenTelemetry's schema files.

It is that of metrics, and of spans whose profile has no other.
"""

_OF_PROFILES: Final[Mapping[ProfileName, str | None]] = {
    "genai-1.36": f"{_SCHEMAS}1.36.0",
    "openinference": None,  # its names are of no version of theirs
}


def schema_url_of(profile: Profile) -> str | None:
    """Return the schema of the spans whose attributes a profile names; None where they are of none."""
    return _OF_PROFILES.get(profile.name, SCHEMA_URL)


@functools.cache
def scope_version() -> str:
    """Return the version of this distribution; empty where it is not installed."""
    try:
        return importlib.metadata.version("agentkit-loop")
    except importlib.metadata.PackageNotFoundError:
        return ""
