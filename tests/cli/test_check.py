"""`agentkit check` as a user meets it: real processes over real logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import Parent
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import JsonlReporter, Rotation
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import read_events
from tests.cli.test_command_line import agentkit
from tests.rules_told import Told


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of two sessions."""
    path = tmp_path / "run.jsonl"
    with Agent(ScriptedModel(["one", "two"]), observers=[JsonlReporter(path)]) as agent:
        agent.run("hi")
        agent.run("hi")
    return path


def ids(path: Path) -> list[str]:
    return list(dict.fromkeys(json.loads(line)["session_id"] for line in path.read_text().splitlines()))


def test_a_sound_log_says_of_each_session_that_it_is_complete(log: Path) -> None:
    result = agentkit("check", log.name, cwd=log.parent)
    assert (result.returncode, result.stderr) == (0, "")
    count = len(log.read_text().splitlines()) // 2
    assert result.stdout.splitlines() == [
        *(f"session {each}: complete: {count} of {count}" for each in ids(log)),
        f"2 sessions: complete: {2 * count} of {2 * count}",
    ]


def test_each_fault_is_one_line_with_its_place_and_the_exit_code_is_one(log: Path) -> None:
    lines = log.read_bytes().split(b"\n")
    record = json.loads(lines[-2])
    record["payload"]["usage"] = {"input_tokens": 7_000}
    log.write_bytes(b"\n".join([*lines[:-2], json.dumps(record).encode(), b'{"v":1,"seq"', b""]))
    result = agentkit("check", log.name, cwd=log.parent)
    assert result.returncode == 1
    assert result.stderr == "agentkit: 2 faults in 2 sessions of run.jsonl\n"
    first, second, *_ = result.stdout.splitlines()
    number = len(lines) - 1
    assert first == (
        f"run.jsonl:{number}: session {record['session_id']}, event {record['seq']} (run_finished): "
        "usage is not the sum over the run"
    )
    assert second == f"run.jsonl:{number + 1}: line refused because input data was truncated"


def test_programs_get_one_object(log: Path) -> None:
    expected = ids(log)
    log.write_bytes(b"no json\n" + log.read_bytes())
    result = agentkit("check", "--json", log.name, cwd=log.parent)
    told = json.loads(result.stdout)
    assert result.returncode == 1
    assert (told["sound"], told["fault_count"], told["bad_lines"]) == (False, 1, 1)
    assert told["complete"] is True
    assert told["faults"][0]["path"] == "run.jsonl"
    assert told["faults"][0]["line"] == 1
    assert [session["complete"] for session in told["sessions"]] == [True, True]
    assert [session["session_id"] for session in told["sessions"]] == expected


def test_what_is_no_fault_is_told_for_what_it_is(tmp_path: Path) -> None:
    told = Told().run(parent=Parent(session_id="elsewhere", run_id="r", call_id="c")).say().turn().ask()
    content = b"".join(encode_event(event) + b"\n" for event in told.events)
    strange = json.loads(encode_event(told.events[-1])) | {"v": 2, "seq": len(told.events) + 1}
    strange["type"] = "of_tomorrow"
    (tmp_path / "run.jsonl").write_bytes(content + json.dumps(strange).encode() + b"\n")
    result = agentkit("check", "run.jsonl", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout == (
        "session session: 6 of 6 so far; run run-1 has no end: it crashed, or it is still going on\n"
    )
    assert "newer version (2)" in result.stderr


def test_a_log_may_come_through_a_pipe(log: Path) -> None:
    result = agentkit("check", "-", cwd=log.parent, given=log.read_bytes())
    assert result.returncode == 0
    assert result.stdout.count("complete: ") == 3


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("none.jsonl", None, 2, "no such file"),
        ("empty.jsonl", b"", 1, "no event in empty.jsonl; give a log"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, code: int, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = agentkit("check", name, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_many_faults_of_one_kind_are_one_line(log: Path) -> None:
    log.write_bytes(log.read_bytes() * 2)
    lines = agentkit("check", log.name, cwd=log.parent).stdout.splitlines()
    assert [line.partition("was told before ")[2] for line in lines[:2]] == [
        f"(and {len(log.read_text().splitlines()) // 4 - 1} more like it)"
    ] * 2


def test_logs_are_checked_without_the_providers_sdk(log: Path) -> None:
    result = agentkit("check", log.name, cwd=log.parent, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "msgspec" in loaded
    assert not loaded & {"anthropic", "genai_prices", "pydantic", "httpx2", "ssl", "rich", "asyncio"}


def test_a_session_that_still_goes_on_is_not_called_complete(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    (log.parent / "begun.jsonl").write_bytes(b"".join(lines[:6]))
    result = agentkit("check", "begun.jsonl", cwd=log.parent)
    assert result.returncode == 0
    assert ": 6 of 6 so far; run " in result.stdout
    assert "complete" not in result.stdout
    told = json.loads(agentkit("check", "--json", "begun.jsonl", cwd=log.parent).stdout)
    assert (told["sound"], told["complete"], told["sessions"][0]["complete"]) == (True, False, False)


def test_who_reads_the_first_line_only_gets_the_exit_code_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"".join(b"x%d\n" % number for number in range(20_000)))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [sys.executable, "-m", "agentkit_reporting.cli", "check", "bad.jsonl"]
        result = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_log_of_nothing_is_not_sound_for_programs_either(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    result = agentkit("check", "--json", "empty.jsonl", cwd=tmp_path)
    assert (result.returncode, json.loads(result.stdout)["sound"]) == (1, False)


def test_of_a_file_that_is_no_log_one_line_is_printed_and_the_faults_of_others_are_kept(log: Path) -> None:
    (log.parent / "a_foreign.jsonl").write_bytes(b"no event\n" * 900)
    with log.open("ab") as file:
        file.write(b"torn\n")
    result = agentkit("check", ".", cwd=log.parent)
    lines = result.stdout.splitlines()
    assert lines[0].startswith(
        "a_foreign.jsonl:1: none of its 900 lines is an event; the first: line refused"
    )
    assert sum("line refused" in line for line in lines) == 2
    found = json.loads(agentkit("check", "--json", ".", cwd=log.parent).stdout)
    assert (found["fault_count"], len(found["faults"]), found["bad_lines"]) == (2, 2, 901)
    alone = agentkit("check", "a_foreign.jsonl", cwd=log.parent)
    assert (alone.returncode, alone.stdout.count("\n"), alone.stderr.count("\n")) == (1, 1, 1)


@pytest.mark.parametrize("command", ["show", "scan", "cost"])
def test_other_commands_say_of_such_a_file_what_its_first_line_is_and_fail(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_bytes(b"buy milk\nand bread\n")
    result = agentkit(command, "notes.txt", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 2)
    assert "skipped notes.txt:1: " in result.stderr
    assert "secret found" not in result.stderr


def test_show_says_of_which_session_retention_removed_the_beginning(tmp_path: Path) -> None:
    log = JsonlReporter(tmp_path / "run.jsonl", rotation=Rotation(max_bytes=2_000, keep=2))
    with Agent(ScriptedModel(["one " * 50] * 6), observers=[log]) as agent, agent.start() as driver:
        for _ in range(6):
            driver.run("hi")
        session_id = driver.session_id
    log.close()
    first = next(iter(read_events(tmp_path / "run.jsonl"))).seq
    result = agentkit("show", "run.jsonl", cwd=tmp_path)
    said = f"session {session_id} is shown without its beginning: events 1 to {first - 1} are not there"
    assert (result.returncode, result.stderr) == (0, f"agentkit: {said}; retention removed them\n")
    (tmp_path / "cut.jsonl").write_bytes((tmp_path / "run.jsonl").read_bytes())
    assert agentkit("show", "cut.jsonl", cwd=tmp_path).stderr.endswith("are not there\n")
    assert agentkit("show", "--session", "none", "run.jsonl", cwd=tmp_path).stderr.count("\n") == 1


def test_what_retention_removed_is_told_and_is_no_fault(tmp_path: Path) -> None:
    rotation = Rotation(max_bytes=2_000, keep=2)
    log = JsonlReporter(tmp_path / "run.jsonl", rotation=rotation)
    with Agent(ScriptedModel(["one " * 50] * 12), observers=[log]) as agent, agent.start() as driver:
        for _ in range(12):
            driver.run("hi")
    result = agentkit("check", "run.jsonl", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert " removed by retention)" in result.stdout
    assert "complete" not in result.stdout
    (session,) = json.loads(agentkit("check", "--json", ".", cwd=tmp_path).stdout)["sessions"]
    assert (session["missing"], session["removed"] > 0, session["complete"]) == (0, True, False)
