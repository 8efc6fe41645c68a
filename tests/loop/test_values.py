"""Values become JSON in one documented form, whatever was handed over, and never raise."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import numbers
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import MediaPart, StructuredPart, TextPart
from agentkit_loop.values import MAX_REPR, MAX_VALUES, clean_text, copy_json, safe_repr, scrub_json, to_json


class Colour(enum.Enum):
    RED = "r"
    NOTHING = None


class Level(enum.IntEnum):
    LOW = 1


@attrs.define
class Point:
    x: int
    _hidden: str = "h"


@dataclasses.dataclass
class Pair:
    left: object
    right: object = None


class Record(msgspec.Struct):
    a: object


class Angry:
    """Refuses every question."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return 1


class Liar:
    """Says that it is a str."""

    @property
    def __class__(self) -> type:
        return str

    @__class__.setter
    def __class__(self, value: type) -> None: ...


class Shy:
    """Does not say what it is."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("no")

    @__class__.setter
    def __class__(self, value: type) -> None: ...


class OddText(str):
    __slots__ = ()

    def isascii(self) -> bool:
        raise RuntimeError("no")

    def encode(self, *_: object) -> bytes:
        raise RuntimeError("no")

    def startswith(self, *_: object) -> bool:
        raise RuntimeError("no")


class OddInt(int):
    def __index__(self) -> int:
        raise RuntimeError("no")

    def __int__(self) -> int:
        raise RuntimeError("no")

    def __le__(self, other: object) -> bool:
        raise RuntimeError("no")


class OddFloat(float):
    def __float__(self) -> float:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Matryoshka:
    """Holds two fresh ones of itself, without end."""

    def __iter__(self) -> Iterator[object]:
        return iter((Matryoshka(), Matryoshka()))


class ReprOfOddText:
    def __repr__(self) -> str:
        return OddText("odd \udcff")


class BrokenPath:
    def __fspath__(self) -> str:
        raise RuntimeError("no")


class OddTime(dt.datetime):
    def isoformat(self, *_: object, **__: object) -> str:
        return 7  # type: ignore[return-value] # the point


@attrs.define
class Unset:
    x: int


HOSTILE: dict[str, Callable[[], object]] = {
    "angry": Angry,
    "angry in a list": lambda: [Angry()],
    "angry as a key": lambda: {Angry(): 1},
    "angry as a value": lambda: {"a": Angry()},
    "liar": Liar,
    "shy": Shy,
    "odd text": lambda: OddText("$é"),
    "odd text as a key": lambda: {OddText("$é"): 1},
    "odd int": lambda: {OddInt(3): OddInt(4)},
    "odd float": lambda: OddFloat(1.5),
    "odd repr": ReprOfOddText,
    "broken path": BrokenPath,
    "odd time": lambda: OddTime(2026, 1, 1),
    "memory with gaps": lambda: memoryview(b"abcd")[::2],
    "huge int": lambda: 10**6000,
    "huge int as a key": lambda: {10**6000: 1},
    "fields that are not set": lambda: Unset.__new__(Unset),
    "generator": lambda: (number for number in range(3)),
    "object": object,
    "function": lambda: Unset,
    "part with values": lambda: StructuredPart(value={1: math.nan, "b": b"x", "c": {2, 1}}),
    "parts with hostile values": lambda: [TextPart(text="\udcff"), StructuredPart(value=Angry())],
    "module": lambda: math,
    "generic alias": lambda: list[int],
    "not implemented": lambda: NotImplemented,
    "error": lambda: ValueError("\udcff"),
}


# The two that lie about their class would mislead hypothesis itself; they have their own test below.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.binary(max_size=8)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Colour.NOTHING, Level.LOW, pathlib.PurePosixPath("/a")])
    | st.sampled_from(sorted(HOSTILE.keys() - {"shy", "liar"})).map(lambda name: HOSTILE[name]())
)
keys = (
    st.text(max_size=4) | st.integers() | st.floats() | st.none() | st.booleans() | st.tuples(st.integers())
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys | st.just("$x"), inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=3), max_size=4)
        | st.builds(Pair, inner, inner)
        | st.builds(Record, inner)
        | st.builds(Point, inner)
    ),
    max_leaves=12,
)


def assert_json(value: Any) -> None:
    """Fail for anything that is not exactly JSON, subclasses of its types included."""
    if type(value) is dict:
        assert all(type(key) is str for key in value)
        assert_json([*value, *value.values()])
    elif type(value) is list:
        for member in value:
            assert_json(member)
    elif type(value) is float:
        assert math.isfinite(value)
    elif type(value) is int:
        assert -(2**63) <= value < 2**64
    elif type(value) is str:
        value.encode()
    else:
        assert value is None or type(value) is bool


@settings(deadline=None, max_examples=300)
@given(values)
def test_any_value_becomes_json_that_survives_the_codec(value: object) -> None:
    for convert in (to_json, scrub_json):
        converted = convert(value)
        assert_json(converted)
        assert msgspec.json.decode(msgspec.json.encode(converted)) == converted


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_converted_all_the_same(name: str) -> None:
    value = HOSTILE[name]()
    assert_json(to_json(value))
    assert_json(to_json({"deep": [value, (value,)]}))
    assert len(safe_repr(value)) <= MAX_REPR


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(plain_json)
def test_scrubbing_and_copying_leave_json_as_it_is(value: Any) -> None:
    assert scrub_json(value) == value
    assert copy_json(value) == value


def test_a_copy_shares_no_container() -> None:
    value: Any = {"a": [{"b": []}]}
    copied = copy_json(value)
    copied["a"][0]["b"].append(1)
    assert value == {"a": [{"b": []}]}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("a\udcffb", "a\\udcffb"),
        (2**64 - 1, 2**64 - 1),
        (2**64, {"$int": "18446744073709551616"}),
        (-(2**63) - 1, {"$int": "-9223372036854775809"}),
        (2**3000, {"$int": hex(2**3000)}),
        (math.nan, {"$float": "nan"}),
        (-math.inf, {"$float": "-inf"}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (bytearray(b"ab"), {"$bytes": "YWI="}),
        (memoryview(b"abcd")[::2], {"$bytes": base64.b64encode(b"ac").decode()}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        (frozenset({"b", "a"}), {"$set": ["a", "b"]}),
        ((1, (2,)), [1, [2]]),
        (collections.deque([1]), [1]),
        (range(3), [0, 1, 2]),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(1, 2), "01:02:00"),
        (dt.timedelta(minutes=1), 60.0),
        (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (collections.UserString("abc"), "abc"),
        (Colour.RED, "r"),
        (Colour.NOTHING, None),
        (Level.LOW, 1),
        (Pair(1, Point(2)), {"left": 1, "right": {"x": 2}}),
        (Record({"$a": 1}), {"a": {"$$a": 1}}),
        ({1: "a", None: "b", 1.5: "d"}, {"1": "a", "null": "b", "1.5": "d"}),
        ({True: "a", "b": 1}, {"true": "a", "b": 1}),
        ({1: "a", "1": "b"}, {"$map": [[1, "a"], ["1", "b"]]}),
        ({(1, 2): "a"}, {"$map": [[[1, 2], "a"]]}),
        ({"$bytes": "x", "$$": 1, "a$": 2}, {"$$bytes": "x", "$$$": 1, "a$": 2}),
        ({Colour.RED: 1}, {"r": 1}),
        ([int, list[int]], [{"$repr": "<class 'int'>"}, {"$repr": "list[int]"}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value_has_its_documented_form(value: object, form: object) -> None:
    assert to_json(value) == form


def test_numbers_of_other_libraries_become_numbers() -> None:
    class Whole:
        def __index__(self) -> int:
            return 7

    class Broken:
        def __float__(self) -> float:
            return math.inf

    numbers.Integral.register(Whole)
    numbers.Real.register(Broken)
    assert to_json([Whole(), Broken()]) == [7, {"$float": "inf"}]


def test_a_model_s_own_dollar_keys_stay_when_scrubbed() -> None:
    assert scrub_json({"$ref": "\udcff", "n": math.nan}) == {"$ref": "\\udcff", "n": {"$float": "nan"}}


@settings(deadline=None)
@given(st.dictionaries(st.text(alphabet="$ab", max_size=4), st.booleans(), max_size=6))
def test_escaped_keys_tell_their_originals(mapping: dict[str, bool]) -> None:
    unescaped = {key.removeprefix("$"): value for key, value in to_json(mapping).items()}
    assert unescaped == mapping


def test_a_cycle_is_named_where_it_closes() -> None:
    loop: list[object] = [1]
    loop.append({"again": loop})
    assert to_json(loop) == [1, {"again": {"$repr": "<list that contains itself>"}}]


def test_one_value_in_two_places_is_no_cycle() -> None:
    shared = [1]
    assert to_json([shared, shared]) == [[1], [1]]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, Pair])
def test_what_is_nested_too_deeply_is_cut_off_and_says_so(wrap: Any) -> None:
    value: object = "end"
    for _ in range(5_000):
        value = wrap(value)
    converted = to_json(value)
    assert "nested too deeply" in msgspec.json.encode(converted).decode()
    assert msgspec.json.decode(msgspec.json.encode(converted)) == converted


def test_a_hundred_levels_are_kept() -> None:
    value: list[Any] = []
    for _ in range(99):
        value = [value]
    assert to_json(value) == value


@pytest.mark.parametrize("endless", [range(10**12), Matryoshka()], ids=["range", "fresh members"])
def test_a_value_without_end_is_given_up_as_a_whole(endless: Iterable[object]) -> None:
    assert to_json({"a": endless}) == {"$repr": f"<dict of more than {MAX_VALUES:,} values>"}


def test_a_small_value_that_shares_its_parts_exponentially_is_given_up() -> None:
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    assert to_json(value) == {"$repr": f"<list of more than {MAX_VALUES:,} values>"}


def test_parts_are_written_as_parts_and_stay_clean() -> None:
    image = MediaPart(media_type="image/png", data="AAAA")
    assert to_json(image) == {"$parts": [{"kind": "media", "media_type": "image/png", "data": "AAAA"}]}
    assert to_json((TextPart(text="a\udcff"), image))["$parts"][0] == {"kind": "text", "text": "a\\udcff"}
    structured = StructuredPart(value={"$a": math.nan, 1: (2,)})
    assert to_json([structured]) == {
        "$parts": [{"kind": "structured", "value": {"$a": {"$float": "nan"}, "1": [2]}}]
    }


def test_a_list_of_parts_and_other_things_is_a_list() -> None:
    part = TextPart(text="a")
    assert to_json([part, 1]) == [{"$parts": [{"kind": "text", "text": "a"}]}, 1]
    assert to_json([]) == []


def test_an_iterator_is_not_consumed() -> None:
    numbers_left = iter([1, 2])
    assert "$repr" in to_json(numbers_left)
    assert list(numbers_left) == [1, 2]


def test_an_interrupt_inside_a_foreign_method_passes_through() -> None:
    class Interrupting:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_json(Interrupting())


def test_a_long_repr_is_bounded_with_a_mark() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 5_000

    assert to_json(Long()) == {"$repr": "x" * (MAX_REPR - 1) + "…"}


@settings(deadline=None)
@given(st.text(st.characters()))
def test_clean_text_can_always_be_written_and_is_stable(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
    assert type(clean_text(OddText(text))) is str


_numbers = st.integers(-(2**66), 2**66) | st.floats() | st.booleans() | st.none()
_keys = st.text(alphabet="$ab\u00e9", max_size=3) | st.sampled_from([1, None, Level.LOW])
_nested = st.recursive(
    _numbers | st.text(st.characters(), max_size=4) | st.sampled_from([b"x", (1,), Level.LOW, "1" * 25]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


class OwnDict(dict[Any, Any]):
    """No plain dict, so that it is walked through."""


@given(_nested)
def test_plain_values_are_converted_as_those_that_are_walked_through(value: Any) -> None:
    for convert in (to_json, scrub_json):
        walked = convert(OwnDict(value=value))
        assert repr(convert({"value": value})) == repr(walked)


@given(_nested)
def test_what_was_converted_shares_nothing_with_what_was_handed_over(value: Any) -> None:
    given_value = [value]
    for convert in (to_json, scrub_json):
        told = convert(given_value)
        mine = {id(each) for each in _containers(given_value)}
        assert not any(id(each) in mine for each in _containers(told))


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for member in value.values() if isinstance(value, dict) else value:
            yield from _containers(member)


def test_a_plain_value_has_the_same_bounds() -> None:
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    assert "nested too deeply" in str(to_json(deep))
    endless: list[Any] = []
    endless.append(endless)
    assert to_json(endless) == [{"$repr": "<list that contains itself>"}]
    assert "of more than" in to_json([0] * (MAX_VALUES + 1))["$repr"]
    shared: Any = []
    for _ in range(40):
        shared = [shared, shared]
    assert "of more than" in to_json(shared)["$repr"]


def test_texts_are_not_copied_however_long_they_are() -> None:
    text = "x" * 100_000
    for convert in (to_json, scrub_json):
        told = convert({"content": text, "lines": [text]})
        assert told["content"] is text
        assert told["lines"][0] is text
