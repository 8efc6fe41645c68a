"""What an item, a pending event and an event of a log cost, where there are many over where there are few."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from agentkit_loop import Agent, AppendText, ModelRequest, Reply, ScriptedModel
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import Observer
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    JsonlReporter,
    TranscriptReporter,
    UsageReporter,
    read_events,
)
from benchmarks.growing import Load, grown, require
from benchmarks.measure import Row

DELTAS_AN_ANSWER = 200
"""Of the log that is read, whose events are those of sessions: nearly all deltas."""


def item_rows(items: tuple[int, ...], rounds: int) -> list[Row]:
    """Return the rows of a conversation of so many items: as it is had, and as its transcript is rebuilt."""
    had = [
        Load(
            name=f"{count:,} items",
            pieces=count,
            play=lambda count=count: conversation(count, []),  # type: ignore[misc] # bound for the loop
            check=lambda: None,  # each run looks at its own transcript
            times=max(1, items[-1] // count),
        )
        for count in items
    ]
    rebuilt = [_rebuilding(count, items[-1]) for count in items]
    return [
        *grown("item of a conversation", had, rounds),
        *grown("item of a rebuilt transcript", rebuilt, rounds),
    ]


def conversation(count: int, kept: list[AgentEvent]) -> None:
    """Have so many items said in one session, with log, usage and transcript; kept: filled with the events."""

    def answer(request: ModelRequest) -> Reply:
        model.requests.clear()  # it keeps them all, each with its whole history
        return Reply(text=f"answer {len(request.items)}")

    model = ScriptedModel(answer)
    transcript = TranscriptReporter()
    with tempfile.TemporaryDirectory() as folder:
        observers: list[Observer] = [
            JsonlReporter(Path(folder) / "session.jsonl"),
            UsageReporter(),
            transcript,
            kept.append,
        ]
        with Agent(model, observers=observers) as agent, agent.start() as driver:
            for number in range(count // 2):
                require(driver.run("and then?").text, f"answer {2 * number + 1}", "an answer")
    require(len(transcript.items()), count, "items of a conversation")


def _rebuilding(count: int, largest: int) -> Load:
    events: list[AgentEvent] = []
    conversation(count, events)
    found: list[TranscriptReporter] = []

    def play() -> None:
        transcript = TranscriptReporter()
        for event in events:
            transcript.handle_event(event)
        found[:] = [transcript]

    return Load(
        name=f"{count:,} items",
        pieces=count,
        play=play,
        check=lambda: require(len(found[0].items()), count, "items of a rebuilt transcript"),
        times=max(1, largest // count),
    )


class Gate:
    """An observer that lets nothing through until it is opened, and counts."""

    def __init__(self) -> None:
        self.taken = 0
        self._open = threading.Event()

    def __call__(self, event: AgentEvent) -> None:
        """Take an event."""
        del event
        self._open.wait()
        self.taken += 1

    def open(self) -> None:
        """Let all through."""
        self._open.set()


def pending_rows(pending: tuple[int, ...], rounds: int) -> list[Row]:
    """Return the rows of adapters that hold so many events before they deliver them."""
    told: list[AgentEvent] = []
    EventEmitter([told.append]).tell_delta("request-1", AppendText("0", "a dozen chars"))
    event, found = told[0], list[Gate]()

    def buffered(count: int) -> None:
        gate = Gate()
        gate.open()
        reporter = BufferedReporter(gate, count + 1)
        for _ in range(count):
            reporter.handle_event(event)
        require((reporter.pending, gate.taken), (count, 0), "events held, and taken before")
        reporter.close()
        found[:] = [gate]

    def channelled(count: int) -> None:
        gate = Gate()
        channel = ChannelReporter.threaded(gate, maxsize=count + 1)
        for _ in range(count):
            channel.handle_event(event)
        require((channel.account().pending, gate.taken), (count, 0), "events pending, and taken before")
        gate.open()
        channel.close()
        found[:] = [gate]

    def loads(play: Callable[[int], None]) -> list[Load]:
        return [
            Load(
                name=f"{count:,} pending",
                pieces=count,
                play=lambda count=count: play(count),  # type: ignore[misc] # bound for the loop
                check=lambda count=count: require(found[0].taken, count, "events taken"),  # type: ignore[misc] # the same
                times=max(1, pending[-1] // count),
            )
            for count in pending
        ]

    return [
        *grown("event of a buffer", loads(buffered), rounds),
        *grown("event of a channel", loads(channelled), rounds),
    ]


def log_rows(sizes: tuple[int, ...], rounds: int) -> list[Row]:
    """Return the rows of logs of about so many bytes that are read."""
    with tempfile.TemporaryDirectory() as folder:
        loads = [_reading(Path(folder) / f"{size}.jsonl", size, sizes) for size in sizes]
        return grown("event of a log, read_events", loads, rounds)


def _reading(path: Path, size: int, sizes: Sequence[int]) -> Load:
    count = write_log(path, size)
    found: list[int] = []

    def play() -> None:
        found[:] = [sum(1 for _ in read_events(path))]

    # A tenth of the largest, not all of it: the smallest is to be read for long enough, and no longer.
    times = max(1, sizes[-1] // 10 // size)
    return Load(
        name=f"{size / 1e6:g} MB",
        pieces=count,
        play=play,
        check=lambda: require(found, [count], "events of a log"),
        times=times,
    )


def write_log(path: Path, size: int) -> int:
    """Write a log of about so many bytes; return how many events it has."""
    counted: list[int] = [0]

    def count(event: AgentEvent) -> None:
        del event
        counted[0] += 1

    text = "a dozen char" * DELTAS_AN_ANSWER
    model = ScriptedModel(lambda _: Reply(text=text))
    with contextlib.closing(JsonlReporter(path)) as log, Agent(model, observers=[log, count]) as agent:
        while not path.exists() or path.stat().st_size < size:
            agent.run("and then?")
            model.requests.clear()
    return counted[0]
