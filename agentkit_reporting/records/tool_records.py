"""The record of one call of a tool, and the rules by which anything of a call is shown in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from agentkit_loop.differences import is_mask
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ToolResultReceived
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, compact_json
from agentkit_reporting.redaction.content_marks import ContentRedactor
from agentkit_reporting.redaction.redactor import Redaction, redactor_of
from agentkit_reporting.timestamps import utc_text

__all__ = ["DEFAULT_PREVIEW_CHARS", "MAX_ARGUMENT_CHARS", "Allowed", "CallRules", "ToolRecord"]

DEFAULT_PREVIEW_CHARS = 500
"""Characters of a result that its record shows."""

MAX_ARGUMENT_CHARS = 10_000
"""Characters of one argument in a record; a longer one is its text, cut."""

MAX_TOLD_CHARS = 100_000
"""Characters of a result that is told as an event where nobody else tells it."""

SPARE_CHARS = 4_096
"""Characters that are looked through for secrets behind those that are shown, so that none is cut in two."""

ARGUMENT_MASK = "[redacted:argument]"
"""What stands for an argument that the allowlist does not have."""

Allowed: TypeAlias = Iterable[str] | Mapping[str, Iterable[str]]
"""Names of arguments that are shown: `["query"]` of any tool, `["search.query"]` of one; or by tool, `"*"` being any:
`{"search": ["query"]}`. All others are masked, those of tools that are not named too."""

_CUT = re.compile(r"… \[([0-9,]{1,20}) more characters\]$")  # see `cut_text`
_LONGEST_CUT = 50

Status: TypeAlias = Literal["ok", "error", "interrupted"]


@attrs.frozen(kw_only=True)
class ToolRecord:
    """One call of a tool; the seed's fields, in the order in which they are stored.

    timestamp: when its result was told, ISO 8601, UTC. args: by name, as they were given, masked as the rules say.
    result_preview: the beginning of what the model is shown, a text as it is, anything else as JSON. latency_ms: of
    the body, None where nobody measured or none ran. status: `interrupted` for one that did not come to its end.
    error: type, message and the first three frames of an exception; None where there was none, as for a call that a
    person denied.
    """

    timestamp: str
    tool_name: str
    args: dict[str, JSON]
    result_preview: str
    latency_ms: float | None
    status: Status
    error: dict[str, JSON] | None
    session_id: str
    run_id: str
    call_id: str


class CallRules:
    """What of a call is shown: secrets are masked wherever they stand, and arguments that are not allowed.

    redact: as for a RecordStore. allow: see Allowed; None shows every argument. preview_chars: of a result. Raises
    ConfigurationError for what are no rules.
    """

    def __init__(self, redact: Redaction, allow: Allowed | None, preview_chars: int) -> None:
        if preview_chars < 1:
            raise ConfigurationError(f"preview_chars={preview_chars!r} refused; give an int of at least 1")
        self.redactor = redactor_of(redact)
        self.preview_chars = preview_chars
        self._allowed = None if allow is None else _allowed_names(allow)

    def value(self, value: JSON) -> JSON:
        """Return a value as it may be told: without its secrets, without content where that is withheld."""
        return value if self.redactor is None else self.redactor.told(value)

    def event(self, event: AgentEvent) -> AgentEvent:
        """Return an event of a call without content where that is withheld; secrets are looked for in what is shown."""
        redactor = self.redactor
        return redactor.event(event) if isinstance(redactor, ContentRedactor) else event

    def arguments(self, tool: str, given: dict[str, JSON]) -> dict[str, JSON]:
        """Return the arguments of a call as they may be shown; masks stay as they are."""
        allowed = self._allowed
        if allowed is not None:
            given = {
                name: value
                if name in allowed or f"{tool}.{name}" in allowed or is_mask(value)
                else ARGUMENT_MASK
                for name, value in given.items()
            }
        shown: dict[str, JSON] = self.value(given)
        return shown

    def told_arguments(self, tool: str, given: dict[str, JSON]) -> dict[str, JSON]:
        """Return the same where nobody else tells the call, so that each may be bounded."""
        return self.arguments(tool, {name: self._bounded(value) for name, value in given.items()})

    def output(self, value: JSON) -> JSON:
        """Return a result as it may be told: without its secrets, and bounded."""
        return self.value(self._bounded(value))

    def _bounded(self, value: JSON) -> JSON:
        """Return a value as it is, or the beginning of its text where that is longer than may be told.

        Only that much is looked through for secrets: what a tool gives may be very large, and its caller waits.
        """
        if isinstance(value, str):
            if len(value) <= MAX_TOLD_CHARS:
                return value
            shown, taken = self._beginning(value, MAX_TOLD_CHARS)
            return cut_text(shown, MAX_TOLD_CHARS, of=len(shown) + len(value) - len(taken))
        if not isinstance(value, (dict, list)):
            return value
        encoded = msgspec.json.encode(value)
        if len(encoded) <= MAX_TOLD_CHARS:  # never fewer bytes than characters
            return value
        length = len(encoded.decode())
        if length <= MAX_TOLD_CHARS:
            return value
        shown, taken = map(compact_json, self._beginning(value, MAX_TOLD_CHARS))
        return cut_text(shown, MAX_TOLD_CHARS, of=len(shown) + length - len(taken))

    def _beginning(self, value: JSON, most: int) -> tuple[JSON, JSON]:
        """Return the beginning of a text or value, at least so many characters of it, without and with its secrets.

        A secret that begins there and goes on is masked as well: masks are shorter, so that as much is taken as shows
        `most` characters and those in which a secret may end.
        """
        taken = most + SPARE_CHARS
        while True:
            part = beginning(value, taken)
            shown = self.value(part)
            length = len(shown if isinstance(shown, str) else compact_json(shown))
            if length >= most + SPARE_CHARS or part == value:
                return shown, part
            taken *= 4

    def error(self, info: ErrorInfo) -> ErrorInfo:
        """Return an error without its secrets."""
        message = self.value(info.message)
        return info if message == info.message else msgspec.structs.replace(info, message=message or "")

    def record(self, event: ToolResultReceived, args: dict[str, JSON]) -> ToolRecord:
        """Return the record of a call that has its result. args: as `arguments` shows them."""
        info = None if event.error is None else self.error(event.error)
        return ToolRecord(
            timestamp=utc_text(event.timestamp),
            tool_name=self._name(event.name),
            args={name: bounded(value, MAX_ARGUMENT_CHARS) for name, value in args.items()},
            result_preview=self.preview(event.output),
            latency_ms=event.duration_ms,
            status="interrupted" if event.interrupted else "error" if event.is_error else "ok",
            error=None
            if info is None
            else {"type": info.type, "message": info.message, "frames": list(info.frames)},
            session_id=event.session_id,
            run_id=event.run_id,
            call_id=event.call_id,
        )

    def _name(self, name: str) -> str:
        """Return the name of a tool, which for a call of none is whatever the model wrote."""
        return name if self.redactor is None else self.redactor.text(name)

    def preview(self, output: JSON) -> str:
        """Return the beginning of a result, with a word on how much is left out."""
        if isinstance(output, str):
            shown, taken = self._beginning(output, self.preview_chars)
            return cut_text(shown, self.preview_chars, of=len(shown) + max(_length(output) - len(taken), 0))
        return cut_text(compact_json(self.value(output)), self.preview_chars)


def cut_text(text: str, most: int, *, of: int | None = None) -> str:
    """Return the beginning of a text. of: how long the whole is, where this is its beginning only."""
    whole = len(text) if of is None else of
    if whole <= most:
        return text
    return f"{text[:most]}… [{whole - min(most, len(text)):,} more characters]"


def beginning(value: JSON, most: int) -> JSON:
    """Return so much of a value that its JSON has at least so many characters, in its structure; all of a short one."""
    return _taken(value, [most])


def _taken(value: JSON, left: list[int]) -> JSON:
    """Take what is left to be taken, `left[0]`; none is counted as longer than it is as JSON."""
    if isinstance(value, str):
        taken: JSON = value[: -(-max(left[0], 0) // 4) * 4]  # the beginning of base64 is to be base64
        left[0] -= len(value) + 2
    elif isinstance(value, dict):
        taken = {}
        for name, item in value.items():
            if left[0] <= 0:
                break
            left[0] -= len(name) + 4
            taken[name] = _taken(item, left)
    elif isinstance(value, list):
        taken = []
        for item in value:
            if left[0] <= 0:
                break
            left[0] -= 1
            taken.append(_taken(item, left))
    else:
        left[0] -= 1
        taken = value
    return taken


def _length(text: str) -> int:
    """Return how long a text is, or was before it was cut."""
    mark = _CUT.search(text, max(len(text) - _LONGEST_CUT, 0))
    return len(text) if mark is None else mark.start() + int(mark[1].replace(",", "") or 0)


def bounded(value: JSON, most: int) -> JSON:
    """Return a value, or the beginning of its text where that is longer."""
    if isinstance(value, str):
        return cut_text(value, most)
    if not isinstance(value, (dict, list)):
        return value
    encoded = msgspec.json.encode(value)
    if len(encoded) <= most:  # never fewer bytes than characters
        return value
    text = encoded.decode()
    return value if len(text) <= most else cut_text(text, most)


def _allowed_names(allow: Any) -> frozenset[str]:
    if isinstance(allow, Mapping):
        return frozenset(
            name if tool == "*" else f"{tool}.{name}"
            for tool, names in allow.items()
            for name in _names(names)
        )
    return frozenset(_names(allow))


def _names(given: Any) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"allow={given!r} refused; give a list of names of arguments")
    names = list(given)
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"allow={name!r} refused because it is no name; give text")
    return names
