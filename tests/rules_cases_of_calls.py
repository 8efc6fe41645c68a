"""For each rule of calls, approvals and auth requests: a session that keeps it, and one that breaks it."""

from __future__ import annotations

from typing import Any

import msgspec

from agentkit_loop.content import ToolCallPart
from agentkit_loop.events import ToolCallRequested, ToolExecutionProgress
from tests.rules_cases import Case
from tests.rules_told import CALL, ENDED, Told

EDIT: dict[str, Any] = {"edited": True, "input": {"a": 2}}
SECOND = msgspec.structs.replace(CALL, id="call-2")
OTHER_INPUT = msgspec.structs.replace(CALL, input={"a": 1})
REFUSED: dict[str, Any] = {"is_error": True, "not_started": True}
DENIED = REFUSED | {"denied": True}


def request(told: Told, part: ToolCallPart = CALL) -> Told:
    """Tell a call of the first request as requested."""
    return told.tell(ToolCallRequested(request_id="request-1", call=part))


def progress(told: Told) -> Told:
    """Tell how far the first call's body is."""
    return told.tell(ToolExecutionProgress(call_id="call-1", message="half"))


def gated(told: Told) -> Told:
    """Tell a call that waits for an approval."""
    return told.called().gate("call-1")


def waiting(told: Told) -> Told:
    """Tell a call that waits for credentials."""
    return told.called().start("call-1").need_auth("call-1")


def orphaned(told: Told) -> Told:
    """Tell a call whose body ran when the process ended, and that the resume left open."""
    return told.called().start("call-1").break_run(ENDED).run()


CALLS = (
    Case(
        "a_call_is_requested_once",
        lambda t: t.called(),
        lambda t: t.called().request("call-1"),
        "call is requested",
    ),
    Case(
        "a_call_is_requested_as_committed",
        lambda t: request(t.asked().write(CALL).answer("tool_call")),
        lambda t: request(t.asked().write(CALL).answer("tool_call"), OTHER_INPUT),
        "not what was committed",
    ),
    Case(
        "calls_are_requested_in_call_order",
        lambda t: request(request(t.asked().write(CALL).write(SECOND).answer("tool_call")), SECOND),
        lambda t: request(t.asked().write(CALL).write(SECOND).answer("tool_call"), SECOND),
        "call-1 comes first",
    ),
    Case(
        "a_cut_answer_asks_for_nothing",
        lambda t: t.asked().write(CALL).cut().finish("error"),
        lambda t: request(t.asked().write(CALL).cut()),
        "no finished answer asks for it",
    ),
    Case(
        "a_body_starts_once",
        lambda t: t.called().start("call-1"),
        lambda t: t.called().start("call-1").start("call-1", attempt=2),
        "call is running",
    ),
    Case(
        "attempts_of_a_call_count_up",
        lambda t: orphaned(t).start("call-1", attempt=2),
        lambda t: orphaned(t).start("call-1"),
        "attempt is not 2",
    ),
    Case(
        "a_cut_call_does_not_start",
        lambda t: t.called(cut="{").result("call-1", **REFUSED),
        lambda t: t.called(cut="{").start("call-1"),
        "its input is cut",
    ),
    Case(
        "a_message_cut_by_max_tokens_runs_no_call",
        lambda t: t.called(reason="max_tokens").result("call-1", **REFUSED).finish("max_tokens"),
        lambda t: t.called(reason="max_tokens").start("call-1"),
        "its message was cut by max_tokens",
    ),
    Case(
        "an_unknown_tool_does_not_start",
        lambda t: t.called(name="gone").result("call-1", **REFUSED, name="gone"),
        lambda t: t.called(name="gone").start("call-1", name="gone"),
        "there is no tool gone",
    ),
    Case(
        "a_start_names_its_tool",
        lambda t: t.called().start("call-1").result("call-1"),
        lambda t: t.called(name="gone").start("call-1"),
        "the call is of gone",
    ),
    Case(
        "a_result_names_its_tool",
        lambda t: t.called().start("call-1").result("call-1"),
        lambda t: t.called().start("call-1").result("call-1", name="gone"),
        "the call is of work",
    ),
    Case(
        "only_a_body_that_runs_tells_progress",
        lambda t: progress(t.called().start("call-1")),
        lambda t: progress(waiting(t)),
        "call is waiting",
    ),
    Case(
        "a_call_is_answered_once",
        lambda t: t.called().start("call-1").result("call-1"),
        lambda t: t.called().start("call-1").result("call-1").result("call-1"),
        "call is answered",
    ),
    Case(
        "not_started_means_no_attempt",
        lambda t: t.called().result("call-1", **REFUSED),
        lambda t: t.called().result("call-1", is_error=True),
        "0 attempts were started",
    ),
    Case(
        "what_never_ran_is_an_error",
        lambda t: t.called().result("call-1", **REFUSED),
        lambda t: t.called().result("call-1", not_started=True),
        "no error, and call is requested",
    ),
    Case(
        "an_interruption_is_an_error",
        lambda t: t.called().start("call-1").result("call-1", interrupted=True, duration_ms=1.0),  # in time
        lambda t: t.called().start("call-1").result("call-1", interrupted=True),
        "denied or interrupted, and no error",
    ),
    Case(
        "a_call_that_no_model_asked_for_ends_with_its_run",
        lambda t: t.run().own("own-1").start("own-1").result("own-1").leave(),
        lambda t: t.run().own("own-1").start("own-1").leave(),
        "a call is open that no model asked for",
    ),
    Case(
        "a_call_that_no_model_asked_for_belongs_to_no_turn",
        lambda t: (
            t.called().own("own-1").start("own-1").start("call-1").result("call-1").turn().result("own-1")
        ),
        lambda t: t.called().own("own-1").start("own-1").start("call-1").turn(),
        "a call is open",
    ),
    Case(
        "a_call_that_no_model_asked_for_has_an_id_of_its_own",
        lambda t: (
            t.run().own("own-1").start("own-1").result("own-1").own("own-2").start("own-2").result("own-2")
        ),
        lambda t: t.run().own("own-1").start("own-1").result("own-1").own("own-1"),
        "call id told before",
    ),
    Case(
        "a_call_that_no_model_asked_for_has_a_whole_input",
        lambda t: t.run().own("own-1", input={"a": 1}),
        lambda t: t.run().own("own-1", cut="{"),
        "its input is cut",
    ),
    Case(
        "what_a_crash_cut_starts_again_before_it_succeeds",
        lambda t: orphaned(t).start("call-1", attempt=2).result("call-1"),
        lambda t: orphaned(t).result("call-1"),
        "no error, and call is orphan",
    ),
    Case(
        "a_call_that_a_crash_found_unstarted_starts_in_the_next_run",
        lambda t: t.called().break_run(ENDED).run().start("call-1").result("call-1"),
        lambda t: t.called().leave("suspended"),
        "a call is open that waits for nobody",
    ),
)

APPROVALS = (
    Case(
        "approval_ids_count_on_over_runs",
        lambda t: gated(t).decide("call-1").leave("suspended").run().gate("call-1"),
        lambda t: gated(t).decide("call-1").leave("suspended").run().gate("call-1", approval_id="approval-1"),
        "approval ids do not count on to approval-2",
    ),
    Case(
        "a_requested_call_is_gated",
        lambda t: t.called().gate("call-1"),
        lambda t: t.called().start("call-1").gate("call-1"),
        "call is running",
    ),
    Case(
        "an_answered_call_is_not_gated",
        lambda t: t.called().gate("call-1"),
        lambda t: t.called().result("call-1", **REFUSED).gate("call-1"),
        "call is not open",
    ),
    Case(
        "a_call_has_one_open_approval",
        gated,
        lambda t: gated(t).gate("call-1"),
        "approval-1 is open for the call",
    ),
    Case(
        "a_cut_call_is_not_gated",
        lambda t: t.called(cut="{").result("call-1", **REFUSED),
        lambda t: t.called(cut="{").gate("call-1"),
        "its input is cut",
    ),
    Case(
        "a_denied_call_is_not_gated_again",
        lambda t: gated(t).decide("call-1").leave("suspended").run().gate("call-1"),
        lambda t: gated(t).decide("call-1", approved=False).leave("suspended").run().gate("call-1"),
        "it was denied",
    ),
    Case(
        "a_run_asks_once_for_a_call",
        lambda t: gated(t).decide("call-1").break_run(ENDED).run().gate("call-1").decide("call-1"),
        lambda t: gated(t).leave("suspended").run().decide("call-1").gate("call-1"),
        "decided in this run already",
    ),
    Case(
        "all_approvals_of_a_message_come_before_an_answer",
        lambda t: t.called("call-1", "call-2").gate("call-1").gate("call-2").decide("call-1"),
        lambda t: t.called("call-1", "call-2").gate("call-1").decide("call-1").gate("call-2"),
        "after an answer to another of the message",
    ),
    Case(
        "a_call_whose_approval_is_open_does_not_start",
        lambda t: gated(t).decide("call-1").start("call-1"),
        lambda t: gated(t).start("call-1"),
        "approval-1 is open",
    ),
    Case(
        "a_call_whose_approval_is_open_has_no_result",
        lambda t: gated(t).decide("call-1", approved=False).result("call-1", **DENIED),
        lambda t: gated(t).result("call-1", **DENIED),
        "approval-1 is open",
    ),
    Case(
        "a_denied_call_does_not_start",
        lambda t: gated(t).decide("call-1", approved=False).result("call-1", **DENIED),
        lambda t: gated(t).decide("call-1", approved=False).start("call-1"),
        "it was denied",
    ),
    Case(
        "a_denied_call_has_a_denied_result",
        lambda t: gated(t).decide("call-1", approved=False).result("call-1", **DENIED),
        lambda t: gated(t).decide("call-1", approved=False).result("call-1", **REFUSED),
        "it was denied, and the result is not",
    ),
    Case(
        "an_approved_call_has_no_denied_result",
        lambda t: t.called().result("call-1", **DENIED),  # by a policy
        lambda t: gated(t).decide("call-1").result("call-1", **DENIED),
        "denied, although it was approved or had started",
    ),
    Case(
        "an_answer_names_an_open_approval",
        lambda t: gated(t).decide("call-1"),
        lambda t: gated(t).decide("call-1", approval_id="approval-7"),
        "no such approval is open",
    ),
    Case(
        "an_answer_names_its_call",
        lambda t: t.called("call-1", "call-2").gate("call-1").gate("call-2").decide("call-2"),
        lambda t: (
            t.called("call-1", "call-2").gate("call-1").gate("call-2").decide("call-2", call_id="call-1")
        ),
        "the approval is for call-2",
    ),
    Case(
        "edited_means_an_input",
        lambda t: gated(t).decide("call-1", **EDIT),
        lambda t: gated(t).decide("call-1", edited=True),
        "edited without input, or the other way",
    ),
    Case(
        "a_start_says_edited_with_its_input",
        lambda t: gated(t).decide("call-1", **EDIT).start("call-1", **EDIT),
        lambda t: gated(t).decide("call-1", **EDIT).start("call-1", input=EDIT["input"]),
        "edited without input, or the other way",
    ),
    Case(
        "only_what_is_approved_is_edited",
        lambda t: gated(t).decide("call-1", **EDIT),
        lambda t: gated(t).decide("call-1", approved=False, **EDIT),
        "denied and edited",
    ),
    Case(
        "a_body_gets_the_edited_input",
        lambda t: gated(t).decide("call-1", **EDIT).start("call-1", **EDIT),
        lambda t: gated(t).decide("call-1", **EDIT).start("call-1"),
        "not the input that was decided",
    ),
    Case(
        "what_nobody_edited_is_told_without_input",
        lambda t: gated(t).decide("call-1").start("call-1"),
        lambda t: gated(t).decide("call-1").start("call-1", **EDIT),
        "not the input that was decided",
    ),
    Case(
        "an_edit_of_an_earlier_run_may_stand",
        lambda t: (
            gated(t)
            .decide("call-1", **EDIT)
            .leave("suspended")
            .run()
            .gate("call-1")
            .decide("call-1")
            .start("call-1", **EDIT)
        ),
        lambda t: gated(t).decide("call-1", **EDIT).leave("suspended").run().start("call-1"),
        "not the input that was decided",
    ),
    Case(
        "no_input_while_an_approval_is_open",
        lambda t: gated(t).decide("call-1").say(),
        lambda t: gated(t).say(),
        "an approval is open",
    ),
    Case(
        "a_suspended_run_names_its_open_approvals",
        lambda t: gated(t).leave("suspended").run().decide("call-1").start("call-1").result("call-1"),
        lambda t: gated(t).leave("suspended", open_approvals=()),
        "not what is open",
    ),
)

AUTHS = (
    Case(
        "auth_ids_count_on",
        lambda t: waiting(t).give_auth("call-1").start("call-1", attempt=2).need_auth("call-1"),
        lambda t: (
            waiting(t).give_auth("call-1").start("call-1", attempt=2).need_auth("call-1", auth_id="auth-1")
        ),
        "auth ids do not count on to auth-2",
    ),
    Case(
        "only_a_body_that_runs_asks_for_credentials",
        waiting,
        lambda t: t.called().need_auth("call-1"),
        "call is requested",
    ),
    Case(
        "a_call_that_waits_for_credentials_has_no_result",
        lambda t: waiting(t).give_auth("call-1", "cancelled").result("call-1", is_error=True),
        lambda t: waiting(t).result("call-1", is_error=True),
        "auth-1 is open",
    ),
    Case(
        "a_call_that_waits_for_credentials_does_not_start",
        lambda t: waiting(t).give_auth("call-1").start("call-1", attempt=2).result("call-1"),
        lambda t: waiting(t).start("call-1", attempt=2),
        "call is waiting",
    ),
    Case(
        "after_its_credentials_a_call_starts_again",
        lambda t: waiting(t).give_auth("call-1").start("call-1", attempt=2),
        lambda t: waiting(t).give_auth("call-1").result("call-1"),
        "no error, and call is ready",
    ),
    Case(
        "without_credentials_a_call_does_not_start_again",
        lambda t: waiting(t).give_auth("call-1", "cancelled").result("call-1", is_error=True),
        lambda t: waiting(t).give_auth("call-1", "cancelled").start("call-1", attempt=2),
        "call is refused",
    ),
    Case(
        "an_answer_names_an_open_auth_request",
        lambda t: waiting(t).give_auth("call-1"),
        lambda t: waiting(t).give_auth("call-1", auth_id="auth-7"),
        "no such auth request is open",
    ),
    Case(
        "an_answer_names_the_call_of_its_auth_request",
        lambda t: waiting(t).give_auth("call-1"),
        lambda t: waiting(t).give_auth("call-1", call_id="call-7"),
        "the auth request is for call-1",
    ),
    Case(
        "credentials_are_resolved_or_cancelled",
        lambda t: waiting(t).give_auth("call-1", "cancelled"),
        lambda t: waiting(t).give_auth("call-1", "denied"),
        "outcome is denied",
    ),
    Case(
        "a_suspended_run_names_its_open_auth_requests",
        lambda t: waiting(t).leave("suspended").run().give_auth("call-1").start("call-1", attempt=2),
        lambda t: waiting(t).leave("suspended", open_auths=("auth-1", "auth-2")),
        "not what is open",
    ),
    Case(
        "a_crash_leaves_auth_requests_open",
        lambda t: waiting(t).break_run(ENDED).run().give_auth("call-1").start("call-1", attempt=2),
        lambda t: waiting(t).break_run(ENDED).run().start("call-1", attempt=2),
        "call is waiting",
    ),
    Case(
        "a_completed_run_leaves_no_call_open",
        lambda t: waiting(t).leave("suspended"),
        lambda t: waiting(t).leave(),
        "a call is open",
    ),
)
