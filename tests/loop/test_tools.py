"""Tools: what may be one, what a running one may use, how it is run, and how its result is bounded."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import MediaPart, TextPart, ToolSpec
from agentkit_loop.errors import AgentKitError, ConfigurationError
from agentkit_loop.tools import (
    MAX_YIELDED,
    CustomFact,
    Tool,
    ToolContext,
    ToolInputError,
    ToolProgressed,
    ToolSignal,
    ainvoke,
    as_tool,
    bound_output,
    check_catalog,
    invoke,
    tool,
)
from agentkit_loop.values import to_json


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool(name="slow-add", description="Add, some time", timeout_s=2, max_output_chars=50, idempotent=True)
async def add_later(a: int, b: int = 1) -> int:
    """Not this."""
    return a + b


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


def context(signals: list[ToolSignal] | None = None) -> ToolContext:
    sent: list[ToolSignal] = [] if signals is None else signals
    return ToolContext(sent.append, call_id="call-1", session_id="s", run_id="r", turn_id="turn-1", attempt=2)


# --- what may be a tool


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


# --- what a running tool may use


def test_the_context_is_given_and_is_not_the_models_to_give() -> None:
    @tool
    def report(step: int, context: ToolContext, other: int = 0) -> tuple[Any, ...]:
        return (
            step + other,
            context.call_id,
            context.session_id,
            context.run_id,
            context.turn_id,
            context.attempt,
        )

    assert report.takes_context == "context"
    assert list(report.input_schema["properties"]) == ["step", "other"]
    assert invoke(report, {"step": 1}, context()) == (1, "call-1", "s", "r", "turn-1", 2)
    with pytest.raises(ToolInputError, match="unknown argument `context`"):
        report.bind({"step": 1, "context": {}})


def test_progress_and_facts_are_sent_as_json() -> None:
    signals: list[ToolSignal] = []
    running = context(signals)
    running.progress("a\udcff", 0.5)
    running.progress("b", 7)
    running.progress("c", -1)
    running.progress("d")
    running.emit("found", {"$a": {1}, "b": b"x"})
    running.emit("done")
    assert signals == [
        ToolProgressed("call-1", "a\\udcff", 0.5),
        ToolProgressed("call-1", "b", 1.0),
        ToolProgressed("call-1", "c", 0.0),
        ToolProgressed("call-1", "d", None),
        signals[4],
        CustomFact("done", None),
    ]
    assert isinstance(signals[4], CustomFact)
    assert signals[4].data == {"$$a": {"$set": [1]}, "b": {"$bytes": "eA=="}}


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -math.inf])
def test_a_fraction_that_is_not_finite_is_refused(fraction: float) -> None:
    signals: list[ToolSignal] = []
    with pytest.raises(ValueError, match="not finite; give 0 to 1"):
        context(signals).progress("a", fraction)
    assert signals == []


def test_after_the_call_was_closed_nothing_is_sent() -> None:
    signals: list[ToolSignal] = []
    running = context(signals)
    running.close()
    running.progress("late")
    running.emit("late")
    assert signals == []
    assert not running.cancelled


def test_a_cancel_is_seen_and_waited_for() -> None:
    running = context()
    assert running.wait_cancelled(0) is False
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(running.wait_cancelled(60)))
    waiting.start()
    running.cancel()
    waiting.join()
    assert seen == [True]
    assert running.cancelled


def test_signals_of_many_threads_are_sent_one_at_a_time_and_none_after_the_close() -> None:
    signals: list[ToolSignal] = []
    inside = threading.Lock()

    def send(signal: ToolSignal) -> None:
        assert inside.acquire(blocking=False)
        signals.append(signal)
        inside.release()

    running = ToolContext(send, call_id="c")
    started = threading.Barrier(5)

    def work() -> None:
        started.wait()
        for _ in range(500):
            running.progress("x")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    started.wait()
    running.close()
    told = len(signals)
    for worker in workers:
        worker.join()
    assert len(signals) == told


# --- running


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


# --- bounding


def test_a_long_text_keeps_head_and_tail_around_a_mark() -> None:
    text = "a" * 1_000_000 + "b" * 334_567
    bounded = bound_output(text, 100_000)
    assert len(bounded) <= 100_000
    assert bounded.startswith("a" * 49_000)
    assert bounded.endswith("b" * 49_000)
    assert "… [1,234,615 of 1,334,567 characters left out] …" in bounded


@settings(deadline=None)
@given(st.text(max_size=400), st.integers(1, 300))
def test_a_bounded_text_is_whole_or_marked_and_bounding_again_changes_nothing(text: str, bound: int) -> None:
    bounded = bound_output(text, bound)
    if len(text) <= bound:
        assert bounded == text
    else:
        head, _, rest = bounded.partition("… [")
        left_out, _, tail = rest.partition("] …")
        assert int(left_out.split(" of ")[0]) + len(head) + len(tail) == len(text)
        assert text.startswith(head) or "… [" in text
        assert len(bounded) <= bound or head == tail == ""
    if len(bounded) <= bound:
        assert bound_output(bounded, bound) == bounded


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    ),
    st.integers(60, 200),
)
def test_a_value_is_itself_or_its_bounded_json(value: Any, bound: int) -> None:
    value = to_json(value)
    bounded = bound_output(value, bound)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= bound or value is None or isinstance(value, (bool, int)):
        assert bounded == value
    else:
        assert bounded == bound_output(text, bound)


def test_a_short_value_comes_back_as_it_is() -> None:
    values: list[Any] = ["text", {"a": [1]}, [], None, 1.5, True, {"a": "é" * 40}]
    assert all(bound_output(value, 50) is value for value in values)


def test_media_are_left_alone_and_texts_beside_them_share_the_bound() -> None:
    image = MediaPart(media_type="image/png", data="A" * 5_000)
    parts = [
        TextPart(text="a" * 60),
        image,
        TextPart(text="b" * 200),
        TextPart(text="c" * 9),
        TextPart(text=""),
    ]
    bounded = bound_output(to_json(parts), 160)["$parts"]
    assert [part["kind"] for part in bounded] == ["text", "media", "text", "text", "text"]
    assert bounded[0]["text"] == "a" * 60
    assert bounded[1]["data"] == "A" * 5_000
    assert len(bounded[2]["text"]) <= 100
    assert "of 200 characters left out" in bounded[2]["text"]
    assert bounded[4]["text"] == "… [further parts left out: 1] …"
    assert bound_output(to_json(parts), 1_000) == to_json(parts)


def test_the_cost_of_bounding_does_not_grow_with_what_is_left_out() -> None:
    assert len(bound_output("x" * 5_000_000, 1_000)) <= 1_000
    assert len(bound_output(["x" * 100] * 50_000, 1_000)) <= 1_000


def test_the_type_of_a_tool_is_that_of_its_function() -> None:
    typed: Tool[..., int] = add
    number: int = add(1)
    assert typed is add
    assert number == 2
