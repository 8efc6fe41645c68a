"""What becomes of rotated segments: how they are packed, and how long they stay."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import LogError
from agentkit_loop.testing import VirtualClock
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segments_of
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, lines, names, record, seqs, written

RUN = [sys.executable, "-c"]
DAY = dt.timedelta(days=1)


# --- packed


@pytest.mark.parametrize(("compress", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_rotated_segments_are_packed_in_the_background_with_their_mode_and_time(
    tmp_path: Path, compress: Any, suffix: str
) -> None:
    path = tmp_path / "run.jsonl"
    path.touch()
    path.chmod(0o640)
    written(path, 1, 2, 3, 4, 5, rotation=Rotation(max_bytes=2 * LENGTH, compress=compress))
    assert names(tmp_path) == [f"run.00000{n}.jsonl{suffix}" for n in (1, 2)] + ["run.jsonl"]
    first, second = (each.path.stat() for each in segments_of(path))
    assert stat.S_IMODE(first.st_mode) == 0o640
    assert stat.S_IMODE(second.st_mode) == 0o600
    assert first.st_mtime_ns <= second.st_mtime_ns <= path.stat().st_mtime_ns
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5]


def test_what_gzip_itself_reads_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, 1, 2, 3, rotation=Rotation(max_bytes=2 * LENGTH))
    assert gzip.decompress((tmp_path / "run.000001.jsonl.gz").read_bytes()) == lines(1, 2)


def test_packing_is_finished_at_exit_without_a_close(tmp_path: Path) -> None:
    program = (
        "import sys; from agentkit_reporting import Rotation\n"
        "from agentkit_reporting.log.write import LogWriter\n"
        "writer = LogWriter(sys.argv[1], rotation=Rotation(max_bytes=1_000_000))\n"
        "for number in range(3): writer.write(b'x' * 900_000)"
    )
    subprocess.run([*RUN, program, str(tmp_path / "run.jsonl")], check=True)
    assert names(tmp_path) == ["run.000001.jsonl.gz", "run.000002.jsonl.gz", "run.jsonl"]


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from agentkit_reporting import JsonlReporter, Rotation, read_events\n"
        "for act in (lambda: JsonlReporter(sys.argv[1], rotation=Rotation(max_bytes=9, compress='zstd')),\n"
        "            lambda: list(read_events(sys.argv[2]))):\n"
        "    try: act()\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    (tmp_path / "a.jsonl.zst").write_bytes(b"any")
    places = [str(tmp_path / "run.jsonl"), str(tmp_path / "a.jsonl.zst")]
    told = subprocess.run([*RUN, program, *places], capture_output=True, text=True, check=True).stdout
    assert told.count("ConfigurationError") == 2
    assert told.count("install agentkit-loop[zstd]") == 2


def test_importing_brings_no_package_for_packing() -> None:
    program = (
        "import sys; from agentkit_reporting import JsonlReporter, Rotation, read_events\n"
        "JsonlReporter('run.jsonl', rotation=Rotation(max_bytes=9))\n"
        "print([name for name in ('gzip', 'zstandard') if name in sys.modules])"
    )
    assert subprocess.run([*RUN, program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- kept


def test_the_oldest_segments_go_where_there_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, *range(1, 10), rotation=Rotation(max_bytes=LENGTH, keep=3))
    assert [each.number for each in segments_of(path)] == [6, 7, 8]
    assert seqs(path, strict=True) == [6, 7, 8, 9]


def test_segments_go_where_they_take_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_bytes=LENGTH, compress=None, keep_bytes=2 * LENGTH + 1)
    written(path, *range(1, 10), rotation=rotation)
    assert [each.number for each in segments_of(path)] == [7, 8]


def test_segments_go_where_their_last_line_is_too_old(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    written(path, *range(1, 5), rotation=Rotation(max_bytes=LENGTH))
    clock = VirtualClock(dt.datetime(2026, 6, 1, tzinfo=dt.UTC))
    for segment, days in zip(segments_of(path), (31, 29, 28), strict=True):
        moment = (clock.now() - days * DAY).timestamp()
        os.utime(segment.path, (moment, moment))
    rotation = Rotation(max_bytes=LENGTH * 9, keep_age_s=30 * 86_400)
    written(path, 5, clock=clock, rotation=rotation)
    assert [each.number for each in segments_of(path)] == [2, 3]


def test_the_newest_segment_stays_so_that_numbers_rise_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_bytes=LENGTH, keep=1, keep_bytes=1, keep_age_s=1e-9)
    for number in range(1, 6):
        written(path, number, rotation=rotation)
    assert [each.number for each in segments_of(path)] == [4]


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    others = ["run.20260524.jsonl", "run.1.jsonl", "run.000001.txt", "other.000001.jsonl", "run.jsonl.gz"]
    for name in others:
        (tmp_path / name).write_bytes(lines(9))
    (tmp_path / "run.000099.jsonl").mkdir()
    written(tmp_path / "run.jsonl", 1, 2, 3, rotation=Rotation(max_bytes=LENGTH, keep=1, compress=None))
    assert set(others) < set(names(tmp_path))
    os.mkfifo(tmp_path / "run.000098.jsonl")
    assert seqs(tmp_path / "run.jsonl", strict=True) == [2, 3]


def test_what_only_looks_like_a_segment_is_left_alone_and_hinders_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.jsonl").write_bytes(lines(1))
    (tmp_path / "run.000001.jsonl").symlink_to(tmp_path / "elsewhere" / "kept.jsonl")
    (tmp_path / "run.000002.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "run.000003.jsonl").mkdir()
    (tmp_path / "run.000004.jsonl.gz").mkdir()
    written(path, *range(2, 8), rotation=Rotation(max_bytes=LENGTH, keep=2))  # close would tell of trouble
    assert [each.number for each in segments_of(path)] == [1, 2, 3, 4, 8, 9]
    assert (tmp_path / "run.000001.jsonl").is_symlink()
    reader = read_events(path)
    assert [event.seq for event in reader] == [1, 5, 6, 7]
    assert [Path(bad.path).name for bad in reader.bad] == [
        "run.000002.jsonl"
    ]  # what it leads to is not there


def test_another_name_of_the_active_file_that_looks_like_a_segment_costs_no_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with LogWriter(path, clock=VirtualClock()) as slow:
        slow.write(record(1))
        (tmp_path / "run.000001.jsonl").hardlink_to(path)
        (tmp_path / "other.txt").hardlink_to(path)
        written(path, 2, 3, 4, rotation=Rotation(max_bytes=LENGTH, keep=1))
        slow.write(record(5))
    assert (tmp_path / "other.txt").read_bytes() == lines(1, 5)
    assert seqs(path, strict=True) == [1, 5, 1, 5, 3, 4]


def test_a_segment_that_is_held_is_kept_by_every_rule(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_bytes=LENGTH, keep=1, keep_bytes=1, keep_age_s=1e-9)
    with LogWriter(path, clock=VirtualClock()) as slow:
        slow.write(record(1))
        written(path, 2, 3, 4, 5, rotation=rotation)
        slow.write(record(6))
        assert seqs(path, strict=True) == [1, 6, 4, 5]
    written(path, 7, rotation=rotation)
    assert seqs(path, strict=True) == [5, 7]


def test_what_cannot_be_packed_stays_and_flush_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    (tmp_path / ".run.000001.jsonl.gz.tmp").mkdir()
    writer = LogWriter(path, rotation=Rotation(max_bytes=LENGTH))
    for number in (1, 2, 3):
        writer.write(record(number))
    with pytest.raises(LogError, match="could not be packed or removed: is a directory"):
        writer.close()
    writer.close()
    assert [each.path.name for each in segments_of(path)] == ["run.000001.jsonl", "run.000002.jsonl.gz"]
    assert seqs(path, strict=True) == [1, 2, 3]
