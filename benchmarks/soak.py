"""A soak: real sessions for minutes, every reporter attached, and a reader that follows the log meanwhile.

`python -m benchmarks.soak [--minutes 10]`. Threads and an event loop play sessions of a scripted agent with tools. They
are watched by a log that rotates, compresses, forgets old segments and masks secrets; by usage, one view a session; by
a terminal (on /dev/null); by a composite, a buffer, a policy and a redacting adapter around counters; and by channels
to slow sinks, one for each overflow rule, and one to the event loop. The transcript is not: it keeps every session, by
design. Another process follows the log.

Every 30 s a line says what was written and read, lost and doubled, dropped, and what either process holds. At the end
everything is closed, and it exits 1 unless all of this holds: every event that was told was written, read once, in
order, and masked where it was counted as masked; in every adapter what came in was delivered or dropped, and its sink
counted as much; neither process grew (a line through its memory of the last two thirds of the time), nor holds more
descriptors or threads than at first. Under two minutes memory is shown and not judged: it has not settled by then.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import attrs
import click
import msgspec

from agentkit_loop import FailurePolicy, LoopObserver
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import Observer, Registration
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    JsonlReporter,
    Overflow,
    PolicyReporter,
    RedactingReporter,
    Rotation,
    StdoutReporter,
)
from agentkit_reporting.accounting import Tally
from benchmarks.soak_follower import Counts, Process
from benchmarks.soak_sessions import Workers

ROTATION = Rotation(max_bytes=2_000_000, compress="gzip", keep=100)
MAXSIZE = 200
BLOCKING_EVENTS_A_MS = 20
DROPPING_EVENTS_A_MS = 10
"""How fast the slow sinks take: the one that is waited for, and the others, which cannot keep up with it."""

CLOSE_S = 60.0
SETTLED_S = 120.0
"""Shorter soaks say nothing of memory."""

GROWTH_SHARE, GROWTH_BYTES = 0.05, 8 << 20
"""How much a process may grow over the time that is judged: the larger of a share of it and of so many bytes."""

GROWTH_COUNT = 3
"""By how many the median of descriptors and of threads may rise: some come and go with rotation."""


class Count(LoopObserver):
    """Counts events, and takes its time: a millisecond for every so many, none for 0."""

    def __init__(self, events_a_ms: int = 0) -> None:
        self._taken = Tally()
        self._events_a_ms = events_a_ms

    def handle_event(self, event: AgentEvent) -> None:
        """Count one event."""
        del event
        count = self._taken.add()
        if self._events_a_ms and count % self._events_a_ms == 0:  # about: what it counts is exact
            time.sleep(0.001)

    @property
    def taken(self) -> int:
        """How many it got."""
        return self._taken.value


Scope: TypeAlias = Literal["all", "threads", "loop"]


@attrs.frozen
class Sink:
    """An adapter of the soak, the counter behind it, and which sessions tell it."""

    name: str
    reporter: CompositeReporter | BufferedReporter | PolicyReporter | RedactingReporter | ChannelReporter
    counter: Count
    scope: Scope = "all"

    def faults(self, told: int) -> list[str]:
        """Return what does not add up after it was closed. told: how many events it must have got."""
        account = self.reporter.account()
        settled = account.delivered + account.dropped + account.failed
        if account.received == told == settled and account.delivered == self.counter.taken:
            return []
        return [f"{self.name}: {account}, of {told} told, {self.counter.taken} counted behind it"]


class Watch:
    """All that watches the sessions."""

    def __init__(self, log: Path) -> None:
        self.told: dict[Scope, Count] = {"all": Count(), "threads": Count(), "loop": Count()}
        self.log = JsonlReporter(log, rotation=ROTATION)
        self._terminal = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
        self._stdout = StdoutReporter(self._terminal)
        plain = [Count() for _ in range(4)]
        self.sinks = [
            Sink("composite", CompositeReporter(plain[0]), plain[0]),
            Sink("buffered", BufferedReporter(plain[1], 100, max_age_s=0.2), plain[1]),
            Sink("policy", PolicyReporter(plain[2], FailurePolicy.LOG), plain[2]),
            Sink("redacting", RedactingReporter(plain[3]), plain[3]),
        ]
        rules: tuple[Overflow, ...] = get_args(Overflow)
        for rule in rules:
            # Those on threads wait for the slow sink under "block", which paces the whole soak.
            counter = Count(events_a_ms=BLOCKING_EVENTS_A_MS if rule == "block" else DROPPING_EVENTS_A_MS)
            channel = ChannelReporter.threaded(counter, maxsize=MAXSIZE, overflow=rule)
            self.sinks.append(Sink(rule, channel, counter, "threads" if rule == "block" else "all"))

    def observers(self, scope: Scope) -> list[Observer | Registration]:
        """Return what watches the sessions of threads, or of the running event loop."""
        if scope == "loop":
            counter = Count()
            channel = ChannelReporter.on_loop(counter, maxsize=MAXSIZE)
            self.sinks.append(Sink("to the loop", channel, counter, "loop"))
        watching: list[Observer | Registration] = [self.told["all"], self.told[scope], self.log, self._stdout]
        for sink in self.sinks:
            if sink.scope in ("all", scope):
                # Under the rule "error" each event that is dropped raises.
                policy = FailurePolicy.IGNORE if sink.name == "error" else None
                watching.append(Registration(sink.reporter, policy=policy))
        return watching

    @property
    def written(self) -> int:
        """Events that the log has."""
        return self.log.account().delivered

    @property
    def dropped(self) -> int:
        """Events that the channels have dropped."""
        return sum(sink.reporter.dropped for sink in list(self.sinks))

    def close(self) -> list[str]:
        """Close all; return what does not add up."""
        faults = []
        for sink in self.sinks:
            sink.reporter.close(CLOSE_S)
            faults.extend(sink.faults(self.told[sink.scope].taken))
        self.log.close()
        self._stdout.close()
        self._terminal.close()
        account = self.log.account()
        if not account.is_complete or account.received != self.told["all"].taken:
            faults.append(f"log: {account}, of {self.told['all'].taken} told")
        return faults


class FollowerProcess:
    """The process that follows the log; what it said last is in `counts`."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.soak_follower", str(log)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.counts: Counts | None = None
        self.samples: list[tuple[float, Process]] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        for line in self._process.stdout:
            self.counts = msgspec.json.decode(line, type=Counts)
            self.samples.append((time.monotonic(), self.counts.process))

    def finish(self, expected: int) -> Counts:
        """Have it read to the end, where it finds so many events; return what it found."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        assert self._process.stdout is not None  # noqa: S101 - the same
        self._process.stdin.write(f"{expected}\n")
        self._process.stdin.close()
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()
        return self.counts or Counts()


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return by how much a value grows a second, by the line of least squares."""
    return statistics.linear_regression(*zip(*samples, strict=True)).slope


def growth_faults(name: str, samples: Sequence[tuple[float, Process]]) -> list[str]:
    """Return in what a process has grown, over the last two thirds of its time; and print it."""
    begin, end = samples[0][0], samples[-1][0]
    settled = [(at, process) for at, process in samples if at >= begin + (end - begin) / 3]
    half = len(settled) // 2
    faults = []
    grown = slope([(at, process.rss) for at, process in settled]) * (settled[-1][0] - settled[0][0])
    usual = statistics.median(process.rss for _, process in settled)
    print(
        f"{name}: {usual / 2**20:.1f} MiB, {grown / 2**20:+.2f} MiB in {settled[-1][0] - settled[0][0]:.0f} s"
    )
    if grown > max(GROWTH_SHARE * usual, GROWTH_BYTES):
        faults.append(f"{name}: grew by {grown:,.0f} bytes")
    for what in ("descriptors", "threads"):
        before, after = (
            statistics.median(getattr(process, what) for _, process in part)
            for part in (settled[:half], settled[half:])
        )
        if after - before > GROWTH_COUNT:
            faults.append(f"{name}: {what} rose from {before:g} to {after:g}")
    return faults


def reading_faults(counts: Counts, watch: Watch, sessions: int) -> list[str]:
    """Return what the reader found that it should not have, or did not find."""
    account = watch.log.account()
    expected = {
        "read": account.delivered,
        "masked": account.redacted,
        "sessions": sessions,
        "lost": 0,
        "doubled": 0,
        "leaked": 0,
        "bad": 0,
    }
    found = {name: getattr(counts, name) for name in expected}
    return [
        f"reader: {name} {found[name]}, expected {expected[name]}"
        for name in expected
        if found[name] != expected[name]
    ]


def line(seconds: float, watch: Watch, follower: FollowerProcess) -> str:
    """Return one line of the table."""
    ours, counts = Process.now(), follower.counts or Counts()
    theirs = counts.process
    return (
        f"{seconds:>6.0f}{watch.written:>12,}{counts.read:>12,}{counts.lost:>6}{counts.doubled:>8}"
        f"{watch.dropped:>12,}{ours.rss / 2**20:>9.1f}{theirs.rss / 2**20:>8.1f}"
        f"{ours.descriptors:>6}{theirs.descriptors:>4}{ours.threads:>8}{theirs.threads:>4}"
    )


def soak(seconds: float, every_s: float, directory: Path) -> list[str]:
    """Run the soak, print its lines, and return what is wrong."""
    log = directory / "run.jsonl"
    watch, follower = Watch(log), FollowerProcess(log)
    workers = Workers(watch.observers("threads"), lambda: watch.observers("loop"))
    print(
        f"{'s':>6}{'written':>12}{'read':>12}{'lost':>6}{'doubled':>8}{'dropped':>12}{'MiB: w':>9}{'r':>8}"
        f"{'fd: w':>6}{'r':>4}{'threads':>8}{'r':>4}",
        flush=True,
    )
    samples: list[tuple[float, Process]] = []
    begin = time.monotonic()
    due = begin + every_s
    workers.start()
    while (now := time.monotonic()) < begin + seconds and not workers.failures:
        samples.append((now, Process.now()))
        if now >= due:
            due += every_s
            print(line(now - begin, watch, follower), flush=True)
        time.sleep(min(1.0, max(0.0, begin + seconds - now)))
    workers.stop()
    faults = [*workers.failures, *watch.close()]
    counts = follower.finish(watch.written)
    faults += reading_faults(counts, watch, workers.sessions)
    print(line(time.monotonic() - begin, watch, follower))
    for sink in watch.sinks:
        print(f"  {sink.name}: {sink.reporter.account()}")
    print(
        f"  log: {watch.log.account()}; {workers.sessions:,} sessions; {len(list(directory.iterdir()))} files"
    )
    if seconds >= SETTLED_S:
        faults += growth_faults("writer", samples) + growth_faults("reader", follower.samples)
    return faults


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long sessions are played.")
@click.option("--every", "every_s", default=30.0, show_default=True, help="Seconds between two lines.")
def main(minutes: float, every_s: float) -> None:
    """Play sessions with everything attached, print what happens, and exit 1 where anything does not add up."""
    logging.disable(logging.WARNING)  # each channel says once that it drops events
    with tempfile.TemporaryDirectory() as name:
        faults = soak(minutes * 60, every_s, Path(name))
    for fault in faults:
        print(f"WRONG {fault}")
    print("all counts are exact, nothing grew" if not faults else f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
