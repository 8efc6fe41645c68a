"""`agentkit export`: files for collectors and timelines. `python -m tests.cli.test_export` writes the goldens anew."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from agentkit_reporting.cli import agentkit as agentkit_command
from agentkit_reporting.tracing.scope import scope_version
from tests.cli.goldens import GOLDEN
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import ENVIRONMENT, agentkit

OUTPUTS = {
    "export_otlp.json": ("export", "otlp-json", "runs.jsonl"),
    "export_perfetto.json": ("export", "perfetto", "runs.jsonl"),
}
COMMANDS = pytest.mark.parametrize("command", ["otlp-json", "perfetto"])


def make(folder: Path) -> None:
    """Write a log of two runs."""
    write_fixed(folder / "runs.jsonl")
    write_broken(folder / "runs.jsonl")


def printed(arguments: Sequence[str], folder: Path) -> str:
    """Return what the command prints, with a word for our version, which changes with each release."""
    version = f'"{scope_version()}"'
    with contextlib.chdir(folder):
        return exported(*arguments[1:]).stdout.replace(version, '"VERSION"')


def write_many(log: Path, two_runs: Path, count: int) -> None:
    """Write a log of so many pairs of runs, each in sessions of their own; together they have 16 spans."""
    text = two_runs.read_text(encoding="utf-8")
    pairs = (
        text.replace("fix-1", f"fix-{number}-1").replace("fix-2", f"fix-{number}-2")
        for number in range(count)
    )
    log.write_text("".join(pairs), encoding="utf-8")


def exported(*arguments: str, **environment: str) -> Result:
    """Run `agentkit export …` in this process; its exit code is click's."""
    result = CliRunner().invoke(
        agentkit_command, ["export", *arguments], env=environment, standalone_mode=False
    )
    if isinstance(result.exception, click.ClickException):
        result.exit_code = result.exception.exit_code
    elif result.exception is not None:
        raise result.exception
    else:
        result.exit_code = result.return_value
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spans_of(text: str) -> list[dict[str, Any]]:
    """Return the spans of lines of OTLP's JSON."""
    return [
        span
        for line in text.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.mark.parametrize(("name", "arguments"), OUTPUTS.items(), ids=OUTPUTS)
def test_the_output_is_as_it_was(folder: Path, name: str, arguments: Sequence[str]) -> None:
    assert printed(arguments, folder) == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_way_to_give_a_log_gives_the_same_bytes(folder: Path) -> None:
    by_file = exported("otlp-json", "runs.jsonl")
    assert (by_file.exit_code, by_file.stderr) == (0, "")
    log = (folder / "runs.jsonl").read_bytes()
    (folder / "packed").mkdir()
    (folder / "packed" / "runs.jsonl.gz").write_bytes(gzip.compress(log))
    for arguments in ((".",), ("*.jsonl",), ("packed",)):
        assert exported("otlp-json", *arguments).stdout == by_file.stdout
    assert agentkit("export", "otlp-json", "-", cwd=folder, given=log).stdout == by_file.stdout


@COMMANDS
def test_a_file_is_written_whole_and_for_its_owner_alone_and_none_is_replaced(
    folder: Path, command: str
) -> None:
    written = exported(command, "runs.jsonl", "-o", "out/spans.json")
    path = folder / "out" / "spans.json"
    assert (written.exit_code, written.stdout) == (0, "")
    assert "16 spans written to out/spans.json" in written.stderr
    assert path.read_text() == exported(command, "runs.jsonl").stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = agentkit("export", command, "runs.jsonl", "--output", "out/spans.json", cwd=folder)
    assert again.returncode == 2
    assert "there already; give a new one" in again.stderr
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["spans.json"]


@COMMANDS
def test_where_there_is_no_run_nothing_is_written(folder: Path, command: str) -> None:
    (folder / "empty.jsonl").write_bytes(b"no event\n")
    result = exported(command, "empty.jsonl", "-o", "out.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "skipped empty.jsonl:1" in result.stderr
    assert "no run in empty.jsonl; give a log of one" in result.stderr
    assert not (folder / "out.json").exists()
    other = exported(command, "runs.jsonl", "--session", "none")
    assert (other.exit_code, other.stdout) == (1, "")
    assert "no run of a session that ends with none" in other.stderr


def test_one_session_can_be_chosen_and_bad_lines_are_told(folder: Path) -> None:
    log = folder / "runs.jsonl"
    log.write_bytes(b"broken\n" + log.read_bytes())
    result = exported("otlp-json", "runs.jsonl", "--session", "x-2")
    assert result.exit_code == 0
    assert "skipped runs.jsonl:1:" in result.stderr
    conversations = {
        pair["value"]["stringValue"]
        for span in spans_of(result.stdout)
        for pair in span["attributes"]
        if pair["key"] == "gen_ai.conversation.id"
    }
    assert conversations == {"fix-2"}


@COMMANDS
def test_events_of_which_no_span_tells_are_said(folder: Path, command: str) -> None:
    log = folder / "runs.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[1:]))  # without the first run's beginning
    result = exported(command, "runs.jsonl")
    assert result.exit_code == 0
    assert result.stdout
    assert re.search(
        r"no span tells of \d+ events of runs that have not begun or are over; where ", result.stderr
    )


@COMMANDS
def test_a_log_that_is_there_twice_is_exported_once(folder: Path, command: str) -> None:
    log = folder / "runs.jsonl"
    once = exported(command, "runs.jsonl")
    number = len(log.read_bytes().splitlines())
    (folder / "copy.jsonl.gz").write_bytes(gzip.compress(log.read_bytes()))
    twice = exported(command, "runs.jsonl", "copy.jsonl.gz")
    assert (twice.exit_code, twice.stdout) == (0, once.stdout)
    assert f"agentkit: left out {number} events of runs that were told already; " in twice.stderr
    piped = agentkit("export", command, "-", cwd=folder, given=log.read_bytes() * 2)
    assert (piped.returncode, piped.stdout) == (0, once.stdout)


@COMMANDS
def test_a_run_without_an_end_is_said_and_what_comes_later_is_exported(folder: Path, command: str) -> None:
    lines = (folder / "runs.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "cut.jsonl").write_bytes(b"".join(lines[:-3]))
    result = exported(command, "cut.jsonl")
    assert result.exit_code == 0
    assert "agentkit: 1 run has no end, crashed or still going on: fix-2; spans end there " in result.stderr
    assert "no end" not in exported(command, "cut.jsonl", "--session", "fix-1").stderr
    whole = exported(command, "cut.jsonl", "runs.jsonl")
    assert "no end" not in whole.stderr
    assert whole.stdout == exported(command, "runs.jsonl").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("cache", "x", "--session", ""),
        ("cost", "x", "--session", " "),
        ("debug", "x", "--session", ""),
        ("diff", "x", "y", "--session-a", ""),
        ("export", "otlp-json", "x", "--session", ""),
        ("replay", "x", "--session", ""),
        ("resume", "x", "--session", ""),
        ("show", "x", "--session", ""),
        ("time", "x", "--session", ""),
        ("wire", "x", "--session", ""),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_session_without_an_id_is_refused_by_every_command(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(agentkit_command, arguments)
    assert result.exit_code == 2
    assert "refused, which names no session; give the end of an id" in " ".join(result.output.split())


def test_an_empty_standard_input_is_called_so(folder: Path) -> None:
    result = agentkit("export", "otlp-json", "-", cwd=folder, given=b"")
    assert (result.returncode, result.stderr) == (
        1,
        "agentkit: no run in standard input; give a log of one\n",
    )


def test_a_line_holds_a_bounded_number_of_spans(folder: Path) -> None:
    write_many(folder / "many.jsonl", folder / "runs.jsonl", 50)
    lines = exported("otlp-json", "many.jsonl").stdout.splitlines()
    assert [len(spans_of(line)) for line in lines] == [512, 288]


def test_the_service_is_named_by_option_or_environment(folder: Path) -> None:
    def service(*arguments: str, **environment: str) -> str:
        text = exported("otlp-json", "runs.jsonl", *arguments, **environment).stdout
        resource = json.loads(text.splitlines()[0])["resourceSpans"][0]["resource"]
        told = {pair["key"]: pair["value"]["stringValue"] for pair in resource["attributes"]}
        return str(told["service.name"])

    assert (folder / "runs.jsonl").exists()
    assert service(OTEL_SERVICE_NAME="by-name") == "by-name"
    assert service("--service-name", "mine", OTEL_SERVICE_NAME="by-name") == "mine"


@COMMANDS
def test_a_reader_that_leaves_is_no_error(folder: Path, command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentkit_reporting.cli", "export", command, "-"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate((folder / "runs.jsonl").read_bytes())
    assert (process.returncode, said) == (0, b"")


@COMMANDS
def test_wrong_usage_is_told_in_a_few_words(folder: Path, command: str) -> None:
    for arguments in ((), ("runs.jsonl", "--width", "3")):
        assert exported(command, *arguments).exit_code == 2
    missing = agentkit("export", command, "missing.jsonl", cwd=folder)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "Traceback" not in missing.stderr


def test_files_are_written_without_opentelemetry(folder: Path) -> None:
    for command in ("otlp-json", "perfetto"):
        check = (
            "import sys\nfrom agentkit_reporting.cli import agentkit\n"
            f"agentkit.main(['export', {command!r}, 'runs.jsonl', '-o', {command!r}], standalone_mode=False)\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'google', 'requests')])"
        )
        result = subprocess.run(
            [sys.executable, "-c", check],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
        )
        assert result.stdout.strip() == "[]"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        for file_name, arguments in OUTPUTS.items():
            (GOLDEN / file_name).write_text(printed(arguments, Path(name)), encoding="utf-8")
