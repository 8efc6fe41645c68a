"""`agentkit time`: what it prints, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentkit_loop.testing import Reply
from agentkit_reporting.analysis.time_use_sweep import PARTS
from agentkit_reporting.cli.time_bars import shares
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.sample_logs import call, write_broken, write_fixed, write_session
from tests.cli.test_command_line import agentkit

OUTPUTS = {
    "time.txt": ("time", "runs.jsonl"),
    "time_colour.txt": ("time", "runs.jsonl"),
    "time.md": ("time", "--markdown", "runs.jsonl"),
    "time_many.txt": ("time", "--runs", "6", "--slowest", "many.jsonl"),
    "time_by_tool.txt": ("time", "--by", "tool", "many.jsonl"),
    "time_by_day.txt": ("time", "--by", "day", "runs.jsonl"),
}


def make(folder: Path) -> None:
    """Write a log of two runs, and one of seven; the last of these has no end."""
    write_fixed(folder / "runs.jsonl")
    write_broken(folder / "runs.jsonl")
    many = folder / "many.jsonl"
    write_fixed(many)
    write_broken(many)
    for number in range(1, 6):
        replies = [
            Reply(text="I look.", calls=(call("read_file", path="a.py"),) * number, delay_s=0.3 * number),
            Reply(text="Done.", delay_s=0.2, chunk_delay_s=0.1),
        ]
        write_session(many, f"look-{number}", replies, after_s=60 * number)
    lines = many.read_bytes().splitlines(keepends=True)
    many.write_bytes(b"".join(lines[:-6]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "arguments"), OUTPUTS.items(), ids=OUTPUTS)
def test_the_output_is_as_it_was(folder: Path, name: str, arguments: Sequence[str]) -> None:
    check_golden(name, arguments, folder)


def test_the_parts_of_each_run_add_up_in_json(folder: Path) -> None:
    told = json.loads(agentkit("time", "--json", "many.jsonl", cwd=folder).stdout)
    assert (told["runs_in_all"], len(told["runs"]), len(told["groups"])) == (7, 7, 1)
    for run in told["runs"]:
        assert list(run["parts_ms"]) == list(PARTS)
        assert sum(run["parts_ms"].values()) == pytest.approx(run["duration_ms"])
    assert told["runs"][0]["observers_ms"] == 1.5
    (still_open,) = [run for run in told["runs"] if run["outcome"] == "open"]
    assert still_open["observers_ms"] is None
    assert {tool["name"] for tool in told["tools"]} == {"read_file", "run_tests", "edit_file"}


def test_one_session_and_the_slowest_run_can_be_asked_for(folder: Path) -> None:
    one = agentkit("time", "--session", "ok-2", "many.jsonl", cwd=folder).stdout
    assert one.startswith("look-2 ")
    slowest = agentkit("time", "--slowest", "--runs", "1", "many.jsonl", cwd=folder).stdout
    assert slowest.startswith("fix-1 ")
    assert "7 runs" in slowest  # and the percentiles of all
    assert agentkit("time", "--session", "none", "many.jsonl", cwd=folder).returncode == 1


def test_a_terminal_without_blocks_gets_plain_signs(folder: Path) -> None:
    shown = agentkit("time", "runs.jsonl", cwd=folder, PYTHONIOENCODING="ascii").stdout
    assert shown.isascii()
    assert "fffffff" in shown


def test_what_does_not_go_together_is_refused(folder: Path) -> None:
    refused = agentkit("time", "--json", "--markdown", "runs.jsonl", cwd=folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert agentkit("time", "--by", "moon", "runs.jsonl", cwd=folder).returncode == 2


def test_a_run_without_an_end_says_so_and_what_is_unknown_is_no_zero(tmp_path: Path) -> None:
    write_session(tmp_path / "a.jsonl", "a", [Reply(calls=(call("run_tests"),), delay_s=1), "done"])
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    started = next(n for n, line in enumerate(lines) if b'"tool_execution_started"' in line)
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[: started + 1]) + b'{"v":1,"se')
    result = agentkit("time", "a.jsonl", cwd=tmp_path)
    assert "no end in the log: up to the last event" in result.stdout
    (tool,) = (line for line in result.stdout.splitlines() if "run_tests" in line)
    assert tool.split() == ["run_tests", "?", "-", "1", "call"]
    assert "skipped a.jsonl" in result.stderr


def test_a_foreign_file_has_no_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a":1}\n')
    refused = agentkit("time", "a.jsonl", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no run in a.jsonl; give a log of one" in refused.stderr


def test_names_of_a_log_control_no_terminal_and_no_page(tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07[red]|x"
    write_session(tmp_path / "a.jsonl", "a", [Reply(text="x", delay_s=1)], name=hostile)
    for options in ((), ("--markdown",), ("--by", "agent")):
        shown = agentkit("time", *options, "a.jsonl", cwd=tmp_path).stdout
        assert "\x1b" not in shown
        assert "owned" in shown


@pytest.mark.parametrize("values", [[], [0, 0], [1, 1, 1], [999, 1], [5, 0, 3, 7]])
def test_the_cells_of_a_bar_add_up_to_its_width(values: list[int]) -> None:
    cells = shares(values, 80)
    assert sum(cells) == (80 if sum(values) else 0)
    assert all(bool(value) or not cell for value, cell in zip(values, cells, strict=True))


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
