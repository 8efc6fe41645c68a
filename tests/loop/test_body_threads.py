"""Threads for tools' bodies and the flushes of a run: used again when idle, gone when nobody needs them."""

from __future__ import annotations

import os
import queue
import threading
import weakref

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.body_threads import BodyThreads
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import LoopObserver
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel

SECONDS = 10.0  # until a test that hangs fails


def run(threads: BodyThreads, name: str = "body") -> threading.Thread:
    """Run a body and return the thread that it ran on."""
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    threads.run(name, lambda: ran.put(threading.current_thread()))
    return ran.get(timeout=SECONDS)


def run_until_same(threads: BodyThreads, thread: threading.Thread) -> bool:
    """Whether a thread is used again; it may be told to have ended its body before it is idle."""
    return any(run(threads) is thread for _ in range(100))


def test_an_idle_thread_is_used_again_under_the_new_bodys_name() -> None:
    threads = BodyThreads()
    first = run(threads, "tool-a")
    assert first.daemon
    assert run_until_same(threads, first)
    named: queue.SimpleQueue[str] = queue.SimpleQueue()
    threads.run("tool-b", lambda: named.put(threading.current_thread().name))
    assert named.get(timeout=SECONDS) == "tool-b"


def test_bodies_at_the_same_time_have_a_thread_each() -> None:
    threads, meeting = BodyThreads(), threading.Barrier(5)
    for _ in range(4):
        threads.run("body", lambda: meeting.wait(SECONDS))
    meeting.wait(SECONDS)  # would break if two shared a thread


def test_idle_threads_end_on_close_and_by_themselves() -> None:
    threads = BodyThreads()
    idle = run(threads)
    threads.close()
    idle.join(SECONDS)
    assert not idle.is_alive()
    after = run(threads)  # a body that comes late still runs
    after.join(SECONDS)
    assert not after.is_alive()
    alone = run(BodyThreads(idle_s=0.01))
    alone.join(SECONDS)
    assert not alone.is_alive()


def test_an_idle_thread_keeps_nothing_of_its_last_body() -> None:
    class Argument:
        pass

    threads, ran = BodyThreads(), threading.Event()
    argument = Argument()
    gone = weakref.ref(argument)

    def body(argument: Argument = argument) -> None:
        assert argument is not None
        ran.set()

    threads.run("body", body)
    assert ran.wait(SECONDS)
    del argument, body
    assert any(gone() is None for _ in range(100) if run(threads))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork has no children to be safe in")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_gets_threads_of_its_own() -> None:
    threads = BodyThreads()
    idle = run(threads)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if run(threads) is not idle else 2
        finally:
            os._exit(code)  # whatever happens, the child must not go on with the suite
    assert os.waitpid(child, 0)[1] == 0


def test_a_run_leaves_no_thread_behind() -> None:
    ran_on: list[threading.Thread] = []

    def work() -> None:
        """Work."""
        ran_on.append(threading.current_thread())

    calls = tuple(ScriptedCall(name="work") for _ in range(3))
    Agent(ScriptedModel([Reply(calls=calls), Reply(calls=calls), "done"]), tools=[work]).run("go")
    assert len(ran_on) == 6
    for thread in ran_on:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_flushes_at_the_end_of_a_run_are_on_its_threads_which_end_with_it() -> None:
    class Flushed(LoopObserver):
        def __init__(self) -> None:
            self.threads: list[tuple[threading.Thread, str]] = []

        def handle_event(self, event: AgentEvent) -> None:
            pass

        def flush(self) -> None:
            thread = threading.current_thread()
            self.threads.append((thread, thread.name))

    observer = Flushed()
    Agent(ScriptedModel(["done"]), observers=[observer]).run("go")
    assert [name for _, name in observer.threads] == ["agentkit-flush"] * 2
    for thread, _ in observer.threads:
        assert thread.daemon
        assert thread is not threading.current_thread()
        thread.join(SECONDS)
        assert not thread.is_alive()
