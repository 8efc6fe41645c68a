"""`agentkit run` on a terminal, and what ends it: real signals to a real process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkit_loop.events import RunCancelled
from agentkit_loop.testing import Reply
from agentkit_loop.testing_messages import reply_events
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.cli.running import (
    COMMAND,
    KEY,
    USAGE,
    call,
    check_no_key,
    environment,
    log_of,
    run_on_terminal,
)
from tests.cli.terminals import OnTerminal


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[Callable[..., OnTerminal]]:
    """Return what starts the command on a terminal; none of them outlives the test."""
    started: list[OnTerminal] = []

    def start(*arguments: str, **extra: str) -> OnTerminal:
        started.append(run_on_terminal(arguments, tmp_path, **extra))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_terminal_shows_the_run_as_it_goes_and_the_answer_once(
    tmp_path: Path, on_terminal: Callable[..., OnTerminal]
) -> None:
    (tmp_path / "a.txt").touch()
    replies = [
        Reply(text="I look.", calls=(call("list_files"),)),
        Reply(text="Nothing\x1b]0;owned\x07 there."),
    ]
    with MessagesServer(replies) as server:
        terminal = on_terminal("What is here?", "--base-url", server.base_url, NO_COLOR="1")
        assert terminal.end() == 0
    shown = terminal.shown.decode()
    order = ["What is here?", "I look.", "list_files()", "Nothing\\x1b]0;owned\\x07 there.", "run completed"]
    places = [shown.index(text) for text in [*order, "model ", "log     agentkit-logs/", "next    "]]
    assert places == sorted(places)
    assert shown.count("Nothing") == 1
    assert "\x1b" not in shown


def stalling() -> ServerReply:
    """Return an answer that is silent after some of its text."""
    events = reply_events(Reply(text="I begin and go on", usage=USAGE, chunk_chars=8))
    return ServerReply(events=tuple(events), stall_after=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_run_with_its_totals_and_a_whole_log(
    tmp_path: Path, on_terminal: Callable[..., OnTerminal], number: signal.Signals
) -> None:
    with MessagesServer([stalling()]) as server:
        terminal = on_terminal("x", "--base-url", server.base_url, NO_COLOR="1")
        terminal.wait_for(b"I begin")
        terminal.process.send_signal(number)
        assert terminal.end() == 130
        assert server.wait_for_abort()
    (path,) = (tmp_path / "agentkit-logs").glob("*.jsonl")
    shown = terminal.shown.decode()
    assert f"agentkit: interrupted; log agentkit-logs/{path.name}" in shown
    assert "model " in shown
    assert "Traceback" not in shown
    events = log_of(tmp_path)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], RunCancelled)
    assert events[-2].type == "turn_finished"
    check_no_key(tmp_path, terminal.shown)


def test_an_interrupted_run_is_told_in_json_with_what_was_answered(
    on_terminal: Callable[..., OnTerminal],
) -> None:
    with MessagesServer([stalling()]) as server:
        terminal = on_terminal("x", "--json", "--base-url", server.base_url, NO_COLOR="1")
        terminal.wait_for(b"I begin")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    told = json.loads(terminal.shown.decode().splitlines()[-1])
    assert (told["text"], told["status"], told["error"]) == ("I begin ", "cancelled", None)
    assert (told["finish_reason"], told["usage"]["input_tokens"]) == ("cancelled", 400)


def test_a_second_interruption_ends_a_process_that_hangs_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "log"  # nobody reads on, so that the process hangs while it writes the prompt there
    os.mkfifo(pipe)
    log = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "prompt").write_bytes(b"word " * 200_000)
    with (
        MessagesServer() as server,
        (tmp_path / "prompt").open("rb") as prompt,
        (tmp_path / "said").open("wb") as said,
    ):
        process = subprocess.Popen(
            [*COMMAND, "-", "--log", "log", "--base-url", server.base_url],
            cwd=tmp_path,
            stdin=prompt,
            stdout=said,
            stderr=said,
            env=environment(tmp_path, ANTHROPIC_API_KEY=KEY),
        )
        written = b""
        while b'"input_accepted"' not in written:  # then it is in the middle of that line
            assert select.select([log], [], [], 60)[0]
            block = os.read(log, 500)
            assert block, "the process ended early"
            written += block
        while process.poll() is None:  # two that come as one to a process are one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        os.close(log)
        assert process.returncode == 130
        assert (tmp_path / "said").read_bytes() == b"agentkit: interrupted at once\n"
        assert server.requests == []
