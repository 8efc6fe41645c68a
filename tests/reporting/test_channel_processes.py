"""Held events when a process forks and when an interpreter ends: each is delivered once, by whom it was given to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentkit_reporting import read_events

HEAD = """
import os, sys, threading
from agentkit_loop.observers import FailurePolicy
from agentkit_reporting import *
from tests.reporting.adapters import Gated, notes
log = JsonlReporter(sys.argv[1])
"""


def run(program: str, log: Path, *, said: str = "") -> list[int]:
    """Run a program of its own; return the numbers in its log. said: what it must say on stderr."""
    assert stderr_of(program, log) == said
    return [event.seq for event in read_events(log)]


def stderr_of(program: str, log: Path) -> str:
    """Run a program of its own; return what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + program, str(log)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


@pytest.mark.parametrize(
    "channel",
    [
        "ChannelReporter.threaded(log)",
        "BufferedReporter(log, 1_000)",
        "ChannelReporter.threaded(BufferedReporter(log, 1_000))",
        "BufferedReporter(ChannelReporter.threaded(log), 7)",
        "CompositeReporter(PolicyReporter(ChannelReporter.threaded(log), FailurePolicy.LOG))",
    ],
)
def test_what_is_held_at_exit_is_delivered(channel: str, tmp_path: Path) -> None:
    program = f"channel = {channel}\nfor event in notes(500): channel.handle_event(event)"
    assert run(program, tmp_path / "run.jsonl") == list(range(1, 501))


@pytest.mark.parametrize(
    "ending", ["sys.exit(0)", "raise SystemExit", "threading.Thread(target=print).start()"]
)
def test_what_is_held_is_delivered_however_the_program_ends(ending: str, tmp_path: Path) -> None:
    program = (
        "channel = ChannelReporter.threaded(log)\n"
        f"for event in notes(500): channel.handle_event(event)\n{ending}"
    )
    assert run(program, tmp_path / "run.jsonl") == list(range(1, 501))


def test_events_that_nobody_takes_do_not_hold_up_the_exit(tmp_path: Path) -> None:
    program = """
reporter, receiver = ChannelReporter.pair()
for event in notes(3): reporter.handle_event(event)
log.handle_event(notes(1)[0])
from agentkit_reporting.process_ends import deliver_all
deliver_all(1_000.0)  # what runs at exit; a test that hangs would say so
"""
    assert run(program, tmp_path / "run.jsonl") == [1]


def test_a_sink_that_hangs_holds_up_the_exit_no_longer_than_the_bound(tmp_path: Path) -> None:
    program = """
from agentkit_reporting.process_ends import deliver_all
channel = ChannelReporter.threaded(Gated())
for event in notes(5): channel.handle_event(event)
log.handle_event(notes(1)[0])
deliver_all(0.05)
os._exit(0)
"""
    said = "the channel to Gated still held 5 of 5 events when the process ended; they are lost\n"
    assert run(program, tmp_path / "run.jsonl", said=said) == [1]


def test_a_forked_child_delivers_its_own_events_and_not_its_parents(tmp_path: Path) -> None:
    program = """
gated = Gated()
channel = CompositeReporter(ChannelReporter.threaded(gated), BufferedReporter(ChannelReporter.threaded(log), 1_000))
events = notes(20)
for event in events[:10]: channel.handle_event(event)
gated.entered.wait()
child = os.fork()
gated.gate.set()
if child == 0:
    for event in events[10:]: channel.handle_event(event)
    arrived = channel.close(30.0)
    os._exit(0 if arrived and gated.got == list(range(11, 21)) and channel.account().received == 10 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert channel.close(30.0), channel.account()
assert gated.got == list(range(1, 11)), gated.got
"""
    assert sorted(run(program, tmp_path / "run.jsonl")) == list(range(1, 21))


def test_a_child_of_multiprocessing_delivers_what_it_holds_when_it_ends(tmp_path: Path) -> None:
    program = """
import multiprocessing
channel = ChannelReporter.threaded(BufferedReporter(log, 1_000))
events = notes(40)
for event in events[:10]: channel.handle_event(event)
def work():
    for event in events[10:]: channel.handle_event(event)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
"""
    seqs = run(program, tmp_path / "run.jsonl")
    assert sorted(seqs) == list(range(1, 41))


def test_a_fork_while_other_threads_tell_leaves_no_lock_held(tmp_path: Path) -> None:
    program = """
channel = ChannelReporter.threaded(BufferedReporter(log, 3))
event = notes(1)[0]
stop = threading.Event()
def tell():
    while not stop.is_set(): channel.handle_event(event)
threads = [threading.Thread(target=tell) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        channel.handle_event(event)
        os._exit(0 if channel.close(30.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
for thread in threads: thread.join()
channel.flush(30.0)
"""
    assert set(run(program, tmp_path / "run.jsonl")) == {1}
