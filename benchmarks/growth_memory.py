"""What the process of one long run holds: `python -m benchmarks.growth_memory EVENTS…`.

It plays one session, with log, usage and transcript, until it has told so many events, and prints, as one line of JSON,
what it holds after each of these numbers. Answers are long and of short deltas, so that what is kept of a run, its
items and a view of each request, is little; what grows with the events would be seen.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from agentkit_loop import Agent, AgentEvent, ModelRequest, Reply, ScriptedModel
from agentkit_loop.observers import Observer
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter
from benchmarks.growing import require, sizes_row
from benchmarks.measure import Row
from benchmarks.soak_follower import Process

DELTAS = 10_000
"""Of each answer, one character each."""

FLAT_RUN = 1.1


def run_row(events: tuple[int, int]) -> Row:
    """Return the row: what a process of its own holds after so many events, small and large."""
    command = [sys.executable, "-m", "benchmarks.growth_memory", *map(str, events)]
    printed = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    few, many = msgspec.json.decode(printed.stdout, type=tuple[float, float])
    return sizes_row(
        f"process after {events[1]:,} events",
        [many],
        [few],
        against=f"the same, after {events[0]:,}",
        unit="kB",
        bound=FLAT_RUN,
    )


def held_after(events: list[int]) -> list[float]:
    """Play the session; return how many kB this process holds after each number of events."""
    told = 0
    held: list[float] = []

    def count(event: AgentEvent) -> None:
        nonlocal told
        told += 1
        require(event.seq, told, "the number of an event")

    def answer(request: ModelRequest) -> Reply:
        del request
        model.requests.clear()  # it keeps them all
        return Reply(text="." * min(DELTAS, events[0]), chunk_chars=1)

    model = ScriptedModel(answer)
    with tempfile.TemporaryDirectory() as folder:
        observers: list[Observer] = [
            JsonlReporter(Path(folder) / "session.jsonl"),
            UsageReporter(),
            TranscriptReporter(),
            count,
        ]
        with Agent(model, observers=observers) as agent, agent.start() as driver:
            for wanted in events:
                while told < wanted:
                    driver.run("and then?")
                held.append(Process.now().rss / 1000)
    return held


if __name__ == "__main__":
    print(msgspec.json.encode(held_after([int(given) for given in sys.argv[1:]])).decode())
