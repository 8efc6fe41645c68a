"""A configuration to begin with: every key as a comment, with its default or an example. Made of the table of keys."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from agentkit_reporting.configuration.keys import KEYS, SECTIONS, Key

__all__ = ["template_text", "toml_value"]

_BARE = re.compile("[A-Za-z0-9_-]+")
_COLUMNS = 78
_INERT = ("storage", "storage.rotation", "redaction", "policies", "limits", "prices")
"""Tables that say nothing while they are empty; others switch something on, so their headers are comments too."""

_HOST_NAMES = {
    "redaction.patterns.*": "ticket",
    "event_bus.subscribers.*": '"agent.session_complete"',
    "reporters.logging.levels.*": "tool_call_requested",
    "tracing.headers_env.*": "Authorization",
}
_NAMED_OBSERVER = "log"
_SWITCHES = {key.name for key in KEYS if any(other.name.startswith(f"{key.name}.") for other in KEYS)}


def template_text() -> str:
    """Return the template as TOML."""
    lines = _prose(
        "Configuration of agentkit. Each `#key` has its default, or an example where there is none."
    )
    lines += _prose(
        "`agentkit config --check` says what is wrong; `agentkit config` shows what holds and why."
    )
    lines += _prose("Secrets never stand here: keys that end in `_env` name environment variables.")
    sections: dict[str, list[Key]] = {}
    for key in KEYS:
        if key.name not in _SWITCHES:
            sections.setdefault(_section_of(key), []).append(key)
    for section, keys in sections.items():
        lines += ["", *_prose(SECTIONS.get(section, ""))]
        if section:
            name = section.replace("*", _NAMED_OBSERVER)
            lines.append(f"[{name}]" if section in _INERT else f"#[{name}]")
        for key in keys:
            wins = f"; {key.variable} wins" if key.variable else ""
            lines += [*_prose(f"{key.help}{wins}"), f"#{_name_of(key)} = {toml_value(_example(key))}"]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it on one line; None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        members = (f"{_key_text(str(name))} = {toml_value(member)}" for name, member in value.items())
        return f"{{ {', '.join(members)} }}"
    return f"{value:_}" if isinstance(value, int) else str(value)


def _key_text(name: str) -> str:
    return name if _BARE.fullmatch(name) else toml_value(name)


def _section_of(key: Key) -> str:
    return key.name.rpartition(".")[0]


def _name_of(key: Key) -> str:
    return _HOST_NAMES.get(key.name, key.path[-1])


def _example(key: Key) -> Any:
    return key.default if key.example is None else key.example


def _prose(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _COLUMNS)]
