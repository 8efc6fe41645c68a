"""The command line as a user meets it: real processes, real pipes, exit codes, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.testing import Reply, ScriptedModel
from agentkit_reporting import JsonlReporter, event_schema, read_events
from tests.cli.terminals import OnTerminal

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PATH": os.environ["PATH"]}


def agentkit(
    *arguments: str, cwd: Path, given: bytes | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "agentkit_reporting.cli", *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        check=False,
        env={**ENVIRONMENT, **extra},
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    with Agent(
        ScriptedModel([Reply(text="hello \x1b]0;owned\x07there")]), observers=[JsonlReporter(path)]
    ) as agent:
        agent.run("hi")
    return path


def amount_of(path: Path) -> Decimal:
    return sum((Decimal(line.split(",")[2]) for line in path.read_text().splitlines()[1:]), Decimal(0))


def test_the_demo_works_writes_a_whole_log_and_says_what_to_do_next(tmp_path: Path) -> None:
    result = agentkit("demo", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    sold = {name: amount_of(tmp_path / "agentkit-demo" / f"{name}.csv") for name in ("north", "south")}
    more, less = sorted(sold, key=lambda name: -sold[name])
    assert (
        f"{more.title()} sold more: {sold[more]:,} against {sold[less]:,} in {less.title()}" in result.stdout
    )
    assert f".csv | 9000 | {sold['north']:,} |" in (tmp_path / "agentkit-demo" / "report.md").read_text()
    following = result.stdout.rstrip().rsplit("agentkit show ", 1)[1]
    events = list(read_events(tmp_path / following, strict=True))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    types = [event.type for event in events]
    assert types.count("model_request_retrying") == 1
    starts = [number for number, kind in enumerate(types) if kind == "tool_execution_started"]
    assert set(types[starts[1] : starts[2]]) <= {"tool_execution_started"}  # two tools at once
    shown = agentkit("show", following, cwd=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.strip() == result.stdout.split("\n\nmodel  ")[0].strip()


def test_the_demo_refuses_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = agentkit("demo", "--folder", "file/below", cwd=tmp_path)
    assert result.returncode == 2
    assert "give another --folder" in result.stderr
    assert result.stderr.count("\n") == 1


def test_show_reads_a_file_a_directory_a_glob_and_a_pipe_alike(log: Path) -> None:
    by_file = agentkit("show", "run.jsonl", cwd=log.parent)
    assert by_file.returncode == 0
    assert "hello" in by_file.stdout
    assert "\x1b" not in by_file.stdout
    for arguments, given in ((["."], None), (["*.jsonl"], None), (["-"], log.read_bytes())):
        assert agentkit("show", *arguments, cwd=log.parent, given=given).stdout == by_file.stdout


def test_show_skips_bad_lines_and_says_where_on_stderr(log: Path) -> None:
    log.write_bytes(b"no json\n" + log.read_bytes() + b'{"v":1,"seq":')
    result = agentkit("show", "run.jsonl", cwd=log.parent)
    assert result.returncode == 0
    assert "skipped run.jsonl:1:" in result.stderr
    assert result.stderr.count("\n") == 2
    strict = agentkit("show", "--strict", "run.jsonl", cwd=log.parent)
    assert strict.returncode == 2
    assert "run.jsonl:1:" in strict.stderr


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage\n", b"\n\n"])
def test_a_log_without_events_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.jsonl").write_bytes(content)
    result = agentkit("show", "empty.jsonl", cwd=tmp_path)
    assert result.returncode == 1
    assert "no event in empty.jsonl" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["show"], ["show", "missing.jsonl"], ["show", "--width", "3", "x"], ["nope"]]
)
def test_wrong_usage_is_told_in_a_few_words_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    result = agentkit(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = agentkit("--debug", "show", "missing.jsonl", cwd=tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_one_session_of_a_log_can_be_chosen_by_the_end_of_its_id(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    agent = Agent(ScriptedModel(["one", "two"]), observers=[JsonlReporter(path)])
    agent.run("hi")
    second = agent.run("hi").session_id
    agent.close()
    result = agentkit("show", "two.jsonl", "--session", second[-8:], cwd=tmp_path)
    assert "two" in result.stdout
    assert "one" not in result.stdout
    assert agentkit("show", "two.jsonl", "--session", "zzz", cwd=tmp_path).returncode == 1


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with Agent(ScriptedModel([Reply(text="word\n" * 50_000)]), observers=[JsonlReporter(path)]) as agent:
        agent.run("hi")
    for command in ("show long.jsonl", "schema", "demo --folder f"):
        pipe = f"'{sys.executable}' -m agentkit_reporting.cli {command} | head -n 1"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", pipe],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            env=ENVIRONMENT,
        )
        assert result.stderr == b""
        assert result.returncode == 0


def test_a_full_disk_is_one_line(log: Path) -> None:
    for command in (["show", "run.jsonl"], ["schema"]):
        with Path("/dev/full").open("wb") as full:
            result = subprocess.run(
                [sys.executable, "-m", "agentkit_reporting.cli", *command],
                cwd=log.parent,
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
                env=ENVIRONMENT,
            )
        assert result.returncode == 1
        assert result.stderr == b"agentkit: cannot write the output: No space left on device\n"


def test_the_schema_is_what_the_library_says(tmp_path: Path) -> None:
    assert json.loads(agentkit("schema", cwd=tmp_path).stdout) == event_schema()


def test_colour_comes_on_a_terminal_and_goes_with_no_color(log: Path) -> None:
    def on_a_terminal(**extra: str) -> bytes:
        command = [sys.executable, "-m", "agentkit_reporting.cli", "show", "run.jsonl"]
        terminal = OnTerminal(command, log.parent, {**ENVIRONMENT, "TERM": "xterm-256color", **extra})
        assert terminal.end() == 0
        return terminal.shown

    coloured, plain = on_a_terminal(), on_a_terminal(NO_COLOR="1")
    assert b"\x1b[" in coloured
    assert b"\x1b" not in plain
    assert b"\\x1b]0;owned" in plain


def test_help_and_version_are_quick_to_load_and_name_the_commands(tmp_path: Path) -> None:
    result = agentkit("--help", cwd=tmp_path)
    assert all(name in result.stdout for name in ("demo", "schema", "show"))
    check = "import sys, agentkit_reporting.cli\nprint('rich' in sys.modules, 'asyncio' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert loaded.stdout == "False False\n"


def test_ctrl_c_ends_with_130_and_one_word(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentkit_reporting.cli", "show", "-"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    line = b'{"v":1,"seq":1,"ts":"2026-05-24T18:40:00.000000Z","type":"custom_event","session_id":"s","run_id":"r",'
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + b'"turn_id":null,"payload":{"name":"ready","data":null}}\n')
    process.stdin.flush()
    while b"ready" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.strip() == b"agentkit: interrupted"
