"""Where an event stood: `reader.path` and `reader.line` are right for every event, and for every bad line."""

from __future__ import annotations

import gc
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.events import AgentEvent
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segment_path
from agentkit_reporting.log.write import LogWriter
from tests.reporting.followed_logs import Script, Step, appending, following
from tests.reporting.numbered_lines import LENGTH, lines, record

Places = list[tuple[int, str, int]]


def places(reader: Any) -> Places:
    return [(event.seq, Path(reader.path).name, reader.line) for event in reader]


def written_with(writer: LogWriter, *numbers: int) -> None:
    for number in numbers:
        writer.write(record(number))


def put(place: Path, content: bytes) -> None:
    """Write a file in the way that its name says."""
    place.write_bytes(gzip.compress(content) if place.suffix == ".gz" else content)


def test_every_event_of_a_log_with_segments_has_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    put(segment_path(path, 1, ".gz"), b"\xef\xbb\xbf" + lines(1) + b"\n \r\n" + lines(2))
    put(segment_path(path, 2), record(3) + record(4) + b"\nno event\n" + record(9)[:50] + lines(5))
    put(path, b"\0\0" + lines(6) + record(7) + b"\r\n" + record(8))
    reader = read_events(path)
    assert places(reader) == [
        (1, "run.000001.jsonl.gz", 1),
        (2, "run.000001.jsonl.gz", 4),
        (3, "run.000002.jsonl", 1),
        (4, "run.000002.jsonl", 1),
        (5, "run.000002.jsonl", 3),
        (6, "run.jsonl", 1),
        (7, "run.jsonl", 2),
        (8, "run.jsonl", 3),
    ]
    assert [(Path(bad.path).name, bad.line) for bad in reader.bad] == [
        ("run.000002.jsonl", 2),
        ("run.000002.jsonl", 3),
        ("run.jsonl", 1),
    ]


@pytest.mark.parametrize("block_bytes", [1, 7, LENGTH, 3 * LENGTH + 1])
def test_lines_are_counted_alike_however_the_bytes_come(tmp_path: Path, block_bytes: int) -> None:
    content = lines(1) + b"\n" + lines(2) + b"x" * 40 + b"\n" + lines(3) + record(4) + record(5)

    class Pieces:
        name = "pieces"

        def __init__(self) -> None:
            self.at = 0

        def read(self, size: int = -1) -> bytes:
            del size
            self.at += block_bytes
            return content[self.at - block_bytes : self.at]

    put(tmp_path / "a.jsonl", content)
    expected = [(1, 1), (2, 3), (3, 5), (4, 6), (5, 6)]
    for source in (Pieces(), tmp_path / "a.jsonl"):
        reader = read_events(source)
        assert [(seq, line) for seq, _, line in places(reader)] == expected
        assert [bad.line for bad in reader.bad] == [4]


def test_bad_lines_are_shown_whole_with_their_place_before_what_was_saved_of_them(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    torn = record(7)[:60] + record(2)
    put(segment_path(path, 1, ".gz"), lines(1) + torn + b"\n")
    put(path, b"junk\n" + lines(3))
    reader = read_events(path)
    told: list[Any] = []
    reader.on_bad_line = lambda *bad: told.append((Path(bad[0]).name, *bad[1:]))
    told.extend(event.seq for event in reader)
    assert told == [1, ("run.000001.jsonl.gz", 2, torn), 2, ("run.jsonl", 1, b"junk"), 3]


def test_lines_of_a_file_that_is_rotated_under_a_follower_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, rotation=Rotation(max_bytes=3 * LENGTH))

    def write(*numbers: int) -> Step:
        return lambda: written_with(writer, *numbers)

    expected_names = [*["run.000001.jsonl"] * 3, *["run.000002.jsonl"] * 3, "run.jsonl"]
    steps = [write(1), write(2), write(3, 4), write(5, 6, 7), writer.close]
    found = places(following(path, *steps))
    assert [line for _, _, line in found] == [1, 2, 3, 1, 2, 3, 1]
    for (_, name, _), later in zip(found, expected_names, strict=True):
        assert name.removesuffix(".gz") in (
            "run.jsonl",
            later,
        )  # as it was called when the reader last looked


def test_a_log_that_was_replaced_or_cut_is_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    put(segment_path(path, 1), lines(9))
    put(path, lines(1, 2))

    def replace() -> None:
        put(tmp_path / "new.txt", lines(3))
        (tmp_path / "new.txt").rename(path)

    steps: list[Callable[[], object]] = [
        replace,
        appending(path, lines(4)),
        lambda: os.truncate(path, 0),
        appending(path, lines(5)),
    ]
    assert places(following(path, *steps)) == [
        (9, "run.000001.jsonl", 1),
        (1, "run.jsonl", 1),
        (2, "run.jsonl", 2),
        (3, "run.jsonl", 1),
        (4, "run.jsonl", 2),
        (5, "run.jsonl", 1),
    ]


# --- what else a line may be


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_line_is_too_long_in_any_kind_of_file_and_at_any_place(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, lines(1) + b"x" * 5_000 + b"\n" + lines(2) + b"y" * 1_001 + b"\n" + lines(3))
    reader = read_events(tmp_path, max_line_bytes=1_000)
    assert places(reader) == [(1, name, 1), (2, name, 3), (3, name, 5)]
    assert [(bad.line, bad.reason) for bad in reader.bad] == [
        (2, "longer than 1,000 bytes"),
        (4, "longer than 1,000 bytes"),
    ]


def test_of_many_records_on_one_line_each_whole_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(record(seq) for seq in range(1, 101)))
    assert [event.seq for event in read_events(path, strict=True)] == [*range(1, 101)]
    path.write_bytes(record(1)[:60] * 40 + record(2) + b"\n")
    assert [event.seq for event in read_events(path)] == [2]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_whole_record_before_the_first_bytes_of_another_is_found(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(record(1) + record(2)[:cut] + b"\n" + lines(3))
    reader = read_events(path)
    found: list[AgentEvent] = list(reader)
    assert [event.seq for event in found] == [1, 3]
    assert [bad.line for bad in reader.bad] == [1]


def test_the_rest_of_a_line_that_is_written_just_now_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1) + record(2)[:30])
    clock = Script(appending(path, record(2)[30:60]), appending(path, record(2)[60:] + b"\n"))
    assert [event.seq for event in read_events(path, strict=True, clock=clock)] == [1, 2]
    assert len(clock.slept) == 2


def test_what_a_crash_left_of_a_line_is_waited_for_a_quarter_of_a_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1) + record(2)[:30])
    clock = Script()
    reader = read_events(path, clock=clock)
    assert ([event.seq for event in reader], reader.bad_count) == ([1], 1)
    assert 0 < sum(clock.slept) < 0.26
    os.utime(path, (1_700_000_000, 1_700_000_000))
    clock.slept.clear()
    assert [event.seq for event in read_events(path, clock=clock)] == [1]
    assert clock.slept == []


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("taken", [1, 2, 3])
def test_who_forgets_a_reader_has_its_files_closed_at_once(
    tmp_path: Path, taken: int, *, follow: bool
) -> None:
    path = tmp_path / "run.jsonl"
    put(segment_path(path, 1, ".gz"), lines(1))
    put(segment_path(path, 2), lines(2))
    put(path, lines(3))
    before = len(list(Path("/dev/fd").iterdir()))
    gc.disable()
    try:
        reader = read_events(path, follow=follow)
        assert [next(reader).seq for _ in range(taken)][-1] == taken
        assert len(list(Path("/dev/fd").iterdir())) > before
        del reader
        assert len(list(Path("/dev/fd").iterdir())) == before
    finally:
        gc.enable()
