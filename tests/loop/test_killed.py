"""A process that is killed with SIGKILL at any moment leaves a log from which its session goes on.

AGENTKIT_KILLS says how many processes are killed, 20 where it does not; the full number is 200:

    AGENTKIT_KILLS=200 python -m pytest -q tests/loop/test_killed.py

A tenth of them, and no fewer than two, talk to a local server over the real SDK. AGENTKIT_KILLS_SEED chooses other
moments. killed_lives.py has the processes.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentkit_loop.events import AgentEvent, TurnFinished
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.testing import MessagesServer, check_messages
from agentkit_reporting.log.read import read_events
from agentkit_reporting.transcript import TranscriptReporter
from tests.loop.killed_lives import PROMPTS, served_reply
from tests.rules import faults

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("AGENTKIT_KILLS", "20"))
SEED = int(os.environ.get("AGENTKIT_KILLS_SEED", "1"))
OVER_THE_SDK = max(2, KILLS // 10)


def lives(directory: Path, kills: int, *arguments: str) -> list[dict[str, Any]]:
    """Let sessions be killed; return what was done to each, in order."""
    program = [sys.executable, "-m", "tests.loop.killed_lives", str(directory), str(kills), str(SEED)]
    ran = subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def check(directory: Path, sessions: list[dict[str, Any]], kills: int) -> None:
    """Check every session's log and the bodies that ran for it."""
    assert sum(len(each["deaths"]) for each in sessions) >= kills
    for each in sessions:
        log = directory / f"{each['session']}.jsonl"
        reader = read_events(log)
        events = list(reader)
        assert faults(events) == [], each
        assert reader.bad_count <= sum(death.startswith("half") for death in each["deaths"])
        check_transcript(events)
        ran = collections.Counter(
            tuple(line.split()[:2]) for line in log.with_suffix(".bodies").read_text("utf-8").splitlines()
        )
        for (name, call_id), times in ran.items():
            started = [event for event in events if event.type == "tool_execution_started"]
            told = sum(getattr(event, "call_id", "") == call_id for event in started)
            assert times == 1 or name == "look", (each, call_id)
            assert times <= told, (each, call_id)  # told before it ran


def check_transcript(events: list[AgentEvent]) -> None:
    """Check that both prompts were answered and that the provider takes what came of it."""
    view = TranscriptReporter()
    for event in events:
        view.handle_event(event)
    items = view.of("session").items
    assert [item.text for item in items if item.kind == "user"] == list(PROMPTS)
    assert items[-1].text == "That was all of it."
    finished = [event.finish_reason for event in events if isinstance(event, TurnFinished)]
    assert finished == ["completed"] * len(PROMPTS)
    refusal = check_messages({"model": "m", "max_tokens": 1, "messages": wire_messages(items)})
    assert refusal is None


def test_a_killed_process_leaves_a_session_that_goes_on(tmp_path: Path) -> None:
    kills = max(1, KILLS - OVER_THE_SDK)
    check(tmp_path, lives(tmp_path, kills), kills)


def test_the_same_over_the_real_sdk_and_a_socket(tmp_path: Path) -> None:
    with MessagesServer(served_reply) as server:
        sessions = lives(tmp_path, OVER_THE_SDK, server.base_url)
    check(tmp_path, sessions, OVER_THE_SDK)
