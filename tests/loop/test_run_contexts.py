"""Run ids (BEHAVIOUR.md 66): sortable, with enough chance, and found again wherever the run's work goes."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import logging.handlers
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop import EventEmitter, RunContext, RunContextFilter, add_run_context, new_id
from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.run_context import LONGEST_CARRIER, RUN_CONTEXT_HEADER, RUN_CONTEXT_VARIABLE
from agentkit_loop.testing import Reply, ScriptedModel

PROJECT = Path(__file__).parent.parent.parent


def _chance(made: str) -> str:
    return made[-20:]


# --- ids


def test_ids_of_a_process_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_id("run") for _ in range(5_000)]  # several in every millisecond
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_made_later_by_another_process_sorts_later() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "from agentkit_loop.ids import new_id; print(new_id('run'))"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ).stdout.strip()
    assert printed < new_id("run")


def test_each_of_the_hundred_bits_of_chance_is_set_in_about_half_of_the_ids() -> None:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    counts = [0] * 100
    for _ in range(2_000):
        for place, digit in enumerate(_chance(new_id("run"))):
            for bit in range(5):
                counts[5 * place + bit] += alphabet.index(digit) >> bit & 1
    assert len(counts) >= 96
    assert all(800 < count < 1_200 for count in counts)  # nine standard deviations


def test_threads_get_ids_of_their_own_in_order() -> None:
    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(lambda _: [new_id("run") for _ in range(500)], range(8)))
    assert all(each == sorted(each) for each in lists)
    assert len({made for each in lists for made in each}) == 4_000


def test_an_id_holds_the_time_at_which_it_was_made() -> None:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    before = time.time_ns() // 1_000_000
    number = 0
    for digit in new_id("run").removeprefix("run_")[:10]:
        number = number * 32 + alphabet.index(digit)
    assert before <= number <= time.time_ns() // 1_000_000 + 1


# --- contexts


def test_a_first_context_is_its_own_root_and_children_name_their_parent() -> None:
    root = RunContext.start({"phase": 1, "tier": "small"})
    child = root.child({"phase": 2})
    grandchild = child.child()
    assert (root.parent_run_id, root.root_run_id, root.depth) == (None, root.run_id, 0)
    assert (child.parent_run_id, child.root_run_id, child.depth) == (root.run_id, root.run_id, 1)
    assert (grandchild.parent_run_id, grandchild.root_run_id, grandchild.depth) == (
        child.run_id,
        root.run_id,
        2,
    )
    assert str(root.run_id) < child.run_id < grandchild.run_id
    assert grandchild.metadata == {"phase": 2, "tier": "small"}


def test_the_current_context_is_that_of_the_innermost_with() -> None:
    assert RunContext.current() is None
    with RunContext.start() as outer:
        with outer.child() as inner:
            assert RunContext.current() is inner
            with inner.activate():  # once more
                assert RunContext.current() is inner
            assert RunContext.current() is inner
        assert RunContext.current() is outer
    assert RunContext.current() is None


def test_it_ends_also_where_the_body_raises() -> None:
    with pytest.raises(RuntimeError), RunContext.start():
        raise RuntimeError
    assert RunContext.current() is None


def test_a_context_left_where_it_was_not_entered_leaves_the_current_one() -> None:
    other = RunContext.start()
    with RunContext.start() as context:
        other.__exit__(None, None, None)
        assert RunContext.current() is context


def test_tasks_have_the_context_in_which_they_were_begun_and_keep_their_own() -> None:
    async def work(parent: RunContext) -> tuple[str, str]:
        with parent.child() as own:
            await asyncio.sleep(0)
            current = RunContext.current()
            assert current is not None
            return own.run_id, current.run_id

    async def main() -> None:
        with RunContext.start() as root:
            tasks = [asyncio.create_task(work(root)) for _ in range(20)]
            assert all(own == current for own, current in await asyncio.gather(*tasks))
            assert RunContext.current() is root

    asyncio.run(main())
    assert RunContext.current() is None


def test_a_new_thread_has_none_and_a_bound_function_brings_it() -> None:
    def who() -> RunContext | None:
        return RunContext.current()

    with RunContext.start() as context, ThreadPoolExecutor(4) as pool:
        assert pool.submit(who).result() is None
        assert pool.submit(context.bind(who)).result() is context
        assert pool.submit(contextvars.copy_context().run, who).result() is context
        assert all(pool.map(lambda _: context.bind(who)() is context, range(100)))
    assert who.__name__ == context.bind(who).__name__


def test_threads_at_once_do_not_see_each_others_contexts() -> None:
    gate = threading.Barrier(8, timeout=30)

    def work() -> bool:
        with RunContext.start() as own:
            gate.wait()
            return RunContext.current() is own

    with ThreadPoolExecutor(8) as pool:
        assert all(each.result() for each in [pool.submit(work) for _ in range(8)])


def test_a_coroutine_function_is_bound_as_well_and_a_generator_function_is_refused() -> None:
    context = RunContext.start()

    async def who() -> RunContext | None:
        await asyncio.sleep(0)
        return RunContext.current()

    assert asyncio.run(context.bind(who)()) is context

    def generator() -> object:
        yield

    with pytest.raises(ConfigurationError, match=r"generator function .* refused"):
        context.bind(generator)


@pytest.mark.parametrize("bad", ["", "run 1", "a\nb", "x" * 129, "-run", "ünder", 7, "run;root=1"])
def test_an_id_from_elsewhere_is_checked(bad: object) -> None:
    assert RunContext.start(run_id="run-abc123").root_run_id == "run-abc123"
    with pytest.raises(ConfigurationError, match=r"run_id=.* refused"):
        RunContext.start(run_id=bad)  # type: ignore[arg-type] # the point


# --- other processes


def test_a_process_goes_on_as_a_child_through_its_environment() -> None:
    context = RunContext.start().child()
    code = (
        "from agentkit_loop import RunContext\n"
        "found = RunContext.from_environ()\n"
        "print(found.parent_run_id, found.root_run_id, found.depth, found.run_id)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **context.environ()},
    ).stdout.split()
    assert printed[:3] == [context.run_id, context.root_run_id, "2"]
    assert printed[3] > context.run_id


def test_without_a_variable_or_header_there_is_none() -> None:
    assert RunContext.from_environ({}) is None
    assert RunContext.from_headers({}) is None
    assert RunContext.from_headers([]) is None


def test_a_header_is_found_in_any_case_as_text_and_as_bytes() -> None:
    context = RunContext.start()
    ((name, value),) = context.headers().items()
    assert name == RUN_CONTEXT_HEADER
    for headers in (
        {name.upper(): value},
        {name.lower(): value},
        [(name.lower().encode(), value.encode())],
        [("accept", "*/*"), (name, value)],
    ):
        found = RunContext.from_headers(headers)
        assert found is not None
        assert (found.parent_run_id, found.root_run_id, found.depth) == (context.run_id, context.run_id, 1)


BAD = (
    "",
    "run=a",
    "run=a;root=b;depth=0",  # a root that has another
    "run=a;root=a;depth=1",
    "run=a;root=b;depth=01",
    "run=a;root=b;depth=1000000",
    "run=a;root=b;depth=-1",
    "run=a;root=b;depth=1;more=1",
    "run=a\r\nx: y;root=b;depth=1",
    "run=a;root=b;depth=1\n",
    "run=\u0661;root=b;depth=1",
    "run=a;root=b;depth=\u0661",
    "run=" + "a" * 129 + ";root=b;depth=1",
    "x" * 10_000_000,
)


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_what_is_no_context_is_ignored_and_not_repeated(value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert RunContext.from_headers({RUN_CONTEXT_HEADER: value}) is None
    assert RunContext.from_environ({RUN_CONTEXT_VARIABLE: value}) is None
    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) < 200 for record in caplog.records)
    assert not value or value not in caplog.text
    with pytest.raises(ConfigurationError, match="names no run context"):
        RunContext.from_headers({RUN_CONTEXT_HEADER: value}, strict=True)
    with pytest.raises(ConfigurationError, match="names no run context"):
        RunContext.from_environ({RUN_CONTEXT_VARIABLE: value}, strict=True)


def test_a_header_that_comes_twice_is_ignored() -> None:
    value = RunContext.start().headers()[RUN_CONTEXT_HEADER]
    assert RunContext.from_headers([(RUN_CONTEXT_HEADER, value), (RUN_CONTEXT_HEADER.lower(), value)]) is None


@given(st.one_of(st.text(max_size=400), st.binary(max_size=400), st.integers(), st.none()))
def test_no_value_raises(value: object) -> None:
    found = RunContext.from_headers([(RUN_CONTEXT_HEADER, value)])
    assert found is None or found.depth > 0


@given(st.integers(0, 50))
def test_every_context_goes_through_its_carrier(depth: int) -> None:
    context = RunContext.start()
    for _ in range(depth):
        context = context.child()
    (value,) = context.environ().values()
    assert len(value) <= LONGEST_CARRIER
    for found in (RunContext.from_environ(context.environ()), RunContext.from_headers(context.headers())):
        assert found is not None
        assert (found.parent_run_id, found.root_run_id, found.depth) == (
            context.run_id,
            context.root_run_id,
            depth + 1,
        )


def test_the_longest_ids_fit_into_a_header() -> None:
    context = RunContext.start(run_id="a" * 128).child()
    assert RunContext.from_headers(context.headers()) is not None


# --- logs


def _record() -> logging.LogRecord:
    return logging.LogRecord("any", logging.INFO, "x.py", 1, "hello", None, None)


def test_log_records_say_the_run() -> None:
    marked = RunContextFilter()
    with RunContext.start() as root, root.child() as child:
        record = _record()
        assert marked.filter(record)
    assert (record.run_id, record.parent_run_id, record.root_run_id) == (  # type: ignore[attr-defined] # set
        child.run_id,
        root.run_id,
        root.run_id,
    )


def test_records_without_a_context_have_the_fields_and_own_ones_stay() -> None:
    record = _record()
    record.run_id = "own"
    RunContextFilter(missing="-").filter(record)
    formatted = logging.Formatter("%(run_id)s %(parent_run_id)s %(root_run_id)s").format(record)
    assert formatted == "own - -"


def test_a_handler_marks_what_every_logger_says() -> None:
    seen: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(seen)
    handler.addFilter(RunContextFilter())
    logger = logging.getLogger("tests.run_contexts")
    logger.addHandler(handler)
    try:
        with RunContext.start() as context:
            logger.warning("here")
    finally:
        logger.removeHandler(handler)
    assert seen.get_nowait().run_id == context.run_id  # type: ignore[attr-defined] # set


def test_entries_of_structlog_say_the_run() -> None:
    capture = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[add_run_context, capture])
    with RunContext.start() as root:
        logger.info("first")
        with root.child() as child:
            logger.info("second", run_id="own")
    logger.info("third")
    first, second, third = capture.entries
    assert (first["run_id"], first["root_run_id"]) == (root.run_id, root.run_id)
    assert "parent_run_id" not in first
    assert (second["run_id"], second["parent_run_id"]) == ("own", child.parent_run_id)
    assert "run_id" not in third


# --- runs of loops


def _runs(told: list[AgentEvent]) -> list[RunStarted]:
    return [event for event in told if isinstance(event, RunStarted)]


def _run(told: list[AgentEvent], **metadata: object) -> None:
    with Agent(ScriptedModel([Reply(text="hi")]), observers=[told.append]) as agent:
        agent.run("go", metadata=metadata)


def test_the_first_run_under_a_context_has_its_id_and_each_further_one_is_a_child() -> None:
    told: list[AgentEvent] = []
    with RunContext.start({"phase": 3, "tier": "small"}) as context:
        _run(told, tier="large")
        _run(told)
        with EventEmitter([told.append]) as emitter, emitter.run(agent_name="own"):
            pass
    first, second, third = _runs(told)
    assert first.run_id == context.run_id
    assert first.metadata == {
        "phase": 3,
        "tier": "large",
        "run_context": {
            "run_id": context.run_id,
            "parent_run_id": None,
            "root_run_id": context.run_id,
            "depth": 0,
        },
    }
    for run in (second, third):
        assert run.run_id != context.run_id
        assert run.metadata["run_context"] == {
            "run_id": run.run_id,
            "parent_run_id": context.run_id,
            "root_run_id": context.run_id,
            "depth": 1,
        }
    assert second.run_id != third.run_id
    assert {event.run_id for event in told} == {run.run_id for run in (first, second, third)}


def test_without_a_context_nothing_is_said() -> None:
    told: list[AgentEvent] = []
    _run(told, tier="large")
    with EventEmitter([told.append]) as emitter:
        run_id = emitter.run_id
        with emitter.run(agent_name="own"):
            pass
        with emitter.run(agent_name="own"):
            pass
    assert [run.metadata for run in _runs(told)] == [{"tier": "large"}, {}, {}]
    assert _runs(told)[1].run_id == run_id != _runs(told)[2].run_id


def test_an_id_that_the_host_gave_stays() -> None:
    told: list[AgentEvent] = []
    with RunContext.start() as context:
        for run_id in ("run-of-mine", context.run_id):
            with EventEmitter([told.append], run_id=run_id) as emitter, emitter.run(agent_name="own"):
                pass
    other, same = _runs(told)
    assert other.run_id == other.metadata["run_context"]["run_id"] == "run-of-mine"
    assert other.metadata["run_context"]["parent_run_id"] == context.run_id
    assert (same.run_id, same.metadata["run_context"]["depth"]) == (context.run_id, 0)


def _joined(context: RunContext) -> str:
    with context:
        return RunContext.join({})[0]


def test_runs_of_many_threads_under_one_context_have_ids_of_their_own() -> None:
    context = RunContext.start()
    with ThreadPoolExecutor(8) as pool:
        made = [each.result() for each in [pool.submit(_joined, context) for _ in range(200)]]
    assert len(set(made)) == 200
    assert made.count(context.run_id) == 1


def test_a_copy_in_another_process_gives_its_runs_ids_of_their_own() -> None:
    context = RunContext.start()
    assert copy.copy(context) == context
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_joined, (context,))
    assert there != context.run_id == _joined(context)


def _printed(code: str, **variables: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
    ).stdout.split()


def test_a_process_that_was_started_under_a_context_is_in_a_child_of_it_by_itself() -> None:
    context = RunContext.start().child()
    code = (
        "import threading\n"
        "from agentkit_loop import RunContext\n"
        "found = RunContext.current()\n"
        "print(found.parent_run_id, found.root_run_id, found.depth)\n"
        "run_id, told = RunContext.join({})\n"
        "print(run_id == found.run_id, told['run_context']['parent_run_id'])\n"
        "print(RunContext.join({})[1]['run_context']['parent_run_id'] == run_id)\n"
        "elsewhere = []\n"
        "thread = threading.Thread(target=lambda: elsewhere.append(RunContext.current() is found))\n"
        "thread.start()\n"
        "thread.join()\n"
        "with RunContext.start() as own:\n"
        "    print(RunContext.current() is own, own.depth, *elsewhere)\n"
        "print(RunContext.current() is found)"
    )
    assert _printed(code, **context.environ()) == [
        *(context.run_id, context.root_run_id, "2"),
        *("True", context.run_id),
        "True",
        *("True", "0", "True"),
        "True",
    ]


def test_a_process_whose_variable_is_no_context_is_in_none_also_where_a_filter_asks() -> None:
    code = (
        "import logging, sys\n"
        "from agentkit_loop import RunContext, RunContextFilter\n"
        "handler = logging.StreamHandler(sys.stdout)\n"
        "handler.addFilter(RunContextFilter())\n"
        "handler.setFormatter(logging.Formatter('%(levelname)s:%(run_id)s'))\n"
        "logging.getLogger().addHandler(handler)\n"
        "print(RunContext.current(), RunContext.current())"
    )
    assert _printed(code, **{RUN_CONTEXT_VARIABLE: "none"}) == ["WARNING:None", "None", "None"]
