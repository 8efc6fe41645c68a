"""Whole things scrubbed: JSON values, parts, records, events. What holds no secret comes back as the same object.

Left as they are, since they name things and the provider gave them or checks them: ids (`toolu_…`, `msg_…`, `req_…`),
digests, the signatures of reasoning whose text stays, times, counts and costs.
"""

from __future__ import annotations

import base64
import types
import typing
from typing import Any, TypeVar

import attrs
import msgspec

from agentkit_loop.content import (
    AnyPart,
    CommitPart,
    FilePart,
    MediaPart,
    Parent,
    ReasoningPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.differences import is_mask
from agentkit_loop.events import (
    PAYLOAD_FIELDS,
    REDACTIONS_FIELD,
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    ContentDelta,
    ToolExecutionStarted,
    UnknownEvent,
)
from agentkit_loop.usage import Cost, ObserverStats
from agentkit_loop.values import JSON
from agentkit_reporting.redaction.broken_json import scrub_broken
from agentkit_reporting.redaction.keyed_values import KEYED_SECRET
from agentkit_reporting.redaction.masking import Masking
from agentkit_reporting.redaction.rule_set import RuleSet
from agentkit_reporting.redaction.secret_keys import NAME_KEYS, VALUE_KEYS, is_secret_key
from agentkit_reporting.redaction.text_stream import Found, scrub_text

ARGUMENT = "argument"
"""The name, in masks and counts, of what an allowlist of arguments does not have."""

_KEPT_FIELDS = frozenset(
    {
        "request_id", "call_id", "approval_id", "auth_id", "response_id", "resumed_run", "open_approvals",
        "open_auths", "digests", "id", "wire_id", "file_id", "signature", "redacted", "kind", "media_type",
        "part_id", "cost", "observers", "parent",
    }
)  # fmt: skip
_KEPT_RECORDS = (Cost, ObserverStats, Parent)
_MOST_KEYS, _LONGEST_KEY = 2_048, 64  # that are remembered, of those in which nothing is secret
_ENCODED_KEYS = ("$bytes", "data")
_NEVER_PLAIN = frozenset((*_ENCODED_KEYS, *VALUE_KEYS))
_ENCODED_KINDS = ("media", "file")
_FEWEST_DIGITS = 10**7
"""A smaller number is no phone, card or account."""

_SPECIAL_EVENTS = (ContentDelta, ToolExecutionStarted, ApprovalResolved, ApprovalRequired)
_SPECIAL_RECORDS = (ToolCallPart, ToolSpec, MediaPart, FilePart)
_NO_TEXT = (bool, int, float, type(None))

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Scrubber:
    """Scrubs one event, or one value. found: the names of the rules whose masks were put in, once for each mask."""

    __slots__ = ("_keep_arguments", "_masking", "_rules", "found")

    def __init__(
        self, rules: RuleSet, masking: Masking, keep_arguments: frozenset[str] | None = None
    ) -> None:
        self.found: Found = []
        self._rules = rules
        self._masking = masking
        self._keep_arguments = keep_arguments

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._rules.search(text) is None:
            return text
        told, found = scrub_text(self._rules, self._masking, text)
        if found:
            self.found += found
        return told

    # --- values

    def value(self, value: JSON, *, by_key: bool = True, decodes: bool = True) -> JSON:
        """Return a JSON value without its secrets, in keys too.

        by_key: whether values under keys that look secret are masked as a whole; a schema has such keys for
        names. decodes: whether `$bytes`, and the data of media, are looked into.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (dict, list)):
            return value if self._is_plain(value) else self._nested(value, by_key=by_key, decodes=decodes)
        if type(value) is int and self._rules.looks_at_numbers and abs(value) >= _FEWEST_DIGITS:
            spans = self._rules.spans(str(value))
            return self._masked(spans[0].name, value) if spans else value
        return value

    def _is_plain(self, value: JSON) -> bool:
        """Whether nothing in a nested value can be secret: one look at all its texts, which is most of the time."""
        if self._rules.looks_at_numbers:
            return False
        plain_keys, texts, waiting = self._rules.plain_keys, [], [value]
        for each in waiting:
            kind = type(each)
            if kind is str:
                texts.append(each)
            elif kind is dict:
                if not plain_keys.issuperset(each) or not _NEVER_PLAIN.isdisjoint(each):
                    return False
                waiting += each.values()
            elif kind is list:
                waiting += each
        return self._rules.search("\n".join(texts)) is None

    def _nested(self, value: JSON, *, by_key: bool, decodes: bool) -> JSON:
        if isinstance(value, dict):
            return self._mapping(value, by_key=by_key, decodes=decodes)
        if isinstance(value, list):
            fresh = [self._nested(member, by_key=by_key, decodes=decodes) for member in value]
            return fresh if any(new is not old for new, old in zip(fresh, value, strict=True)) else value
        return self.value(value)

    def _mapping(self, mapping: dict[str, JSON], *, by_key: bool, decodes: bool) -> dict[str, JSON]:
        hides = by_key and self._rules.looks_at_keys
        search, plain_keys = self._rules.search, self._rules.plain_keys
        fresh: dict[str, JSON] = {}
        is_new = is_named = False
        for key, member in mapping.items():
            is_plain = key in plain_keys
            name = key if is_plain or search(key) is None else self.text(key)
            if hides and ((is_named and key in VALUE_KEYS) or (not is_plain and is_secret_key(key))):
                scrubbed = self._hidden(member)
            elif type(member) is str:
                if decodes and key in _ENCODED_KEYS and _is_encoded(mapping, key):
                    scrubbed = self._encoded(member)
                else:
                    scrubbed = member if search(member) is None else self.text(member)
            else:
                scrubbed = self._nested(member, by_key=by_key, decodes=decodes)
            if not is_plain and name is key and len(key) <= _LONGEST_KEY and not is_secret_key(key):
                if len(plain_keys) >= _MOST_KEYS:
                    plain_keys.clear()  # others use them too, whose keys are not to stay outside for ever
                plain_keys.add(key)
            if key in NAME_KEYS:
                is_named = isinstance(member, str) and is_secret_key(member)
            is_new = is_new or name is not key or scrubbed is not member
            fresh[name] = scrubbed
        return fresh if is_new else mapping

    def _hidden(self, value: JSON) -> JSON:
        """Return what stands for a value under a secret key: nothing says that there is none."""
        if value is None or value == "" or isinstance(value, bool) or is_mask(value):
            return value
        return self._masked(KEYED_SECRET, value)

    def _masked(self, name: str, value: JSON) -> str | None:
        self.found.append(name)
        return self._masking.value(name, value)

    def _encoded(self, encoded: str) -> str:
        """Return base64 of bytes whose text, wherever it is ASCII, holds no secret."""
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            return self.text(encoded)
        text = raw.decode("latin-1")
        told = self.text(text)
        return encoded if told is text else base64.b64encode(told.encode("latin-1")).decode()

    def _arguments(self, tool: str | None, given: dict[str, JSON]) -> dict[str, JSON]:
        """Return the arguments of a call: all that are allowed, scrubbed. tool: None where it is not known."""
        keep = self._keep_arguments
        if keep is None:
            scrubbed: dict[str, JSON] = self.value(given, decodes=False)
            return scrubbed
        fresh = {}
        for name, value in given.items():
            if name in keep or (tool is not None and f"{tool}.{name}" in keep):
                fresh.update(self.value({name: value}, decodes=False))
            else:
                fresh[self.text(name)] = value if is_mask(value) else self._masked(ARGUMENT, value)
        return given if fresh == given else fresh

    # --- records

    def part(self, part: AnyPart) -> AnyPart:
        """Return a part without its secrets; reasoning whose text was masked has lost its signature."""
        return self._record(part)

    def _record(self, record: _Struct) -> _Struct:
        changed = {}
        is_plain = record.__class__ not in _SPECIAL_RECORDS
        for name in _looked_at(record.__class__):
            old = getattr(record, name)
            if old is not None:
                new = self._field(old) if is_plain else self._of_record(record, name, old)
                if new is not old:
                    changed[name] = new
        if not changed:
            return record
        if isinstance(record, ReasoningPart):
            changed["signature"] = None
        return msgspec.structs.replace(record, **changed)

    def _of_record(self, record: msgspec.Struct, name: str, value: Any) -> Any:
        if isinstance(record, ToolCallPart):
            if name == "input":
                return self._arguments(record.name, value)
            if name == "cut":
                return self._cut(value)
        elif name == "data" and isinstance(record, (MediaPart, FilePart)):
            return self._encoded(value)
        elif isinstance(record, ToolSpec):
            return self.value(value, by_key=False)
        return self._field(value)

    def _cut(self, raw: str) -> str:
        """Return the raw text of an input that did not end or parse; the same where it holds no secret."""
        if self._keep_arguments is not None:
            return self._masked(ARGUMENT, raw) or ""
        told, found = scrub_broken(self._rules, self._masking, raw)
        self.found += found
        return told if found else raw

    def _field(self, value: Any) -> Any:
        if type(value) is str:
            return value if self._rules.search(value) is None else self.text(value)
        if type(value) is tuple:
            fresh = None
            for place, member in enumerate(value):
                new = self._field(member)
                if new is not member:
                    fresh = list(value) if fresh is None else fresh
                    fresh[place] = new
            return value if fresh is None else tuple(fresh)
        if isinstance(value, msgspec.Struct):
            return value if isinstance(value, _KEPT_RECORDS) else self._record(value)
        return self.value(value) if isinstance(value, (str, dict, list)) else value

    # --- events

    def event(self, event: AgentEvent) -> dict[str, Any]:
        """Return the payload fields that are to change, without appended deltas."""
        changed = {}
        is_plain = event.__class__ not in _SPECIAL_EVENTS
        for name in _looked_at(event.__class__):
            old = getattr(event, name)
            if old is not None:
                new = self._field(old) if is_plain else self._of_event(event, name, old)
                if new is not old:
                    changed[name] = new
        if event.unknown_fields is not None:
            unknown = self._unknown(event.unknown_fields, changed)
            if unknown is not event.unknown_fields:
                changed["unknown_fields"] = unknown or None
        return changed

    def _of_event(self, event: AgentEvent, name: str, value: Any) -> Any:
        match event:
            case ContentDelta():
                if not isinstance(value, CommitPart):
                    return value
                part = self.part(value.part)
                return value if part is value.part else CommitPart(value.part_id, part)
            case ToolExecutionStarted() if name == "input":
                return self._arguments(event.name, value)
            case ApprovalResolved() if name == "input":
                return self._arguments(None, value)
            case ApprovalRequired() if name == "summary" and self._keep_arguments is not None:
                return value if is_mask(value) else self._masked(ARGUMENT, value) or ""
            case _:
                return self._field(value)

    def _unknown(self, unknown: dict[str, JSON], changed: dict[str, Any]) -> dict[str, JSON]:
        """Return what a newer writer added, scrubbed, without what would be written in place of a changed field."""
        fresh = {name: value for name, value in unknown.items() if name not in changed}
        scrubbed: dict[str, JSON] = self.value(fresh)
        return unknown if scrubbed == unknown else scrubbed


_LOOKED_AT: dict[type, tuple[str, ...]] = {}


def _looked_at(cls: Any) -> tuple[str, ...]:
    """Return the fields of a class of events or records that can hold a secret, by their types."""
    found = _LOOKED_AT.get(cls)
    if found is None:
        hints = typing.get_type_hints(cls)
        names: tuple[str, ...] = PAYLOAD_FIELDS[cls] if issubclass(cls, AgentEvent) else cls.__struct_fields__
        found = tuple(name for name in names if name not in _KEPT_FIELDS and _can_hold_text(hints[name]))
        _LOOKED_AT[cls] = found
    return found


def _can_hold_text(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(_can_hold_text, typing.get_args(hint)))
    return hint not in _NO_TEXT and typing.get_origin(hint) is not typing.Literal


def _is_encoded(mapping: dict[str, JSON], key: str) -> bool:
    if key == "$bytes":
        return len(mapping) == 1
    return key == "data" and mapping.get("kind") in _ENCODED_KINDS and "media_type" in mapping


def changed_event(event: AgentEvent, changed: dict[str, Any], redactions: int) -> AgentEvent:
    """Return the event with changed fields; how many masks it has more is its `redactions`."""
    unknown = changed.pop("unknown_fields", event.unknown_fields)
    if redactions:
        told_before = event.payload if isinstance(event, UnknownEvent) else unknown
        before = (told_before or {}).get(REDACTIONS_FIELD)
        told = redactions + (before if isinstance(before, int) and not isinstance(before, bool) else 0)
        unknown = {**(unknown or {}), REDACTIONS_FIELD: told}
    if isinstance(event, UnknownEvent) and unknown:  # its payload is all that is written of it
        changed["payload"] = {**changed.get("payload", event.payload), **unknown}
        unknown = None
    return attrs.evolve(event, **changed, unknown_fields=unknown)
