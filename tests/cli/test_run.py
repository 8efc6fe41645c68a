"""`agentkit run` as a user meets it: a real process, a real server, real tools on a folder."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from agentkit_loop.content import AppendText
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted
from agentkit_loop.testing import Reply
from agentkit_loop.testing_server import MessagesServer, ServerReply
from agentkit_reporting import read_events
from tests.cli.running import (
    KEY,
    USAGE,
    Ended,
    agentkit,
    call,
    environment,
    log_of,
    outputs,
)

# --- a session


ANSWER = "It says Hello (src/a.py, line 1). \x1b[2J\u202e नमस्ते\u200d"


@attrs.frozen
class Session:
    """A session over a folder, piped: the process's end, its log and what the model was sent."""

    folder: Path
    ended: Ended
    events: list[AgentEvent]
    bodies: list[Any]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("session")
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("print('Hello')\n")
    (folder / "way-out").symlink_to("/etc")

    def reply(body: Any) -> Reply:
        asked = sum(message["role"] == "assistant" for message in body["messages"])
        if asked == 0:
            return Reply(text="I'll look.", calls=(call("list_files"),), usage=USAGE)
        if asked == 1:
            (log,) = (folder / "agentkit-logs").glob("*.jsonl")
            calls = (
                call("read_file", path="src/a.py"),
                call("search_files", query="HELLO", ignore_case=True),
                call("read_file", path=f"agentkit-logs/{log.name}"),
                call("list_files", path="agentkit-logs"),
                call("read_file", path="way-out/passwd"),
            )
            return Reply(calls=calls, usage=USAGE)
        return Reply(text=ANSWER, usage=USAGE)

    with MessagesServer(reply) as server:
        ended = agentkit("What does it say?", "--base-url", server.base_url, cwd=folder)
        bodies = [request.body for request in server.requests]
    return Session(folder, ended, log_of(folder), bodies)


def test_a_pipe_gets_the_answer_alone_and_nothing_that_controls_a_terminal(session: Session) -> None:
    assert session.ended.code == 0
    assert session.ended.stdout == "It says Hello (src/a.py, line 1). \\x1b[2J\\u202e नमस्ते\u200d\n"


def test_the_totals_and_the_log_are_told_on_stderr(session: Session) -> None:
    head, row, _, log, following = session.ended.stderr.splitlines()
    assert head.split()[:3] == ["model", "requests", "input"]
    assert row.split()[:3] == ["claude-sonnet-5-5", "3", "1,200"]
    (path,) = (session.folder / "agentkit-logs").glob("*.jsonl")
    assert log == f"log     agentkit-logs/{path.name}"
    assert following == f"next    agentkit show agentkit-logs/{path.name}"


def test_the_log_is_whole_and_private(session: Session) -> None:
    assert [event.seq for event in session.events] == list(range(1, len(session.events) + 1))
    assert session.events[-1].type == "run_finished"
    (path,) = (session.folder / "agentkit-logs").glob("*.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_tools_work_and_reach_neither_the_log_nor_what_is_outside(session: Session) -> None:
    listed, read, found, *refused = outputs(session.events)
    assert listed == "[2 files below '.']\nsrc/a.py\nway-out (a link out of reach)"
    assert read == "['src/a.py': 1 line]\nprint('Hello')"
    assert found == "[1 line in 1 file below '.']\nsrc/a.py:1: print('Hello')"
    (log,) = (session.folder / "agentkit-logs").glob("*.jsonl")
    assert refused == [
        f"PermissionError: 'agentkit-logs/{log.name}' is out of reach; look at other files",
        "PermissionError: 'agentkit-logs' is out of reach; look at other files",
        "PermissionError: 'way-out/passwd' is a link that leads out of the root",
    ]


def test_the_model_is_asked_as_the_defaults_say(session: Session) -> None:
    body = session.bodies[0]
    assert body["model"] == "claude-sonnet-5-5"
    assert [tool["name"] for tool in body["tools"]] == ["list_files", "read_file", "search_files"]
    assert "list, read and search" in str(body["system"])
    assert str(session.folder) not in str(body)


# --- options


def test_json_is_one_object_with_everything_and_stderr_has_the_rest(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.")
    with MessagesServer([Reply(text="Yes.\x9b", usage=USAGE)]) as server:
        ended = agentkit(
            *("-", "--json", "--log", "own.jsonl", "--system", "@system.txt", "--max-tokens", "7"),
            cwd=tmp_path,
            given=b"Is it \xff",
            ANTHROPIC_BASE_URL=server.base_url,
            AGENTKIT_MODEL="claude-haiku-5-5",
        )
        body = server.requests[0].body
    assert (ended.code, ended.stdout.count("\n")) == (0, 1)
    assert ended.stdout.isascii()
    (first, *_) = read_events(tmp_path / "own.jsonl", strict=True)
    told = json.loads(ended.stdout)
    assert set(told) == {
        *("text", "finish_reason", "status", "session_id", "usage", "cost", "unpriced_requests", "log"),
        "error",
    }
    assert (told["text"], told["finish_reason"], told["status"]) == ("Yes.\x9b", "completed", "completed")
    assert (told["session_id"], told["error"]) == (first.session_id, None)
    assert told["log"] == str(tmp_path / "own.jsonl")
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (400, 30)
    assert told["usage"]["reasoning_tokens"] is None
    assert not (tmp_path / "agentkit-logs").exists()
    assert (body["model"], body["max_tokens"]) == ("claude-haiku-5-5", 7)
    assert "Be brief." in str(body["system"])
    assert "Is it \ufffd" in str(body["messages"])  # what is not UTF-8 on stdin is replaced


def test_a_log_goes_where_it_is_told_and_no_log_writes_none(tmp_path: Path) -> None:
    with MessagesServer(["one", "two", "three"]) as server:
        at = ("--base-url", server.base_url)
        assert agentkit("x", *at, "--log", "deep/logs/", cwd=tmp_path).code == 0
        assert agentkit("x", *at, cwd=tmp_path, AGENTKIT_LOG_DIR="mine").code == 0
        without = agentkit("x", *at, "--no-log", cwd=tmp_path)
    assert [path.suffix for path in (tmp_path / "deep" / "logs").iterdir()] == [".jsonl"]
    assert [path.suffix for path in (tmp_path / "mine").iterdir()] == [".jsonl"]
    assert without.stdout == "three\n"
    assert "log " not in without.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "mine"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("",), "empty prompt refused"),
        (("-",), "empty prompt refused"),
        (("x", "--log", "l", "--no-log"), "--log refused beside --no-log"),
        (("x", "--log", "-"), "stdout has the answer"),
        (("x", "--log", "file/below"), "log refused"),
        (("x", "--log", "./"), "it contains the root '.'"),
        (("x", "--system", "@missing"), "--system '@missing' refused"),
        (("x", "--base-url", "localhost:1"), "give one such as 'http://localhost:11434'"),
        (("x", "--timeout", "nan"), "give seconds above 0"),
        (("x", "--model", " "), "give one such as"),
        (("x", "--root", "file"), "is a file"),
        (("x", "--max-tokens", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_written(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").touch()
    ended = agentkit(*arguments, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_loads_neither_the_sdk_nor_the_loop_and_a_missing_key_not_the_sdk(tmp_path: Path) -> None:
    for argument, loaded in (("--help", "[False, False]"), ("x", "[False, True]")):
        check = (
            "import sys\nfrom agentkit_reporting.cli import main\n"
            f"try: main(['run', {argument!r}])\nexcept SystemExit: pass\n"
            "print([name in sys.modules for name in ('anthropic', 'agentkit_loop.models.anthropic')])"
        )
        run = subprocess.run(
            [sys.executable, "-c", check],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env=environment(tmp_path),
        )
        assert run.stdout.splitlines()[-1] == loaded


# --- keys


@pytest.mark.parametrize("key", ["", "  "])
def test_a_missing_key_is_one_line_that_says_what_to_set_and_leaves_no_log(tmp_path: Path, key: str) -> None:
    ended = agentkit("x", cwd=tmp_path, key=key)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == (
        "agentkit: no API key; set ANTHROPIC_API_KEY, or give --base-url for a server that needs none\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_credentials_that_are_none_after_all_are_the_same_line(tmp_path: Path) -> None:
    profile = tmp_path / ".config" / "anthropic" / "configs" / "default.json"
    profile.parent.mkdir(parents=True)
    profile.write_text("{")
    ended = agentkit("x", "--no-log", cwd=tmp_path, key="")
    assert ended.code == 2
    assert ended.stderr.startswith("agentkit: no API key; set ANTHROPIC_API_KEY")
    assert ended.stderr.count("\n") == 1


def test_a_server_that_needs_no_key_is_asked_without_one(tmp_path: Path) -> None:
    with MessagesServer(["hello"]) as server:
        ended = agentkit("x", "--base-url", server.base_url, cwd=tmp_path, key="")
    assert (ended.code, ended.stdout) == (0, "hello\n")


def test_it_is_told_when_the_key_goes_to_another_machine(tmp_path: Path) -> None:
    def told(url: str) -> str:
        (tmp_path / "file").touch()
        return agentkit("x", "--base-url", url, "--log", "file/none", cwd=tmp_path).stderr

    note = "agentkit: ANTHROPIC_API_KEY goes to gateway.invalid; unset it to send none\n"
    assert told("https://gateway.invalid/v1").startswith(note)
    for near in ("http://127.0.0.1:8", "http://localhost", "https://api.anthropic.com"):
        assert "goes to" not in told(near)


# --- failures


FAILURES: dict[str, tuple[ServerReply, str]] = {
    "a wrong key": (
        ServerReply.refusal(401, "authentication_error", f"invalid x-api-key {KEY}"),
        "check ANTHROPIC_API_KEY",
    ),
    "an unknown model": (
        ServerReply.refusal(404, "not_found_error", "model: claude-nope\x1b[2J"),
        "check --model",
    ),
    "no API at all": (
        ServerReply(body=b"<html>welcome</html>", headers={"content-type": "text/html"}),
        "check --base-url",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_model_is_one_line_with_the_log_and_1(tmp_path: Path, name: str) -> None:
    reply, advice = FAILURES[name]
    with MessagesServer([reply]) as server:
        ended = agentkit("x", "--base-url", server.base_url, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (1, "")
    (path,) = (tmp_path / "agentkit-logs").glob("*.jsonl")
    assert ended.stderr.startswith("agentkit: ")
    assert advice in ended.stderr
    assert ended.stderr.endswith(f"; log agentkit-logs/{path.name}\n")
    assert ended.stderr.count("\n") == 1
    assert "\x1b" not in ended.stderr
    assert log_of(tmp_path)[-1].type == "run_failed"


def test_a_refused_connection_is_told_in_json_too(tmp_path: Path) -> None:
    with MessagesServer() as server:
        gone = server.base_url
    ended = agentkit("x", "--json", "--base-url", gone, cwd=tmp_path)
    assert ended.code == 1
    told = json.loads(ended.stdout)
    assert (told["text"], told["finish_reason"], told["status"]) == ("", "error", "failed")
    assert told["error"]["class"] == "connection"
    assert told["error"]["message"].endswith("check the network and --base-url")
    assert Path(told["log"]).exists()
    *retries, failure = ended.stderr.splitlines()
    assert len(retries) == 3
    for attempt, line in enumerate(retries, start=2):
        assert line.startswith("agentkit: no connection; trying again in ")
        assert line.endswith(f" s (attempt {attempt})")
    assert " (4 attempts); check the network and --base-url; log " in failure


def test_an_answer_that_was_cut_is_given_and_said_not_to_be_whole(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="It is", finish_reason="max_tokens", usage=USAGE)]) as server:
        ended = agentkit("x", "--no-log", "--base-url", server.base_url, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (1, "It is\n")
    assert ended.stderr.startswith("agentkit: the answer is not whole (max_tokens); raise --max-tokens\n")


def test_a_closed_pipe_and_a_closed_stdout_are_quiet(tmp_path: Path) -> None:
    with MessagesServer(["one", "two"]) as server:
        command = f"'{sys.executable}' -m agentkit_reporting.cli run x --no-log --base-url {server.base_url}"
        for way in (f"{command} | true", f"{command} >&-"):
            result = subprocess.run(
                ["bash", "-o", "pipefail", "-c", way],
                cwd=tmp_path,
                capture_output=True,
                check=False,
                env=environment(tmp_path, ANTHROPIC_API_KEY=KEY),
            )
            assert result.returncode == 0
            assert result.stderr.startswith(b"model ")
            assert result.stderr.count(b"\n") == 2


def test_deltas_are_in_the_log_as_they_came(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="one two", chunk_chars=4)]) as server:
        assert agentkit("x", "--base-url", server.base_url, cwd=tmp_path).stdout == "one two\n"
    events = log_of(tmp_path)
    assert isinstance(events[0], RunStarted)
    deltas = [event.delta for event in events if isinstance(event, ContentDelta)]
    assert [delta.chunk for delta in deltas if isinstance(delta, AppendText)] == ["one ", "two"]
