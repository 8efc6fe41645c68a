"""Views in the child of a fork: no lock of the parent's keeps it, and nothing of the parent's is told twice."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import ModelRequestStarted, RunStarted, UsageUpdated
from agentkit_loop.testing import EventRecorder
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    AuditLedger,
    CostLedger,
    InvocationMetricsCollector,
    SessionProfiler,
    ToolRecorder,
    UsageReporter,
    UsageStore,
    read_records,
)
from agentkit_reporting.records.recent_runs import MOST_OPEN_RUNS
from tests.reporting.metric_samples import metric

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

FORKS = 12
WAIT_S = 20  # for a child that is stuck

Tell = Callable[[], object]


def profiler(place: Path) -> Tell:
    begin = SessionProfiler(place / "f.jsonl").start_session
    span = contextvars.copy_context().run(begin, "s")  # and is not the current session of other tests
    return lambda: span.record_tokens(1, 1, cost="0.1")


def recorder(place: Path) -> Tell:
    return ToolRecorder(place / "f.jsonl").instrument("f", lambda: None)


def store(place: Path) -> Tell:
    told = UsageStore(place / "f.jsonl")

    def tell() -> None:
        told.record("r", input_tokens=1)
        told.total_cost()

    return tell


def collector(place: Path) -> Tell:
    told = InvocationMetricsCollector(place)
    return lambda: told.record(metric(1))


def ledger(place: Path) -> Tell:
    told = AuditLedger(place / "f.jsonl")
    return lambda: told.log("s", step=0, type="reasoning", detail="d")


def emitter(place: Path) -> Tell:
    views = (UsageReporter(), CostLedger(), SessionProfiler(), UsageStore(place / "f.jsonl"), ToolRecorder())
    run = EventEmitter(views).run(model="claude-sonnet-5-5")
    run.__enter__()
    return lambda: run.record_model_call(usage=Usage(input_tokens=1, output_tokens=1))


@pytest.fixture
def busy() -> Iterator[Callable[[Tell], None]]:
    """Tells, on four threads, until the test is over."""
    is_over, threads = threading.Event(), list[threading.Thread]()

    def begin(tell: Tell) -> None:
        def go_on() -> None:
            while not is_over.wait(0.0005):
                tell()

        threads.extend(threading.Thread(target=go_on) for _ in range(4))
        for thread in threads:
            thread.start()

    yield begin
    is_over.set()
    for thread in threads:
        thread.join()


def in_child(act: Tell) -> int:
    """Return how a forked child ended that did something."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(WAIT_S)  # whom a lock keeps for ever
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is: it is said here, and by the code
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("make", [profiler, recorder, store, collector, ledger, emitter])
def test_a_child_tells_on_whatever_its_parents_threads_were_doing(
    make: Callable[[Path], Tell], tmp_path: Path, busy: Callable[[Tell], None]
) -> None:
    tell = make(tmp_path)
    tell()
    busy(tell)
    assert [in_child(tell) for _ in range(FORKS)] == [0] * FORKS


def test_a_request_that_another_thread_was_telling_is_cut_in_the_child() -> None:
    is_telling, is_forked = threading.Event(), threading.Event()
    told = EventRecorder()

    def hold(event: object) -> None:
        if isinstance(event, UsageUpdated) and not is_forked.is_set():
            is_telling.set()
            is_forked.wait()

    with EventEmitter([told, hold]).run(model="claude-sonnet-5-5") as run:
        teller = threading.Thread(target=lambda: run.record_model_call(usage=Usage(input_tokens=1)))
        teller.start()
        is_telling.wait()

        def record() -> None:
            is_forked.set()
            run.record_model_call(usage=Usage(input_tokens=2))
            requests = [kind for kind in told.types if kind.startswith("model_request")]
            assert requests == ["model_request_started", "model_request_finished"] * 2

        ended = in_child(record)
        is_forked.set()
        teller.join()
    assert ended == 0
    assert told.types.count("model_request_finished") == 1


def test_what_a_parent_has_open_is_stored_by_the_parent_alone(tmp_path: Path) -> None:
    usage, profile = UsageStore(tmp_path / "usage.jsonl"), SessionProfiler(tmp_path / "sessions.jsonl")
    outer = EventEmitter([usage, profile])
    outer.emit(RunStarted(agent_name="a", model="m", system=None, tools=(), parameters={}, items=()))
    outer.emit(
        ModelRequestStarted(request_id="r", attempt=1, purpose="turn", model="m", message_count=1, digests={})
    )
    outer.emit(UsageUpdated(request_id="r", model="m", usage=Usage(input_tokens=5), final=False))
    span = contextvars.copy_context().run(profile.start_session, "s")

    def close() -> None:
        assert usage.close()
        assert profile.close()

    assert in_child(close) == 0
    span.close()
    assert usage.close()
    assert profile.close()
    assert len(list(read_records(tmp_path / "usage.jsonl"))) == 1
    assert len(list(read_records(tmp_path / "sessions.jsonl"))) == 1


def test_a_child_records_metrics_and_calls_as_a_session_of_its_own(tmp_path: Path) -> None:
    told = EventRecorder()
    metrics = InvocationMetricsCollector(tmp_path, observers=[told])
    tools = ToolRecorder(tmp_path / "tools.jsonl", observers=[told])
    call = tools.instrument("f", lambda: None)
    metrics.record(metric(1))
    call()
    own = {event.session_id for event in told.events}

    def record() -> None:
        metrics.record(metric(2))
        call()
        assert len({event.session_id for event in told.events} - own) == 2
        assert tools.account().is_complete

    assert in_child(record) == 0


class FlushCounter(EventRecorder):
    """Counts how often it is flushed."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


@pytest.mark.parametrize("kind", ["tools", "decisions", "usage"])
def test_a_run_that_ends_to_make_room_holds_nobody_up_with_a_flush(kind: str, tmp_path: Path) -> None:
    counter = FlushCounter()
    view: Any
    if kind == "tools":
        view = ToolRecorder(observers=[counter])
    elif kind == "decisions":
        view = AuditLedger(observers=[counter])
    else:
        view = UsageStore(tmp_path / "usage.jsonl", observers=[counter])
    for number in range(MOST_OPEN_RUNS + 5):
        if kind == "tools":
            with EventEmitter(session_id=f"s{number}").run() as run, run.tool_call("outer", {}):
                view.instrument("f", lambda: None)()
        elif kind == "decisions":
            view.log(f"s{number}", step=0, type="reasoning", detail="d")
        else:
            view.record(f"s{number}", input_tokens=1)
    assert counter.types.count("run_finished") == 5
    assert counter.flushes == 0
    view.close()
    assert counter.types.count("run_finished") == MOST_OPEN_RUNS + 5
