"""The rules themselves are tested: for each, a hand-made session that keeps it and one that breaks it alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit_loop.events import AgentEvent, InputAccepted
from agentkit_loop.transcript import Transcript
from tests.rules import Rules, faults
from tests.rules_cases import EXCHANGES, RUNS, SUMMARY, Case
from tests.rules_cases_of_calls import APPROVALS, AUTHS, CALLS, EDIT, gated
from tests.rules_cases_of_control import CANCELS, LIMITS
from tests.rules_cases_of_requests import COMPACTIONS, REQUESTS, TRANSCRIPT
from tests.rules_told import ENDED, Told

CASES = (
    *RUNS, *EXCHANGES, *REQUESTS, *TRANSCRIPT, *CALLS, *APPROVALS, *AUTHS, *CANCELS, *LIMITS, *COMPACTIONS,
)  # fmt: skip
every_rule = pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)


def told(case: Case, *, broken: bool) -> list[AgentEvent]:
    """Return the events of one of the case's lists."""
    made = (case.breaks if broken else case.keeps)(Told())
    return made.events if isinstance(made, Told) else list(made)


@every_rule
def test_a_session_that_keeps_the_rule_has_no_fault(case: Case) -> None:
    assert faults(told(case, broken=False), closed=False) == []


@every_rule
def test_a_session_that_breaks_the_rule_has_that_fault_alone(case: Case) -> None:
    found = faults(told(case, broken=True), closed=False)
    assert len(found) == 1, found
    assert case.fault in found[0]


@every_rule
def test_every_prefix_of_a_session_that_keeps_the_rules_keeps_them(case: Case) -> None:
    events = told(case, broken=False)
    assert all(faults(events[:end], closed=False) == [] for end in range(len(events)))


def test_a_closed_session_ends_with_its_run() -> None:
    assert faults(Told().answered().leave().events) == []
    assert faults(Told().answered().events) == ["10 turn_finished: the log ends with an open run"]
    assert faults([]) == []


def test_a_whole_session_over_three_runs_has_no_fault() -> None:
    events = (
        gated(Told()).leave("suspended")
        .run().decide("call-1", **EDIT).start("call-1", **EDIT).need_auth("call-1").break_run(ENDED)
        .run().give_auth("call-1").start("call-1", **EDIT, attempt=2).result("call-1")
        .turn().compact().ask(purpose="compaction").write().answer().compacted(SUMMARY, (1, 3), count=3)
        .ask().write().answer().finish().leave().events
    )  # fmt: skip
    assert faults(events) == []


@every_rule
def test_no_list_of_events_breaks_the_check(case: Case) -> None:
    events = told(case, broken=True)
    for place in range(len(events)):
        faults([*events[:place], *events[place + 1 :]])
        faults([*events[: place + 1], *events[place:]])
        faults([*events[:place], *reversed(events[place:])])


class Forgetful(Transcript):
    """A fold that never hears of input."""

    def apply(self, event: AgentEvent) -> None:
        if not isinstance(event, InputAccepted):
            super().apply(event)


CONFORMANCE = Path(__file__).parent.parent / "agentkit_reporting" / "conformance"
FOLD_DIFFERS = "the transcript is not the fold of the events"


def test_a_fold_that_differs_is_found() -> None:
    events = Told().answered().events
    assert Rules(Forgetful()).walk(events, closed=False) == [f"10 turn_finished: {FOLD_DIFFERS}"]


def fault_texts() -> Iterator[str]:
    """Yield the text of every fault that a rule can find, its longest fixed piece where it has holes."""
    for path in sorted(CONFORMANCE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("book.need", "book.fault")):
                texts = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
                pieces = [piece for text in texts if isinstance(text, str) for piece in text.split("{}")]
                yield max(pieces, key=len)


def test_every_fault_has_a_case() -> None:
    found = "\n".join(line for case in CASES for line in faults(told(case, broken=True), closed=False))
    assert [text for text in fault_texts() if text not in found] == []
