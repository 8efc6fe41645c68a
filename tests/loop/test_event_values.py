"""Events are values: equal, hashed, shown and copied by what they hold."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given

from agentkit_loop import (
    AgentEvent,
    BudgetExceeded,
    BudgetWarning,
    CustomEvent,
    ToolExecutionProgress,
    TurnStarted,
)
from agentkit_loop.events import EVENT_TYPES, UnknownEvent
from tests.strategies import events

CLASSES = [AgentEvent, *EVENT_TYPES.values(), UnknownEvent]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_class_has_methods_of_its_own_for_what_the_base_does(cls: type[AgentEvent]) -> None:
    assert cls.__eq__ is AgentEvent.__eq__
    assert cls.__hash__ is AgentEvent.__hash__
    assert cls.__repr__ is AgentEvent.__repr__


@given(events())
def test_an_event_equals_its_copies_and_no_other(event: AgentEvent) -> None:
    pickled = pickle.loads(pickle.dumps(event))  # noqa: S301 - our own
    for same in (copy.copy(event), copy.deepcopy(event), pickled, attrs.evolve(event)):
        assert same == event
        assert not same != event  # noqa: SIM202 - the other operator
    for field in attrs.fields(type(event)):
        other: Any = copy.copy(event)
        object.__setattr__(other, field.name, object())
        assert other != event
    assert event != attrs.asdict(event, recurse=False)


def test_events_of_two_classes_are_never_equal() -> None:
    fields: dict[str, Any] = {"limit": "max_turns", "used": 8, "allowed": 10}
    assert BudgetWarning(**fields) == BudgetWarning(**fields)
    assert BudgetWarning(**fields) != BudgetExceeded(**fields)
    assert BudgetExceeded(**fields) != BudgetWarning(**fields)


def test_equal_events_have_one_hash_where_their_values_have() -> None:
    one, same = (ToolExecutionProgress(call_id="call-1", message="half", fraction=0.5) for _ in range(2))
    assert hash(one) == hash(same)
    assert len({one, same, attrs.evolve(one, message="more")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(CustomEvent(name="note", data={}))


def test_an_event_is_shown_as_it_is_made() -> None:
    assert repr(TurnStarted(index=1)) == (
        "TurnStarted(session_id='', run_id='', turn_id=None, seq=0, timestamp=datetime.datetime(1970, 1, 1, 0, 0, "
        "tzinfo=datetime.timezone.utc), unknown_fields=None, index=1)"
    )
    data: dict[str, Any] = {}
    data["event"] = CustomEvent(name="note", data=data)
    assert repr(data["event"]).endswith("name='note', data={'event': ...})")
