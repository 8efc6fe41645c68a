"""What `agentkit resume --agent` shows of calls whose tools only have the names of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agentkit_loop.events import ToolResultReceived
from agentkit_reporting import read_events
from tests.cli.questions import Controlled
from tests.cli.running import environment

AGENT = """
from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, tool

@tool(approval=True)
def write_file(path: str, content: str) -> str:
    "Write to a store of its own, where paths may be absolute."
    return f"stored {path}"

def asking():
    given = {"path": "/etc/motd", "content": "hello"}
    return Agent(ScriptedModel([Reply(text="", calls=(ScriptedCall(name="write_file", input=given),))]),
                 tools=[write_file])

def answering():
    return Agent(ScriptedModel(["All done."]), tools=[write_file])
"""


def test_a_tool_of_ones_own_is_shown_by_its_arguments_and_refused_by_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(AGENT)
    ask = (
        "import app\nfrom agentkit_reporting import JsonlReporter\nagent = app.asking()\n"
        "agent.observers = (JsonlReporter('log.jsonl'),)\n"
        "with agent:\n    assert agent.run('go').status == 'suspended'"
    )
    subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, env=environment(tmp_path))
    command = [sys.executable, "-m", "agentkit_reporting.cli", "resume", "log.jsonl"]
    options = ["--agent", "app:answering", "--no-colour"]
    with Controlled([*command, *options], tmp_path, environment(tmp_path, TERM="xterm")) as terminal:
        terminal.wait_for("[y]es")
        terminal.type("a\n")
        terminal.wait_for("All done.")
        assert terminal.end() == 0
        assert '"path": "/etc/motd"' in terminal.text
    results = [
        event for event in read_events(tmp_path / "log.jsonl") if isinstance(event, ToolResultReceived)
    ]
    assert [event.output for event in results] == ["stored /etc/motd"]
