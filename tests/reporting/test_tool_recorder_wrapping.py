"""What is wrapped when a function is instrumented: its kind stays, it is wrapped once, all arguments are recorded."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from agentkit_reporting import ToolRecorder


def plain(query: str) -> str:
    return query


async def coroutine(query: str) -> str:
    return query


def generator(query: str) -> Iterator[str]:
    yield query


def test_a_coroutine_made_of_a_generator_can_be_awaited_as_before() -> None:
    @types.coroutine
    def old(query: str) -> Generator[Any, Any, str]:
        yield
        return f"found {query}"

    async def ask() -> str:
        return await made("a")

    recorder = ToolRecorder()
    made = recorder.tool(old)
    assert inspect.isgeneratorfunction(made)
    assert asyncio.run(ask()) == "found a"
    assert [(each.tool_name, each.status) for each in recorder.records()] == [("old", "ok")]


@pytest.mark.parametrize("function", [plain, coroutine, generator])
def test_a_function_that_is_instrumented_twice_is_recorded_once(function: Callable[..., Any]) -> None:
    recorder, other = ToolRecorder(), ToolRecorder()
    made = recorder.instrument("search", function)
    assert recorder.instrument("search", made) is made
    assert recorder.instrument("again", made) is not made
    assert other.instrument("search", made) is not made

    @functools.wraps(made)
    def around(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    assert recorder.instrument("search", around) is not around


def test_only_a_methods_own_parameter_is_left_out() -> None:
    recorder = ToolRecorder()

    @recorder.tool
    def label(cls: str, score: float) -> tuple[str, float]:
        return cls, score

    class Labels:
        @recorder.tool
        @classmethod
        def made(cls, score: float) -> float:
            return score

    label("cat", 0.5)
    Labels.made(0.5)
    assert [each.args for each in recorder.records()] == [{"cls": "cat", "score": 0.5}, {"score": 0.5}]
