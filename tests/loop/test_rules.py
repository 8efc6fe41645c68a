"""The rules of the event contract, over random scripts, for both drivers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from agentkit_loop.content import AppendText, CommitPart, TextPart
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import LoopObserver
from agentkit_loop.shell import DriverBase
from agentkit_loop.state import LoopState
from agentkit_loop.testing import Reply, ScriptedCall
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Usage
from tests.loop.scripts import Script, comparable, run_async, run_sync, scripts
from tests.rules import faults, payload_is_json

DRIVERS = {"sync": run_sync, "async": run_async}
quick = settings(deadline=None, max_examples=120)


@pytest.mark.parametrize("driver", DRIVERS)
@given(script=scripts)
@quick
def test_every_run_keeps_every_rule(driver: str, script: Script) -> None:
    outcome = DRIVERS[driver](script)
    assert faults(outcome.events) == []
    assert all(payload_is_json(event) for event in outcome.events)


@given(script=scripts)
@quick
def test_both_drivers_tell_equal_events(script: Script) -> None:
    ours, theirs = run_sync(script), run_async(script)
    assert comparable(ours.events) == comparable(theirs.events)
    assert ours.views == theirs.views
    assert ours.error == theirs.error


class StateAtEachEvent(LoopObserver):
    """Folds the events on its own and compares with the driver's state at each of them."""

    def __init__(self) -> None:
        self.fold = LoopState()
        self.live: LoopState | None = None  # once the driver is there: RunStarted is told while it is made
        self.differences: list[int] = []

    def attach(self, driver: DriverBase) -> None:
        self.live = driver.state

    def handle_event(self, event: AgentEvent) -> None:
        self.fold.apply(event)
        if self.live is not None and self.fold != self.live:
            self.differences.append(event.seq)


@pytest.mark.parametrize("driver", DRIVERS)
@given(script=scripts)
@quick
def test_the_fold_of_every_prefix_equals_the_live_state(driver: str, script: Script) -> None:
    watcher = StateAtEachEvent()
    DRIVERS[driver](script, watcher)
    assert watcher.differences == []
    assert watcher.live is None or watcher.fold == watcher.live  # None: RunStarted itself broke the run


@pytest.mark.parametrize("driver", DRIVERS)
@given(script=scripts)
@quick
def test_the_transcript_is_the_fold_of_the_events_whenever_the_driver_yields(
    driver: str, script: Script
) -> None:
    outcome = DRIVERS[driver](script)
    folded = Transcript()
    for event in outcome.events:
        folded.apply(event)
    assert folded.items == outcome.items
    ids = [item.id for item in folded.items]
    assert len(set(ids)) == len(ids)


@given(script=scripts)
@quick
def test_previews_are_what_the_commit_says(script: Script) -> None:
    chunks: dict[tuple[str, str], str] = {}
    for event in run_sync(script).events:
        if isinstance(event, ContentDelta):
            key = (event.request_id, event.delta.part_id)
            if isinstance(event.delta, AppendText):
                chunks[key] = chunks.get(key, "") + event.delta.chunk
            elif isinstance(event.delta, CommitPart) and isinstance(event.delta.part, TextPart):
                assert event.delta.part.text == chunks.get(key, "")


def test_a_typical_exchange_has_its_order() -> None:
    script = Script(
        prompts=[["hi"]],
        replies=[
            Reply(
                text="let me see",
                calls=(ScriptedCall(name="add", input={"a": 1}),),
                usage=Usage(input_tokens=1),
            ),
            Reply(text="1"),
        ],
        order=[0, 1, 2, 3],
        failing=[False] * 4,
        interject=frozenset(),
        parallel=2,
        asynchronous=False,
        leave_at=None,
    )
    types = [event.type for event in run_sync(script).events if event.type != "content_delta"]
    first = "run_started input_accepted turn_started model_request_started usage_updated usage_updated"
    middle = "model_request_finished tool_call_requested tool_execution_started tool_result_received"
    last = (
        "turn_started model_request_started usage_updated model_request_finished turn_finished run_finished"
    )
    assert types == f"{first} {middle} {last}".split()
