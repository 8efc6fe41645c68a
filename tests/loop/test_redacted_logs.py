"""What a resume and a replay do with a log in which secrets were masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.content import ReasoningPart
from agentkit_loop.driver import LoopDriver
from agentkit_loop.events import AgentEvent, Warning  # noqa: A004 - the event's name in the contract
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.replaying import replay
from agentkit_loop.shell import DriverBase
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import Reply
from agentkit_reporting import JsonlReporter, Redactor, read_events
from tests.loop.crash_runs import World, call
from tests.reporting.redaction_samples import ANTHROPIC, HUNTER

DONE = Reply(text="Done.")
ASKING = Reply(
    text=f"I use {ANTHROPIC}. ",
    reasoning=f"The password is {HUNTER}: {ANTHROPIC}",
    calls=(call("gated", what=f"DB_PASSWORD={HUNTER}"),),
)


def suspended(path: Path, *, redact: Any = True, prompt: str = f"the key is {ANTHROPIC}") -> World:
    """Write the log of a run that ends while an approval is pending."""
    world = World()
    with world.agent([ASKING], JsonlReporter(path, redact=redact), system=f"use {ANTHROPIC}").start(
        prompt
    ) as driver:
        driver.next()
    return world


def drive(driver: DriverBase) -> None:
    """Run an exchange to its end, approving what is asked."""
    assert isinstance(driver, LoopDriver)
    for step in driver:
        if isinstance(step, ApprovalRequest):
            step.approve()


def warnings_of(events: list[AgentEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warning)]


def test_a_resume_of_a_redacted_log_warns_once_and_shows_the_model_masks(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    suspended(path)
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> Any:
        asked.append(request)
        return DONE

    world = World()
    agent = world.agent(answer, JsonlReporter(path), system=f"use {ANTHROPIC}")
    with agent.resume(read_events(path)) as driver:
        drive(driver)
    assert warnings_of(world.events) == [
        "the log is redacted: the model is shown masks in place of what was taken out"
    ]
    (request,) = asked
    assert ANTHROPIC[7:] not in repr(request.items)
    assert "[redacted:anthropic_key]" in repr(request.items)
    assert [
        part.signature for item in request.items for part in item.parts if isinstance(part, ReasoningPart)
    ] == [None]
    assert world.bodies == [("gated", "call-1", 1)] or len(world.bodies) == 1


def test_a_resume_of_a_log_without_a_mask_warns_of_nothing(tmp_path: Path) -> None:
    for name, redact in (("open", False), ("plain", ["us_ssn"])):
        path = tmp_path / f"{name}.jsonl"
        suspended(path, redact=redact)
        world = World()
        with world.agent([DONE], system=f"use {ANTHROPIC}").resume(read_events(path)):
            pass
        assert warnings_of(world.events) == []


@pytest.mark.parametrize("rebuilt", [True, False])
@pytest.mark.parametrize("how", ["written", "scrubbed later", "with pseudonyms"])
def test_a_replay_takes_a_mask_as_equal_to_anything(tmp_path: Path, how: str, *, rebuilt: bool) -> None:
    redact: Any = {
        "written": True,
        "scrubbed later": False,
        "with pseudonyms": Redactor(mode="pseudonym", key="k" * 16),
    }[how]
    path = tmp_path / "run.jsonl"
    world = World()
    agent = world.agent([ASKING, DONE], JsonlReporter(path, redact=redact), system=f"use {ANTHROPIC}")
    with agent.start(f"the key is {ANTHROPIC}") as driver:
        drive(driver)
    events: list[AgentEvent] = list(read_events(path))
    if how == "scrubbed later":
        redactor = Redactor()
        events = [redactor.event(event) for event in events]
    assert ANTHROPIC[7:] not in repr(events)
    same = None if rebuilt else World().agent([], system=f"use {ANTHROPIC}")
    result = replay(same, events)
    assert result.is_equal, str(result.mismatch)
    if not rebuilt:
        other = replay(World().agent([], system=f"never use {ANTHROPIC}"), events)
        assert str(other.mismatch).startswith("system: ")
