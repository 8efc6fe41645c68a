"""Where `agentkit run` writes its log: tried before the run, out of the agent's sight, honest when it fails."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest

from agentkit_loop.testing import Reply
from agentkit_loop.testing_server import MessagesServer
from agentkit_reporting import read_events
from tests.cli.running import COMMAND, KEY, agentkit, call, environment, log_of, outputs


@pytest.mark.parametrize("text", ["precious notes\n", '{"a": 1}\n', "x"])
def test_a_file_that_is_no_log_is_not_appended_to(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.txt").write_text(text)
    with MessagesServer() as server:
        ended = agentkit("x", "--base-url", server.base_url, "--log", "notes.txt", cwd=tmp_path)
        assert server.requests == []
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"agentkit: {tmp_path / 'notes.txt'}: log refused because the file holds something else than events; "
        "give another path\n"
    )
    assert (tmp_path / "notes.txt").read_text() == text


def test_a_log_and_an_empty_file_are_appended_to(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").touch()
    with MessagesServer(["one", "two"]) as server:
        for _ in range(2):
            at = ("--base-url", server.base_url, "--log", "run.jsonl")
            assert agentkit("x", *at, cwd=tmp_path).code == 0
    assert len({event.session_id for event in read_events(tmp_path / "run.jsonl", strict=True)}) == 2


@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/", "/dev/full", "/proc/self"])
def test_a_log_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    with MessagesServer() as server:
        ended = agentkit("x", "--base-url", server.base_url, "--log", place, cwd=tmp_path)
        assert server.requests == []
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("agentkit: /")
    assert ended.stderr.endswith("; give another path\n")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_a_disk_that_becomes_full_is_one_sentence_and_1_after_the_answer(
    tmp_path: Path, *, as_json: bool
) -> None:
    with MessagesServer(["the answer " * 200]) as server:
        at = ("--base-url", server.base_url, "--log", "run.jsonl", *(["--json"] if as_json else []))
        result = subprocess.run(
            [*COMMAND, "x", *at],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            env=environment(tmp_path, ANTHROPIC_API_KEY=KEY, PYTHONDONTWRITEBYTECODE="1"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, 1_500)),
        )
    assert result.returncode == 1
    answer = json.loads(result.stdout)["text"] if as_json else result.stdout
    assert answer.startswith("the answer the answer")
    assert result.stderr.count("the log is not whole; ") == 1
    assert "line could not be written: file too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert "next " not in result.stderr
    assert "log  " not in result.stderr


def test_the_default_directory_keeps_itself_out_of_version_control(tmp_path: Path) -> None:
    with MessagesServer(["one", "two"]) as server:
        assert agentkit("x", "--base-url", server.base_url, cwd=tmp_path).code == 0
        ignored = tmp_path / "agentkit-logs" / ".gitignore"
        assert ignored.read_text().splitlines()[-1] == "*"
        ignored.unlink()  # who takes it away does not get it again
        assert agentkit("x", "--base-url", server.base_url, cwd=tmp_path).code == 0
        assert not ignored.exists()


@pytest.mark.parametrize("log", [("--no-log",), ("--log", "own.jsonl"), ("--log", "mine/"), ()])
def test_earlier_logs_are_hidden_whatever_this_run_does(tmp_path: Path, log: tuple[str, ...]) -> None:
    for name in ("agentkit-logs", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old.jsonl").write_text('{"v":1,"secret":"hunter2"}\n')
    (tmp_path / "a.txt").touch()
    calls = (
        call("list_files"),
        call("search_files", query="hunter2"),
        call("read_file", path="theirs/old.jsonl"),
    )
    with MessagesServer([Reply(calls=calls), "done"]) as server:
        at = ("--base-url", server.base_url)
        assert agentkit("x", *at, *log, cwd=tmp_path, AGENTKIT_LOG_DIR="theirs").code == 0
        told = json.dumps(server.requests[1].body["messages"][-1])
    assert "a.txt" in told
    assert "old.jsonl\\n" not in told
    assert ":1:" not in told
    assert "'theirs/old.jsonl' is out of reach" in told


def test_old_logs_can_be_the_root(tmp_path: Path) -> None:
    (tmp_path / "agentkit-logs" / "deep").mkdir(parents=True)
    (tmp_path / "agentkit-logs" / "deep" / "old.jsonl").write_text("hunter2\n")
    for root in ("agentkit-logs", "agentkit-logs/deep"):
        with MessagesServer([Reply(calls=(call("search_files", query="hunter2"),)), "done"]) as server:
            at = ("--base-url", server.base_url, "--root", root)
            assert agentkit("x", *at, "--no-log", cwd=tmp_path).code == 0
            assert "old.jsonl:1: hunter2" in json.dumps(server.requests[1].body)


def test_a_log_directory_that_contains_the_root_is_refused_with_what_to_give(tmp_path: Path) -> None:
    ended = agentkit("hi", "--log", ".", cwd=tmp_path)
    assert ended.code == 2
    assert ended.stderr == (
        "agentkit: log directory '.' refused because it contains the root '.', "
        "and logs are hidden from the agent; give another --log, or --no-log\n"
    )


def test_secrets_are_kept_out_of_a_run_and_the_help_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    calls = (call("list_files"), call("read_file", path=".env"), call("search_files", query="hunter2"))
    with MessagesServer([Reply(calls=calls), "done"]) as server:
        assert agentkit("x", "--base-url", server.base_url, cwd=tmp_path).code == 0
    listed, read, found = outputs(log_of(tmp_path))
    assert ".env (kept out: may hold secrets)" in listed
    assert "may hold secrets" in read
    assert found == "[no lines found below '.']"
    assert "Files that may hold secrets" in agentkit("--help", cwd=tmp_path).stdout
