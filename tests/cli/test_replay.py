"""`agentkit replay` as a user meets it: a log, perhaps an agent, and one line that says what differs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentkit_reporting import JsonlReporter
from tests.cli.running import Ended, environment
from tests.loop.crash_runs import recorded

COMMAND = (sys.executable, "-m", "agentkit_reporting.cli", "replay")

NO_CACHE = {"PYTHONDONTWRITEBYTECODE": "1"}
"""A module that changes within a second, and keeps its size, is otherwise the one of before."""

AGENT = """
from agentkit_loop import Agent, ScriptedModel, tool

@tool
def look(what: str = "") -> str:
    "Look."
    with open("calls.txt", "a") as file:
        file.write(what)
    return SAID

def fixer():
    return Agent(ScriptedModel([]), tools=[look], system=SYSTEM, name="fixer")

here = fixer()
"""

SESSION = """
import app
from agentkit_loop import ScriptedModel
from agentkit_loop.testing import Reply, ScriptedCall
from agentkit_reporting import JsonlReporter
app.here.model = ScriptedModel([Reply(calls=(ScriptedCall(name="look", input={"what": "x"}),)), "done"])
app.here.observers = (JsonlReporter("log.jsonl"),)
with app.here:
    app.here.run("go")
"""


def replay(*arguments: str, cwd: Path) -> Ended:
    result = subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, check=False, env=environment(cwd, **NO_CACHE)
    )
    return Ended(result.returncode, result.stdout.decode(), result.stderr.decode())


def written(folder: Path, name: str) -> Path:
    """Write the log of a recorded session."""
    path = folder / "log.jsonl"
    log = JsonlReporter(path)
    for event in recorded(name):
        log.handle_event(event)
    log.close()
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with an agent and the log of one of its sessions."""
    (tmp_path / "app.py").write_text(f"SYSTEM = 'be kind'\nSAID = 'seen'\n{AGENT}")
    subprocess.run(
        [sys.executable, "-c", SESSION], cwd=tmp_path, check=True, env=environment(tmp_path, **NO_CACHE)
    )
    (tmp_path / "calls.txt").unlink()
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    source = (folder / "app.py").read_text()
    assert old in source
    (folder / "app.py").write_text(source.replace(old, new))


@pytest.mark.parametrize("name", ["tools", "approved", "compacted", "pending", "retries"])
def test_a_log_alone_is_replayed_and_equal(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    before = path.read_bytes()
    ended = replay("log.jsonl", cwd=tmp_path)
    count = before.count(b"\n")
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"equal: {count} events of session\n", "")
    assert path.read_bytes() == before


def test_nothing_is_offered_that_this_command_has_no_option_for(tmp_path: Path) -> None:
    path = written(tmp_path, "tools")
    whole = path.read_bytes()
    for edited in (
        whole.replace(b'"text":"go"', b'"text":"stop"', 1),
        whole.replace(b'{"v":1,', b'{"v":2,'),
        whole + whole.replace(b'"run_id":"run_', b'"run_id":"other_'),
    ):
        assert edited != whole
        path.write_bytes(edited)
        ended = replay("log.jsonl", cwd=tmp_path)
        assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended
        assert "force" not in ended.stderr


@pytest.mark.parametrize("named", ["app:here", "app:fixer"])
def test_an_agent_by_its_name_or_by_a_function_that_makes_it(named: str, project: Path) -> None:
    ended = replay("log.jsonl", "--agent", named, cwd=project)
    assert (ended.code, ended.stdout.split(":")[0], ended.stderr) == (0, "equal", "")
    assert not (project / "calls.txt").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("be kind", "be unkind", "system: recorded 'be kind', now 'be unkind'\n"),
        ('"Look."', '"Look!"', "tools.look.description: recorded 'Look.', now 'Look!'\n"),
        (
            "what: str",
            "what: int",
            "tools.look.input_schema.properties.what.type: recorded 'string', now 'integer'\n",
        ),
    ],
)
def test_what_changed_since_is_one_line_with_both_values(
    old: str, new: str, told: str, project: Path
) -> None:
    change(project, old, new)
    ended = replay("log.jsonl", "--agent", "app:here", cwd=project)
    assert (ended.code, ended.stdout, ended.stderr) == (1, told, "")


def test_live_tools_run_and_the_first_result_that_differs_is_shown(project: Path) -> None:
    ended = replay("log.jsonl", "--agent", "app:here", "--live-tools", cwd=project)
    assert (ended.code, ended.stdout.split(":")[0]) == (0, "equal")
    assert (project / "calls.txt").read_text() == "x"
    change(project, "'seen'", "'se\\x1b[2Jen'")
    ended = replay("log.jsonl", "--agent", "app:here", "--live-tools", cwd=project)
    assert (ended.code, ended.stderr) == (1, "")
    assert ended.stdout == "messages[2].content[0].content: recorded 'seen', now 'se\\x1b[2Jen'\n"


def test_the_end_of_a_sessions_id_is_enough(project: Path) -> None:
    path = project / "log.jsonl"
    first = path.read_bytes()
    session_id = json.loads(first.split(b"\n")[0])["session_id"].encode()
    path.write_bytes(
        first + first.replace(session_id, session_id[:-2] + b"-b") + first.replace(session_id, b"c-b")
    )
    several = replay("log.jsonl", cwd=project)
    assert (several.code, several.stderr.endswith("say which by --session\n")) == (2, True)
    both_end_so = replay("log.jsonl", "--session", "-b", cwd=project)
    assert (both_end_so.code, "several ids end so" in both_end_so.stderr) == (2, True)
    ended = replay("log.jsonl", "--session", session_id[-6:].decode(), cwd=project)
    assert (ended.code, ended.stdout.split()[-1]) == (0, session_id.decode())
    assert replay("log.jsonl", "--session", "c-b", cwd=project).code == 0


def test_json_is_one_object(project: Path) -> None:
    ended = replay("log.jsonl", "--json", cwd=project)
    told = json.loads(ended.stdout)
    count = (project / "log.jsonl").read_bytes().count(b"\n")
    assert told == {
        "session_id": told["session_id"],
        "equal": True,
        "events": count,
        "recorded": count,
        "difference": None,
    }
    change(project, "be kind", "be unkind")
    ended = replay("log.jsonl", "--json", "--agent", "app:here", cwd=project)
    told = json.loads(ended.stdout)
    assert (ended.code, told["equal"]) == (1, False)
    assert told["difference"] == {"path": "system", "recorded": "'be kind'", "now": "'be unkind'"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["log.jsonl", "--live-tools"], "--live-tools refused without --agent"),
        (["log.jsonl", "--agent", "app"], "give MODULE:NAME"),
        (["log.jsonl", "--agent", "no_such_module:x"], "ModuleNotFoundError"),
        (["log.jsonl", "--agent", "app:SYSTEM"], "'SYSTEM' is no Agent there"),
        (["missing.jsonl"], "missing.jsonl"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: Sequence[str], told: str, project: Path) -> None:
    ended = replay(*arguments, cwd=project)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert told in ended.stderr


def test_an_empty_log_and_an_unknown_session_are_nothing_found(project: Path) -> None:
    (project / "empty.jsonl").touch()
    for arguments, told in (
        (["empty.jsonl"], "no event in empty.jsonl; give the log of a run"),
        (
            ["log.jsonl", "--session", "other"],
            "no event of session other in log.jsonl; give the end of an id",
        ),
    ):
        ended = replay(*arguments, cwd=project)
        assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
        assert told in ended.stderr


def test_a_log_with_a_hole_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "tools")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], *lines[6:]]))
    ended = replay("log.jsonl", cwd=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert "event 6 is missing" in ended.stderr


def test_replaying_needs_no_sdk(project: Path) -> None:
    check = (
        "import sys\nfrom agentkit_reporting.cli import main\n"
        "try:\n    main(['replay', 'log.jsonl'])\n"
        "except SystemExit as end:\n    print(end.code, 'anthropic' in sys.modules, 'asyncio' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", check], cwd=project, capture_output=True, check=True, env=environment(project)
    )
    assert ran.stdout.decode().splitlines()[-1] == "0 False False"
