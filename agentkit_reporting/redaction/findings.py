"""What of a log is secret and where it stands; the secret itself is in no finding."""

from __future__ import annotations

import base64
import collections
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import msgspec

from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.differences import MASK
from agentkit_loop.events import PAYLOAD_FIELDS, AgentEvent, ContentDelta
from agentkit_reporting.log.read import LogReader
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.rule_set import SECRETS, RuleChoice

BAD_LINE = "(bad line)"
"""The field of a finding in a line that is no event."""


@attrs.frozen
class Finding:
    """A place where a secret stands.

    path, line: of the log, from 1. seq: of the event; None in a line that is none. rule: which found it. field: where
    in the payload, as `call.input.env[0]`; of a secret that a stream brought in pieces, in the piece that made it sure.
    count: how many of this rule are in that field.
    """

    path: str
    line: int
    seq: int | None
    rule: str
    field: str
    count: int


def find_secrets(reader: LogReader, rules: Iterable[RuleChoice] = (SECRETS,)) -> Iterator[Finding]:
    """Yield what rules find in a log, in its order. reader: of `read_events`, not read yet."""
    redactor = Redactor(rules)
    in_bad: list[Finding] = []

    def look_at(path: str, line: int, raw: bytes) -> None:
        # Escapes stand between a key and its value in a torn line too, so it is looked at as it stands.
        text = raw.decode("utf-8", "replace")
        in_bad.extend(
            Finding(path, line, None, rule, BAD_LINE, count)
            for rule, count in _new_masks(text, redactor.text(text)).items()
        )

    reader.on_bad_line = look_at
    for event in reader:
        yield from _taken(in_bad)
        yield from findings_in(event, redactor, path=reader.path, line=reader.line)
    yield from _taken(in_bad)


def findings_in(event: AgentEvent, redactor: Redactor, *, path: str = "", line: int = 0) -> Iterator[Finding]:
    """Yield what of an event a redactor masks; its events are to come in their order, as its streams need them."""
    before = redactor.receipt()
    told = redactor.event(event)
    if told is event:
        return
    if isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes)):
        # What was held back before stands in the piece as well: its text does not say what was found in it.
        found = collections.Counter(redactor.receipt()) - collections.Counter(before)
        yield from (Finding(path, line, event.seq, rule, "delta.chunk", found[rule]) for rule in found)
        return
    for name in PAYLOAD_FIELDS[type(event)]:
        old, new = getattr(event, name), getattr(told, name)
        if old is not new:
            for field, rule, count in _differences(name, msgspec.to_builtins(old), msgspec.to_builtins(new)):
                yield Finding(path, line, event.seq, rule, field, count)
    unknown = told.unknown_fields or {}
    for name, old in (event.unknown_fields or {}).items():
        for field, rule, count in _differences(name, old, unknown.get(name, old)):
            yield Finding(path, line, event.seq, rule, field, count)


def _taken(findings: list[Finding]) -> list[Finding]:
    taken = list(findings)
    findings.clear()
    return taken


def _differences(field: str, old: Any, new: Any) -> Iterator[tuple[str, str, int]]:
    """Yield field, rule and count of the masks that a value has got."""
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) == list(new):
            for key, member in old.items():
                yield from _differences(f"{field}.{key}", member, new[key])
        else:  # a key was masked, which two keys may be alike after
            yield from _counted(field, _masks(new), _masks(old))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{field}[{number}]", one, other)
    elif old != new:
        yield from _counted(field, _masks(new), _masks(old))


def _counted(
    field: str, new: collections.Counter[str], old: collections.Counter[str]
) -> Iterator[tuple[str, str, int]]:
    for rule, count in (new - old).items():
        yield field, rule, count


def _new_masks(old: str, new: str) -> collections.Counter[str]:
    return _masks(new) - _masks(old)


def _masks(value: Any) -> collections.Counter[str]:
    """Return the masks in a value, by rule."""
    if isinstance(value, str):
        found = MASK.findall(value) or MASK.findall(_decoded(value))
        return collections.Counter(mask.removeprefix("[redacted:").removesuffix("]") for mask in found)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    counts: collections.Counter[str] = collections.Counter()
    for member in value if isinstance(value, (list, tuple)) else ():
        counts += _masks(member)
    return counts


def _decoded(text: str) -> str:
    """Return the text of base64, which bytes are told as; empty for any other text."""
    try:
        return base64.b64decode(text, validate=True).decode("latin-1")
    except ValueError:
        return ""
