"""What a model is told of a function's arguments, and which signatures are refused."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType

import attrs
import msgspec
import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, as_tool, tool
from tests.loop.tool_samples import Colour, Node, Point, refused, search


class Half(enum.Enum):
    HALF = 0.5


@attrs.define
class Lost:
    x: Nowhere  # type: ignore[name-defined] # noqa: F821 - cannot be resolved, that is the point


UserId = NewType("UserId", int)


def schema_of(annotation: Any) -> Any:
    def probe(x: Any) -> None: ...

    probe.__annotations__ = {"x": annotation}
    return tool(probe).input_schema["properties"]["x"]


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


@pytest.mark.parametrize("default", [object(), float("nan"), "\udcff"], ids=["object", "nan", "half"])
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
