"""Sessions that lose the prompt cache, each for one reason, made with the real loop; the same at every making."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction
from agentkit_loop.compaction_strategies import KeepRecent
from agentkit_loop.driver import LoopDriver
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.testing import Reply, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import JsonlReporter, read_events

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
_RATES = Rates(
    input=Decimal(3), output=Decimal(15), cached_input=Decimal("0.30"), cache_write=Decimal("3.75")
)
PRICES = PriceTable({"claude-sonnet-5": _RATES, "claude-opus-5": _RATES.scaled(Decimal(2))}, source="samples")
SECRET = "sk-ant-" + "api03-" + "Zq7Xw2Lp9Kd4Rt6Vb8Nm1Hs3Jf5Gc0" * 3


@tool
def read_file(path: str) -> str:
    """Read a text file."""
    return path


@tool
def search(text: str) -> str:
    """Search the files."""
    return text


@tool(name="read_file")
def read_part(path: str, first: int = 1) -> str:
    """Read a part of a text file."""
    return f"{path}:{first}"


def used(cached: int, written: int, fresh: int) -> Usage:
    """Return what a request used: from the cache, to it, and neither."""
    return Usage(
        input_tokens=fresh, cached_input_tokens=cached, cache_write_input_tokens=written, output_tokens=10
    )


@attrs.define
class Conversation:
    """A session that is told to a log, prompt by prompt. cache: what the run tells of its life."""

    log: Path
    session_id: str
    clock: VirtualClock = attrs.field(factory=lambda: VirtualClock(START))

    def agent(self, usages: Sequence[Usage | None], **settings: Any) -> Agent:
        model = settings.pop("model", "claude-sonnet-5")
        redact = settings.pop("redact", True)
        given: dict[str, Any] = {
            "tools": [read_file],
            "system": "You fix code.",
            "name": "fixer",
            "prices": PRICES,
            "parameters": {"cache": "5m"},
            **settings,
        }
        replies = [Reply(text=f"answer {number}", usage=each) for number, each in enumerate(usages, 1)]
        return Agent(
            ScriptedModel(replies, name=model, clock=self.clock),
            observers=[JsonlReporter(self.log, redact=redact)],
            clock=self.clock,
            **given,
        )

    def begin(self, *usages: Usage | None, **settings: Any) -> None:
        """Start the session, and ask once for each usage."""
        with self.agent(usages, **settings) as agent, agent.start(session_id=self.session_id) as driver:
            self.ask(driver, len(usages))

    def resume(self, *usages: Usage | None, **settings: Any) -> None:
        """Go on with the session with an agent that may be another."""
        events = [event for event in read_events(self.log) if event.session_id == self.session_id]
        with self.agent(usages, **settings) as agent, agent.resume(events) as driver:
            self.ask(driver, len(usages))

    def fork(self, session_id: str, *usages: Usage | None, at: int | None = None, **settings: Any) -> None:
        """Start another session from this one."""
        events = [event for event in read_events(self.log) if event.session_id == self.session_id]
        with (
            self.agent(usages, **settings) as agent,
            agent.fork(events, at=at, session_id=session_id) as driver,
        ):
            self.ask(driver, len(usages))

    def ask(self, driver: LoopDriver, times: int, prompt: str = "and then?") -> None:
        for _ in range(times):
            self.clock.sleep(10)
            driver.run(prompt)


HELD = (used(0, 2_000, 100), used(2_000, 300, 20))
"""Of two requests of which the second holds."""
LOST = used(0, 2_400, 30)
"""Of a third that reads nothing."""


def write_tools(log: Path, session_id: str = "tools-1") -> None:
    """Write a session whose tools change twice: one more, then another one and one less."""
    told = Conversation(log, session_id)
    usages = (*HELD, LOST, used(0, 2_500, 30))
    with told.agent(usages) as agent, agent.start(session_id=session_id) as driver:
        told.ask(driver, 2)
        driver.set_tools([read_file, search])
        told.ask(driver, 1)
        driver.set_tools([read_part])
        told.ask(driver, 1)


def write_compaction(log: Path, session_id: str = "compact-1") -> None:
    """Write a session that is shortened before its fourth request."""
    compaction = Compaction(strategy=KeepRecent(items=3), max_items=6)
    told = Conversation(log, session_id)
    told.begin(*HELD, used(2_300, 200, 20), used(600, 700, 40), compaction=compaction)


def write_gap(log: Path, session_id: str = "gap-1") -> None:
    """Write a session in which a prompt comes seven minutes late."""
    told = Conversation(log, session_id)
    with told.agent((*HELD, LOST)) as agent, agent.start(session_id=session_id) as driver:
        told.ask(driver, 2)
        told.clock.sleep(410)
        told.ask(driver, 1)


def write_missed(log: Path, session_id: str = "missed-1") -> None:
    """Write a session in which nothing changed, and the cache was not read."""
    Conversation(log, session_id).begin(*HELD, LOST)


def write_resumed(log: Path, session_id: str, *, usage: Usage | None = LOST, **settings: Any) -> None:
    """Write a session that goes on with other settings."""
    told = Conversation(log, session_id)
    told.begin(*HELD)
    told.resume(usage, **settings)


def write_all(log: Path) -> None:
    """Write a session for each reason."""
    write_tools(log)
    write_compaction(log)
    write_gap(log)
    write_missed(log)
    write_resumed(log, "system-1", system="You fix code. Be brief.")
