"""Events without their content: what people, models and tools said is replaced by marks before anybody is told.

| what an event says | `metadata` | `off` |
|---|---|---|
| ids, numbers, times, durations, tokens, costs, finish reasons, classes and types of errors | stay | stay |
| names of agents, models, tools, observers, limits, providers, custom events; codes of warnings | stay | stay |
| kinds of parts and items, media types; whether something was denied, cut, edited, an error | stay | stay |
| step and type of decisions that the host tells (custom events `decision`) | stay | stay |
| of a run's metadata what reports group by (KEPT_METADATA) | stays | stays |
| the rest of it, digests, who decided (`by`), frames of errors, `usage.raw`, numeric parameters | stay | a mark |
| names of arguments, of fields of schemas, of details, of custom data | stay | a mark for all |
| their values; texts, reasoning, results, media, file names, prompts, descriptions, reasons | kind, size | a mark |
| messages of errors and warnings, progress, unknown fields, events of a newer log | kind, size | a mark |
| streamed pieces, which are previews of what is told whole | empty | empty |

Token counts stay in `off`, though they tell about how long a text is: without them nobody knows what a run costs, which
is what telling without content is for. Names of tools stay as all figures are by tool; they are the program's words.
Digests go in `off`, as the digest of a short text can be found by trying. Reasoning loses its signature. What stays
is scrubbed of secrets as ever. A session whose log is written so cannot be resumed with what was said in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import msgspec

from agentkit_loop.content import AppendBytes, AppendText, CommitPart, FilePart, MediaPart, ReasoningPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    PAYLOAD_FIELDS,
    REDACTIONS_FIELD,
    AgentEvent,
    ContentDelta,
    CustomEvent,
    ModelRequestStarted,
    RunStarted,
    UnknownEvent,
)
from agentkit_loop.usage import Cost, ObserverStats, Usage
from agentkit_loop.values import JSON
from agentkit_reporting.redaction.masking import RedactionMode
from agentkit_reporting.redaction.redactor import RECEIPT_FIELD, Redactor
from agentkit_reporting.redaction.rule_set import SECRETS, RuleChoice
from agentkit_reporting.redaction.scrubbing import changed_event

__all__ = ["CONTENT", "Content", "ContentRedactor", "Withheld"]

Withheld: TypeAlias = Literal["metadata", "off"]
Content: TypeAlias = Literal["full", "metadata", "off"]
"""How much of what was said observers are told: all of it, its kinds and sizes, nothing."""

CONTENT = "content"
"""The name, in marks of `off` and in receipts, of what was withheld."""

KEPT_METADATA = frozenset(
    {
        "agent_version", "attempt", "environment", "phase", "premium_requests", "task_id", "task_type", "tier",
        "traceparent",
    }
)  # fmt: skip
"""Names in a run's metadata whose values stay: what reports group by."""

_MARK = f"[redacted:{CONTENT}]"
_SIZED_MARK = re.compile(r"\[redacted:(?:(?:text|list|object|media):[0-9]{1,19}|number|boolean|content)\]")

_KEPT = frozenset(
    {
        "agent_name", "allowed", "approval_id", "auth_id", "call_id", "code", "cost", "error_class", "file_id",
        "finish_reason", "id", "kind", "limit", "media_type", "model", "name", "observer", "observers",
        "open_approvals", "open_auths", "outcome", "parent", "part_id", "provider", "removed", "request_id",
        "response_id", "response_model", "resumed_run", "scopes", "strategy", "type", "used", "wire_id",
    }
)  # fmt: skip
_KEPT_OF = frozenset(
    {
        ("ModelRequestStarted", "purpose"),  # one of two words
        ("CompactionStarted", "reason"),  # which trigger
    }
)
_KEPT_AS_METADATA = frozenset({"by", "frames"})
_VALUES = frozenset({"data", "output", "value"})  # any JSON: a number in it is content
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_COSTS = "costs"  # of a sub-agent, in `child_usage.raw`

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class ContentRedactor(Redactor):
    """Takes content, and the secrets in what is left, out of events.

    content: `"metadata"` says of each content its kind and size, `"off"` that there was some; see the module. rules,
    mode, key: of the secrets, see `Redactor`; rules None looks for none. `told` takes out what was
    said, `text` and `value` mask secrets alone. An event that cannot be made so raises RedactionError. Raises
    ConfigurationError for choices that are none.
    """

    def __init__(
        self,
        content: Withheld = "metadata",
        rules: Iterable[RuleChoice] | None = (SECRETS,),
        *,
        mode: RedactionMode = "mask",
        key: str | bytes | None = None,
    ) -> None:
        if content not in get_args(Withheld):
            choices = " or ".join(map(repr, get_args(Withheld)))
            raise ConfigurationError(f"content={content!r} refused because it is no choice; use {choices}")
        super().__init__((SECRETS,) if rules is None else rules, mode=mode, key=key)
        self.content: Withheld = content
        self._scrubs = rules is not None

    def __repr__(self) -> str:
        return f"<ContentRedactor of {self.content}>"

    @property
    def is_of_events(self) -> bool:
        """Whether it hides what only events tell: it does."""
        return True

    def event(self, event: AgentEvent) -> AgentEvent:
        """Return the event without content and secrets; the same object where it holds none. Raises RedactionError."""
        return self._looked_at(event)

    def told(self, value: JSON) -> JSON:
        """Return a JSON value without what was said and without secrets, as the data of a custom event is told."""
        withholding = _Withholding(is_sized=self.content == "metadata")
        fresh = withholding.value(value)
        self._count("", [CONTENT] * withholding.count)
        return self.value(fresh) if self._scrubs else fresh

    def _scrubbed(self, event: AgentEvent) -> AgentEvent:
        withholding = _Withholding(is_sized=self.content == "metadata")
        changed = withholding.event(event)
        told = changed_event(event, changed, withholding.count) if changed else event
        self._count(event.session_id, [CONTENT] * withholding.count)
        if isinstance(told, ContentDelta) and isinstance(told.delta, (AppendText, AppendBytes)):
            return told
        return super()._scrubbed(told) if self._scrubs else told


class _Withholding:
    """Replaces the content of one event. is_sized: whether marks tell kind and size. count: of the marks."""

    def __init__(self, *, is_sized: bool) -> None:
        self.count = 0
        self._is_sized = is_sized

    def event(self, event: AgentEvent) -> dict[str, Any]:
        """Return the payload fields that are to change."""
        if isinstance(event, UnknownEvent):
            payload = self._names(event.payload)
            return {} if payload is event.payload else {"payload": payload}
        changed = self._changed(event, PAYLOAD_FIELDS[type(event)])
        unknown = event.unknown_fields
        if unknown is not None:
            fresh = self._names(unknown)
            if fresh is not unknown:
                changed["unknown_fields"] = fresh
        return changed

    def _changed(self, record: Any, names: Iterable[str]) -> dict[str, Any]:
        changed = {}
        for name in names:
            old = getattr(record, name)
            if old is not None:
                new = self._field(record, name, old)
                if new is not old:
                    changed[name] = new
        return changed

    def _field(self, record: Any, name: str, value: Any) -> Any:
        """Return what is told of a field."""
        match record, name:
            case RunStarted(), "metadata":
                return self._metadata(value)
            case RunStarted(), "parameters":
                return self._names(value, keeps_numbers=self._is_sized)
            case ReasoningPart(), "signature" | "redacted":  # a proof of what is not there any more
                self.count += 1
                return None
            case FilePart(), "name":
                return self._text(value)
            case ((MediaPart() | FilePart()), "data"):
                return self._mark(f"media:{len(value) * 3 // 4}", value)
            case CustomEvent(name="decision"), "data" if isinstance(value, dict):
                return self._decision(value)
            case ModelRequestStarted(), "digests":
                return value if self._is_sized else self._digests(value)
            case Usage(), "raw":
                return self._usage_raw(value)
            case _:
                pass
        is_kept = name in _KEPT or (self._is_sized and name in _KEPT_AS_METADATA)
        if is_kept or (type(record).__name__, name) in _KEPT_OF:
            return value
        if name in _VALUES:
            return self.value(value)
        return self._any(value)

    def _any(self, value: Any) -> Any:
        """Return what is told of a field that has a type of its own: numbers in it are counts and the like."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (Cost, ObserverStats, int, float)):  # bool is one, too
            return value
        if isinstance(value, tuple):
            fresh = tuple(self._any(member) for member in value)
            return value if all(new is old for new, old in zip(fresh, value, strict=True)) else fresh
        if isinstance(value, AppendText):
            return AppendText(value.part_id, "") if value.chunk else value
        if isinstance(value, AppendBytes):
            return AppendBytes(value.part_id, b"") if value.chunk else value
        if isinstance(value, CommitPart):
            part = self._record(value.part)
            return value if part is value.part else CommitPart(value.part_id, part)
        if isinstance(value, msgspec.Struct):
            return self._record(value)
        return self.value(value)

    def _record(self, record: _Struct) -> _Struct:
        changed = self._changed(record, record.__struct_fields__)
        return msgspec.structs.replace(record, **changed) if changed else record

    # --- values

    def value(self, value: JSON) -> JSON:
        """Return a mark for a JSON value; of an object its names where they are told."""
        if isinstance(value, dict):
            return self._names(value)
        if isinstance(value, str):
            return self._text(value)
        if value is None:
            return None
        if isinstance(value, list):
            return self._mark(f"list:{len(value)}", value)
        return self._mark("boolean" if isinstance(value, bool) else "number", value)

    def _text(self, text: str) -> str:
        return self._mark(f"text:{len(text)}", text) if text else text

    def _names(self, mapping: dict[str, JSON], *, keeps_numbers: bool = False) -> dict[str, JSON]:
        """Return an object of marks; what redaction itself wrote into it stays."""
        ours = {name: mapping[name] for name in (REDACTIONS_FIELD, RECEIPT_FIELD) if name in mapping}
        if len(ours) == len(mapping):
            return mapping
        if not self._is_sized:
            fresh = {**ours, _MARK: self._mark("", mapping)} if mapping.get(_MARK) != _MARK else mapping
        else:
            fresh = {
                name: self._member(value, keeps_numbers=keeps_numbers) for name, value in mapping.items()
            }
            fresh.update(ours)
        return mapping if fresh == mapping else fresh

    def _member(self, value: JSON, *, keeps_numbers: bool) -> JSON:
        if isinstance(value, dict):
            return self._mark(f"object:{len(value)}", value)
        if keeps_numbers and isinstance(value, (int, float)):
            return value
        return self.value(value)

    def _metadata(self, metadata: dict[str, JSON]) -> dict[str, JSON]:
        if self._is_sized or metadata.keys() <= KEPT_METADATA | {_MARK}:
            return metadata
        kept = {name: value for name, value in metadata.items() if name in KEPT_METADATA}
        return {**kept, _MARK: self._mark("", metadata)}

    def _decision(self, decision: dict[str, JSON]) -> JSON:
        """Return a decision of the host's as which of a step it was, and of which kind; not its words."""
        kept = {name: value for name, value in decision.items() if _is_plain(name, value)}
        rest = {name: value for name, value in decision.items() if name not in kept}
        fresh = {**kept, **self._names(rest)} if rest else decision
        return decision if fresh == decision else fresh

    def _digests(self, digests: dict[str, str]) -> dict[str, str]:
        fresh = {name: self._text(digest) for name, digest in digests.items()}
        return digests if fresh == digests else fresh

    def _usage_raw(self, raw: dict[str, JSON]) -> dict[str, JSON]:
        """Return the provider's own object; the costs of a sub-agent are ours."""
        if self._is_sized or raw.keys() <= {_COSTS, _MARK}:
            return raw
        kept = {name: value for name, value in raw.items() if name == _COSTS}
        return {**kept, _MARK: self._mark("", raw)}

    def _mark(self, said: str, value: JSON) -> str:
        """Return the mark of a value; one that is a mark of ours stays as it is."""
        if isinstance(value, str) and (
            value == _MARK or (self._is_sized and _SIZED_MARK.fullmatch(value) is not None)
        ):
            return value
        self.count += 1
        return f"[redacted:{said}]" if self._is_sized else _MARK


def _is_plain(name: str, value: JSON) -> bool:
    """Whether a field of a decision says which it is: its step, or its type in one word."""
    if name == "step":
        return type(value) is int
    return name == "type" and isinstance(value, str) and _WORD.fullmatch(value) is not None
