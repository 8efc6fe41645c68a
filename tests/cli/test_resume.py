"""`agentkit resume` as a user meets it: a session goes on in its own log, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import ModelError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.testing import MessagesServer, Reply
from agentkit_reporting import JsonlReporter, read_events
from tests.cli.questions import Controlled
from tests.cli.running import KEY, USAGE, Ended, agentkit, call, check_no_key, environment
from tests.loop.crash_runs import World
from tests.rules import faults

COMMAND = (sys.executable, "-m", "agentkit_reporting.cli", "resume")

AGENT = """
from agentkit_loop import Agent, ScriptedModel, tool
from agentkit_loop.testing import Reply, ScriptedCall

@tool(approval=True)
def gated(what: str = "") -> str:
    "Do what a person allows."
    with open("calls.txt", "a") as file:
        file.write(what)
    return "done " + what

def asking():
    calls = (ScriptedCall(name="gated", input={"what": "one"}),)
    return Agent(ScriptedModel([Reply(calls=calls)]), tools=[gated], name="asking")

def answering():
    return Agent(ScriptedModel(["All done.", "And more."]), tools=[gated], name="asking")
"""


def resume(*arguments: str, cwd: Path, given: bytes = b"", **extra: str) -> Ended:
    """Run `agentkit resume …` to its end, without a terminal anywhere."""
    result = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        check=False,
        start_new_session=True,
        env=environment(cwd, ANTHROPIC_API_KEY=KEY, **extra),
    )
    check_no_key(cwd, result.stdout + result.stderr)
    return Ended(result.returncode, result.stdout.decode(), result.stderr.decode())


def events_of(path: Path) -> list[AgentEvent]:
    events = list(read_events(path, strict=True))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert faults(events) == []
    return events


def asked(server: MessagesServer, number: int = -1) -> list[Any]:
    return list(server.requests[number].body["messages"])


# --- the agent of `agentkit run`


def test_a_finished_session_takes_a_new_prompt_in_its_own_log(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="one", usage=USAGE), Reply(text="two", usage=USAGE)]) as server:
        base = ("--base-url", server.base_url)
        agentkit("first", *base, "--model", "m-1", "--system", "be kind", "--log", "log.jsonl", cwd=tmp_path)
        before = (tmp_path / "log.jsonl").read_bytes()
        ended = resume("log.jsonl", "second", *base, cwd=tmp_path)
        body = server.requests[-1].body
    assert (ended.code, ended.stdout) == (0, "two\n")
    assert ended.stderr.startswith("since the resume:\n")
    assert (tmp_path / "log.jsonl").read_bytes().startswith(before)
    events = events_of(tmp_path / "log.jsonl")
    assert sum(isinstance(event, RunStarted) for event in events) == 2
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["model"] == "m-1"  # as in the log, since no option says otherwise
    assert body["system"][0]["text"] == "be kind"
    assert not (tmp_path / "agentkit-logs").exists()


def test_a_prompt_may_come_on_stdin_and_options_win_over_the_log(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="one"), Reply(text="two")]) as server:
        base = ("--base-url", server.base_url)
        agentkit("first", *base, "--log", "log.jsonl", cwd=tmp_path)
        options = ("--model", "m-2", "--system", "", "--json")
        ended = resume("log.jsonl", "-", *base, *options, cwd=tmp_path, given=b"second")
        body = server.requests[-1].body
    told = json.loads(ended.stdout)
    assert (ended.code, told["text"], told["status"]) == (0, "two", "completed")
    assert Path(told["log"]) == tmp_path / "log.jsonl"
    assert (body["model"], "system" in body) == ("m-2", False)
    assert body["messages"][-1]["content"][0]["text"] == "second"


def test_a_directory_of_logs_wants_the_session_where_there_are_several(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="x")] * 3) as server:
        base = ("--base-url", server.base_url)
        for prompt in ("a", "b"):
            agentkit(prompt, *base, cwd=tmp_path)
        ended = resume("agentkit-logs", "more", *base, cwd=tmp_path)
        assert (ended.code, ended.stdout) == (2, "")
        assert "say which by --session" in ended.stderr
        session_id = min((tmp_path / "agentkit-logs").glob("*.jsonl")).stem
        assert resume("agentkit-logs", "more", "--session", session_id[-8:], *base, cwd=tmp_path).code == 0
    counts = [len(events_of(path)) for path in sorted((tmp_path / "agentkit-logs").glob("*.jsonl"))]
    assert counts[0] > counts[1]


def test_a_session_that_was_killed_goes_on_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    replies = [Reply(calls=(call("read_file", path="a.txt"),)), Reply(text="It says hello.")]
    with MessagesServer([*replies, Reply(text="It says hello.")]) as server:
        base = ("--base-url", server.base_url)
        agentkit("what?", *base, "--log", "log.jsonl", cwd=tmp_path)
        path = tmp_path / "log.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        started = next(n for n, line in enumerate(lines) if b'"tool_execution_started"' in line)
        path.write_bytes(b"".join(lines[: started + 1]) + lines[started + 1][:40])  # and a torn line
        ended = resume("log.jsonl", *base, cwd=tmp_path)
        (result,) = asked(server)[2]["content"]
    assert (ended.code, ended.stdout) == (0, "It says hello.\n")
    assert "skipped" in ended.stderr
    assert "hello" in result["content"]  # reading may run again
    events = list(read_events(path))
    assert [type(event) for event in events if isinstance(event, (RunFailed, RunFinished))] == [
        RunFailed,
        RunFinished,
    ]
    assert [event.attempt for event in events if isinstance(event, ToolExecutionStarted)] == [1, 2]
    assert faults(events) == []


def test_a_model_that_failed_is_asked_again(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="now it works")]) as server:
        log = JsonlReporter(tmp_path / "log.jsonl")
        world = World()
        with pytest.raises(ModelError), world.agent(lambda _: 1 / 0, log, tools=[]).start("go") as driver:
            driver.run()
        log.close()
        ended = resume("log.jsonl", "--base-url", server.base_url, cwd=tmp_path)
        assert [message["role"] for message in asked(server)] == ["user"]
    assert (ended.code, ended.stdout) == (0, "now it works\n")


# --- an agent of one's own, and approvals


@pytest.fixture
def pending(tmp_path: Path) -> Path:
    """Return a directory with an agent, and the log of its session that waits for an approval."""
    (tmp_path / "app.py").write_text(AGENT)
    ask = (
        "import app\nfrom agentkit_reporting import JsonlReporter\nagent = app.asking()\n"
        "agent.observers = (JsonlReporter('log.jsonl'),)\n"
        "with agent:\n    assert agent.run('go').status == 'suspended'"
    )
    subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, env=environment(tmp_path))
    return tmp_path


def test_without_a_terminal_an_approval_stays_open_and_is_told(pending: Path) -> None:
    ended = resume("log.jsonl", "--agent", "app:answering", cwd=pending)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[:2] == [
        'agentkit: left open, waiting for approval of gated(what="one")',
        "agentkit: to answer, run `agentkit resume log.jsonl` on a terminal, with the same options",
    ]
    events = events_of(pending / "log.jsonl")
    assert sum(isinstance(event, ApprovalRequired) for event in events) == 1
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.outcome, last.open_approvals) == ("suspended", ("approval-1",))
    assert not (pending / "calls.txt").exists()


def test_a_prompt_waits_with_the_approval(pending: Path) -> None:
    ended = resume("log.jsonl", "and more", "--agent", "app:answering", "--json", cwd=pending)
    assert (ended.code, json.loads(ended.stdout)["status"]) == (1, "suspended")
    assert "the prompt was not given" in ended.stderr


@pytest.mark.parametrize(
    ("typed", "results"), [("y\n", ["done one"]), ("n not today\n", ["not today"])], ids=["yes", "no"]
)
def test_on_a_terminal_the_approval_is_asked_for(typed: str, results: list[str], pending: Path) -> None:
    command = [*COMMAND, "log.jsonl", "--agent", "app:answering", "--no-colour"]
    with Controlled(command, pending, environment(pending, TERM="xterm")) as terminal:
        terminal.wait_for("[y]es")
        terminal.type(typed)
        terminal.wait_for("All done.")
        assert terminal.end() == 0
    events = events_of(pending / "log.jsonl")
    assert [event.output for event in events if isinstance(event, ToolResultReceived)] == results
    assert [event.by is not None for event in events if isinstance(event, ApprovalResolved)] == [True]


def test_on_a_terminal_the_approval_may_be_left_open(pending: Path) -> None:
    command = [*COMMAND, "log.jsonl", "--agent", "app:answering", "--no-colour"]
    with Controlled(command, pending, environment(pending, TERM="xterm")) as terminal:
        terminal.wait_for("[l]ater")
        terminal.type("l\n")
        terminal.wait_for("to answer, run `agentkit resume log.jsonl` on a terminal")
        assert terminal.end() == 1
    last = events_of(pending / "log.jsonl")[-1]
    assert isinstance(last, RunFinished)
    assert last.open_approvals == ("approval-1",)
    assert not (pending / "calls.txt").exists()


def test_what_was_approved_is_asked_again_unless_the_log_is_trusted(pending: Path) -> None:
    approve = (
        "import app\nfrom agentkit_reporting import JsonlReporter, read_events\nagent = app.answering()\n"
        "agent.observers = (JsonlReporter('log.jsonl'),)\n"
        "with agent, agent.resume(read_events('log.jsonl')) as driver:\n    driver.next().approve()"
    )
    subprocess.run([sys.executable, "-c", approve], cwd=pending, check=True, env=environment(pending))
    ended = resume("log.jsonl", "--agent", "app:answering", cwd=pending)
    assert (ended.code, "left open" in ended.stderr) == (1, True)
    ended = resume("log.jsonl", "--agent", "app:answering", "--trust-approvals", cwd=pending)
    assert "left open" in ended.stderr  # it was asked again by then, and nobody answered


def test_trusted_approvals_run_without_a_question(pending: Path) -> None:
    path = pending / "log.jsonl"
    approve = (
        "import app\nfrom agentkit_reporting import JsonlReporter, read_events\nagent = app.answering()\n"
        "agent.observers = (JsonlReporter('log.jsonl'),)\n"
        "with agent, agent.resume(read_events('log.jsonl')) as driver:\n    driver.next().approve()"
    )
    subprocess.run([sys.executable, "-c", approve], cwd=pending, check=True, env=environment(pending))
    ended = resume("log.jsonl", "--agent", "app:answering", "--trust-approvals", cwd=pending)
    assert (ended.code, ended.stdout) == (0, "All done.\n")
    assert sum(isinstance(event, ToolExecutionStarted) for event in events_of(path)) == 1
    assert (pending / "calls.txt").read_text() == "one"


def test_an_agent_that_writes_the_log_by_itself_writes_it_once(pending: Path) -> None:
    with (pending / "app.py").open("a") as file:
        file.write(
            "\nfrom agentkit_reporting import JsonlReporter\n"
            "def logging():\n    agent = answering()\n"
            "    agent.observers = (JsonlReporter('log.jsonl'),)\n    return agent\n"
        )
    before = len(events_of(pending / "log.jsonl"))
    assert resume("log.jsonl", "--agent", "app:logging", cwd=pending).code == 1
    assert len(events_of(pending / "log.jsonl")) > before


def test_a_tool_that_ends_the_program_is_a_failure(tmp_path: Path) -> None:
    path = finished(tmp_path)
    (tmp_path / "app.py").write_text(
        "import sys\nfrom agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, tool\n"
        "leave = tool(lambda: sys.exit(0), name='leave', description='Leave.')\n"
        "agent = Agent(ScriptedModel([Reply(calls=(ScriptedCall(name='leave', input={}),))]), tools=[leave])\n"
    )
    ended = resume("log.jsonl", "x", "--agent", "app:agent", cwd=tmp_path)
    assert (ended.code, ended.stdout) == (1, "")
    said = "what the agent ran ended the program (SystemExit: 0); let the tool return instead"
    assert ended.stderr == f"agentkit: {said}\n"
    assert faults(list(read_events(path))) == []


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["log.jsonl"], "has nothing to go on with, its last exchange is finished; give a PROMPT"),
        (["log.jsonl", " "], "empty prompt refused"),
        (["log.jsonl", "x", "--session", "other"], "the log holds no session 'other'"),
        (
            ["missing.jsonl", "x"],
            "log 'missing.jsonl' refused because there is no such file; give the session's",
        ),
        (["-", "x"], "is no file to write on into"),
        (["log.jsonl.gz", "x"], "it is compressed"),
        (["log.jsonl", "x", "--agent", "a:b", "--allow-write"], "--allow-write refused beside --agent"),
        (["log.jsonl", "x", "--agent", "a:b", "--yes", "*"], "--yes refused beside --agent"),
        (["log.jsonl", "x", "--agent", "a:b", "--model", "m"], "--model refused beside --agent"),
    ],
)
def test_wrong_usage_is_one_line_and_changes_no_log(arguments: list[str], told: str, tmp_path: Path) -> None:
    path = finished(tmp_path)
    (tmp_path / "log.jsonl.gz").write_bytes(b"")
    before = path.read_bytes()
    ended = resume(*arguments, cwd=tmp_path, ANTHROPIC_BASE_URL="http://127.0.0.1:9")
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert told in ended.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("tool", "remedy"),
    [
        ("run_command", "give --allow-command, or --force to go on without"),
        ("write_file", "give --allow-write, or --force to go on without"),
        ("other", "give the --agent that has it, or --force to go on without"),
    ],
)
def test_nobody_is_asked_about_a_call_of_a_tool_that_is_missing(
    tool: str, remedy: str, tmp_path: Path
) -> None:
    asking = (
        "from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, tool\n"
        "from agentkit_reporting import JsonlReporter\n"
        f"gated = tool(lambda: '', name='{tool}', description='Do it.', approval=True)\n"
        f"model = ScriptedModel([Reply(calls=(ScriptedCall(name='{tool}', input={{}}),))])\n"
        "with Agent(model, tools=[gated], observers=[JsonlReporter('log.jsonl')]) as agent:\n    agent.run('go')"
    )
    subprocess.run([sys.executable, "-c", asking], cwd=tmp_path, check=True, env=environment(tmp_path))
    path = tmp_path / "log.jsonl"
    before = path.read_bytes()
    with MessagesServer(["Without, then."]) as server:
        ended = resume("log.jsonl", "--base-url", server.base_url, cwd=tmp_path)
        assert server.requests == []
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert f"waits for an answer to a call of '{tool}', a tool that is not here; {remedy}" in ended.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "def agent():\n    raise ValueError('no\\nway')",
            "agent() raised ValueError: no way; --debug shows where",
        ),
        ("def agent(needed): ...", "agent() raised TypeError: agent() missing 1 required"),
        ("import sys\nsys.exit(0)", "its import raised SystemExit: 0; --debug shows where"),
        ("1 / 0", "its import raised ZeroDivisionError: division by zero; --debug shows where"),
        ("def agent(:", "its import raised SyntaxError: "),
    ],
)
def test_an_agent_that_cannot_be_made_is_one_line(source: str, told: str, tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "broken.py").write_text(source)
    ended = resume("log.jsonl", "x", "--agent", "broken:agent", cwd=tmp_path)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith(f"agentkit: --agent 'broken:agent' refused because {told}")


def test_no_key_is_said_before_anything_is_written(tmp_path: Path) -> None:
    path = finished(tmp_path)
    before = path.read_bytes()
    ran = subprocess.run(
        [*COMMAND, "log.jsonl", "x"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env=environment(tmp_path),
    )
    assert (ran.returncode, b"no API key" in ran.stderr) == (2, True)
    assert path.read_bytes() == before


def test_an_edited_log_is_refused_unless_it_is_forced(tmp_path: Path) -> None:
    path = finished(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"one", b"ONE", 1))
    with MessagesServer([Reply(text="two")]) as server:
        base = ("--base-url", server.base_url)
        more = resume("log.jsonl", "x", *base, cwd=tmp_path)
        assert (more.code, more.stdout) == (2, "")
        assert "edited" in more.stderr
        assert more.stderr.endswith(", or --force\n")
        assert resume("log.jsonl", "x", *base, "--force", cwd=tmp_path).code == 0


def finished(folder: Path) -> Path:
    """Write the log of a session of two exchanges that is finished."""
    path = folder / "log.jsonl"
    log = JsonlReporter(path)
    world = World()
    with world.agent(["eins", "zwei"], log, tools=[]).start() as driver:
        driver.run("one")
        driver.run("two")
    log.close()
    return path


def test_a_log_without_previews_goes_on_and_a_line_that_is_missing_there_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    (tmp_path / "app.py").write_text(AGENT)
    reporter = JsonlReporter(log, deltas="none")
    with (
        World()
        .agent([Reply(text="one", chunk_chars=1)], reporter)
        .start("go", session_id="session") as driver
    ):
        driver.run()
    lines = log.read_bytes().splitlines(keepends=True)
    commit = next(place for place, line in enumerate(lines) if b"commit" in line)
    log.write_bytes(b"".join([*lines[:commit], b'{"v":1,"seq"\n', *lines[commit:]]))
    ended = resume("log.jsonl", "more", "--agent", "app:answering", cwd=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert f"line {commit + 1} of " in ended.stderr
    log.write_bytes(b"".join(lines) + b'{"v":1,"seq"')  # a torn tail stands in no gap
    for answer in ("All done.", "All done."):
        ended = resume("log.jsonl", "more", "--agent", "app:answering", cwd=tmp_path)
        assert (ended.code, ended.stdout) == (0, f"{answer}\n")


def test_the_terminal_of_these_tests_is_none() -> None:
    check = "import os\ntry:\n    os.open('/dev/tty', os.O_RDWR)\nexcept OSError:\n    print('none')"
    ran = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, check=True, start_new_session=True
    )
    assert ran.stdout == b"none\n"
    assert os.name == "posix"
