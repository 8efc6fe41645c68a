"""For each rule of runs and exchanges: a session that keeps it, one that breaks it, and what is said then."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from agentkit_loop.content import Item, TextPart
from agentkit_loop.events import AgentEvent, CustomEvent, ObserverFailed, RunCancelled
from agentkit_loop.usage import Usage
from tests.rules_told import BROKEN, ENDED, Told

Scenario: TypeAlias = Callable[[Told], Told | Sequence[AgentEvent]]


@attrs.frozen
class Case:
    """A rule by name, a list that keeps it, one that breaks it and nothing else, and what is said then."""

    rule: str
    keeps: Scenario
    breaks: Scenario
    fault: str


SUMMARY = Item(kind="user", parts=(TextPart(text="before: hello"),), id="sum")


def changed(told: Told, **fields: Any) -> list[AgentEvent]:
    """Return the events with the last one's header changed."""
    return [*told.events[:-1], attrs.evolve(told.events[-1], **fields)]


def note(told: Told) -> Told:
    """Tell a fact of the host's own."""
    return told.tell(CustomEvent(name="note"))


def observer_failed(told: Told, seq: int) -> Told:
    """Tell that an observer failed."""
    return told.tell(ObserverFailed(observer="o", event_seq=seq, error=BROKEN))


def crashed(told: Told) -> Told:
    """Tell an open request, and the recovery of a resume."""
    return told.asked().fail("process_ended").break_run(ENDED)


def used(requests: int) -> Usage:
    """Return what that many requests used."""
    return Usage(input_tokens=requests, output_tokens=requests)


RUNS = (
    Case(
        "numbers_have_no_gaps",
        lambda t: note(t.run()),
        lambda t: changed(note(t.run()), seq=3),
        "3 custom_event: follows 1",
    ),
    Case(
        "times_are_utc",
        lambda t: t.run(),
        lambda t: changed(
            t.run(), timestamp=dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
        ),
        "time is not UTC",
    ),
    Case(
        "there_is_one_session",
        lambda t: note(t.run()),
        lambda t: changed(note(t.run()), session_id="x"),
        "another session",
    ),
    Case(
        "what_is_measured_is_not_below_zero",
        lambda t: t.asked().answer(duration_ms=0.0),
        lambda t: t.asked().answer(duration_ms=-1.0),
        "duration_ms is below 0",
    ),
    Case(
        "one_run_at_a_time", lambda t: t.run().leave().run(), lambda t: t.run().run(), "another run is open"
    ),
    Case(
        "events_belong_to_the_open_run",
        lambda t: note(t.run()),
        lambda t: changed(note(t.run()), run_id="x"),
        "another run",
    ),
    Case(
        "a_run_begins_with_run_started",
        lambda t: note(t.run().leave().run()),
        lambda t: note(t.run().leave()),
        "before RunStarted",
    ),
    Case(
        "an_observer_may_fail_on_the_end",
        lambda t: observer_failed(t.run().leave(), 2),
        lambda t: observer_failed(t.run().leave(), 3),
        "fails on no earlier event",
    ),
    Case(
        "the_first_run_resumes_nothing",
        lambda t: t.run(),
        lambda t: t.run(resumed_run="run-0", resumed_after=0),
        "resumes nothing",
    ),
    Case(
        "run_ids_are_not_used_again",
        lambda t: t.run().leave().run(),
        lambda t: changed(t.run().leave().run(), run_id="run-1"),
        "run id told before",
    ),
    Case(
        "a_resume_names_the_run_before",
        lambda t: t.run().leave().run(),
        lambda t: t.run().leave().run(resumed_run=None),
        "does not go on from run-1",
    ),
    Case(
        "a_resume_goes_on_after_what_counts",
        lambda t: crashed(t).run(resumed_after=5),  # the last of the process that ended; recovery after it
        lambda t: crashed(t).run(resumed_after=4),
        "resumed after 4",
    ),
    Case(
        "a_resume_preloads_nothing",
        lambda t: t.run(items=(SUMMARY,)).leave().run(),
        lambda t: t.run().leave().run(items=(SUMMARY,)),
        "a resume preloads no items",
    ),
    Case(
        "a_recovery_tells_nothing_else",
        crashed,
        lambda t: t.asked().fail("process_ended").retry(),
        "inside a recovery",
    ),
    Case(
        "nobody_measured_the_request_that_a_crash_cut",
        lambda t: t.asked().fail("process_ended"),
        lambda t: t.asked().fail("process_ended", duration_ms=1.0),
        "nobody was there",
    ),
    Case(
        "nobody_measured_the_run_that_a_crash_cut",
        lambda t: t.run().break_run(ENDED),
        lambda t: t.run().break_run(ENDED, duration_ms=1.0),
        "nobody was there",
    ),
    Case(
        "a_recovery_closes_the_request",
        crashed,
        lambda t: t.asked().break_run(ENDED),
        "a request is open",
    ),
    Case(
        "a_recovery_closes_the_compaction",
        lambda t: t.answered().compact().not_compacted().break_run(ENDED),
        lambda t: t.answered().compact().break_run(ENDED),
        "a compaction is open",
    ),
    Case(
        "a_runs_usage_is_the_sum_over_its_requests",
        lambda t: crashed(t).run().ask().write().answer().finish().leave(),
        lambda t: crashed(t).run().ask().write().answer().finish().leave(usage=Usage(input_tokens=2)),
        "usage is not the sum over the run",
    ),
    Case(
        "a_broken_run_leaves_no_call_open",
        lambda t: t.called().interrupt("call-1", not_started=True).finish("error").break_run(),
        lambda t: t.called().break_run(),
        "a call is open",
    ),
    Case(
        "a_broken_run_leaves_no_exchange_open",
        lambda t: t.run().say().turn().finish("error").break_run(),
        lambda t: t.run().say().turn().break_run(),
        "an exchange is open",
    ),
    Case(
        "after_an_error_the_run_is_not_finished",
        lambda t: t.run().say().turn().finish("error").break_run(),
        lambda t: t.run().say().turn().finish("error").leave("suspended"),
        "the exchange ended as error, so the run is not finished",
    ),
    Case(
        "a_completed_run_leaves_no_exchange_open",
        lambda t: t.run().say().turn().leave("suspended"),
        lambda t: t.answered().say().turn().ask().write().answer().leave(),
        "an exchange is open",
    ),
    Case(
        "a_completed_run_leaves_no_input_unanswered",
        lambda t: t.run().say().leave("suspended"),
        lambda t: t.run().say().leave(),
        "input is unanswered",
    ),
    Case(
        "a_suspended_run_leaves_something_open",
        lambda t: t.run().say().leave("suspended"),
        lambda t: t.run().leave("suspended"),
        "suspended with nothing open",
    ),
)


EXCHANGES = (
    Case(
        "turn_ids_count_on_over_runs",
        lambda t: t.answered().leave().run().say().turn(),
        lambda t: changed(t.answered().leave().run().say().turn(), turn_id="turn-1"),
        "turn ids do not count on",
    ),
    Case(
        "events_of_a_turn_have_its_id",
        lambda t: t.asked().answer(),
        lambda t: changed(t.asked().answer(), turn_id=None),
        "turn is None, not turn-1",
    ),
    Case(
        "a_turn_tells_its_place_in_the_exchange",
        lambda t: t.answered().say().turn(),
        lambda t: t.answered().say().turn(index=2),
        "index is not 1",
    ),
    Case(
        "the_next_turn_follows_an_answer",
        lambda t: t.asked().write().answer().say().turn(),
        lambda t: t.run().say().turn().turn(),
        "the last turn has no answer",
    ),
    Case(
        "a_turn_has_one_answer",
        lambda t: t.asked().write().answer().say().turn().ask(),
        lambda t: t.asked().write().answer().say().ask(),
        "the turn has its answer",
    ),
    Case(
        "a_request_is_made_in_an_exchange",
        lambda t: t.run().say().turn().ask(),
        lambda t: t.run().say().ask(),
        "outside an exchange",
    ),
    Case(
        "an_exchange_ends_once",
        lambda t: t.answered().say().turn().ask().answer().finish(),
        lambda t: changed(t.answered().finish(), turn_id=None),
        "no exchange is open",
    ),
    Case(
        "an_exchange_ends_after_its_calls",
        lambda t: t.called().start("call-1").result("call-1").turn(),
        lambda t: t.called().start("call-1").turn(),
        "a call is open",
    ),
    Case(
        "an_exchange_ends_after_its_request",
        lambda t: t.asked().cut().finish("error"),
        lambda t: t.asked().finish("error"),
        "a request is open",
    ),
    Case(
        "an_exchange_ends_after_its_compaction",
        lambda t: t.run().say().turn().compact().not_compacted().finish("error"),
        lambda t: t.run().say().turn().compact().finish("error"),
        "a compaction is open",
    ),
    Case(
        "an_exchanges_usage_is_the_sum_over_its_runs",
        lambda t: crashed(t).run().ask().write().answer().finish(),
        lambda t: (
            crashed(t).run().ask().write().answer().finish(usage=Usage(input_tokens=1, output_tokens=1))
        ),
        "usage is not the sum over the exchange",
    ),
    Case(
        "an_exchange_that_began_in_an_earlier_run_has_no_duration",
        lambda t: crashed(t).run().ask().answer().finish(),
        lambda t: crashed(t).run().ask().answer().finish(duration_ms=1.0),
        "began in another run, yet is measured",
    ),
    Case(
        "an_exchange_ends_as_its_last_answer",
        lambda t: t.asked().answer("max_tokens").finish("max_tokens"),
        lambda t: t.asked().answer("max_tokens").finish("completed"),
        "completed after an answer of max_tokens",
    ),
    Case(
        "results_are_answered_by_a_further_turn",
        lambda t: t.called().start("call-1").result("call-1").turn().ask().answer().finish(),
        lambda t: t.called().start("call-1").result("call-1").finish(),
        "completed after an answer of tool_call",
    ),
    Case(
        "a_pause_opens_the_next_turn",
        lambda t: t.asked().answer("pause_turn").turn().ask().answer().finish(),
        lambda t: t.asked().answer("pause_turn").finish("pause_turn"),
        "pause_turn after an answer of pause_turn",
    ),
    Case(
        "input_is_answered_before_the_exchange_ends",
        lambda t: t.asked().say().answer().turn().ask().answer().finish(),
        lambda t: t.asked().say().answer().finish(),
        "input is unanswered",
    ),
    Case(
        "after_an_error_nothing_starts",
        lambda t: t.run().say().turn().finish("error").break_run().run().turn(),
        lambda t: t.run().say().turn().finish("error").turn(),
        "the exchange ended as error, so the run has to end",
    ),
    Case(
        "an_interrupted_exchange_ends_its_run",
        lambda t: t.asked().cut().finish("cancelled").tell(RunCancelled(reason="SIGINT", usage=used(1))),
        lambda t: t.asked().cut().finish("cancelled").leave(),
        "the exchange ended as cancelled, so the run is not finished",
    ),
)
