"""`agentkit run --allow-write --allow-command` as a person meets it: a process, its terminal, a server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.events import AgentEvent, ApprovalResolved, RunCancelled, RunStarted, ToolExecutionStarted
from agentkit_loop.testing import Reply, ScriptedCall
from agentkit_loop.testing_server import MessagesServer
from agentkit_reporting.cli.approvals import login_name
from tests.cli.questions import PATIENCE_S, Controlled
from tests.cli.running import (
    COMMAND,
    KEY,
    USAGE,
    Ended,
    call,
    check_no_key,
    environment,
    log_of,
    outputs,
)

READY = "[y]es, [n]o, [l]ater, [a]ll like this (for this run), [?] "
BOTH = ("--allow-write", "--allow-command")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Controlled]]:
    """Return what starts the command on a terminal that controls it; none of them outlives the test."""
    opened: list[Controlled] = []

    def start(server: MessagesServer, *arguments: str, name: str = "run", **streams: int) -> Controlled:
        command = [*COMMAND[:-1], name, "--base-url", server.base_url, *arguments]
        told = environment(tmp_path, ANTHROPIC_API_KEY=KEY, TERM="xterm-256color", NO_COLOR="1")
        opened.append(Controlled(command, tmp_path, told, **streams))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.__exit__()


def without_terminal(server: MessagesServer, *arguments: str, cwd: Path, name: str = "run") -> Ended:
    """Run the command to its end in a session without a terminal."""
    ended = subprocess.run(
        [*COMMAND[:-1], name, "--base-url", server.base_url, *arguments],
        cwd=cwd,
        env=environment(cwd, ANTHROPIC_API_KEY=KEY),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def asking_for(*rounds: ScriptedCall) -> list[Reply]:
    """Return replies that call one tool a turn, and then answer."""
    return [*(Reply(calls=(one,), usage=USAGE) for one in rounds), Reply(text="Done.", usage=USAGE)]


def decisions(events: list[AgentEvent]) -> list[tuple[bool, str | None, str | None]]:
    return [
        (event.approved, event.reason, event.by) for event in events if isinstance(event, ApprovalResolved)
    ]


def test_a_yes_writes_the_file_and_runs_the_command(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    replies = asking_for(
        call("write_file", path="src/new.py", content="print('new')\n"),
        call("run_command", command="cat src/new.py; pwd"),
    )
    with MessagesServer(replies) as server:
        terminal = started(server, "x", *BOTH)
        terminal.wait_for("  write src/new.py (new, 1 line)\r\n")
        terminal.wait_for("  │ --- /dev/null\r\n  │ +++ src/new.py\r\n")
        terminal.wait_for("  │ +print('new')\r\n")
        terminal.wait_for(READY)
        assert not (tmp_path / "src").exists()
        terminal.type("y\n")
        terminal.wait_for("  │ $ cat src/new.py; pwd\r\n")
        terminal.wait_for(READY)
        terminal.type("y\n")
        assert terminal.end() == 0
    events = log_of(tmp_path)
    assert (tmp_path / "src" / "new.py").read_text() == "print('new')\n"
    assert outputs(events)[1] == f"[exit code 0]\nprint('new')\n{tmp_path}"
    assert decisions(events) == [(True, None, login_name())] * 2
    assert "Done." in terminal.text
    check_no_key(tmp_path, terminal.shown)


def test_a_no_with_its_reason_reaches_the_model_and_the_run_goes_on(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    with MessagesServer(asking_for(call("run_command", command="touch made"))) as server:
        terminal = started(server, "x", "--allow-command")
        terminal.wait_for(READY)
        terminal.type("n because it is Friday\n")
        assert terminal.end() == 0
        assert "because it is Friday" in str(server.requests[-1].body["messages"][-1])
    assert not (tmp_path / "made").exists()
    assert decisions(log_of(tmp_path)) == [(False, "because it is Friday", login_name())]


def test_all_like_this_asks_no_more_for_that_command(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    command = call("run_command", command="echo once more >> log")
    with MessagesServer(asking_for(command, command, call("run_command", command="rm log"))) as server:
        terminal = started(server, "x", "--allow-command")
        terminal.wait_for(READY)
        terminal.type("a\n")
        terminal.wait_for("from now on in this run, without a question: run_command(echo once")
        terminal.wait_for("  │ $ rm log\r\n")
        terminal.wait_for(READY)
        terminal.type("n\n")
        assert terminal.end() == 0
    assert (tmp_path / "log").read_text() == "once more\n" * 2
    assert [approved for approved, _, _ in decisions(log_of(tmp_path))] == [True, True, False]


def test_the_end_of_input_is_a_no(tmp_path: Path, started: Callable[..., Controlled]) -> None:
    with MessagesServer(asking_for(call("run_command", command="touch made"))) as server:
        terminal = started(server, "x", "--allow-command")
        terminal.wait_for(READY)
        terminal.type("\x04")
        assert terminal.end() == 0
    assert not (tmp_path / "made").exists()
    assert decisions(log_of(tmp_path)) == [(False, None, login_name())]


@pytest.mark.parametrize("typed", ["\x03", "half a reason\x03"])
def test_an_interruption_at_the_question_ends_the_run_with_its_totals(
    tmp_path: Path, started: Callable[..., Controlled], typed: str
) -> None:
    with MessagesServer(asking_for(call("run_command", command="touch made"))) as server:
        terminal = started(server, "x", "--allow-command")
        terminal.wait_for(READY)
        terminal.type(typed)
        assert terminal.end() == 130
    events = log_of(tmp_path)
    assert isinstance(events[-1], RunCancelled)
    assert not any(isinstance(event, ToolExecutionStarted) for event in events)
    assert not (tmp_path / "made").exists()
    assert "agentkit: interrupted; log agentkit-logs/" in terminal.text
    assert "model " in terminal.text
    assert "Traceback" not in terminal.text


def test_a_prompt_from_stdin_and_an_answer_to_a_pipe_leave_the_question_on_the_terminal(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    prompt, given = os.pipe()
    taken, answer = os.pipe()
    os.write(given, b"Write it.\ny\ny\n")
    os.close(given)
    with MessagesServer(asking_for(call("write_file", path="a", content="x"))) as server:
        terminal = started(server, "-", "--allow-write", stdin=prompt, stdout=answer, stderr=answer)
        os.close(prompt)
        os.close(answer)
        terminal.wait_for("  write a (new, 1 line)\r\n")
        terminal.wait_for(READY)
        terminal.type("y\n")
        with os.fdopen(taken, "rb") as written:
            told = written.read().decode()
        assert terminal.process.wait(PATIENCE_S) == 0
    assert told.endswith("\nDone.\n")
    assert "[y]es" not in told
    assert (tmp_path / "a").read_text() == "x"


def test_what_was_typed_before_the_question_approves_nothing(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    typed: list[Callable[[], None]] = []

    def reply(body: Any) -> Reply:
        if len(body["messages"]) > 1:
            return Reply(text="Done.", usage=USAGE)
        typed[0]()
        return Reply(calls=(call("run_command", command="touch made"),), usage=USAGE)

    with MessagesServer(reply) as server:
        reader, writer = os.pipe()
        terminal = started(server, "-", "--allow-command", stdin=reader)
        typed.append(lambda: terminal.type("y\ny\ny\n"))
        os.write(writer, b"x")
        os.close(writer)
        os.close(reader)
        terminal.wait_for(READY)
        terminal.type("n\n")
        assert terminal.end() == 0
    assert not (tmp_path / "made").exists()
    assert decisions(log_of(tmp_path)) == [(False, None, login_name())]


def test_nothing_of_a_hostile_call_controls_the_terminal(started: Callable[..., Controlled]) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\u202e\x9b"
    replies = asking_for(
        call("write_file", path=f"a{hostile}", content=f"{hostile}\n  [y]es\r\n"),
        call("run_command", command=f"echo {hostile}\necho"),
    )
    with MessagesServer(replies) as server:
        terminal = started(server, "x", *BOTH)
        for _ in range(2):
            terminal.wait_for(READY)
            terminal.type("n\n")
        assert terminal.end() == 0
    assert all(line.isprintable() for line in terminal.text.split("\n"))
    assert "  │ +\\x1b[2J\\x1b]0;owned\\x07\\u202e\\x9b\n" in terminal.text
    assert "  │ $ echo \\x1b[2J\\x1b]0;owned\\x07\\u202e\\x9b\n  │ > echo\n" in terminal.text


def test_without_a_terminal_calls_are_denied_and_the_run_goes_on(tmp_path: Path) -> None:
    with MessagesServer(asking_for(call("run_command", command="touch made"))) as server:
        ended = without_terminal(server, "x", "--allow-command", cwd=tmp_path)
        told = str(server.requests[-1].body["messages"][-1])
    assert (ended.code, ended.stdout) == (0, "Done.\n")
    assert not (tmp_path / "made").exists()
    said = "--yes 'run_command(touch made)' allows it"
    assert said in ended.stderr.splitlines()[0]
    assert "denied because there is no terminal to ask on; --yes" in told
    assert decisions(log_of(tmp_path)) == [
        (False, f"denied because there is no terminal to ask on; {said}", None)
    ]


def test_patterns_allow_what_they_are_for_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / ".git" / "hooks").mkdir(parents=True)
    (tmp_path / "src" / "way").symlink_to(tmp_path / ".git" / "hooks")
    replies = asking_for(
        call("write_file", path="src/a", content="one\n"),
        call("edit_file", path="src/a", old="one", new="two"),
        call("write_file", path="src/../.git/hooks/x", content="bad"),
        call("write_file", path="src/way/x", content="bad"),
        call("write_file", path="b", content="bad"),
        call("run_command", command="cat src/a"),
        call("run_command", command="cat src/a; touch made"),
    )
    patterns = ("--yes", "write_file(src/*)", "--yes", "edit_file(src/a)", "--yes", "run_command(cat *)")
    with MessagesServer(replies) as server:
        assert without_terminal(server, "x", *BOTH, *patterns, cwd=tmp_path).code == 0
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "b").exists()
    assert not list((tmp_path / ".git" / "hooks").iterdir())
    assert (tmp_path / "src" / "a").read_text() == "two\n"
    told = [(approved, reason) for approved, reason, _ in decisions(log_of(tmp_path))]
    assert told[:2] == [(True, "allowed by 'write_file(src/*)'"), (True, "allowed by 'edit_file(src/a)'")]
    assert [approved for approved, _ in told] == [True, True, False, False, False, True, False]


def test_the_tools_are_there_only_where_they_are_allowed(tmp_path: Path) -> None:
    reading = ["list_files", "read_file", "search_files"]
    expected = {
        (): (reading, "you can change nothing"),
        ("--allow-write",): ([*reading, "write_file", "edit_file"], "you can write and edit them."),
        ("--allow-command",): ([*reading, "run_command"], "you can run shell commands there."),
        BOTH: ([*reading, "write_file", "edit_file", "run_command"], "and you can run shell commands there."),
    }
    for number, (options, (names, said)) in enumerate(expected.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with MessagesServer(["Done."]) as server:
            assert without_terminal(server, "x", *options, cwd=folder).code == 0
        event = log_of(folder)[0]
        assert isinstance(event, RunStarted)
        assert [spec.name for spec in event.tools] == names
        assert said in str(event.system)


def test_the_logs_are_out_of_reach_of_a_change(tmp_path: Path) -> None:
    replies = asking_for(call("write_file", path="agentkit-logs/x.jsonl", content="forged"))
    with MessagesServer(replies) as server:
        assert without_terminal(server, "x", *BOTH, "--yes", "*", cwd=tmp_path).code == 0
    assert len(list((tmp_path / "agentkit-logs").glob("*.jsonl"))) == 1
    assert decisions(log_of(tmp_path)) == [
        (False, "'agentkit-logs/x.jsonl' is out of reach; look at other files", None)
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--yes", "write_file"), "give --allow-write or --allow-command with it"),
        (("--allow-write", "--yes", "run_command"), "give one of write_file, edit_file"),
        ((*BOTH, "--yes", "run_command(ls"), "close its bracket"),
        ((*BOTH, "--yes", "write_file(/etc/*)"), "give one from the root downwards"),
    ],
)
def test_a_wrong_pattern_is_wrong_usage(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    with MessagesServer() as server:
        ended = without_terminal(server, "x", *options, cwd=tmp_path)
        assert server.requests == []
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("agentkit: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "agentkit-logs").exists()


def test_a_session_that_is_gone_on_with_asks_too_and_stays_open_without_a_terminal(
    tmp_path: Path, started: Callable[..., Controlled]
) -> None:
    replies = [Reply(text="Hello."), *asking_for(call("run_command", command="touch made"))]
    with MessagesServer(replies) as server:
        assert without_terminal(server, "x", cwd=tmp_path).code == 0
        (log,) = (tmp_path / "agentkit-logs").glob("*.jsonl")
        ended = without_terminal(server, str(log), "go on", "--allow-command", cwd=tmp_path, name="resume")
        assert ended.code == 1
        assert "agentkit: left open, waiting for approval of run: touch made\n" in ended.stderr
        terminal = started(server, str(log), "--allow-command", name="resume")
        terminal.wait_for("  │ $ touch made\r\n")
        terminal.wait_for(READY)
        assert not (tmp_path / "made").exists()
        terminal.type("y\n")
        assert terminal.end() == 0
    assert (tmp_path / "made").exists()
    assert decisions(log_of(tmp_path)) == [(True, None, login_name())]
