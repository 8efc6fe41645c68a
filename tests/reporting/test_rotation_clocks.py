"""Rotation by a clock that is set back, jumps ahead, or never was right."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.clock import Clock
from agentkit_loop.testing import VirtualClock
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import files, lines, record, seqs, written

YEARS = dt.timedelta(days=12 * 365)


class WrongClock(Clock):
    """A clock whose time of day may be set, as the machine's may."""

    def __init__(self, start: dt.datetime) -> None:
        self.time = start
        self.seconds = 0.0
        self.now = lambda: self.time

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.time += dt.timedelta(seconds=seconds)


def test_a_clock_that_is_set_back_does_not_end_rotation(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for rotation in (Rotation(at_midnight=True, compress=None), Rotation(max_age_s=57_600, compress=None)):
        ahead = VirtualClock(dt.datetime(2038, 1, 1, 12, tzinfo=dt.UTC))
        written(path, 1, clock=ahead, rotation=rotation)
        clock = VirtualClock(dt.datetime(2026, 5, 24, 12, tzinfo=dt.UTC))
        for number in (2, 3, 4):
            written(path, number, clock=clock, rotation=rotation)
            clock.advance(28_801)
        assert files(tmp_path) == [[1, 2, 3], [4]]
        for each in tmp_path.iterdir():
            each.unlink()


@pytest.mark.parametrize(("rotation", "days"), [({"at_midnight": True}, 1), ({"max_age_s": 90_000}, 2)])
def test_a_writer_whose_clock_is_set_back_goes_on_rotating(
    tmp_path: Path, rotation: dict[str, Any], days: int
) -> None:
    path = tmp_path / "run.jsonl"
    clock = WrongClock(dt.datetime(2038, 1, 1, 12, tzinfo=dt.UTC))
    with LogWriter(path, clock=clock, rotation=Rotation(compress=None, **rotation)) as writer:
        writer.write(record(1))
        clock.time -= YEARS
        for number in range(2, 2 + days):
            clock.advance(1)
            writer.write(record(number))
            clock.advance(86_400)
        writer.write(record(9))
    assert files(tmp_path) == [[*range(1, 2 + days)], [9]]


def test_a_clock_that_jumps_ahead_rotates_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    clock = VirtualClock(dt.datetime(2026, 5, 24, 12, tzinfo=dt.UTC))
    with LogWriter(path, clock=clock, rotation=Rotation(at_midnight=True, compress=None)) as writer:
        for number in range(1, 5):
            writer.write(record(number))
            clock.advance(10_000 * 86_400 if number == 2 else 1)
    assert files(tmp_path) == [[1, 2], [3, 4]]


def test_the_line_at_midnight_itself_begins_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    clock = VirtualClock(dt.datetime(2026, 5, 24, 23, 59, 59, tzinfo=dt.UTC))
    with LogWriter(path, clock=clock, rotation=Rotation(at_midnight=True, compress=None)) as writer:
        for number, seconds in ((1, 0.999_999), (2, 0.000_001), (3, 86_399.999_999), (4, 0.000_001)):
            writer.write(record(number))
            clock.advance(seconds)
        writer.write(record(5))
    assert files(tmp_path) == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    "noted",
    [
        "9999-12-31T23:59:59+00:00\n",
        "9" * 90,
        f"{'9' * 40}.000000\n9999999\n",
        "-1234567890123456.000000\n0000001\n",
    ],
)
def test_no_time_that_a_file_may_say_disturbs_a_writer(tmp_path: Path, noted: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))
    os.utime(path, (2**40, 2**33))
    (tmp_path / ".run.jsonl.lock").write_text(noted)
    rotation = Rotation(max_age_s=1e15, at_midnight=True, compress=None)
    written(path, 2, rotation=rotation)
    assert seqs(path, strict=True) == [1, 2]
