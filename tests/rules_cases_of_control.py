"""For each rule of cancellation and limits: a session that keeps it, and one that breaks it."""

from __future__ import annotations

from agentkit_loop.content import ReasoningPart
from agentkit_loop.events import BudgetExceeded, BudgetWarning, RunCancelled
from agentkit_loop.values import JSON
from tests.rules_cases import Case, used
from tests.rules_cases_of_calls import DENIED, REFUSED, gated
from tests.rules_told import CALL, ENDED, Told


def warned(told: Told, limit: str = "max_tokens", *, used: JSON = 8, allowed: JSON = 10) -> Told:
    """Tell that a limit is nearly used up."""
    return told.tell(BudgetWarning(limit=limit, used=used, allowed=allowed))


def exceeded(told: Told, limit: str = "max_tokens", *, used: JSON = 10) -> Told:
    """Tell that a limit of ten is used up."""
    return told.tell(BudgetExceeded(limit=limit, used=used, allowed=10))


CANCELS = (
    Case(
        "a_cancel_is_requested_once",
        lambda t: t.asked().cancel().cut().finish("cancelled").say().turn().ask().cancel(),
        lambda t: t.asked().cancel().cancel(),
        "a cancel was requested before",
    ),
    Case(
        "a_cancel_is_told_before_anything_is_closed",
        lambda t: t.asked().cancel().cut(),
        lambda t: t.asked().cut().cancel(),
        "requested after something was cut",
    ),
    Case(
        "what_is_cut_ends_its_exchange",
        lambda t: t.asked().cut().finish("error").break_run(),
        lambda t: t.asked().cut().finish(),
        "completed, although open work was cut",
    ),
    Case(
        "there_is_something_to_cancel",
        lambda t: t.run().say().cancel().turn().finish("cancelled").leave(),
        lambda t: t.run().cancel(),
        "there is nothing to cancel",
    ),
    Case(
        "a_cancel_ends_its_exchange",
        lambda t: t.asked().write().answer().cancel().finish("cancelled"),
        lambda t: t.asked().write().answer().cancel().finish(),
        "completed, although a cancel was requested",
    ),
    Case(
        "after_a_cancel_nothing_starts",
        lambda t: t.asked().fail().retry().cancel().finish("cancelled"),
        lambda t: t.asked().fail().retry().cancel().ask(attempt=2),
        "starts after the cancel",
    ),
    Case(
        "after_a_cancel_nothing_is_asked_for",
        lambda t: gated(t).cancel().decide("call-1", approved=False).interrupt("call-1", **DENIED),
        lambda t: t.called().cancel().gate("call-1"),
        "starts after the cancel",
    ),
    Case(
        "a_cancel_is_remembered_over_a_crash",
        lambda t: (
            t.called().cancel().break_run(ENDED).run().interrupt("call-1", **REFUSED).finish("cancelled")
        ),
        lambda t: t.called().cancel().break_run(ENDED).run().start("call-1"),
        "starts after the cancel",
    ),
    Case(
        "an_approval_before_the_cancel_wins",
        lambda t: gated(t).decide("call-1").cancel().start("call-1").result("call-1").finish("cancelled"),
        lambda t: t.called().cancel().start("call-1"),
        "starts after the cancel",
    ),
    Case(
        "open_calls_are_cut_in_call_order",
        lambda t: (
            t.called("call-1", "call-2")
            .start("call-2")
            .cancel()
            .interrupt("call-1", **REFUSED)
            .interrupt("call-2")
            .finish("cancelled")
        ),
        lambda t: (
            t.called("call-1", "call-2")
            .start("call-2")
            .cancel()
            .interrupt("call-2")
            .interrupt("call-1", **REFUSED)
        ),
        "open calls are cut in call order",
    ),
    Case(
        "what_a_crash_left_is_cut_in_call_order",
        lambda t: (
            t.called("call-1", "call-2")
            .start("call-1")
            .start("call-2")
            .interrupt("call-1")
            .interrupt("call-2")
            .break_run(ENDED)
            .run()
            .turn()
            .ask()
        ),
        lambda t: (
            t.called("call-1", "call-2")
            .start("call-1")
            .start("call-2")
            .interrupt("call-2")
            .interrupt("call-1")
        ),
        "open calls are cut in call order",
    ),
    Case(
        "after_a_cut_nothing_starts_in_the_run",
        lambda t: t.asked().cut().leave("suspended").run().ask(),
        lambda t: t.asked().cut().ask(),
        "starts after open work was cut",
    ),
    Case(
        "a_cut_answer_keeps_its_text_and_drops_its_calls",
        lambda t: (
            t.asked().write().write(CALL).write(ReasoningPart(text="x")).cancel().cut().finish("cancelled")
        ),
        lambda t: t.asked().write(CALL).cancel().cut().finish("cancelled", item_count=2),
        "tells 2 items, the transcript has 1",
    ),
    Case(
        "an_interruption_by_ctrl_c_needs_no_cancel",
        lambda t: t.asked().cut().finish("cancelled").tell(RunCancelled(reason="SIGINT", usage=used(1))),
        lambda t: t.asked().cut().finish("cancelled").say().turn(),
        "the exchange ended as cancelled, so the run has to end",
    ),
)

LIMITS = (
    Case(
        "a_limit_is_warned_of_once_in_a_session",
        lambda t: warned(warned(t.run()).leave().run(), allowed=9),
        lambda t: warned(warned(t.run()).leave().run()),
        "warned before",
    ),
    Case(
        "turns_are_warned_of_once_in_an_exchange",
        lambda t: warned(warned(t.answered(), "max_turns").say().turn().ask().answer().finish(), "max_turns"),
        lambda t: warned(warned(t.asked(), "max_turns"), "max_turns"),
        "warned before",
    ),
    Case(
        "a_warning_is_of_four_fifths",
        lambda t: warned(t.run(), "max_cost_usd", used="1.60", allowed="2.00"),
        lambda t: warned(t.run(), "max_cost_usd", used="1.59", allowed="2.00"),
        "1.59 of 2.00 is not that much",
    ),
    Case(
        "a_limit_is_in_numbers",
        lambda t: warned(t.run()),
        lambda t: warned(t.run(), used="a lot"),
        "used and allowed are no numbers",
    ),
    Case(
        "a_limit_is_exceeded_when_it_is_used_up",
        lambda t: exceeded(t.run().say().turn()).finish("limit").leave(),
        lambda t: exceeded(t.run().say().turn(), used=9),
        "9 of 10 is not that much",
    ),
    Case(
        "a_limit_is_exceeded_once",
        lambda t: exceeded(exceeded(t.run().say().turn()), "max_cost_usd").finish("limit"),
        lambda t: exceeded(exceeded(t.run().say().turn())),
        "exceeded before",
    ),
    Case(
        "a_limit_ends_an_exchange",
        lambda t: exceeded(t.run().say().turn()),
        lambda t: exceeded(t.run().say()),
        "outside an exchange",
    ),
    Case(
        "after_a_limit_nothing_starts",
        lambda t: exceeded(t.run().say().turn()).finish("limit").say().turn(),
        lambda t: exceeded(t.run().say().turn()).ask(),
        "starts after a limit was exceeded",
    ),
    Case(
        "a_limit_is_why_the_exchange_ends",
        lambda t: exceeded(t.asked()).cut().finish("limit"),  # the deadline cuts the stream
        lambda t: exceeded(t.asked().write().answer()).finish(),
        "completed, although a limit was exceeded",
    ),
    Case(
        "an_exchange_ends_by_a_limit_that_was_told",
        lambda t: exceeded(t.run().say().turn()).finish("limit"),
        lambda t: t.run().turn().finish("limit"),
        "limit after an answer of None",
    ),
)
