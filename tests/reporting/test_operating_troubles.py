"""A full disk or a reader that went away is told in one sentence, once, and by the name of whose it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import ChannelReporter, JsonlReporter, Rotation
from tests.reporting.sink_runs import ROOT, Play, agent_of, on_thread_and_loop

PROGRAM = """
from agentkit_reporting import JsonlReporter
from tests.reporting.sink_runs import agent_of
agent = agent_of(JsonlReporter({target}), runs=2)
for _ in range(2): agent.run("go")
agent.close()
"""


def stderr_of(target: str, stdout: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(target=target)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.stderr


def test_a_full_disk_is_told_in_one_line() -> None:
    said = stderr_of("'/dev/full'", subprocess.DEVNULL)
    assert said.count("\n") == 1, said
    assert said.startswith("observer JsonlReporter failed on event 1 (run_started): LogError: /dev/full: ")


def test_a_reader_that_went_away_is_told_in_one_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = stderr_of("'-'", writer)
    finally:
        os.close(writer)
    assert said.count("observer JsonlReporter failed") == 1, said
    assert "Traceback" not in said


@on_thread_and_loop
def test_a_rotation_that_is_refused_is_told_in_one_line_by_the_reporters_name(
    play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.jsonl"
    log = JsonlReporter(path, rotation=Rotation(max_bytes=500))
    (tmp_path / ".run.jsonl.lock").mkdir()  # where the lock of the rotation goes
    with agent_of(log, runs=2) as agent:
        play(agent)
        play(agent)
    messages = [each.getMessage() for each in caplog.records]
    assert len(messages) == 1, messages
    assert messages[0].startswith("observer JsonlReporter failed ")
    assert str(path) in messages[0]
    assert caplog.records[0].exc_info is None


def test_an_async_function_is_told_by_its_own_name_and_once(caplog: pytest.LogCaptureFixture) -> None:
    async def post_to_board(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        if not isinstance(event, ObserverFailed):
            raise ValueError("board is away")  # noqa: TRY004 - any error will do

    recorder = EventRecorder()

    async def main() -> None:
        channel = ChannelReporter.on_loop(post_to_board)
        agent = agent_of(channel, recorder, runs=3)
        for _ in range(3):
            await agent.arun("go")
        await channel.aclose()
        assert channel.account().inner[0].name.endswith("post_to_board")

    asyncio.run(main())
    (record,) = caplog.records
    assert "post_to_board failed on event 1 (run_started): ValueError: board is away" in record.getMessage()
    assert {told.observer.split(".")[-1] for told in recorder.of(ObserverFailed)} == {"post_to_board"}
