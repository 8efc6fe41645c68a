"""Logs are for their owner alone: 0600, directories 0700, whatever the umask; what exists keeps its mode."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit_reporting import JsonlReporter, Rotation
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, lines, note, record

PROGRAM = """
import os, sys
from pathlib import Path
from agentkit_reporting import JsonlReporter, Rotation
from agentkit_reporting.cli.run_log import RunLog
from agentkit_reporting.cli.scrub import command
from tests.reporting.numbered_lines import LENGTH, note
root = Path(sys.argv[2])
os.umask(int(sys.argv[1], 8))
for name, options in (
    ("plain/deep/run.jsonl", {}),
    ("gzip/run.jsonl", {"rotation": Rotation(max_bytes=LENGTH, at_midnight=True)}),
    ("zstd/run.jsonl", {"rotation": Rotation(max_bytes=LENGTH, compress="zstd")}),
    ("unpacked/run.jsonl", {"rotation": Rotation(max_bytes=LENGTH, compress=None)}),
    ("sessions", {"per": "session", "rotation": Rotation(max_bytes=LENGTH)}),
):
    reporter = JsonlReporter(root / name, **options)
    for seq in range(1, 4):
        reporter.handle_event(note(seq))
    reporter.close()
command([str(root / "plain/deep/run.jsonl"), "-o", str(root / "scrubbed/out.jsonl")], standalone_mode=False)
log = RunLog(str(root / "run_log" / "a.jsonl"), per_session=False)
log.try_it()
"""


@pytest.mark.parametrize("umask", ["000", "022", "077", "277", "777"])
def test_whatever_the_umask_all_files_are_0600_and_all_directories_0700(umask: str, tmp_path: Path) -> None:
    # As root, who may write where the mode says that nobody may: an owner without privileges could not even begin.
    subprocess.run([sys.executable, "-c", PROGRAM, umask, tmp_path], check=True, capture_output=True)
    found = {
        str(each.relative_to(tmp_path)): (each.is_dir(), stat.S_IMODE(each.stat().st_mode))
        for each in tmp_path.rglob("*")
    }
    assert {mode for is_directory, mode in found.values() if not is_directory} == {0o600}, found
    assert {mode for is_directory, mode in found.values() if is_directory} == {0o700}, found
    kinds = [
        name.split(".", 1)[1] for name in map(os.path.basename, found) if name.startswith(("run.", ".run"))
    ]
    assert {"000001.jsonl", "000001.jsonl.gz", "000001.jsonl.zst", "run.jsonl.lock"} <= set(kinds)


def test_what_exists_keeps_its_mode_also_when_it_is_rotated_and_packed(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    directory.chmod(0o750)
    path = directory / "run.jsonl"
    path.write_bytes(lines(1))
    path.chmod(0o640)
    lock = directory / ".run.jsonl.lock"
    lock.touch()
    lock.chmod(0o660)
    with LogWriter(path, rotation=Rotation(max_bytes=LENGTH)) as writer:
        writer.write(record(2))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}
    assert modes == {"run.000001.jsonl.gz": 0o640, "run.jsonl": 0o600, ".run.jsonl.lock": 0o660}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750


def test_a_link_to_a_file_that_is_not_there_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    reporter = JsonlReporter(tmp_path / "link.jsonl")
    reporter.handle_event(note(1))
    reporter.close()
    assert stat.S_IMODE((tmp_path / "real.jsonl").stat().st_mode) == 0o600
    assert (tmp_path / "link.jsonl").is_symlink()
