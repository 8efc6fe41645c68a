"""`agentkit time`: what it prints, for people and for programs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.testing import Reply, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_reporting import JsonlReporter, TimeUse, read_events
from agentkit_reporting.analysis.time_use_sweep import PARTS
from agentkit_reporting.cli.time_bars import runs_markdown, shares
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.sample_logs import call, write_broken, write_fixed, write_session
from tests.cli.test_command_line import agentkit

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
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


def write_approved_later(log: Path) -> None:
    """Write a session that is left at an approval, which is given 16 minutes later."""
    clock = VirtualClock(START)

    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    def agent(*replies: Reply) -> Agent:
        model = ScriptedModel(replies, clock=clock)
        return Agent(model, name="payer", tools=[pay], observers=[JsonlReporter(log)], clock=clock)

    with agent(Reply(calls=(call("pay", amount=3),), delay_s=1)) as first, first.start() as driver:
        driver.submit("go")
        next(iter(driver))
    clock.sleep(960)
    with agent(Reply(text="done", delay_s=1)) as second, second.resume(read_events(log)) as driver:
        for step in driver:
            if hasattr(step, "approve"):
                step.approve()


def test_the_wait_for_a_person_between_two_runs_is_told_between_them(tmp_path: Path) -> None:
    write_approved_later(tmp_path / "a.jsonl")
    shown = agentkit("time", "a.jsonl", cwd=tmp_path).stdout
    first, second = shown.split("\n\n")
    assert "left open: approval pay(amount=3)" in first, shown
    assert "16m 00s between the runs, while approval pay(amount=3) waited" in second
    assert "2026-05-24 18:56:01 UTC, run 2 of its session" in second
    assert "0 questions" not in shown
    told = json.loads(agentkit("time", "--json", "a.jsonl", cwd=tmp_path).stdout)["runs"]
    assert [(run["number"], run["since_ms"], run["awaited"]) for run in told] == [
        (1, None, []),
        (2, 960_000, ["approval pay(amount=3)"]),
    ]
    markdown = agentkit("time", "--markdown", "a.jsonl", cwd=tmp_path).stdout
    assert "run 2: 16m 00s between the runs" in markdown
    assert "and 16m 00s between runs" in agentkit("time", "--by", "agent", "a.jsonl", cwd=tmp_path).stdout


def test_what_nobody_told_of_observers_is_a_question_mark_in_markdown(tmp_path: Path) -> None:
    log = tmp_path / "runs.jsonl"
    write_fixed(log)
    write_broken(log)
    use = TimeUse()
    for event in read_events(log):
        use.handle_event(event)
    told, untold = use.runs()
    assert (told.observers_us, untold.observers_us) == (1_500, None)
    told = attrs.evolve(told, parts={**told.parts, "observers": 2_000, "tools": told.parts["tools"] - 2_000})
    head, _, *rows = runs_markdown([told, untold], (), ()).splitlines()[2:]
    place = head.split("|").index(" observers ")
    assert [row.split("|")[place].strip() for row in rows] == ["2 ms 0.0%", "? -"]


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
