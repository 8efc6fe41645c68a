"""How a tool is run: on which thread or loop, with what input, and what becomes of an iterator."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import MAX_YIELDED, ainvoke, invoke, tool
from tests.loop.tool_samples import add, add_later, context


def test_a_body_gets_a_copy_of_its_input() -> None:
    @tool
    def spoil(things: list[Any], free: Any) -> None:
        things.append(1)
        free["b"].append(1)

    given_input: dict[str, Any] = {"things": [], "free": {"b": []}}
    invoke(spoil, given_input, context())
    assert given_input == {"things": [], "free": {"b": []}}


def test_sync_and_async_bodies_run_on_this_thread() -> None:
    @tool
    async def where() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    assert invoke(add, {"a": 1}, context()) == 2
    assert invoke(where, {}, context()) == threading.get_ident()


def test_an_async_body_is_awaited_on_the_running_loop() -> None:
    loops: list[object] = []

    @tool
    async def which() -> str:
        loops.append(asyncio.get_running_loop())
        return "done"

    async def drive() -> object:
        loops.append(asyncio.get_running_loop())
        return await ainvoke(which, {}, context())

    assert asyncio.run(drive()) == "done"
    assert loops[0] is loops[1]


def test_a_sync_body_is_not_run_on_an_event_loop() -> None:
    with pytest.raises(ConfigurationError, match=r"'add' is not async; invoke\(\) it on a thread"):
        asyncio.run(ainvoke(add, {"a": 1}, context()))


def test_a_coroutine_behind_a_plain_wrapper_is_awaited() -> None:
    @functools.wraps(add_later.function)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return add_later.function(*args, **kwargs)

    made = tool(outer)
    assert not made.is_async
    assert invoke(made, {"a": 4}, context()) == 5


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), StopIteration(1)], ids=repr
)
def test_the_exceptions_of_a_body_pass_through(error: BaseException) -> None:
    @tool
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        invoke(fail, {}, context())
    assert caught.value is error


def test_a_wrong_input_is_refused_before_the_body_runs() -> None:
    ran: list[int] = []

    @tool
    def note(a: int) -> None:
        ran.append(a)

    with pytest.raises(ToolInputError):
        invoke(note, {"a": "1"}, context())
    assert ran == []


def test_context_variables_of_the_caller_reach_the_body() -> None:
    user = contextvars.ContextVar("user", default="nobody")

    @tool
    def who() -> str:
        return user.get()

    @tool
    async def who_later() -> str:
        return user.get()

    def drive() -> list[object]:
        user.set("ann")
        return [invoke(who, {}, context()), invoke(who_later, {}, context())]

    assert contextvars.copy_context().run(drive) == ["ann", "ann"]


# --- iterators as results


def count(n: int) -> Iterator[int]:
    yield from range(n)


async def count_later(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def counted(n: int) -> Any:
    return map(str, range(n))


def spanned(n: int) -> range:
    return range(n)


@pytest.mark.parametrize("function", [count, count_later])
@pytest.mark.parametrize("n", [0, 3])
def test_a_generator_gives_a_list(function: Callable[[int], Any], n: int) -> None:
    assert invoke(tool(function), {"n": n}, context()) == list(range(n))


def test_an_async_generator_runs_on_the_running_loop_too() -> None:
    assert tool(count_later).is_async
    assert asyncio.run(ainvoke(tool(count_later), {"n": 3}, context())) == [0, 1, 2]


def test_any_iterator_gives_a_list_and_a_list_is_left_alone() -> None:
    assert invoke(tool(counted), {"n": 2}, context()) == ["0", "1"]
    assert invoke(tool(spanned), {"n": 3}, context()) == range(3)


@pytest.mark.parametrize("function", [count, count_later, counted])
def test_an_iterator_is_stopped_at_a_bound_and_the_list_says_so(function: Callable[[int], Any]) -> None:
    result = invoke(tool(function), {"n": MAX_YIELDED + 5}, context())
    assert isinstance(result, list)
    assert len(result) == MAX_YIELDED + 1
    assert result[-1] == "… [stopped after 10,000 values] …"
    exact = invoke(tool(function), {"n": MAX_YIELDED}, context())
    assert isinstance(exact, list)
    assert len(exact) == MAX_YIELDED


def test_a_cancelled_call_stops_its_generator_and_lets_it_clean_up() -> None:
    closed: list[str] = []

    @tool
    def forever(context: ToolContext) -> Iterator[int]:
        try:
            yield 1
            context.cancel()
            yield 2
            yield 3
        finally:
            closed.append("sync")

    @tool
    async def forever_later(context: ToolContext) -> AsyncIterator[int]:
        try:
            yield 1
            context.cancel()
            yield 2
            yield 3
        finally:
            closed.append("async")

    assert invoke(forever, {}, context()) == [1]
    assert invoke(forever_later, {}, context()) == [1]
    assert closed == ["sync", "async"]
