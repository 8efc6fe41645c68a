"""The environment variables about reporting, and what their values may be. An empty variable is none.

| variable | what it says |
|---|---|
| `AGENTKIT_CONFIG` | the configuration file, where no argument names one |
| `AGENTKIT_LOG_DIR` | the directory of the logs |
| `AGENTKIT_CONTENT` | `full`, `metadata` or `off`: how much of what was said is told (redaction/content_marks.py) |
| `AGENTKIT_DISABLED` | `1`, `true`, `yes` or `on`: no observers, no files |
| `AGENTKIT_PRICES` | the host's own price list |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.configuration.faults import shown
from agentkit_reporting.redaction.content_marks import Content, ContentRedactor
from agentkit_reporting.toml_source import nearest

__all__ = [
    "CONFIG",
    "CONTENT_VARIABLE",
    "DISABLED",
    "LOG_DIR",
    "content_told",
    "is_disabled",
    "log_redaction",
]

CONFIG, LOG_DIR = "AGENTKIT_CONFIG", "AGENTKIT_LOG_DIR"
CONTENT_VARIABLE, DISABLED = "AGENTKIT_CONTENT", "AGENTKIT_DISABLED"

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def content_told(environ: Mapping[str, str]) -> Content | None:
    """Return what AGENTKIT_CONTENT says, None where it says nothing; raises ConfigurationError."""
    given = environ.get(CONTENT_VARIABLE, "").strip()
    if not given:
        return None
    choices: tuple[Content, ...] = get_args(Content)
    for choice in choices:
        if given.lower() == choice:
            return choice
    raise ConfigurationError(
        f"{CONTENT_VARIABLE}={shown(given)} refused because it is no choice; {nearest(given, choices)}"
    )


def is_disabled(environ: Mapping[str, str]) -> bool | None:
    """Return what AGENTKIT_DISABLED says, None where it says nothing; raises ConfigurationError."""
    given = environ.get(DISABLED, "").strip().lower()
    if not given:
        return None
    if given in _TRUE or given in _FALSE:
        return given in _TRUE
    raise ConfigurationError(
        f"{DISABLED}={shown(given)} refused because it is neither yes nor no; {nearest(given, (*_TRUE, *_FALSE))}"
    )


def log_redaction(environ: Mapping[str, str]) -> ContentRedactor | bool:
    """Return what a log that a command writes is scrubbed with, as AGENTKIT_CONTENT says; raises ConfigurationError."""
    content = content_told(environ)
    return ContentRedactor(content) if content in ("metadata", "off") else True
