"""Logs and metrics for tests of `agentkit report`, the same at every making but for ids."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal
from pathlib import Path

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ModelError
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import InvocationMetric, InvocationMetricsCollector, JsonlReporter

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
USED = Usage(input_tokens=10_000, cached_input_tokens=90_000, output_tokens=1_200)
HOSTILE = "co\x1b[31mder|<b>[x](http://evil.example)\u202e"
PRICES = PriceTable(
    {
        "priced": Rates(input=Decimal(5), output=Decimal(25)),
        "european": Rates(input=Decimal(1), output=Decimal(2), currency="EUR"),
    },
    source="samples",
)


@tool
def look(where: str) -> str:
    """Look there."""
    if where == "nowhere":
        raise LookupError(where)
    return "seen"


def write_run(
    log: Path, name: str, after_s: float, *replies: Reply, model: str = "priced", **metadata: object
) -> None:
    """Write one run that begins so many seconds after START."""
    clock = VirtualClock(START + dt.timedelta(seconds=after_s))
    with (
        contextlib.suppress(ModelError),
        Agent(
            ScriptedModel(list(replies), name=model, clock=clock),
            name=name,
            tools=[look],
            observers=[JsonlReporter(log)],
            prices=PRICES,
            retry=Retry(max_attempts=2),
            clock=clock,
        ) as agent,
        # The pauses before a retry depend on the session's id.
        agent.start(session_id=f"session-{after_s}", metadata=metadata) as driver,
    ):
        driver.run("go")


def answer(seconds: float) -> Reply:
    return Reply(text="done", usage=USED, delay_s=seconds)


def failing(error_class: str, seconds: float) -> Reply:
    return Reply(fail=ScriptedFailure(error_class=error_class), delay_s=seconds)


def calling(where: str) -> Reply:
    return Reply(calls=(ScriptedCall(name="look", input={"where": where}),), usage=USED, delay_s=1)


def write_pipeline(log: Path) -> None:
    """Write agents in three phases: one fails twice before it does it, one has no price, another one in euros."""
    write_run(log, "architect", 0, calling("here"), calling("nowhere"), answer(20), phase=1, task_id="design")
    write_run(
        log,
        HOSTILE,
        30,
        failing("overloaded", 2),
        failing("overloaded", 2),
        phase=2,
        task_id="b",
        tier="small",
    )
    write_run(log, HOSTILE, 40, failing("invalid_request", 1), phase=2, task_id="b", tier="small")
    write_run(log, HOSTILE, 45, answer(30), phase=2, task_id="b", tier="large")
    write_run(log, "reviewer", 50, answer(95), model="local", phase=2, task_id="r")
    write_run(log, "translator", 120, failing("server", 1), answer(9), model="european", phase=3)


def write_metrics(folder: Path) -> Path:
    """Write a file of three metrics, and a bad line; return it."""
    with InvocationMetricsCollector(folder) as collector:
        for number in range(3):
            collector.record(
                InvocationMetric(
                    invocation_id=f"inv-{number}",
                    agent="tester",
                    phase=3,
                    duration_ms=10_000,
                    tokens=1_000,
                    cost=0.1,
                    timestamp=f"2026-05-24T18:42:{5 * number:02}Z",
                )
            )
    with collector.path.open("ab") as file:
        file.write(b"no metric\n")
    return collector.path
