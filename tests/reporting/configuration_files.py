"""Configurations as text, key by key, for tests."""

from __future__ import annotations

from agentkit_reporting.configuration.keys import Key

NAMES = {
    "redaction.patterns": "ticket",
    "event_bus.subscribers": '"agent.*"',
    "reporters.logging.levels": "run_started",
    "tracing.headers_env": "Authorization",
}
"""What a test writes where the host chooses the name."""


def written(key: Key, value: str) -> tuple[str, int, str]:
    """Return a file with one key, the line of that key, and its whole name as it is told."""
    section, _, name = key.name.rpartition(".")
    section = section.replace("*", "log")
    name = NAMES[section] if name == "*" else name
    lines = ["# a file", *([f"[{section}]"] if section else []), f"{name} = {value}"]
    return "\n".join(lines) + "\n", len(lines), f"{section}.{name}" if section else name
