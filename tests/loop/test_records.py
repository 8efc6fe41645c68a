"""Equality, hash and repr that records share are those that attrs would have made for each."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agentkit_loop import Limits
from agentkit_loop.records import FrozenRecord, Record


@attrs.frozen(kw_only=True)
class Made:
    """What attrs makes by itself."""

    a: int
    b: list[Any] = attrs.field(factory=list, eq=False)
    c: str = attrs.field(default="secret", repr=False)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Shared(FrozenRecord):
    """The same, with what is shared."""

    a: int
    b: list[Any] = attrs.field(factory=list, eq=False)
    c: str = attrs.field(default="secret", repr=False)


@attrs.define(eq=False, repr=False)
class Changing(Record):
    """One that changes."""

    a: Any = None


class Narrow(Shared):
    """A class below, whose values are the same."""


@pytest.mark.parametrize("other", [{"a": 1}, {"a": 2}, {"a": 1, "b": [1]}, {"a": 1, "c": "other"}])
def test_what_attrs_says_of_two_records_is_said_here(other: dict[str, Any]) -> None:
    made, shared = (Made(a=1), Made(**other)), (Shared(a=1), Shared(**other))
    assert (shared[0] == shared[1]) is (made[0] == made[1])
    assert (shared[0] != shared[1]) is (made[0] != made[1])
    assert (hash(shared[0]) == hash(shared[1])) is (hash(made[0]) == hash(made[1]))
    assert [repr(each).replace("Shared", "Made") for each in shared] == [repr(each) for each in made]


def test_another_class_is_never_equal() -> None:
    assert Shared(a=1) != Narrow(a=1)
    assert Shared(a=1) != Made(a=1)
    assert Shared(a=1) != 1


def test_what_changes_has_no_hash_and_may_hold_itself() -> None:
    one = Changing([])
    one.a.append(one)
    assert repr(one) == "Changing(a=[...])"
    assert Changing(1) == Changing(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_a_public_record_is_shown_with_its_values() -> None:
    limits = Limits(max_turns=3)
    assert repr(limits).startswith("Limits(max_turns=3, ")
    assert {limits: "same"}[attrs.evolve(limits)] == "same"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limits.max_turns = 4  # type: ignore[misc] # that is the test
