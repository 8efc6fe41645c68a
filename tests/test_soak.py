"""The soak itself: a moment of it adds up, and its rules find what is lost, doubled, leaked, or grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_loop.testing import EventRecorder
from agentkit_reporting import UsageReporter
from benchmarks.soak import growth_faults, soak
from benchmarks.soak_follower import Follower, Process
from benchmarks.soak_sessions import agent_of
from tests.reporting.adapters import quiet


def test_a_moment_of_the_soak_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        assert soak(1.0, 0.5, tmp_path) == []
    printed = capsys.readouterr().out
    assert "log: complete" in printed
    assert printed.split()[:5] == ["s", "written", "read", "lost", "doubled"]


def test_what_is_lost_doubled_or_leaked_is_counted() -> None:
    recorder = EventRecorder()
    for number in (1, 2):
        with agent_of([recorder], UsageReporter()).start(session_id=f"7-{number}") as driver:
            driver.run("why?")
    first = [event for event in recorder.events if event.session_id == "7-1"]
    second = [event for event in recorder.events if event.session_id == "7-2"]

    follower = Follower()
    for event in (*first, *second[:10], *second[13:], first[0], second[3]):
        follower.take(event)
    counts = follower.counts
    assert (counts.lost, counts.doubled, counts.sessions) == (3, 2, 2)
    assert counts.leaked == 2  # whole in the commit of each session's second answer: nothing was masked here
    follower = Follower()
    follower.take(second[0])
    assert follower.counts.lost == 1  # the session before it


@pytest.mark.parametrize(
    ("rates", "found"),
    [((0, 0, 0), ""), ((200_000, 0, 0), "bytes"), ((0, 1, 0), "descriptors"), ((0, 0, 1), "threads")],
)
def test_what_grows_is_found(
    rates: tuple[int, int, int], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rss, descriptors, threads = rates  # bytes a second; how many in ten seconds
    samples = [
        (
            float(second),
            Process(
                rss=(100 << 20) + rss * second,
                descriptors=9 + descriptors * second // 10,
                threads=5 + threads * second // 10,
            ),
        )
        for second in range(180)
    ]
    faults = growth_faults("writer", samples)
    assert len(faults) == bool(found)
    assert found in "".join(faults)
    assert "writer: 1" in capsys.readouterr().out
