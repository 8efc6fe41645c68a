"""What becomes of the arguments that a model sends: each is what its annotation names, or a clause of a refusal."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Annotated, Any, Literal, Required, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.tool_arguments import MAX_FAULTS, ToolInputError
from agentkit_loop.tools import Tool, as_tool, tool
from tests.loop.tool_samples import Colour, Node, Point, refused, search


class Query(msgspec.Struct):
    text: str
    limit: int = 10


class Options(TypedDict, total=False):
    depth: Required[int]
    follow: bool


@attrs.define
class Even:
    n: int = attrs.field()

    @n.validator
    def _check(self, _: object, value: int) -> None:
        if value == 7:
            raise KeyError("seven")
        if value % 2:
            raise ValueError("n must be even")


def decoded(annotation: Any, value: Any) -> Any:
    def probe(x: Any) -> None: ...

    probe.__annotations__ = {"x": annotation}
    return tool(probe).bind({"x": value})["x"]


@pytest.mark.parametrize(
    ("annotation", "value", "argument"),
    [
        (float, 1, 1.0),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (dict[str, pathlib.Path], {"a": "b"}, {"a": pathlib.Path("b")}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dt.datetime, "2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (Colour, "red", Colour.RED),
        (set[int], [1, 1], {1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (Point, {"x": 1}, Point(1)),
        (Node, {"value": 1, "children": [{"value": 2}]}, Node(1, [Node(2)])),
        (Query | None, {"text": "a"}, Query("a")),
        (Options, {"depth": 1}, {"depth": 1}),
        (int | None, None, None),
        (object, {"any": [1]}, {"any": [1]}),
    ],
    ids=str,
)
def test_an_argument_becomes_what_its_annotation_names(annotation: Any, value: Any, argument: Any) -> None:
    assert decoded(annotation, value) == argument


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (int, "1", "argument `x`: expected `int`, got `str`"),
        (int, 1.0, "argument `x`: expected `int`, got `float`"),
        (int, True, "argument `x`: expected `int`, got `bool`"),
        (float, "1", "argument `x`: expected `float`, got `str`"),
        (str, None, "argument `x`: expected `str`, got `null`"),
        (Point, {"x": "1"}, "argument `x.x`: expected `int`, got `str`"),
        (Point, {}, "argument `x`: object missing required field `x`"),
        (
            Node,
            {"value": 1, "children": [{"value": 1}, {"value": "s"}]},
            "argument `x.children[1].value`: expected `int`, got `str`",
        ),
        (list[pathlib.Path], [3], "argument `x[0]`: expected `str`, got `int`"),
        (dict[int, int], {"a": 1}, "argument `x`: wrong key, expected `int`, got `str`"),
        (Colour, "blue", 'argument `x`: invalid enum value \'blue\', use one of "green", "red"'),
        (Literal["a"] | None, "b", "argument `x`: invalid enum value 'b', use one of \"a\""),
        (Annotated[int, msgspec.Meta(ge=0)], -1, "argument `x`: expected `int` >= 0"),
        (dt.datetime, "tomorrow", "argument `x`: invalid RFC3339 encoded datetime"),
        (Even, {"n": 3}, "argument `x`: n must be even"),
        (Even, {"n": 7}, "argument `x`: refused by its type, KeyError('seven')"),
    ],
    ids=str,
)
def test_an_argument_that_does_not_fit_is_named_with_expected_and_got(
    annotation: Any, value: Any, sentence: str
) -> None:
    with pytest.raises(ToolInputError) as caught:
        decoded(annotation, value)
    assert str(caught.value) == sentence


def test_missing_unknown_and_wrong_arguments_are_all_named() -> None:
    sentence = refused(search, {"qery": "a", "limit": "5", "zzz": 1})
    assert sentence == (
        "missing argument `query`; unknown argument `qery`, did you mean `query`?; "
        "unknown argument `zzz`, known are `query`, `limit`, `exact`; "
        "argument `limit`: expected `int`, got `str`"
    )


def test_an_input_that_is_no_object_is_refused() -> None:
    assert refused(search, ["a"]) == "input: expected `object`, got `array`"
    assert refused(search, None) == "input: expected `object`, got `null`"


def test_a_fault_is_bounded_whatever_the_model_sent() -> None:
    def choose(colour: Colour) -> None: ...

    many = {f"n{index}": index for index in range(20_000)}
    with pytest.raises(ToolInputError) as caught:
        tool(search).bind({"query": "a", **many})
    assert len(caught.value.faults) == 20_000
    assert str(caught.value).endswith(f"; and {20_000 - MAX_FAULTS:,} more")
    assert len(refused(choose, {"colour": "x" * 100_000})) <= 600
    assert len(refused(choose, {"c" * 100_000: "x"})) <= 600


def test_only_given_arguments_are_bound_so_that_defaults_stay_the_functions() -> None:
    assert tool(search).bind({"query": "a"}) == {"query": "a"}


# --- any input


def everything(  # noqa: PLR0917 - one of each kind
    count: int,
    point: Point,
    when: dt.datetime | None = None,
    node: Node | None = None,
    colour: Colour = Colour.RED,
    tags: dict[str, list[pathlib.Path]] | None = None,
    even: Even | None = None,
    mode: Literal["a", 1] | None = None,
) -> None: ...


def freely(a: Annotated[float, msgspec.Meta(gt=0)], **rest: tuple[int, str]) -> None: ...


names = st.sampled_from([*tool(everything).input_schema["properties"], "a", "x", "n", "value", "children"])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["red", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


class Schemed:
    name = "schemed"
    input_schema = {  # noqa: RUF012 - as an author would write it
        "type": "object",
        "properties": {"a": {"type": ["integer", "null"]}, "mode": {"enum": ["a", 1]}, "x": True},
        "required": ["a"],
        "additionalProperties": False,
    }

    def run(self, **arguments: object) -> object:
        return arguments


@pytest.mark.parametrize(
    "made", [tool(everything), tool(freely), as_tool(Schemed())], ids=lambda made: made.name
)
@settings(deadline=None, max_examples=150)
@given(value=st.dictionaries(names | st.text(max_size=5), json_values, max_size=6) | json_values)
def test_any_json_is_bound_or_refused_and_nothing_else(made: Tool[..., Any], value: Any) -> None:
    try:
        bound = made.bind(value)
    except ToolInputError as refusal:
        bound = dict.fromkeys(refusal.faults)
    assert isinstance(bound, dict)


def test_an_input_that_is_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {"value": 1}
    for _ in range(10_000):
        deep = {"value": 1, "children": [deep]}
    assert (
        refused(everything, {"count": 1, "point": {"x": 1}, "node": deep})
        == "argument `node`: nested too deeply"
    )
