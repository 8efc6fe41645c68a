"""Two processes and one session: the second is refused, whatever it is that the first does with it."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from agentkit_loop.testing import MessagesServer, Reply
from tests.cli.questions import Controlled
from tests.cli.running import KEY, call, environment
from tests.cli.test_resume import COMMAND, events_of, pending, resume

__all__ = ["pending"]  # a fixture


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_a_second_process_does_not_go_on_with_the_same_session(
    options: tuple[str, ...], pending: Path
) -> None:
    command = [*COMMAND, "log.jsonl", "--agent", "app:answering", "--no-colour"]
    path = pending / "log.jsonl"
    with Controlled(command, pending, environment(pending, TERM="xterm")) as terminal, path.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_SH)  # as writers may
        terminal.wait_for("[y]es")
        before = path.read_bytes()
        second = resume("log.jsonl", "--agent", "app:answering", *options, cwd=pending)
        assert (second.code, second.stdout, second.stderr.count("\n")) == (2, "", 1)
        assert "refused because another process goes on with this session" in second.stderr
        assert path.read_bytes() == before
        terminal.type("y\n")
        assert terminal.end() == 0
    assert resume("log.jsonl", "more", "--agent", "app:answering", cwd=pending).code == 0
    events_of(path)


def test_a_run_that_is_going_on_is_not_resumed_beside_it(tmp_path: Path) -> None:
    with MessagesServer([Reply(calls=(call("run_command", command="ls"),)), "Done."]) as server:
        base = ("--base-url", server.base_url, "--allow-command")
        command = [*COMMAND[:-1], "run", "go", *base, "--log", "log.jsonl", "--no-colour"]
        told = environment(tmp_path, ANTHROPIC_API_KEY=KEY, TERM="xterm")
        with Controlled(command, tmp_path, told) as terminal:
            terminal.wait_for("[l]ater")
            beside = resume("log.jsonl", *base, cwd=tmp_path)
            assert (beside.code, beside.stdout) == (2, "")
            assert "another process goes on with this session" in beside.stderr
            terminal.type("l\n")
            terminal.wait_for("to answer, run `agentkit resume log.jsonl`")
            assert terminal.end() == 1
        command = [*COMMAND, "log.jsonl", *base, "--no-colour"]
        with Controlled(command, tmp_path, told) as terminal:
            terminal.wait_for("[l]ater")
            terminal.type("y\n")
            terminal.wait_for("Done.")
            assert terminal.end() == 0
    events_of(tmp_path / "log.jsonl")


def test_sessions_of_one_log_go_on_at_once(pending: Path) -> None:
    path = pending / "log.jsonl"
    whole = path.read_bytes()
    session_id = json.loads(whole.split(b"\n")[0])["session_id"].encode()
    path.write_bytes(whole + whole.replace(session_id, b"other"))
    command = [*COMMAND, "log.jsonl", "--agent", "app:answering", "--session", "other"]
    with Controlled(command, pending, environment(pending, TERM="xterm")) as terminal:
        terminal.wait_for("[y]es")
        beside = resume(
            "log.jsonl", "--agent", "app:answering", "--session", session_id[-6:].decode(), cwd=pending
        )
        assert (beside.code, "left open" in beside.stderr) == (1, True)
