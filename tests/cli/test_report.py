"""`agentkit report` as a user meets it. `python -m tests.cli.test_report` writes the golden files anew."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit_reporting import InvocationMetricsCollector, JsonlReporter, read_events
from tests.cli.report_samples import HOSTILE, write_metrics, write_pipeline
from tests.cli.terminals import OnTerminal
from tests.cli.test_command_line import ENVIRONMENT, agentkit
from tests.reporting.metric_samples import metric

GOLDEN = Path(__file__).parent.parent / "golden"
OUTPUTS = {
    "report.txt": ("run.jsonl", "metrics"),
    "report.md": ("--markdown", "run.jsonl", "metrics"),
    "report_by_phase_and_agent.txt": ("--by", "phase", "--by", "agent", "run.jsonl", "metrics"),
    "report_by_model.txt": ("--by", "model", "run.jsonl"),
    "report_by_tool.txt": ("--by", "agent", "--by", "tool", "run.jsonl"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a log of a pipeline, and metrics of another beside it."""
    made = tmp_path_factory.mktemp("report")
    write_pipeline(made / "run.jsonl")
    write_metrics(made / "metrics")
    return made


@pytest.mark.parametrize("name", OUTPUTS)
def test_people_read_what_the_golden_files_show(folder: Path, name: str) -> None:
    result = agentkit("report", *OUTPUTS[name], cwd=folder)
    assert result.returncode == 0
    assert result.stdout == (GOLDEN / name).read_text(encoding="utf-8")
    assert all(len(line) <= 80 for line in result.stdout.splitlines()) or name.endswith(".md")
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_the_questions_of_the_seed_are_answered(folder: Path) -> None:
    facts = dict(
        re.split(r" {2,}", line, maxsplit=1)
        for line in agentkit("report", "run.jsonl", cwd=folder).stdout.splitlines()[:12]
        if not line.startswith(" ")
    )
    assert facts["Slowest"].startswith("reviewer 1m 35s")
    assert facts["Parallel"] == "2 at the peak"
    assert facts["Retries"] == "2: 1 for infrastructure, 1 for code"
    assert facts["Failures"] == "2: 1 code, 1 overloaded"
    assert facts["Escalations"] == "1"
    assert facts["Cost"].startswith(">= 0.021400 EUR + $0.500000 + 3 runs of unknown cost; a lower")
    table = agentkit("report", "--by", "phase", "run.jsonl", cwd=folder).stdout.splitlines()
    assert [line.split()[0] for line in table if line[:1].isdigit()] == ["1", "2", "3"]


def test_programs_get_everything_as_json(folder: Path) -> None:
    result = agentkit("report", "--json", "run.jsonl", "metrics", cwd=folder)
    told = json.loads(result.stdout)
    assert result.stdout.isascii()
    assert told["aggregate"]["total_invocations"] == 9
    assert told["aggregate"]["peak_parallel_invocations"] >= 2
    assert (told["unknown_costs"], told["bad_lines"], told["open_runs"]) == (3, 1, 0)
    assert set(told["costs"]) == {"USD", "EUR"}
    assert isinstance(told["costs"]["USD"], str)
    assert [table["by"] for table in told["tables"]] == [["agent"], ["phase"], ["model"], ["tool"]]
    assert HOSTILE in told["aggregate"]["invocations_by_agent"]
    assert {"p50", "p95", "p99"} == set(told["duration_ms"])
    alone = json.loads(agentkit("report", "--json", "--by", "day", "run.jsonl", cwd=folder).stdout)
    assert [row["key"] for row in alone["tables"][0]["rows"]] == [{"day": "2026-05-24"}]


def test_bad_lines_are_told_beside_the_data(folder: Path) -> None:
    result = agentkit("report", "metrics", cwd=folder)
    (told,) = result.stderr.splitlines()
    assert told.startswith("agentkit: skipped metrics/invocations.jsonl:4: ")
    assert "3, 3 succeeded" in result.stdout


def test_a_log_and_the_metrics_that_were_made_of_it_count_once(folder: Path, tmp_path: Path) -> None:
    with InvocationMetricsCollector(tmp_path / "made") as collector:
        for event in read_events(folder / "run.jsonl"):
            collector.handle_event(event)
    both = ("report", "--json", "--by", "agent", str(folder / "run.jsonl"))
    alone = json.loads(agentkit(*both, cwd=tmp_path).stdout)
    for places in ([*both, "made"], [*both[:-1], "made", both[-1]]):
        assert json.loads(agentkit(*places, cwd=tmp_path).stdout) == alone


def test_metrics_that_were_recorded_and_told_count_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with InvocationMetricsCollector(tmp_path, observers=[JsonlReporter(log)]) as collector:
        for number in (1, 2, 2):
            collector.record(metric(number))
        still_open = json.loads(agentkit("report", "--json", str(log), cwd=tmp_path).stdout)
    for places in ([tmp_path], [log], [collector.path], [collector.path, log]):
        told = json.loads(agentkit("report", "--json", *map(str, places), cwd=tmp_path).stdout)
        assert (told["aggregate"]["total_invocations"], told["open_runs"]) == (collector.get_count(), 0)
        assert told["aggregate"] == still_open["aggregate"]
    assert still_open["open_runs"] == 0


def test_a_log_that_ends_within_a_run_says_so(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "run.jsonl").read_bytes().split(b"\n")
    (tmp_path / "cut.jsonl").write_bytes(b"\n".join(lines[:8]) + b"\n")
    result = agentkit("report", "cut.jsonl", cwd=tmp_path)
    assert result.returncode == 0
    assert "Without an end" in result.stdout
    assert "1 run, " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param(("missing.jsonl",), 2, "missing.jsonl: log not found", id="no log"),
        pytest.param(("empty.jsonl",), 1, "no run in empty.jsonl; give a log of one", id="empty"),
        pytest.param(
            ("--by", "model", "--by", "tool", "empty.jsonl"), 2, "'model' and 'tool'", id="two kinds"
        ),
        pytest.param(("--by", "colour", "empty.jsonl"), 2, "colour", id="no dimension"),
        pytest.param((), 2, "LOG", id="nothing"),
    ],
)
def test_what_cannot_be_reported_is_said_and_has_its_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    result = agentkit("report", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_standard_input_is_read_too(folder: Path) -> None:
    given = (folder / "run.jsonl").read_bytes()
    piped = agentkit("report", "-", cwd=folder, given=given)
    assert piped.stdout == agentkit("report", "run.jsonl", cwd=folder).stdout


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_bars_of_a_long_time_stay_in_one_line_of_a_terminal(tmp_path: Path, columns: int) -> None:
    with InvocationMetricsCollector(tmp_path) as collector:
        for second in range(55):
            collector.record(metric(second, timestamp=f"2026-05-24T18:40:{second:02}Z", duration_ms=100))
    command = [sys.executable, "-m", "agentkit_reporting.cli", "report", "."]
    terminal = OnTerminal(
        command, tmp_path, {**ENVIRONMENT, "NO_COLOR": "1", "TERM": "xterm"}, columns=columns
    )
    assert terminal.end() == 0
    lines = terminal.shown.decode().replace("\r\n", "\n").splitlines()
    assert len([line for line in lines if line.startswith("|") and line.endswith("|")]) == 1


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_on_a_terminal_it_fits_the_width_and_no_cost_is_cut(folder: Path, columns: int) -> None:
    command = [sys.executable, "-m", "agentkit_reporting.cli", "report", "--by", "agent", "run.jsonl"]
    terminal = OnTerminal(command, folder, {**ENVIRONMENT, "NO_COLOR": "1", "TERM": "xterm"}, columns=columns)
    assert terminal.end() == 0
    shown = terminal.shown.decode().replace("\r\n", "\n")
    assert "\x1b" not in shown
    assert all(len(line) <= columns for line in shown.splitlines())
    costs = [row["costs"] for row in _rows(folder)]
    assert all(f"{float(amount):.6f}" in shown for cost in costs for amount in cost.values())


def _rows(folder: Path) -> list[dict[str, dict[str, str]]]:
    told = json.loads(agentkit("report", "--json", "--by", "agent", "run.jsonl", cwd=folder).stdout)
    rows: list[dict[str, dict[str, str]]] = told["tables"][0]["rows"]
    return rows


def test_colour_is_asked_for_by_the_environment(folder: Path) -> None:
    coloured = agentkit("report", "run.jsonl", cwd=folder, FORCE_COLOR="1", TERM="xterm").stdout
    assert "\x1b[1m" in coloured
    assert "\x1b[31m" not in coloured  # of the agent's name
    assert "\x1b" not in agentkit("report", "run.jsonl", cwd=folder, NO_COLOR="1", FORCE_COLOR="1").stdout


def test_an_output_without_unicode_has_plain_bars(folder: Path) -> None:
    result = agentkit("report", "run.jsonl", cwd=folder, PYTHONIOENCODING="ascii:replace")
    assert "In parallel" in result.stdout
    assert "?" not in result.stdout.split("In parallel")[1].split("\n")[1]


def goldens() -> Iterator[tuple[str, str]]:
    """Yield name and content of each golden file."""
    with tempfile.TemporaryDirectory() as name:
        write_pipeline(Path(name) / "run.jsonl")
        write_metrics(Path(name) / "metrics")
        for file_name, arguments in OUTPUTS.items():
            yield file_name, agentkit("report", *arguments, cwd=Path(name)).stdout


if __name__ == "__main__":
    for file_name, content in goldens():
        (GOLDEN / file_name).write_text(content, encoding="utf-8")
