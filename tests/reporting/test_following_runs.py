"""Following until the runs are over: which runs are waited for, and which are not."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit_loop.content import Parent
from agentkit_loop.events import AgentEvent, RunCancelled, RunFailed, RunFinished, RunStarted
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import PROCESS_ENDED, ErrorInfo, Usage
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import read_events
from tests.reporting.followed_logs import Script, Step, appending
from tests.reporting.numbered_lines import MOMENT

ENDS: list[Callable[[], AgentEvent]] = [
    lambda: RunFinished(outcome="completed", usage=Usage(), duration_ms=1.0),
    lambda: RunFinished(outcome="suspended", usage=Usage(), duration_ms=1.0),
    lambda: RunFailed(error=ErrorInfo(type="ValueError", message="no"), usage=Usage()),
    lambda: RunCancelled(reason="enough", usage=Usage()),
]


class Told:
    """Lines of runs, with numbers and times that rise."""

    def __init__(self) -> None:
        self.count = 0

    def line(self, event: AgentEvent, session: str) -> bytes:
        self.count += 1
        stamp(event, session, "r", None, self.count, MOMENT + dt.timedelta(seconds=self.count))
        return encode_event(event) + b"\n"

    def start(self, session: str, parent: str | None = None) -> bytes:
        origin = None if parent is None else Parent(session_id=parent, run_id="r", call_id="c")
        return self.line(RunStarted(agent_name="a", model="m", parent=origin), session)

    def end(self, session: str, make: Callable[[], AgentEvent] = ENDS[0]) -> bytes:
        return self.line(make(), session)


def looks(source: Path, *steps: Step) -> int:
    """Return after how many of the steps the following ended by itself."""
    clock = Script(*steps)

    def refuse() -> None:
        raise AssertionError("the following did not end with the run")

    clock.steps.append(refuse)
    for _ in read_events(source, follow=True, until_run_end=True, clock=clock, strict=True):
        pass
    return len(clock.slept)


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_a_run_ends_it(tmp_path: Path, end: Callable[[], AgentEvent]) -> None:
    told, path = Told(), tmp_path / "run.jsonl"
    assert looks(path, appending(path, told.start("s")), appending(path, told.end("s", end))) == 2


def test_what_a_resume_says_of_the_run_before_is_no_end(tmp_path: Path) -> None:
    told, path = Told(), tmp_path / "run.jsonl"
    path.write_bytes(told.start("s"))
    broke_off = functools.partial(RunFailed, error=PROCESS_ENDED, usage=Usage())
    steps = [told.end("s", broke_off), told.start("s"), told.end("s")]
    assert looks(path, *(appending(path, step) for step in steps)) == 3


def test_of_the_runs_that_are_there_the_one_that_started_last_is_waited_for(tmp_path: Path) -> None:
    told = Told()
    broke_off = told.start("old")
    over = told.start("z") + told.end("z")
    live = told.start("m")
    for name, content in {"a": live, "m": broke_off, "z": over}.items():  # by name it comes first
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    assert looks(tmp_path, appending(tmp_path / "a.jsonl", told.end("m"))) == 1
    assert looks(tmp_path) == 0


def test_all_runs_that_start_while_one_waits_are_waited_for(tmp_path: Path) -> None:
    told = Told()
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_bytes(told.start("one"))
    steps = [(b, told.start("two")), (a, told.end("one")), (a, told.start("three")), (b, told.end("two"))]
    steps.append((a, told.end("three")))
    assert looks(tmp_path, *(appending(path, content) for path, content in steps)) == 5


def test_runs_of_sub_agents_end_with_their_parents(tmp_path: Path) -> None:
    told = Told()
    parent, child = tmp_path / "parent.jsonl", tmp_path / "child.jsonl"
    parent.write_bytes(told.start("p"))
    child.write_bytes(told.start("c", "p") + told.end("c") + told.start("d", "p"))  # the last one broke off
    assert looks(tmp_path, appending(parent, told.end("p"))) == 1


def test_the_run_of_a_sub_agent_whose_parent_is_not_read_is_a_run_like_others(tmp_path: Path) -> None:
    told, path = Told(), tmp_path / "child.jsonl"
    path.write_bytes(told.start("c", "p"))
    assert looks(path, appending(path, told.start("g", "c")), appending(path, told.end("c"))) == 2
