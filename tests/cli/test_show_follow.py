"""`agentkit show -f`: what comes is shown as it comes, and whatever ends it is quiet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentkit_loop.agent import Agent
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import JsonlReporter, Rotation
from tests.cli.test_command_line import ENVIRONMENT, agentkit


def run(path: Path, text: str) -> None:
    reporter = JsonlReporter(path, rotation=Rotation(max_bytes=1_000))
    with Agent(ScriptedModel([text]), observers=[reporter]) as agent:
        agent.run("hi")


@contextmanager
def showing(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "agentkit_reporting.cli", "show", *arguments]
    with subprocess.Popen(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        yield child


def until(child: subprocess.Popen[str], text: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never shown")


def test_what_comes_is_shown_across_rotation_and_ctrl_c_is_quiet(tmp_path: Path) -> None:
    run(tmp_path / "run.jsonl", "the first")
    with showing("-f", "run.jsonl", cwd=tmp_path) as child:
        until(child, "the first")
        run(tmp_path / "run.jsonl", "the second")
        until(child, "the second")
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert (child.returncode, told) == (130, "")


def test_a_log_that_is_not_there_yet_is_waited_for_and_said_so(tmp_path: Path) -> None:
    with showing("-f", "logs", cwd=tmp_path) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "agentkit: no log in logs yet; waiting for one\n"
        run(tmp_path / "logs" / "run.jsonl", "hello")
        until(child, "hello")
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[1] == ""


def test_a_closed_pipe_ends_it_though_nothing_comes(tmp_path: Path) -> None:
    run(tmp_path / "run.jsonl", "hello")
    with showing("-f", "run.jsonl", cwd=tmp_path) as child:
        until(child, "hello")
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(timeout=60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_it_ends_with_the_run_if_asked(tmp_path: Path) -> None:
    run(tmp_path / "run.jsonl", "hello")
    ended = agentkit("show", "--until-run-end", "run.jsonl", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == agentkit("show", "run.jsonl", cwd=tmp_path).stdout
    assert "hello" in ended.stdout


def test_standard_input_is_shown_as_it_comes_and_ends(tmp_path: Path) -> None:
    run(tmp_path / "run.jsonl", "hello")
    whole = b"".join(Path(each).read_bytes() for each in [tmp_path / "run.jsonl"])
    shown = agentkit("show", "-f", "-", cwd=tmp_path, given=whole)
    assert shown.returncode == 0
    assert os.linesep in shown.stdout
