"""A flush that hangs in a process hangs in no child of it: the child has not its thread."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import LoopObserver

MAY_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is missing on this system")


class Hangs(LoopObserver):
    """Whose flush waits, in this process, until it may go."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.hangs_in = os.getpid()

    def handle_event(self, event: AgentEvent) -> None:
        pass

    def flush(self) -> None:
        if os.getpid() == self.hangs_in:
            self.may_go.wait()


@MAY_FORK
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_flushes_what_hung_in_its_parent() -> None:
    observer = Hangs()
    emitter = EventEmitter([observer])
    try:
        assert emitter.flush(0.01) is False
        assert emitter.flush(0.01) is False  # it still does, and no second thread waits with it
        assert [thread.name for thread in threading.enumerate()].count("agentkit-flush") == 1
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os._exit(0 if emitter.flush(10.0) else 3)
            os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        observer.may_go.set()
