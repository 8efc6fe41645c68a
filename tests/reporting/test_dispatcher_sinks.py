"""Sinks behind a dispatcher: they end after the last payload, wherever it is closed, and at exit too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_reporting import Account, EventDispatcher, TopicPayload, WebhookSink
from tests.reporting.hook_server import HookServer
from tests.reporting.topics import GatedHandler, payload

NUMBERS = list(range(20))


class Sink:
    """Keeps numbers and what it was asked for; refuses after its end."""

    def __init__(self, *, fails: bool = False) -> None:
        self.got: list[Any] = []
        self.fails = fails

    def __call__(self, given: TopicPayload) -> None:
        if "close" in self.got:
            raise ValueError("closed")
        self.got.append(given["number"])

    def account(self) -> Account:
        return Account(name="Sink", received=0, delivered=0)

    def flush(self, timeout_s: float | None = None) -> bool:
        self.got.append("flush")
        if self.fails:
            raise ValueError(f"no flush in {timeout_s}")
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        if "close" not in self.got:
            self.got.append("close")
        if self.fails:
            raise ValueError(f"no close in {timeout_s}")
        return True


def numbers(server: HookServer) -> list[int]:
    return [body["payload"]["number"] for body in server.bodies]


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
def test_closing_on_an_event_loop_loses_nothing_of_a_webhook(*, background: bool) -> None:
    with HookServer() as server:
        sink = WebhookSink(server.url)
        dispatcher = EventDispatcher(async_dispatch=background)
        dispatcher.subscribe("a", sink)

        async def main() -> None:
            with dispatcher:
                for number in NUMBERS:
                    dispatcher.emit("a", payload(number))

        asyncio.run(main())
        assert dispatcher.close(30.0) is True
        assert numbers(server) == NUMBERS
    assert sink.account().is_complete


def test_a_webhook_that_is_closed_on_an_event_loop_posts_what_it_holds() -> None:
    with HookServer() as server:
        sink = WebhookSink(server.url)

        async def main() -> bool:
            with sink:
                for number in NUMBERS:
                    sink(payload(number))
            return sink.close()

        asyncio.run(main())
        assert sink.close(30.0) is True
        assert numbers(server) == NUMBERS


def test_a_handler_behind_that_closes_its_dispatcher_takes_nothing_from_a_sink() -> None:
    sink, gated = Sink(), GatedHandler()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", gated)
    dispatcher.subscribe("a", lambda given: given["number"] == 0 and dispatcher.close())
    dispatcher.subscribe("a", sink)
    for number in NUMBERS:
        dispatcher.emit("a", payload(number))
    gated.gate.set()
    assert dispatcher.close(30.0) is True
    assert sink.got == [*NUMBERS, "close"]


def test_no_run_of_a_hand_written_loop_waits_for_a_handler_that_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("agent.*", lambda _: gate.wait())
    emitter = EventEmitter([dispatcher])
    with emitter.run(agent_name="a"):
        pass

    async def main() -> None:
        async with emitter.run(agent_name="b"):
            pass

    asyncio.run(main())
    assert caplog.text == ""  # or: it has not returned from flush within 5 s
    assert dispatcher.account().pending > 0
    gate.set()
    assert dispatcher.close(30.0) is True


def test_a_sink_that_cannot_end_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = Sink(fails=True), Sink()
    dispatcher = EventDispatcher()
    dispatcher.subscribe("a", broken)
    dispatcher.subscribe("a", whole)
    dispatcher.emit("a", payload(1))
    assert dispatcher.flush() is False
    assert dispatcher.close() is False
    assert whole.got == [1, "flush", "close"]
    assert "flush of Sink failed: ValueError: no flush in None" in caplog.text


def test_a_dispatcher_that_is_given_up_leaves_its_sinks_open() -> None:
    sink = Sink()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", sink)
    dispatcher.emit("a", payload(1))
    assert dispatcher.flush(30.0)
    delivery = dispatcher._delivery
    del dispatcher
    assert delivery._ended.wait(30.0)
    assert "close" not in sink.got


def test_what_one_hands_to_another_at_exit_is_delivered_whoever_is_asked_first() -> None:
    program = """
from agentkit_reporting.process_ends import watch
class Link:
    def __init__(self, to): self.to, self.pending = to, 0
    def begin_anew(self): pass
    def ask_for_flush(self): pass
    def tell_lost(self): print("lost", self.pending) if self.pending else None
    def flush(self, timeout_s=None):
        if self.to is None: print("delivered", self.pending)
        else: self.to.pending += self.pending
        self.pending = 0
        return True
chain = [Link(None)]
for _ in range(9): chain.append(Link(chain[-1]))
for link in chain: watch(link)
chain[-1].pending = 7
class Stuck(Link):
    def flush(self, timeout_s=None): return False
stuck = Stuck(None)
watch(stuck)
stuck.pending = 1
"""
    said = output_of(program).splitlines()
    assert "delivered 7" in said
    assert said[-1] == "lost 1"


def test_what_a_dispatcher_hands_to_a_webhook_at_exit_is_posted() -> None:
    with HookServer() as server:
        program = f"""
from agentkit_reporting import EventDispatcher, WebhookSink
from tests.reporting.topics import payload
dispatcher = EventDispatcher(async_dispatch=True)
dispatcher.subscribe("a", WebhookSink({server.url!r}))
for number in range(20): dispatcher.emit("a", payload(number))
"""
        assert output_of(program) == ""
        assert numbers(server) == NUMBERS


def output_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr
