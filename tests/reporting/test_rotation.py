"""Rotation: when a log is begun anew, what its files are called, and what writers do when it goes wrong."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.testing import VirtualClock
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import Segment, segment_path, segments_of
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, files, lines, names, note, record, seqs, written

RUN = [sys.executable, "-c"]
DAY = dt.timedelta(days=1)
TWO_LINES = Rotation(max_bytes=2 * LENGTH, compress=None)


# --- by size


def test_a_line_that_would_make_the_file_too_long_begins_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, 1, 2, 3, 4, 5, rotation=TWO_LINES)
    assert names(tmp_path) == ["run.000001.jsonl", "run.000002.jsonl", "run.jsonl"]
    assert [len(each.path.read_bytes()) for each in segments_of(path)] == [2 * LENGTH] * 2
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5]


def test_a_line_longer_than_the_bound_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, 1, 2, 3, rotation=Rotation(max_bytes=10, compress=None))
    assert [path.read_bytes() for path in sorted(tmp_path.glob("run*"))] == [lines(1), lines(2), lines(3)]


def test_numbers_go_on_with_the_next_writer_and_what_is_too_long_already_is_rotated_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    written(path, 1, 2, 3)
    written(path, 4, rotation=TWO_LINES)
    written(path, 5, 6, rotation=TWO_LINES)
    assert names(tmp_path) == ["run.000001.jsonl", "run.000002.jsonl", "run.jsonl"]
    assert seqs(tmp_path / "run.000001.jsonl") == [1, 2, 3]
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5, 6]


def test_a_torn_end_stays_in_its_segment(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1) + record(2)[:-20])
    written(path, 3, rotation=Rotation(max_bytes=LENGTH, compress=None))
    reader = read_events(path)
    assert [event.seq for event in reader] == [1, 3]
    assert [(Path(bad.path).name, bad.line) for bad in reader.bad] == [("run.000001.jsonl", 2)]


# --- by time


def test_a_file_is_rotated_when_it_is_old_enough(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "run.jsonl"
    with LogWriter(path, clock=clock, rotation=Rotation(max_age_s=100, compress=None)) as writer:
        for number, seconds in ((1, 60), (2, 39.5), (3, 0.6), (4, 99), (5, 2)):
            writer.write(record(number))
            clock.advance(seconds)
        writer.write(record(6))
    assert files(tmp_path) == [[1, 2, 3], [4, 5], [6]]


def test_the_age_of_a_file_is_known_to_the_next_writer(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_age_s=100, compress=None)
    for number in range(1, 6):
        written(path, number, clock=clock, rotation=rotation)
        clock.advance(40)
    assert files(tmp_path) == [[1, 2, 3], [4, 5]]


def test_a_file_that_nobody_noted_the_beginning_of_is_as_old_as_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, 1)
    clock = VirtualClock(dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC))
    written(path, 2, clock=clock, rotation=Rotation(max_age_s=100, compress=None))
    assert names(tmp_path) == ["run.jsonl"]
    clock.advance(101)
    (tmp_path / ".run.jsonl.lock").write_text("no time\n")
    os.utime(path, (clock.now().timestamp() - 101,) * 2)
    written(path, 3, clock=clock, rotation=Rotation(max_age_s=100, compress=None))
    assert files(tmp_path) == [[1, 2], [3]]


def test_the_first_line_after_midnight_utc_begins_a_new_file(tmp_path: Path) -> None:
    clock = VirtualClock(dt.datetime(2026, 5, 24, 23, 59, 58, 500_000, tzinfo=dt.UTC))
    path = tmp_path / "run.jsonl"
    with LogWriter(path, clock=clock, rotation=Rotation(at_midnight=True, compress=None)) as writer:
        for number, seconds in ((1, 1.4), (2, 0.2), (3, 86_399.8), (4, 0.2), (5, 3 * 86_400)):
            writer.write(record(number))
            clock.advance(seconds)
        writer.write(record(6))
    assert files(tmp_path) == [[1, 2], [3, 4], [5], [6]]


def test_an_empty_file_is_never_rotated_and_begins_with_its_first_line(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_age_s=100, compress=None)
    with LogWriter("/dev/full", clock=clock, rotation=rotation) as writer, pytest.raises(LogError):
        writer.write(b"one")
    path.touch()
    clock.advance(1_000)
    with LogWriter(path, clock=clock, rotation=rotation) as writer:
        for number in range(1, 6):
            writer.write(record(number))
            clock.advance(30)
    assert files(tmp_path) == [[1, 2, 3, 4], [5]]


# --- names


def test_the_names_of_segments(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    assert segment_path(path, 12, ".gz").name == "run.000012.jsonl.gz"
    assert segment_path(path, 1_234_567).name == "run.1234567.jsonl"
    for name in ("run.000012.jsonl.gz", "run.1234567.jsonl", "run.000012.jsonl", "run.0123456.jsonl"):
        (tmp_path / name).touch()
    assert segments_of(path) == [
        Segment(tmp_path / "run.000012.jsonl", 12),
        Segment(tmp_path / "run.000012.jsonl.gz", 12, ".gz"),
        Segment(tmp_path / "run.1234567.jsonl", 1_234_567),
    ]
    assert segments_of(tmp_path / "missing" / "run.jsonl") == []


@pytest.mark.parametrize("name", ["run", "run.log", ".run.jsonl", "run.2026-05-24.jsonl"])
def test_any_name_of_a_log_can_be_rotated_and_read(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, 1, 2, 3, rotation=Rotation(max_bytes=LENGTH))
    assert len(names(tmp_path)) == 3
    assert seqs(tmp_path / name, strict=True) == [1, 2, 3]


@pytest.mark.parametrize("name", ["run.000001.jsonl", "a.123456"])
def test_a_name_that_is_a_segments_is_refused_for_a_rotated_log(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="the name of a rotated file"):
        LogWriter(tmp_path / name, rotation=TWO_LINES)


def test_a_link_to_a_log_is_rotated_where_the_log_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "latest.jsonl").symlink_to(tmp_path / "real" / "run.jsonl")
    written(tmp_path / "latest.jsonl", 1, 2, 3, rotation=TWO_LINES)
    assert names(tmp_path / "real") == ["run.000001.jsonl", "run.jsonl"]
    assert seqs(tmp_path / "latest.jsonl", strict=True) == [1, 2, 3]


def test_files_and_the_lock_are_private(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    written(path, 1, 2, 3, rotation=Rotation(max_bytes=LENGTH))
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_last_number_is_not_gone_beyond(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    segment_path(path, 9_999_999).write_bytes(lines(1))
    with LogWriter(path, rotation=TWO_LINES) as writer:
        for number in range(2, 7):
            writer.write(record(number))
        with pytest.raises(LogError, match="no number is left"):
            writer.flush()
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5, 6]


def test_a_log_that_another_program_has_locked_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LogError, match="another program has locked the log"):
            writer.write(record(1))
    writer.write(record(2))
    writer.close()
    assert seqs(path) == [2]


@pytest.mark.parametrize("excess", [1, 17])
def test_a_name_that_leaves_no_room_for_a_number_is_refused(tmp_path: Path, excess: int) -> None:
    path = tmp_path / f"{'x' * (232 + excess)}.jsonl"
    with pytest.raises(ConfigurationError, match=f"give one that is {excess} bytes shorter"):
        LogWriter(path, rotation=TWO_LINES)


def test_the_longest_name_that_leaves_room_is_rotated_and_packed(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 232}.jsonl"
    written(path, *range(1, 6), rotation=Rotation(max_bytes=2 * LENGTH))
    assert [each.suffix for each in segments_of(path)] == [".gz", ".gz"]
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5]


# --- several writers


def test_a_writer_goes_on_in_the_old_file_until_it_looks_and_loses_no_line(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "run.jsonl"
    with LogWriter(path, clock=clock) as slow:
        slow.write(record(1))
        written(path, 2, 3, clock=clock, rotation=Rotation(max_bytes=2 * LENGTH))
        assert names(tmp_path) == ["run.000001.jsonl", "run.jsonl"]  # held, so neither packed nor removed
        slow.write(record(4))
        clock.advance(1.5)
        slow.write(record(5))
        assert (tmp_path / "run.000001.jsonl").read_bytes() == lines(1, 2, 4)
        assert path.read_bytes() == lines(3, 5)
    written(path, 6, rotation=Rotation(max_bytes=9 * LENGTH))  # finds what can be packed now
    assert names(tmp_path) == ["run.000001.jsonl.gz", "run.jsonl"]
    assert seqs(path, strict=True) == [1, 2, 4, 3, 5, 6]


# --- what goes wrong


def test_a_log_that_was_removed_is_told_once_and_begun_anew(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "logs" / "run.jsonl"
    with LogWriter(path, clock=clock) as writer:
        writer.write(record(1))
        path.unlink()
        path.parent.rmdir()
        clock.advance(1)
        with pytest.raises(LogError, match="removed while it was written"):
            writer.write(record(2))
        writer.write(record(3))
        path.unlink()
        with pytest.raises(LogError, match="removed while it was written"):
            writer.flush()
        writer.write(record(4))
        writer.flush()
    assert seqs(path, strict=True) == [4]


def test_a_log_that_was_moved_away_is_begun_anew_and_loses_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "run.jsonl"
    with LogWriter(path, clock=clock) as writer:
        writer.write(record(1))
        path.rename(tmp_path / "old.jsonl")
        writer.write(record(2))
        clock.advance(1)
        writer.write(record(3))
    assert seqs(tmp_path / "old.jsonl") == [1, 2]
    assert seqs(path) == [3]


def test_lines_go_on_where_the_right_to_rotate_is_lost_and_flush_tells_it() -> None:
    # As another user where the tests run as one who may do everything.
    program = """
import os, sys
from pathlib import Path
from agentkit_reporting import Rotation
from agentkit_reporting.log.write import LogWriter, LogError
if os.getuid() == 0: os.setuid(65534)
path = Path(sys.argv[1])
path.parent.mkdir()
writer = LogWriter(path, rotation=Rotation(max_bytes=50, compress=None))
writer.write(b"x" * 40)
path.parent.chmod(0o500)
for _ in range(5): writer.write(b"y" * 40)
for _ in range(2):
    try: writer.flush()
    except LogError as error: print(error)
path.parent.chmod(0o700)
for _ in range(5): writer.write(b"z" * 40)
writer.close()
print(sorted(os.listdir(path.parent)), writer.lines)
"""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        path = f"{name}/logs/run.jsonl"
        told = subprocess.run([*RUN, program, path], capture_output=True, text=True, check=True).stdout
    first, *_, last = told.splitlines()
    assert first == f"{path}: log could not be rotated and goes on in the old file: permission denied"
    assert told.count("could not be rotated") == 1
    assert "'run.000001.jsonl'" in last
    assert last.endswith(" 11")


# --- settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "nothing would start it"),
        ({"keep": 3}, "nothing would start it"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"max_bytes": "1 MB"}, "max_bytes='1 MB'"),
        ({"max_age_s": float("nan")}, "max_age_s=nan"),
        ({"at_midnight": True, "keep": 0}, "keep=0"),
        ({"at_midnight": True, "compress": "bzip2"}, "compress='bzip2'"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Rotation(**options)
    assert sentence in str(refusal.value)


def test_a_reporter_takes_the_settings_for_a_file_and_for_files_of_sessions(tmp_path: Path) -> None:
    rotation = Rotation(max_bytes=LENGTH)
    one = JsonlReporter(tmp_path / "one.jsonl", rotation=rotation)
    many = JsonlReporter(tmp_path / "many", per="session", rotation=rotation)
    for number in range(1, 4):
        for session in ("a", "b"):
            one.handle_event(note(number, session))
            many.handle_event(note(number, session))
    one.close()
    many.close()
    assert len(segments_of(tmp_path / "one.jsonl")) == 5
    assert [len(segments_of(tmp_path / "many" / f"{name}.jsonl")) for name in "ab"] == [2, 2]
    assert seqs(tmp_path / "many", strict=True) == [1, 2, 3, 1, 2, 3]


def test_a_session_never_has_the_name_of_anothers_segment(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path, per="session", rotation=TWO_LINES)
    path = reporter.path_of("a.000001")
    assert path is not None
    assert path.name.startswith("a_000001~")


@pytest.mark.parametrize("rotation", [TWO_LINES, "daily"])
def test_a_stream_is_not_rotated_and_settings_are_of_their_class(tmp_path: Path, rotation: Any) -> None:
    with pytest.raises(ConfigurationError, match="rotation"):
        JsonlReporter("-" if rotation is TWO_LINES else tmp_path / "a.jsonl", rotation=rotation)
