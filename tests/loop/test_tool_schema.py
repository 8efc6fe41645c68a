"""What a model is told of a function's arguments, and what becomes of those that it sends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Required, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.tool_schema import MAX_FAULTS, ToolInputError, read_docstring
from agentkit_loop.tools import Tool, ToolContext, as_tool, tool


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Half(enum.Enum):
    HALF = 0.5


@attrs.define
class Point:
    x: int
    y: float = 0.0
    label: Annotated[str, msgspec.Meta(description="a caption")] = ""


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


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


@attrs.define
class Lost:
    x: Nowhere  # type: ignore[name-defined] # noqa: F821 - cannot be resolved, that is the point


UserId = NewType("UserId", int)


def schema_of(annotation: Any) -> Any:
    def probe(x: Any) -> None: ...

    probe.__annotations__ = {"x": annotation}
    return tool(probe).input_schema["properties"]["x"]


def decoded(annotation: Any, value: Any) -> Any:
    def probe(x: Any) -> None: ...

    probe.__annotations__ = {"x": annotation}
    return tool(probe).bind({"x": value})["x"]


def refused(function: Callable[..., Any], value: Any) -> str:
    with pytest.raises(ToolInputError) as caught:
        tool(function).bind(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int, {"type": "integer"}),
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (object, {}),
        (list[object], {"type": "array"}),
        (None, {"type": "null"}),
        (UserId, {"type": "integer"}),
        (pathlib.Path, {"type": "string"}),
        (list[pathlib.Path], {"type": "array", "items": {"type": "string"}}),
        (dt.datetime, {"type": "string", "format": "date-time"}),
        (list[dt.datetime], {"type": "array", "items": {"type": "string", "format": "date-time"}}),
        (dt.date, {"type": "string", "format": "date"}),
        (decimal.Decimal, {"type": "string", "format": "decimal"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (Annotated[int, msgspec.Meta(ge=0, le=9)], {"type": "integer", "minimum": 0, "maximum": 9}),
        (
            Annotated[str, msgspec.Meta(pattern="^a", description="d")],
            {"type": "string", "pattern": "^a", "description": "d"},
        ),
        (
            Annotated[str, "who"] | None,
            {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "who"},
        ),
        (Point, {"$ref": "#/$defs/Point"}),
    ],
    ids=str,
)
def test_a_type_becomes_its_schema(annotation: Any, schema: Any) -> None:
    assert schema_of(annotation) == schema


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


def search(query: str, limit: int = 5, *, exact: bool = False) -> None: ...


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


def test_the_schema_is_an_object_with_defaults_and_required_names() -> None:
    assert tool(search).input_schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "default": 5},
            "exact": {"type": "boolean", "default": False},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def nothing() -> None: ...

    assert tool(nothing).input_schema == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    assert refused(nothing, {"a": 1}) == "unknown argument `a`, it takes none"


def test_classes_are_kept_as_definitions_also_recursive_ones() -> None:
    def grow(root: Node, at: Point) -> None: ...

    definitions = tool(grow).input_schema["$defs"]
    assert definitions["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert definitions["Point"]["properties"]["label"]["description"] == "a caption"


def test_a_default_of_none_takes_null_too() -> None:
    def find(name: str = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013 - how many write it

    assert tool(find).bind({"name": None}) == {"name": None}
    assert tool(find).input_schema["properties"]["name"]["default"] is None


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        (Colour.RED, "red"),
        (Point(1), {"x": 1, "y": 0.0, "label": ""}),
        (pathlib.PurePosixPath("a"), "a"),
        ((1, 2), [1, 2]),
    ],
    ids=str,
)
def test_a_default_is_shown_as_json(default: Any, shown: Any) -> None:
    def probe(x=default) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001 - a default alone

    assert tool(probe).input_schema["properties"]["x"] == {"default": shown}


@pytest.mark.parametrize("default", [object(), float("nan"), "\udcff"], ids=str)
def test_a_default_that_json_cannot_hold_is_not_shown(default: Any) -> None:
    def probe(x=default) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001 - a default alone

    assert tool(probe).input_schema["properties"]["x"] == {}
    assert tool(probe).input_schema["required"] == []


def test_open_keywords_allow_further_arguments_of_their_type() -> None:
    def label(name: str, **tags: int) -> None: ...

    assert tool(label).input_schema["additionalProperties"] == {"type": "integer"}
    assert tool(label).bind({"name": "a", "b c": 1}) == {"name": "a", "b c": 1}
    assert refused(label, {"name": "a", "b": "c"}) == "argument `b`: expected `int`, got `str`"


def test_open_keywords_without_a_type_allow_anything() -> None:
    def note(**anything): ...  # type: ignore[no-untyped-def] # noqa: ANN003, ANN202 - no types is the point

    assert tool(note).input_schema["additionalProperties"] is True
    assert tool(note).bind({"a": [1]}) == {"a": [1]}


def test_open_keywords_do_not_reach_parameters_that_are_not_the_models() -> None:
    class Desk:
        def write(self, **tags: int) -> None: ...

    def store(desk: str, context: ToolContext, **tags: int) -> None: ...

    fixed = functools.partial(store, desk="s")
    for made in (as_tool(fixed), as_tool(functools.partial(store, "s")), tool(Desk().write)):
        for name in {"desk", "context", "self"} & _names(made):
            with pytest.raises(ToolInputError, match=f"unknown argument `{name}`"):
                made.bind({name: 1})
        assert made.bind({"other": 1}) == {"other": 1}


def _names(made: Tool[..., Any]) -> set[str]:
    return {"self"} if "Desk" in repr(made.function) else {"desk", "context"}


def test_what_a_partial_has_bound_is_neither_shown_nor_taken() -> None:
    def query(text: str, key: str, limit: int = 3) -> None: ...

    made = tool(functools.partial(query, key="secret"))
    assert made.name == "query"
    assert list(made.input_schema["properties"]) == ["text", "limit"]
    assert "secret" not in str(made.input_schema)
    with pytest.raises(ToolInputError, match="unknown argument `key`"):
        made.bind({"text": "a", "key": "mine"})
    named = functools.update_wrapper(functools.partial(query, "a", key="secret"), query)
    assert list(tool(named).input_schema["properties"]) == ["limit"]


def test_a_wrapped_function_shows_what_it_wraps() -> None:
    @functools.wraps(search)
    def outer(*args: Any, **kwargs: Any) -> None:
        search(*args, **kwargs)

    assert tool(outer).input_schema == tool(search).input_schema
    assert tool(functools.lru_cache(search)).input_schema == tool(search).input_schema


# --- refusals


def star(*rest: int) -> None: ...
def slash(a: int, /) -> None: ...
def strange(a: complex) -> None: ...
def half(a: Half) -> None: ...
def lost(a: Lost) -> None: ...
def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821 - cannot be resolved
def foreign(größe: int) -> None: ...  # noqa: PLC2401 - refused, that is the point
def unbound(self, a: int) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001 - as in a class
def twice(a: ToolContext, b: ToolContext | None) -> None: ...
def open_strange(**rest: complex) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (star, ["`*rest`", "'star'", "take a list"]),
        (slash, ["`a`", "'slash'", "drop the `/`"]),
        (strange, ["`a`", "'strange'", "complex"]),
        (half, ["`a`", "'half'", "Half"]),
        (lost, ["`a`", "'lost'", "Nowhere"]),
        (unknown, ["'unknown'", "'Nowhere'", "top level"]),
        (foreign, ["`größe`", "'foreign'"]),
        (unbound, ["`self`", "'unbound'", "bound method"]),
        (twice, ["`b`", "'twice'", "`a` takes the context already"]),
        (open_strange, ["`**`", "'open_strange'", "complex"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_signature_that_no_model_can_fill_is_refused_in_one_sentence(
    function: Callable[..., Any], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tool(function)
    sentence = str(caught.value)
    assert all(word in sentence for word in words)
    assert "\n" not in sentence
    assert "; " in sentence


# --- docstrings

GOOGLE = """Look something up.

It reads the index
and nothing else.

Args:
    query (str): what to look
        for, in words
    limit: how many: at most
    **tags: more

Returns:
    limit: not an argument
"""

SPHINX = """
    Look something up.

    :param str query: what to look
        for, in words
    :param limit: how many: at most
    :keyword tags: more
    :type limit: int
    :returns: a list
    """

DESCRIPTIONS = {"query": "what to look for, in words", "limit": "how many: at most", "tags": "more"}


def test_google_and_sphinx_docstrings_describe_the_parameters() -> None:
    assert read_docstring(GOOGLE) == (
        "Look something up.\n\nIt reads the index\nand nothing else.",
        DESCRIPTIONS,
    )
    assert read_docstring(SPHINX) == ("Look something up.", DESCRIPTIONS)


def test_a_docstring_without_sections_is_all_description() -> None:
    text = "Count: how many there are.\n\nExample: none\n  indented"
    assert read_docstring(text) == (text, {})
    assert read_docstring(None) == ("", {})


@settings(deadline=None)
@given(st.text(alphabet="aA:\n \tgrs*()param", max_size=80))
def test_any_docstring_can_be_read(text: str) -> None:
    read_docstring(text)
    read_docstring(f"{text}\nArgs:\n  {text}\n:param {text}: {text}")


def test_an_annotated_text_wins_over_the_docstring() -> None:
    def fetch(url: Annotated[str, "from the type"], retries: int) -> None:
        """Fetch.

        Args:
            url: from the docstring
            retries: how often
        """

    properties = tool(fetch).input_schema["properties"]
    assert properties["url"]["description"] == "from the type"
    assert properties["retries"]["description"] == "how often"


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
