"""Instrumented functions: whatever kind a function is of, it does and looks the same, and is recorded."""

# ruff: noqa: ARG001 - tools take arguments that they do not look at
from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop import ConfigurationError, tool
from agentkit_reporting import ToolRecord, ToolRecorder

quick = settings(deadline=None, max_examples=60)


def plain(query: str, *rest: int, limit: int = 3, **more: object) -> str:
    """Search."""
    return f"found {query}"


async def coroutine(query: str, limit: int = 3) -> str:
    """Search."""
    await asyncio.sleep(0)
    return f"found {query}"


def generator(query: str, limit: int = 3) -> Iterator[str]:
    """Search."""
    yield from (f"{query} {number}" for number in range(limit))


async def async_generator(query: str, limit: int = 3) -> AsyncIterator[str]:
    """Search."""
    for number in range(limit):
        await asyncio.sleep(0)
        yield f"{query} {number}"


def listed(query: str, limit: int = 3) -> list[str]:
    """Search."""
    return [query]


def only(recorder: ToolRecorder) -> ToolRecord:
    (record,) = recorder.records()
    return record


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
def test_an_instrumented_function_looks_like_the_one_that_it_stands_for(function: Callable[..., Any]) -> None:
    made = ToolRecorder().instrument("search", function)
    for ask in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert ask(made) == ask(function)
    assert inspect.signature(made) == inspect.signature(function)
    assert (made.__doc__, made.__name__, made.__module__) == ("Search.", function.__name__, __name__)
    assert made.__annotations__ == function.__annotations__


@pytest.mark.parametrize("function", [listed, coroutine, generator, async_generator])
def test_a_tool_can_be_made_of_an_instrumented_function(function: Callable[..., Any]) -> None:
    made = tool(ToolRecorder().instrument("search", function))
    assert (made.spec, made.is_async) == (tool(function).spec, tool(function).is_async)


def test_each_kind_gives_what_it_gave_and_is_recorded_once() -> None:
    async def collect() -> list[str]:
        return [item async for item in recorder.tool(async_generator)("a")]

    recorder = ToolRecorder()
    assert recorder.tool(plain)("a", 1, 2, limit=4, lang="en") == "found a"
    assert asyncio.run(recorder.tool(coroutine)("a", limit=4)) == "found a"
    assert list(recorder.tool(generator)("a")) == ["a 0", "a 1", "a 2"]
    assert asyncio.run(collect()) == ["a 0", "a 1", "a 2"]
    told = [(each.tool_name, each.args, each.result_preview, each.status) for each in recorder.records()]
    assert told == [
        ("plain", {"query": "a", "rest": [1, 2], "limit": 4, "more": {"lang": "en"}}, "found a", "ok"),
        ("coroutine", {"query": "a", "limit": 4}, "found a", "ok"),
        ("generator", {"query": "a"}, '["a 0","a 1","a 2"]', "ok"),
        ("async_generator", {"query": "a"}, '["a 0","a 1","a 2"]', "ok"),
    ]
    assert all(each.latency_ms is not None and each.latency_ms >= 0 for each in recorder.records())


class Shop:
    recorder = ToolRecorder()

    def __init__(self, name: str) -> None:
        self.name = name

    @recorder.tool
    def price(self, item: str) -> str:
        return f"{self.name}: {item}"

    @recorder.tool("sum_up")
    @staticmethod
    def total(*prices: int) -> int:
        return sum(prices)

    @recorder.tool("open_shop")
    @classmethod
    def opened(cls, name: str) -> Shop:
        return cls(name)

    def __call__(self, order: str) -> str:
        """Order."""
        return order


def test_methods_are_recorded_without_the_object_that_they_belong_to() -> None:
    shop = Shop.opened("north")
    assert (shop.price("tea"), Shop.total(1, 2)) == ("north: tea", 3)
    first, second, third = Shop.recorder.records()
    assert (first.tool_name, first.args) == ("open_shop", {"name": "north"})
    assert (second.tool_name, second.args) == ("price", {"item": "tea"})
    assert (third.tool_name, third.args) == ("sum_up", {"prices": [1, 2]})


def test_bound_methods_partials_callable_objects_and_tools_can_be_instrumented() -> None:
    recorder = ToolRecorder()
    shop = Shop("south")
    assert recorder.instrument("order", shop)("tea") == "tea"
    assert recorder.instrument("bound", shop.__call__)("tea") == "tea"
    assert recorder.instrument("part", functools.partial(plain, "a", limit=9))(1) == "found a"
    assert recorder.instrument("made", tool(listed, name="made"))("b") == ["b"]
    assert asyncio.run(recorder.instrument("later", lambda: coroutine("c"))()) == "found c"
    assert list(recorder.instrument("items", lambda: generator("d", 1))()) == ["d 0"]
    assert [(each.tool_name, each.args) for each in recorder.records()] == [
        ("order", {"order": "tea"}),
        ("bound", {"order": "tea"}),
        ("part", {"query": "a", "rest": [1], "limit": 9}),
        ("made", {"query": "b"}),
        ("later", {}),
        ("items", {}),
    ]
    assert recorder.records()[4].result_preview == "found c"
    assert recorder.tool(shop).__doc__ == "Order."


@pytest.mark.parametrize("bad", [None, 3, Shop])
def test_what_is_no_function_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="no function"):
        ToolRecorder().instrument("bad", bad)


def test_the_same_exception_goes_on_with_one_frame_more_in_its_traceback() -> None:
    error = ValueError("bad query")

    def fail() -> None:
        raise error

    async def afail() -> None:
        raise error

    def gfail() -> Generator[int, None, None]:
        yield 1
        raise error

    async def agfail() -> AsyncIterator[int]:
        yield 1
        raise error

    async def drain() -> None:
        async for _ in recorder.tool(agfail)():
            pass

    recorder = ToolRecorder()
    for run in (
        recorder.tool(fail),
        lambda: asyncio.run(recorder.tool(afail)()),
        lambda: list(recorder.tool(gfail)()),
        lambda: asyncio.run(drain()),
    ):
        error.__traceback__ = None
        with pytest.raises(ValueError, match="bad query") as caught:
            run()
        assert caught.value is error
        assert error.__context__ is None
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames.count("call") == 1
    for record in recorder.records():
        assert (record.status, record.result_preview) == ("error", "ValueError: bad query")
        assert record.error is not None
        assert (record.error["type"], record.error["message"]) == ("ValueError", "bad query")
        assert len(record.error["frames"]) <= 3
        assert record.error["frames"][0].startswith("reporting/test_tool_recorder_functions.py:")
        assert not any("instrumenting" in frame for frame in record.error["frames"])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_passes_and_is_recorded_as_interrupted(kind: type[BaseException]) -> None:
    def stop() -> None:
        raise kind

    recorder = ToolRecorder()
    with pytest.raises(kind):
        recorder.tool(stop)()
    assert only(recorder).status == "interrupted"


def test_a_cancelled_task_is_recorded_as_interrupted() -> None:
    recorder = ToolRecorder()
    begun = asyncio.Event()

    @recorder.tool
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    record = only(recorder)
    assert record.error is not None
    assert (record.status, record.error["type"]) == ("interrupted", "CancelledError")


def test_a_call_that_does_not_fit_raises_as_before_and_is_recorded() -> None:
    recorder = ToolRecorder()
    call: Any = recorder.tool(coroutine)
    with pytest.raises(TypeError, match="unexpected keyword"):
        asyncio.run(call("a", nothing=1))
    assert only(recorder).args == {"args": ["a"], "kwargs": {"nothing": 1}}
    assert only(recorder).status == "error"


def no_rest(first: int, second: int = 2) -> None:
    """Take two."""


def only_named(first: int, *, second: int = 2) -> None:
    """Take one by its place."""


def only_placed(first: int, /, second: int = 2) -> None:
    """Take one by its place, whatever its name."""


NUMBERS = st.lists(st.integers(0, 9), max_size=3)
NAMED = st.dictionaries(st.sampled_from(["first", "second", "third"]), st.integers(0, 9), max_size=3)


TAKING: list[Callable[..., None]] = [no_rest, only_named, only_placed]


@quick
@given(st.sampled_from(TAKING), NUMBERS, NAMED)
def test_arguments_are_those_that_python_binds(
    function: Any, placed: list[int], named: dict[str, int]
) -> None:
    recorder = ToolRecorder()
    made: Any = recorder.tool(function)
    try:
        bound = inspect.signature(function).bind(*placed, **named).arguments
    except TypeError:
        with pytest.raises(TypeError):
            made(*placed, **named)
        assert only(recorder).args == {"args": placed, "kwargs": named}
    else:
        made(*placed, **named)
        assert list(only(recorder).args.items()) == list(bound.items())


# --- the protocol of generators


def echo() -> Generator[Any, Any, str]:
    """Yield what is sent, and what is thrown; end at `stop`."""
    got: Any = "first"
    while got != "stop":
        try:
            got = yield got
        except ValueError as error:
            got = f"caught {error}"
        except KeyError:
            raise RuntimeError("another") from None
    return "the end"


async def aecho() -> Any:
    got: Any = "first"
    while got != "stop":
        try:
            got = yield got
        except ValueError as error:
            got = f"caught {error}"
        except KeyError:
            raise RuntimeError("another") from None


MOVES = st.lists(st.sampled_from(["next", "send", "stop", "throw", "key", "close"]), max_size=6)


def played(made: Any, moves: list[str]) -> list[object]:
    seen: list[object] = []
    acts: dict[str, Callable[[], object]] = {
        "next": lambda: next(made),
        "send": lambda: made.send("x"),
        "stop": lambda: made.send("stop"),
        "throw": lambda: made.throw(ValueError("v")),
        "key": lambda: made.throw(KeyError("k")),
        "close": made.close,
    }
    for move in moves:
        try:
            seen.append(acts[move]())
        except StopIteration as end:
            seen.append(("ended", end.value))
        except Exception as error:  # noqa: BLE001 - whatever comes is compared
            seen.append((type(error), str(error), error.__context__))
    made.close()
    return seen


@quick
@given(MOVES)
def test_a_generator_can_be_sent_thrown_into_and_closed_as_before(moves: list[str]) -> None:
    recorder = ToolRecorder()
    expected = played(echo(), moves)
    got = played(recorder.tool(echo)(), moves)
    assert [str(each) for each in got] == [str(each) for each in expected]
    first = next((move for move in moves if move not in ("send", "stop")), None)  # which it refuses as yet
    assert len(recorder.records()) == (first == "next")  # others never ran


@quick
@given(MOVES)
def test_an_async_generator_can_be_sent_thrown_into_and_closed_as_before(moves: list[str]) -> None:
    async def play(made: Any) -> list[str]:
        seen: list[object] = []
        acts: dict[str, Callable[[], Any]] = {
            "next": lambda: anext(made),
            "send": lambda: made.asend("x"),
            "stop": lambda: made.asend("stop"),
            "throw": lambda: made.athrow(ValueError("v")),
            "key": lambda: made.athrow(KeyError("k")),
            "close": made.aclose,
        }
        for move in moves:
            try:
                seen.append(await acts[move]())
            except StopAsyncIteration:
                seen.append("ended")
            except Exception as error:  # noqa: BLE001 - whatever comes is compared
                seen.append((type(error), str(error)))
        await made.aclose()
        return [str(each) for each in seen]

    assert asyncio.run(play(ToolRecorder().tool(aecho)())) == asyncio.run(play(aecho()))


def test_a_generator_that_is_left_early_is_interrupted_and_shows_what_it_gave() -> None:
    recorder = ToolRecorder()
    made = recorder.tool(generator)("a")
    assert next(made) == "a 0"
    assert recorder.records() == []  # its latency covers its iteration
    del made
    record = only(recorder)
    assert (record.status, record.result_preview) == ("interrupted", '["a 0"]')


def test_a_generator_that_nobody_asks_for_an_item_never_ran() -> None:
    recorder = ToolRecorder()
    recorder.tool(generator)("a")
    assert recorder.records() == []


def test_two_generators_at_a_time_are_two_calls() -> None:
    recorder = ToolRecorder()
    search = recorder.tool(generator)
    assert next(zip(search("a"), search("b"), strict=True)) == ("a 0", "b 0")
    assert sorted(each.args["query"] for each in recorder.records()) == ["a", "b"]


def test_the_latency_of_a_generator_is_that_of_its_iteration() -> None:
    from agentkit_loop.testing import VirtualClock  # noqa: PLC0415 - for this test only

    clock = VirtualClock()
    recorder = ToolRecorder(clock=clock)

    @recorder.tool
    def slow() -> Iterator[int]:
        for number in range(3):
            clock.advance(1)
            yield number

    assert list(slow()) == [0, 1, 2]
    assert only(recorder).latency_ms == 3000


def test_a_function_that_calls_itself_is_recorded_each_time() -> None:
    recorder = ToolRecorder()

    @recorder.tool
    def count(number: int) -> int:
        return number if number == 0 else count(number - 1)

    assert count(2) == 0
    assert [each.args for each in recorder.records()] == [{"number": 0}, {"number": 1}, {"number": 2}]
