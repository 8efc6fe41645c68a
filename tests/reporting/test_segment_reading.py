"""Reading logs of several files: segments joined, each once, packed or not, whatever way they are named."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.log.read import read_events
from tests.reporting.numbered_lines import lines, record, seqs


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two logs: one of four files, of which one is there twice, one of one."""
    (tmp_path / "run.000001.jsonl.gz").write_bytes(gzip.compress(lines(1, 2)))
    (tmp_path / "run.000002.jsonl.zst").write_bytes(zstandard.compress(lines(3, 4)))
    (tmp_path / "run.000003.jsonl").write_bytes(lines(5, 6))
    (tmp_path / "run.000003.jsonl.gz").write_bytes(gzip.compress(lines(5, 6)))
    (tmp_path / "run.jsonl").write_bytes(lines(7))
    (tmp_path / "other.jsonl").write_bytes(lines(20))
    (tmp_path / ".run.jsonl.lock").write_bytes(b"2026-05-24T00:00:00+00:00\n")
    (tmp_path / ".run.000004.jsonl.gz.tmp").write_bytes(b"half")
    return tmp_path


RUN = [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (lambda here: here / "run.jsonl", RUN),
        (lambda here: here, [20, *RUN]),
        (lambda here: f"{here}/*.jsonl", [20, *RUN]),
        (lambda here: f"{here}/run*", RUN),
        (lambda here: f"{here}/**/run.jsonl", RUN),
        (lambda here: sorted(here.glob("[!.]*.jsonl*")), [20, *RUN]),  # as a shell gives them
        (lambda here: sorted(here.glob("run.*"), reverse=True), RUN),
        (lambda here: [here / "run.jsonl", here], [*RUN, 20]),
        (lambda here: [here / "run.000001.jsonl.gz", here], [*RUN, 20]),
        (lambda here: here / "run.000002.jsonl.zst", [3, 4]),
        (lambda here: here / "run.000003.jsonl", [5, 6]),
        (lambda here: f"{here}/run.0*", [1, 2, 3, 4, 5, 6]),
        (lambda here: [here / "run.000003.jsonl.gz", here / "run.000003.jsonl"], [5, 6]),
    ],
)
def test_a_log_is_read_once_with_its_segments_in_order_however_it_is_named(
    logs: Path, name: Callable[[Path], Any], expected: list[int]
) -> None:
    assert seqs(name(logs), strict=True) == expected


def test_a_log_whose_active_file_is_not_there_is_its_segments(logs: Path) -> None:
    (logs / "run.jsonl").unlink()
    for name in (logs / "run.jsonl", f"{logs}/run.*", f"{logs}/run.0*"):
        assert seqs(name, strict=True) == RUN[:-1]
    assert seqs(logs, strict=True) == [20, *RUN[:-1]]


def test_a_name_that_only_looks_like_a_segments_is_a_log_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.20260524.jsonl").write_bytes(lines(1))
    (tmp_path / "a.000001.jsonl").write_bytes(lines(2))
    assert seqs(tmp_path / "a.000001.jsonl") == [2]
    assert seqs(tmp_path) == [1, 2]


def test_removed_segments_are_no_fault_where_they_went_before(logs: Path) -> None:
    for segment in ("run.000001.jsonl.gz", "run.000002.jsonl.zst"):
        (logs / segment).unlink()
    assert seqs(logs / "run.jsonl", strict=True) == [5, 6, 7]


def test_a_segment_that_goes_before_its_turn_is_told(logs: Path) -> None:
    reader = read_events(logs / "run.jsonl")
    assert next(reader).seq == 1
    (logs / "run.000002.jsonl.zst").unlink()
    assert [event.seq for event in reader] == [2, 5, 6, 7]
    assert [(bad.path, bad.line) for bad in reader.bad] == [(str(logs / "run.000002.jsonl"), 1)]
    assert "removed before it could be read" in reader.bad[0].reason


def test_a_segment_that_is_packed_before_its_turn_is_read_packed(logs: Path) -> None:
    reader = read_events(logs / "run.jsonl", strict=True)
    assert next(reader).seq == 1
    (logs / "run.000003.jsonl").unlink()
    assert [event.seq for event in reader] == RUN[1:]
    alone = read_events(logs / "run.000003.jsonl.gz", strict=True)
    (logs / "run.000003.jsonl").write_bytes(lines(5, 6))
    (logs / "run.000003.jsonl.gz").unlink()
    assert [event.seq for event in alone] == [5, 6]


def test_a_log_that_is_rotated_while_it_is_read_is_read_to_its_end(logs: Path) -> None:
    reader = read_events(logs / "run.jsonl", strict=True)
    assert [next(reader).seq for _ in range(7)] == RUN
    (logs / "run.jsonl").rename(logs / "run.000004.jsonl")
    (logs / "run.jsonl").write_bytes(lines(8))
    (logs / "run.jsonl").rename(logs / "run.000005.jsonl")
    (logs / "run.jsonl").write_bytes(lines(9))
    assert [event.seq for event in reader] == [8, 9]


def test_bad_lines_are_told_with_the_name_of_their_segment(logs: Path) -> None:
    (logs / "run.000001.jsonl.gz").write_bytes(gzip.compress(lines(1) + b"no event\n" + lines(2)))
    reader = read_events(str(logs / "run.jsonl"))
    assert [event.seq for event in reader] == RUN
    assert [(Path(bad.path).name, bad.line) for bad in reader.bad] == [("run.000001.jsonl.gz", 2)]


def test_what_is_named_is_what_the_reader_names(logs: Path) -> None:
    here = os.path.relpath(logs)
    assert read_events(here).paths == (f"{here}/other.jsonl", f"{here}/run.jsonl")


# --- packed


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_packed_members_one_after_another_are_one_log(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed is gzip.compress else "a.jsonl.zst")
    path.write_bytes(packed(lines(1)) + packed(b"") + packed(lines(2)))
    assert seqs(path, strict=True) == [1, 2]


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_of_a_packed_file_that_ends_early_the_readable_part_is_read(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed is gzip.compress else "a.jsonl.zst")
    whole = packed(b"".join(record(seq, data=os.urandom(40).hex()) + b"\n" for seq in range(1, 6_001)))
    path.write_bytes(whole[: len(whole) // 2])
    reader = read_events(path)
    found = [event.seq for event in reader]
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 1_000
    assert reader.bad_count == 1
    assert "ends early" in reader.bad[0].reason


def test_a_zstd_file_that_is_none_is_one_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(b"plain text\n")
    reader = read_events(tmp_path)
    assert list(reader) == []
    assert ["the rest cannot be read" in bad.reason for bad in reader.bad] == [True]


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_packed_file_made_to_keep_its_reader_busy_is_left(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed is gzip.compress else "a.jsonl.zst")
    path.write_bytes(packed(lines(1) + b" " * 5_000_000 + b"\n" + lines(2)))
    assert seqs(path, strict=True) == [1, 2]
    reader = read_events(path, max_unpacked_bytes=1_000_000)
    assert [event.seq for event in reader][:1] == [1]  # what came with the first piece
    assert (
        "more than 1,000,000 bytes and 100 times its size; raise max_unpacked_bytes" in reader.bad[-1].reason
    )
    with pytest.raises(LogError, match="raise max_unpacked_bytes"):
        seqs(path, max_unpacked_bytes=1_000_000, strict=True)


def test_a_large_file_that_is_packed_as_logs_are_is_read(tmp_path: Path) -> None:
    text = b"".join(record(seq, data=os.urandom(30).hex()) + b"\n" for seq in range(1, 2_001))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    assert len(seqs(tmp_path, max_unpacked_bytes=1_000, strict=True)) == 2_000


@pytest.mark.parametrize(
    "options", [{"max_unpacked_bytes": 0}, {"max_line_bytes": 0}, {"poll_ms": 0}, {"until_run_end": True}]
)
def test_bounds_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        read_events(io.BytesIO(), **options)
