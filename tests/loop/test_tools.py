"""What may be a tool, what a model is told of it, and which options and schemas are refused."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from typing import Any

import msgspec
import pytest

from agentkit_loop.content import ToolSpec
from agentkit_loop.errors import AgentKitError, ConfigurationError
from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, as_tool, check_catalog, invoke, tool
from tests.loop.tool_samples import add, add_later, context


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def raise_by(self, step: int) -> int:
        """Raise the count."""
        self.count += step
        return self.count

    async def __call__(self, step: int) -> int:
        return self.raise_by(step)


class Remote:
    """A tool that brings its own schema."""

    name = "remote"
    description = "Ask a server"
    timeout_s = 3.0
    idempotent = True

    def __init__(self, schema: Any) -> None:
        self.input_schema = schema

    def run(self, *, context: ToolContext | None = None, **arguments: Any) -> Any:
        return [None if context is None else context.call_id, arguments]


ASK = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "n": {"type": ["integer", "null"]}, "mode": {"enum": ["a", "b"]}},
    "required": ["q"],
    "additionalProperties": False,
}


def test_a_decorated_function_stays_the_function_it_was() -> None:
    assert add(1, 2) == 3
    assert add(a=1) == 2
    assert asyncio.run(add_later(1)) == 2
    assert inspect.signature(add) == inspect.signature(add.function)


def test_the_model_is_told_of_name_description_and_schema() -> None:
    assert add.spec == ToolSpec(name="add", description="Add two numbers.", input_schema=add.input_schema)
    assert msgspec.json.decode(msgspec.json.encode(add.spec), type=ToolSpec) == add.spec


def test_options_of_the_decorator_are_kept() -> None:
    assert (add_later.name, add_later.description) == ("slow-add", "Add, some time")
    assert (add_later.timeout_s, add_later.max_output_chars, add_later.idempotent) == (2, 50, True)
    assert (add.timeout_s, add.max_output_chars, add.idempotent) == (None, 100_000, False)
    assert add_later.is_async
    assert not add.is_async


def test_functions_methods_objects_and_partials_are_made_into_tools() -> None:
    counter = Counter()
    assert invoke(as_tool(counter.raise_by), {"step": 2}, context()) == 2
    assert as_tool(counter.raise_by).description == "Raise the count."
    called = as_tool(counter)
    assert (called.name, called.description, called.is_async) == ("Counter", "Counts.", True)
    assert invoke(called, {"step": 1}, context()) == 3
    partial = as_tool(functools.partial(add_later.function, b=5))
    assert (partial.name, partial.is_async) == ("add_later", True)
    assert invoke(partial, {"a": 1}, context()) == 6
    assert as_tool(add) is add


def test_a_static_method_is_made_into_a_tool() -> None:
    class Shelf:
        @tool
        @staticmethod
        def find(title: str) -> str:
            """Find a book."""
            return title

    assert Shelf.find.description == "Find a book."
    assert invoke(Shelf.find, {"title": "a"}, context()) == "a"


def test_an_object_with_a_schema_of_its_own_is_a_tool() -> None:
    made = as_tool(Remote(ASK))
    assert made.spec == ToolSpec(name="remote", description="Ask a server", input_schema=ASK)
    assert (made.timeout_s, made.idempotent, made.takes_context) == (3.0, True, "context")
    assert invoke(made, {"q": "x", "n": None}, context()) == ["call-1", {"q": "x", "n": None}]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "missing argument `q`"),
        ({"q": 1}, "argument `q`: expected `str`, got `int`"),
        ({"q": "a", "n": True}, "argument `n`: expected `int | null`, got `bool`"),
        ({"q": "a", "mode": "c"}, 'argument `mode`: invalid value \'c\', use one of "a", "b"'),
        ({"q": "a", "context": 1}, "unknown argument `context`, known are `q`, `n`, `mode`"),
    ],
    ids=str,
)
def test_names_and_types_are_checked_by_a_schema_of_its_own(value: Any, sentence: str) -> None:
    with pytest.raises(ToolInputError) as caught:
        as_tool(Remote(ASK)).bind(value)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "array"},
        {"type": "object", "anyOf": []},
        {"type": "object", "properties": []},
        {"type": "object", "required": "q"},
        {"type": "object", "properties": {"a b": {}}},
        {"type": "object", "properties": {"a": math.nan}},
        {"type": "object", 1: 2},
    ],
    ids=str,
)
def test_a_schema_that_a_provider_would_refuse_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"input_schema of tool 'remote' refused because .*; "):
        as_tool(Remote(schema))


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 129, "a\n", 7], ids=repr)
def test_a_name_that_a_provider_would_refuse_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tool name .* refused .*give name="):
        tool(add.function, name=name)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'<lambda>' refused .*give name="):
        tool(lambda a: a)
    assert tool(lambda a: a, name="echo").bind({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("thing", [3, None, "add", int, Counter, Remote], ids=repr)
def test_what_is_no_function_is_refused(thing: object) -> None:
    with pytest.raises(ConfigurationError, match="refused because it is no function; give"):
        as_tool(thing)


def test_an_object_that_cannot_run_is_refused() -> None:
    class Still:
        name = "still"
        input_schema = ASK

    with pytest.raises(ConfigurationError, match=r"'still' refused because .* cannot run; give it"):
        as_tool(Still())


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"timeout_s": -1.0},
        {"timeout_s": math.inf},
        {"timeout_s": math.nan},
        {"timeout_s": "1"},
        {"max_output_chars": 0},
        {"max_output_chars": 1.5},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}=.* of tool 'add' refused; give"):
        tool(add.function, **options)


def test_a_tool_is_not_made_twice() -> None:
    with pytest.raises(ConfigurationError, match="'add' is a tool already"):
        tool(add, name="other")


def test_a_catalog_holds_tools_by_name_and_refuses_two_of_one_name() -> None:
    assert list(check_catalog([add_later, add, Counter().raise_by])) == ["slow-add", "add", "raise_by"]
    assert list(check_catalog([add, add])) == ["add"]
    with pytest.raises(
        ConfigurationError, match=r"two tools named 'add' refused .*; give one of them another"
    ):
        check_catalog([add, add.function])


def test_a_wrong_input_is_no_error_of_the_host() -> None:
    assert issubclass(ToolInputError, ValueError)
    assert not issubclass(ToolInputError, AgentKitError)


def test_the_type_of_a_tool_is_that_of_its_function() -> None:
    typed: Tool[..., int] = add
    number: int = add(1)
    assert typed is add
    assert number == 2
