"""A disk that is full, or not ours any more, for a while: what was acknowledged is there, and the log goes on.

Full twice: by a limit of the size of files, everywhere; and a small file system in memory that is filled, where
mounting one is permitted. The right to write is lost as a user without privileges.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_reporting.log.read import read_events
from tests.reporting.sink_runs import program, small_disk

SHAPES = ("file", "sessions", "rotating", "rotating sessions", "stream")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory whose path every user may walk."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name) / "logs"
        directory.mkdir()
        yield directory


def check(outcome: Any, directory: Path) -> None:
    """Require that nobody but the log's reader sees that the disk failed in the second of three sessions."""
    assert outcome["same"]
    assert len(outcome["logged"]) == 1, outcome["logged"]

    reader = read_events(directory)
    read: dict[str, list[int]] = {}
    for event in reader:
        read.setdefault(event.session_id, []).append(event.seq)
    first, second, third = outcome["sessions"]
    taken = outcome["taken"]
    for session in (first, third):
        assert read[session] == taken[session] == list(range(1, 28))
    assert read.get(second, []) == taken.get(second, [])
    # A line that was cut short, and nothing behind it on that line.
    assert reader.bad_count <= 1, reader.bad
    received, delivered, failed = outcome["account"]
    assert received == delivered + failed
    assert delivered == sum(map(len, taken.values()))


@pytest.mark.parametrize("shape", SHAPES)
def test_files_that_may_not_grow_for_a_while_lose_what_was_refused_and_no_more(
    shape: str, tmp_path: Path
) -> None:
    check(program("tests.reporting.disk_faults", "limit", shape, tmp_path), tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_disk_that_is_full_for_a_while_loses_what_was_refused_and_no_more(
    shape: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "256k") as is_mounted:
        fault = "full" if is_mounted else "limit"
        check(program("tests.reporting.disk_faults", fault, shape, disk), disk)


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_a_log_whose_files_may_not_be_opened_for_a_while_goes_on_afterwards(shape: str, public: Path) -> None:
    check(program("tests.reporting.disk_faults", "permission", shape, public), public)
    assert {each.stat().st_mode & 0o777 for each in public.iterdir()} == {0o600}
    shutil.rmtree(public)
    public.mkdir()
