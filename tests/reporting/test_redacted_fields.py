"""Every text field of every event: either it is scrubbed, or it is on the list of what names things."""

from __future__ import annotations

import datetime as dt
import types
import typing
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest

from agentkit_loop.events import EVENT_TYPES, PAYLOAD_FIELDS, AgentEvent, UnknownEvent
from agentkit_loop.stamping import stamp
from agentkit_reporting import Redactor, encode_event
from tests.reporting.redaction_samples import ANTHROPIC

NAMES_THINGS = {
    "request_id", "call_id", "approval_id", "auth_id", "response_id", "resumed_run", "id", "wire_id", "part_id",
    "session_id", "run_id", "digests", "open_approvals", "open_auths", "observers", "cost", "parent",
}  # fmt: skip
"""Fields that hold ids, digests, costs and names of observers, in which nothing is looked for."""

NOW = dt.datetime(2026, 5, 24, tzinfo=dt.UTC)


class Filler:
    """Makes events whose every field is filled; the text at one place is the secret. places: of all texts met."""

    def __init__(self, secret_at: str | None = None) -> None:
        self.places: list[str] = []
        self._secret_at = secret_at

    def event(self, cls: type[AgentEvent]) -> AgentEvent:
        """Return an event of a class, told."""
        hints = typing.get_type_hints(cls)
        event = cls(**{name: self._value(hints[name], name) for name in PAYLOAD_FIELDS[cls]})
        stamp(event, "ses-1", "run-1", "turn-1", 1, NOW)
        return event

    def _text(self, place: str) -> str:
        self.places.append(place)
        return ANTHROPIC if place == self._secret_at else "x"

    def _value(self, hint: Any, place: str) -> Any:
        origin, given = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            kinds = [kind for kind in given if kind is not type(None)]
            return self._value(kinds[-1], place)  # of the kinds of deltas the one that has a part
        if origin in (tuple, list):
            return origin([self._value(given[0], f"{place}.[]")])
        if origin is dict:
            return {self._text(f"{place}.key"): self._value(given[1], f"{place}.value")}
        if origin is typing.Literal:
            return given[0]
        plain = {int: 1, float: 1.0, bool: True, Decimal: Decimal(1)}
        if hint in plain:
            return plain[hint]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            hints = typing.get_type_hints(hint)
            return hint(
                **{name: self._value(hints[name], f"{place}.{name}") for name in hint.__struct_fields__}
            )
        return self._text(place)  # a text, or any JSON


@pytest.mark.parametrize("cls", [*EVENT_TYPES.values(), UnknownEvent], ids=lambda cls: cls.__name__)
def test_every_text_of_an_event_is_scrubbed_or_names_something(cls: type[AgentEvent]) -> None:
    filler = Filler()
    filler.event(cls)
    for place in filler.places:
        event = Filler(place).event(cls)
        shows = ANTHROPIC[7:].encode() in encode_event(Redactor().event(event))
        assert ANTHROPIC[7:].encode() in encode_event(event), place
        assert shows == (not NAMES_THINGS.isdisjoint(place.split("."))), place


def test_what_a_newer_version_added_to_any_event_is_scrubbed() -> None:
    for cls in EVENT_TYPES.values():
        event = attrs.evolve(Filler().event(cls), unknown_fields={"more": [{ANTHROPIC: ANTHROPIC}]})
        assert ANTHROPIC[7:].encode() not in encode_event(Redactor().event(event)), cls
