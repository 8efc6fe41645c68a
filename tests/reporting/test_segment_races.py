"""Segments while others rename, pack and remove them: what a directory is said to hold may be out of date.

A large directory is read piece by piece, and a name that changes meanwhile may be in none of the pieces. Here the
same is done on purpose: the directory's time is put back, by which a reader takes what it knows for what is there.
"""

from __future__ import annotations

import functools
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.clock import Clock
from agentkit_reporting.log.follow import MAX_OPEN_LOGS
from agentkit_reporting.log.packing import packing_of
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import free_number, segment_path
from agentkit_reporting.log.upkeep import Retention, Upkeep
from tests.reporting.followed_logs import appending, followed, following
from tests.reporting.numbered_lines import LENGTH, lines, seqs, written

LONG_AGO_S = 1_700_000_000


def settle(directory: Path) -> None:
    """Let the directory say that it has not changed for long."""
    os.utime(directory, (LONG_AGO_S, LONG_AGO_S))


def pack(path: Path) -> None:
    Upkeep(path, packing_of("gzip", wanted_by="test"), Retention(), Clock()).do()


def rotate(path: Path, number: int, content: bytes) -> None:
    path.rename(segment_path(path, number))
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_number_that_is_there_in_any_form_is_not_given_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "run.jsonl"
    assert free_number(path) == 1
    segment_path(path, 3, suffix).touch()
    assert free_number(path) == free_number(path, 3) == free_number(path, 2) == 4
    assert free_number(path, 7) == 4  # noted, but never given


def test_the_number_that_was_given_last_is_noted_beside_the_log(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, *range(1, 6), rotation=Rotation(max_bytes=LENGTH))
    assert (tmp_path / ".run.jsonl.lock").read_bytes().endswith(b"\n0000004\n")


def test_a_segment_that_is_packed_while_it_is_listed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    segment_path(path, 1).write_bytes(lines(1))
    segment_path(path, 2).write_bytes(lines(2))
    path.write_bytes(lines(3))
    settle(tmp_path)
    reader = read_events(path, strict=True)
    pack(path)
    settle(tmp_path)
    assert [event.seq for event in reader] == [1, 2, 3]


def test_a_segment_that_no_listing_showed_is_read_before_the_active_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    segment_path(path, 1).write_bytes(lines(1))
    path.write_bytes(lines(2))
    settle(tmp_path)
    reader = read_events(path, strict=True)
    assert next(reader).seq == 1
    rotate(path, 2, lines(3))
    settle(tmp_path)
    assert [event.seq for event in reader] == [2, 3]


def test_segments_that_are_missing_among_the_listed_ones_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for number in (5, 40):
        segment_path(path, number).write_bytes(lines(number))
    path.write_bytes(lines(41))
    settle(tmp_path)
    reader = read_events(path, strict=True)
    for number in (*range(1, 5), *range(6, 40)):
        segment_path(path, number, ".gz").write_bytes(gzip.compress(lines(number)))
    settle(tmp_path)
    assert [event.seq for event in reader] == [*range(1, 42)]


def test_what_was_removed_before_its_turn_is_told_and_what_was_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for number in (1, 9):
        segment_path(path, number).write_bytes(lines(number))
    path.write_bytes(lines(16))
    settle(tmp_path)
    reader = read_events(path)
    assert next(reader).seq == 1
    segment_path(path, 9).unlink()
    for number in (10, 11, 13, 14, 15):
        segment_path(path, number, ".gz").write_bytes(gzip.compress(lines(number)))
    assert [event.seq for event in reader] == [10, 11, 13, 14, 15, 16]
    assert [Path(bad.path).name for bad in reader.bad] == ["run.000009.jsonl", "run.000012.jsonl"]


# --- following


def test_a_log_that_was_moved_away_does_not_stand_for_the_segment_after_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))

    def move_and_rotate() -> None:
        path.rename(tmp_path / "kept.txt")
        path.write_bytes(lines(2))
        rotate(path, 1, lines(3))
        pack(path)

    assert followed(path, move_and_rotate, appending(path, lines(4))) == [1, 2, 3, 4]


def test_a_file_that_was_empty_when_it_was_opened_is_read_once_though_it_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.touch()

    def write_and_rotate() -> None:
        path.write_bytes(lines(1))
        rotate(path, 1, lines(2))
        pack(path)

    assert followed(path, write_and_rotate) == [1, 2]


@pytest.mark.parametrize("packs", [False, True])
def test_numbers_that_begin_anew_are_followed(tmp_path: Path, *, packs: bool) -> None:
    path = tmp_path / "run.jsonl"
    for number in range(1, 6):
        segment_path(path, number).write_bytes(lines(number))
    path.write_bytes(lines(6))

    def remove_segments() -> None:
        for number in range(1, 6):
            segment_path(path, number).unlink()
        rotate(path, 1, lines(7))
        rotate(path, 2, lines(8))
        if packs:
            pack(path)

    def remove_all() -> None:
        for each in tmp_path.iterdir():
            each.unlink()
        path.write_bytes(lines(9))
        rotate(path, 1, lines(10))

    found = followed(path, remove_segments, remove_all, appending(path, lines(11)))
    assert found == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("others", [0, MAX_OPEN_LOGS + 1])
def test_a_log_that_was_cut_and_written_again_is_read_from_its_beginning(tmp_path: Path, others: int) -> None:
    for number in range(others):  # with many it is closed between two looks
        (tmp_path / f"a{number:03}.jsonl").touch()
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))

    def cut() -> None:
        os.truncate(path, 0)
        appending(path, lines(2, 3, 4))()

    assert followed(tmp_path, lambda: None, cut, appending(path, lines(5))) == [1, 2, 3, 4, 5]


def test_a_log_that_is_closed_between_two_looks_is_known_again_by_what_it_begins_with(tmp_path: Path) -> None:
    for number in range(MAX_OPEN_LOGS + 1):
        (tmp_path / f"a{number:03}.jsonl").touch()
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))

    def stray_segment() -> None:
        segment_path(path, 1).write_bytes(lines(9))
        appending(path, lines(2))()

    def rotate_and_remove() -> None:
        appending(path, lines(3))()
        rotate(path, 2, lines(4))
        segment_path(path, 2).unlink()
        rotate(path, 3, lines(5))

    steps = [lambda: None, stray_segment, rotate_and_remove, lambda: None]
    reader = following(tmp_path, *steps, strict=False)
    assert [event.seq for event in reader] == [1, 2, 9, 4, 5]
    assert [Path(bad.path).name for bad in reader.bad] == ["run.000002.jsonl"]


# --- names that a process means


def test_a_reader_means_what_names_meant_when_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.jsonl.gz").write_bytes(gzip.compress(lines(1)))
    (logs / "b.jsonl").write_bytes(lines(2))
    sources: list[Any] = ["logs", "logs/*.jsonl*", ["logs/a.jsonl.gz", "logs/b.jsonl"]]
    for source in sources:
        monkeypatch.chdir(tmp_path)
        reader = read_events(source, strict=True)
        monkeypatch.chdir("/")
        assert [(event.seq, reader.path) for event in reader] == [(1, "logs/a.jsonl.gz"), (2, "logs/b.jsonl")]


@pytest.mark.parametrize("source", ["logs", "logs/run.jsonl", "logs/r*.jsonl"])
def test_a_follower_means_what_names_meant_when_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "logs" / "run.jsonl"
    steps: list[Callable[[], object]] = [
        functools.partial(monkeypatch.chdir, "/"),
        path.parent.mkdir,
        appending(path, lines(1)),
        appending(path, lines(2)),
    ]
    assert followed(source, *steps) == [1, 2]


def test_a_link_that_leads_to_another_log_is_followed_there(tmp_path: Path) -> None:
    link, first, second = (tmp_path / name for name in ("current.jsonl", "one.txt", "two.txt"))
    first.write_bytes(lines(1))
    link.symlink_to(first)

    def lead_on() -> None:
        second.write_bytes(lines(2))
        link.unlink()
        link.symlink_to(second)

    assert followed(link, lead_on, appending(second, lines(3))) == [1, 2, 3]


def test_a_link_to_a_packed_file_of_another_name_is_read_packed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(gzip.compress(lines(1, 2)))
    (tmp_path / "a.jsonl.gz").symlink_to(tmp_path / "blob")
    assert seqs(tmp_path / "a.jsonl.gz", strict=True) == [1, 2]
