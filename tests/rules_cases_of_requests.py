"""For each rule of requests, the catalog, the transcript and compaction: a session that keeps and breaks it."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from agentkit_loop.content import AppendText, BeginPart, CommitPart, Item, TextPart, ToolCallPart
from agentkit_loop.events import AgentEvent, ContentDelta, InputAccepted, ToolCatalogChanged
from tests.rules_cases import SUMMARY, Case, crashed
from tests.rules_told import CALL, WORK, Told

OTHER = msgspec.structs.replace(WORK, name="other")
BETTER = msgspec.structs.replace(WORK, description="Work better.")
BEGUN = BeginPart("p", "text")
WHOLE = CommitPart("p", TextPart(text="x"))


def delta(told: Told, piece: BeginPart | AppendText | CommitPart) -> Told:
    """Tell one fragment of the last request."""
    return told.tell(ContentDelta(request_id=told.request_id, delta=piece))


def catalog(told: Told, **fields: Any) -> Told:
    """Tell that the tools changed, in the second turn of a session."""
    return told.answered().say().turn().tell(ToolCatalogChanged(**fields))


def second_exchange(told: Told) -> Told:
    """Tell a session of two items and the beginning of its second exchange, of three."""
    return told.answered().say().turn()


def preloaded(call_id: str) -> Item:
    """Return an assistant's item with a call."""
    return Item(kind="assistant", parts=(ToolCallPart(id=call_id, name="work", input={}),), id="old")


def drop(told: Told, kind: str) -> list[AgentEvent]:
    """Return the events without the last of a kind, numbered anew."""
    last = max(place for place, event in enumerate(told.events) if event.type == kind)
    kept = [event for place, event in enumerate(told.events) if place != last]
    return [attrs.evolve(event, seq=number) for number, event in enumerate(kept, start=1)]


REQUESTS = (
    Case(
        "request_ids_count_on_over_runs",
        lambda t: crashed(t).run().ask(),
        lambda t: crashed(t).run().ask(request_id="request-1").events[:-1],
        "request ids do not count on",
    ),
    Case(
        "one_request_is_open_at_a_time",
        lambda t: t.asked().fail().retry().ask(attempt=2),
        lambda t: t.asked().ask(),
        "another request is open",
    ),
    Case(
        "a_request_waits_for_the_round",
        lambda t: t.called().start("call-1").result("call-1").turn().ask(),
        lambda t: t.called().start("call-1").ask().events[:-1],
        "the round is not complete",
    ),
    Case(
        "a_purpose_is_known",
        lambda t: t.run().say().turn().ask(),
        lambda t: t.run().say().turn().ask(purpose="other"),
        "purpose is other",
    ),
    Case(
        "there_are_four_digests",
        lambda t: t.run().say().turn().ask(),
        lambda t: t.run().say().turn().ask(digests={"tools": "t"}),
        "not the four digests",
    ),
    Case(
        "attempts_begin_at_one",
        lambda t: t.run().say().turn().ask(),
        lambda t: t.run().say().turn().ask(attempt=2),
        "attempt is none of [1]",
    ),
    Case(
        "attempts_count_up",
        lambda t: t.asked().fail().retry().ask(attempt=2),
        lambda t: t.asked().fail().retry().ask(attempt=1),
        "attempt is none of [2]",
    ),
    Case(
        "a_retry_is_told",
        lambda t: t.asked().fail().retry().ask(attempt=2),
        lambda t: t.asked().fail().ask(attempt=2),
        "request-1 failed, and no retry was told",
    ),
    Case(
        "after_a_compaction_a_request_is_made_again",
        lambda t: t.asked().fail("context_exceeded").compact().compacted((0, 1), count=1).ask(attempt=2),
        lambda t: t.asked().fail("context_exceeded").compact().compacted((0, 1), count=1).ask(attempt=3),
        "attempt is none of [1, 2]",
    ),
    Case(
        "a_retry_is_told_of_a_failed_request",
        lambda t: t.asked().fail().retry(),
        lambda t: t.asked().retry(),
        "request is open, or not the last",
    ),
    Case(
        "a_retry_is_told_once",
        lambda t: t.asked().fail().retry(),
        lambda t: t.asked().fail().retry().retry(),
        "the retry was told before",
    ),
    Case(
        "a_retry_announces_the_next_attempt",
        lambda t: t.asked().fail().retry(),
        lambda t: t.asked().fail().retry(next_attempt=3),
        "attempts do not count up",
    ),
    Case(
        "a_request_ends_once",
        lambda t: t.asked().answer(),
        lambda t: t.asked().fail().fail(),
        "request is failed",
    ),
    Case(
        "a_failed_request_does_not_finish",
        lambda t: t.asked().cut(),
        lambda t: t.asked().fail().cut(),
        "request is failed",
    ),
    Case(
        "a_finished_request_has_one_final_usage",
        lambda t: t.asked().answer(),
        lambda t: drop(t.asked().answer(), "usage_updated"),
        "not exactly one final usage",
    ),
    Case(
        "nothing_is_used_after_the_final_usage",
        lambda t: t.asked().use().use(final=True),
        lambda t: t.asked().use(final=True).use(),
        "after the final usage",
    ),
    Case(
        "a_failed_request_has_no_final_usage",
        lambda t: t.asked().use(final=True).fail("process_ended"),
        lambda t: t.asked().use(final=True).fail(),
        "a failed request has a final usage",
    ),
    Case(
        "a_class_of_errors_is_known",
        lambda t: t.asked().fail("other"),
        lambda t: t.asked().fail("odd"),
        "class is odd",
    ),
    Case(
        "usage_is_told_of_the_open_request",
        lambda t: t.asked().use(),
        lambda t: t.asked().fail().use(),
        "request is not open",
    ),
    Case(
        "a_part_begins_once",
        lambda t: delta(t.asked(), BEGUN),
        lambda t: delta(delta(t.asked(), BEGUN), BEGUN),
        "part began twice",
    ),
    Case(
        "a_part_is_committed_once",
        lambda t: delta(delta(t.asked(), BEGUN), WHOLE),
        lambda t: delta(delta(delta(t.asked(), BEGUN), WHOLE), WHOLE),
        "part is not open",
    ),
    Case(
        "a_part_grows_while_it_is_open",
        lambda t: delta(delta(t.asked(), BEGUN), AppendText("p", "x")),
        lambda t: delta(t.asked(), AppendText("p", "x")),
        "part is not open",
    ),
    Case(
        "an_answer_commits_every_part",
        lambda t: delta(t.asked(), BEGUN).cut(),
        lambda t: delta(t.asked(), BEGUN).answer(),
        "a part was never committed",
    ),
    Case(
        "call_ids_are_the_sessions_own",
        lambda t: t.called().start("call-1").result("call-1").turn().ask().call("call-1~2"),
        lambda t: t.asked().write(CALL).write(CALL),
        "call id told before",
    ),
    Case(
        "a_cut_call_has_no_input",
        lambda t: t.asked().write(msgspec.structs.replace(CALL, cut='{"a')),
        lambda t: t.asked().write(msgspec.structs.replace(CALL, cut='{"a', input={"a": 1})),
        "a cut call has an input",
    ),
    Case(
        "preloaded_calls_have_their_ids",
        lambda t: t.run(items=(preloaded("old"),)).say().turn().ask().write(CALL),
        lambda t: t.run(items=(preloaded("call-1"),)).say().turn().ask().write(CALL),
        "call id told before",
    ),
    Case(
        "the_messages_are_those_of_the_transcript",
        lambda t: t.answered().say().turn().ask(),
        lambda t: t.answered().say().turn().ask(sent={"messages": "0" * 32}),
        "does not fit the transcript before it",
    ),
    Case(
        "the_system_prompt_is_the_one_that_was_told",
        lambda t: t.run(system="be kind").say().turn().ask(),
        lambda t: t.run(system="be kind").say().turn().ask(sent={"system": "0" * 32}),
        "sent a system prompt that the log does not tell",
    ),
    Case(
        "other_tools_are_told",
        lambda t: catalog(t, added=(OTHER,)).ask(),
        lambda t: t.answered().say().turn().ask(sent={"tools": "new"}),
        "other tools than before",
    ),
    Case(
        "a_catalog_changes_something",
        lambda t: catalog(t, added=(OTHER,)),
        catalog,
        "nothing changed",
    ),
    Case(
        "a_catalog_names_each_tool_once",
        lambda t: catalog(t, removed=("work",)),
        lambda t: catalog(t, removed=("work", "work")),
        "a name twice",
    ),
    Case(
        "what_is_added_was_not_there",
        lambda t: catalog(t, added=(OTHER,)),
        lambda t: catalog(t, added=(WORK,)),
        "added what was there",
    ),
    Case(
        "what_is_removed_was_there",
        lambda t: catalog(t, removed=("work",)),
        lambda t: catalog(t, removed=("other",)),
        "removed or changed what was not there",
    ),
    Case(
        "what_is_changed_is_different",
        lambda t: catalog(t, changed=(BETTER,)),
        lambda t: catalog(t, changed=(WORK,)),
        "changed to what it was",
    ),
    Case(
        "a_catalog_changes_before_the_request",
        lambda t: catalog(t, added=(OTHER,)).ask(),
        lambda t: t.asked().tell(ToolCatalogChanged(added=(OTHER,))),
        "a request is open",
    ),
    Case(
        "a_catalog_changes_between_rounds",
        lambda t: t.called().start("call-1").result("call-1").turn().tell(ToolCatalogChanged(added=(OTHER,))),
        lambda t: t.called().tell(ToolCatalogChanged(added=(OTHER,))),
        "a round is open",
    ),
)


TRANSCRIPT = (
    Case(
        "a_request_sends_the_transcript",
        lambda t: t.run().say().say("more").turn().ask(),
        lambda t: t.run().say().say("more").turn().ask(message_count=1),
        "tells 1 items, the transcript has 2",
    ),
    Case(
        "an_exchange_tells_its_items",
        lambda t: t.asked().write().say().cut().finish("error"),
        lambda t: t.asked().write().say().cut().finish("error", item_count=2),
        "tells 2 items, the transcript has 3",
    ),
    Case(
        "items_have_ids_of_their_own",
        lambda t: t.run().say().say(),
        lambda t: t.run().say().say(items=(msgspec.structs.replace(SUMMARY, id="own-1"),)),
        "items without ids of their own",
    ),
    Case(
        "an_empty_input_is_not_told",
        lambda t: t.run().say(),
        lambda t: t.run().tell(InputAccepted(items=())),
        "no items",
    ),
)

COMPACTIONS = (
    Case(
        "a_compaction_plans_with_what_is_there",
        lambda t: second_exchange(t).compact().compacted(SUMMARY, (2, 3), count=2).ask(),
        lambda t: second_exchange(t).compact().compacted(SUMMARY, (2, 4), count=2),
        "the range 2 to 4 is not in 3 items",
    ),
    Case(
        "a_compaction_keeps_an_item_once",
        lambda t: second_exchange(t).compact().compacted((0, 1), (2, 3), count=2),
        lambda t: second_exchange(t).compact().compacted((0, 2), (1, 2), count=2),
        "the plan keeps an item twice",
    ),
    Case(
        "a_kept_item_is_not_told_again",
        lambda t: second_exchange(t).compact().compacted(SUMMARY, count=1),
        lambda t: t.run(items=(SUMMARY,)).compact().compacted(SUMMARY, count=1),
        "the plan tells a kept item again",
    ),
    Case(
        "a_call_stays_with_its_result",
        lambda t: (
            t.called().start("call-1").result("call-1").turn().compact().compacted((1, 3), count=2).ask()
        ),
        lambda t: t.called().start("call-1").result("call-1").turn().compact().compacted((0, 2), count=2),
        "the plan tears a call from its result",
    ),
    Case(
        "a_compaction_tells_what_is_left",
        lambda t: second_exchange(t).compact().compacted((1, 3), count=2),
        lambda t: second_exchange(t).compact().compacted((1, 3), count=3),
        "tells 3 items, the transcript has 2",
    ),
    Case(
        "a_failed_compaction_changes_nothing",
        lambda t: second_exchange(t).compact().not_compacted().ask(),
        lambda t: second_exchange(t).compact().not_compacted(error=None),
        "a plan and an error, or neither",
    ),
    Case(
        "a_compaction_that_ends_began",
        lambda t: second_exchange(t).compact().not_compacted(),
        lambda t: second_exchange(t).not_compacted(),
        "no compaction is open",
    ),
    Case(
        "one_compaction_at_a_time",
        lambda t: second_exchange(t).compact().not_compacted().compact(),
        lambda t: second_exchange(t).compact().compact(),
        "a compaction is open",
    ),
    Case(
        "a_compaction_begins_before_the_request",
        lambda t: second_exchange(t).compact(),
        lambda t: t.asked().compact(),
        "a request is open",
    ),
    Case(
        "a_compaction_begins_between_rounds",
        lambda t: t.called().start("call-1").result("call-1").turn().compact(),
        lambda t: t.called().compact(),
        "a round is open",
    ),
    Case(
        "a_compaction_ends_after_its_request",
        lambda t: second_exchange(t).compact().ask(purpose="compaction").answer().not_compacted(),
        lambda t: second_exchange(t).compact().ask(purpose="compaction").not_compacted(),
        "a request is open",
    ),
    Case(
        "a_compactions_answer_is_no_item",
        lambda t: (
            second_exchange(t)
            .compact()
            .ask(purpose="compaction")
            .write()
            .answer()
            .compacted(SUMMARY, (2, 3), count=2)
            .ask()
            .write()
            .answer()
            .finish()
        ),
        lambda t: (
            second_exchange(t)
            .compact()
            .ask(purpose="compaction")
            .write()
            .answer()
            .not_compacted(item_count=4)
        ),
        "tells 4 items, the transcript has 3",
    ),
    Case(
        "a_request_of_a_compaction_is_made_inside_it",
        lambda t: second_exchange(t).compact().ask(purpose="compaction"),
        lambda t: second_exchange(t).ask(purpose="compaction"),
        "compaction while compacting is False",
    ),
    Case(
        "a_request_of_a_turn_waits_for_the_compaction",
        lambda t: second_exchange(t).compact().not_compacted().ask(),
        lambda t: second_exchange(t).compact().ask(),
        "turn while compacting is True",
    ),
    Case(
        "a_cancel_closes_a_compaction",
        lambda t: (
            second_exchange(t)
            .compact()
            .ask(purpose="compaction")
            .cancel()
            .cut()
            .not_compacted()
            .finish("cancelled")
        ),
        lambda t: second_exchange(t).compact().ask(purpose="compaction").cancel().cut().finish("cancelled"),
        "a compaction is open",
    ),
    Case(
        "input_waits_for_the_compaction",
        lambda t: second_exchange(t).compact().say().compacted((2, 3), count=1).ask(message_count=2),
        lambda t: second_exchange(t).compact().say().compacted((2, 3), count=1).ask(message_count=1),
        "tells 1 items, the transcript has 2",
    ),
)
