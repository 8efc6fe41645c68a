"""An open compaction: what is due, the strategies' attempts, their requests to a model, and what comes of it.

A strategy decides from the items alone. One that wants a summary first gets a request of purpose
`compaction`, whose answer joins no transcript. Whatever fails leaves the transcript as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import msgspec

from agentkit_loop.content import Item, clean_item
from agentkit_loop.errors import ModelRequestError
from agentkit_loop.events import CompactionFinished, CompactionStarted
from agentkit_loop.models.protocol import Model
from agentkit_loop.state import Failure, LoopState

if TYPE_CHECKING:
    from agentkit_loop.compaction import Compaction, CompactionOutcome, Plan, SummaryWanted

CONTEXT_EXCEEDED = "context_exceeded"
"""The reason of a compaction after the provider refused a request for its length."""


class Compacting:
    """Decides about the open compaction.

    wanted: what a model is to be asked, None while nothing is. asked: whether its request was told.
    """

    def __init__(self, compaction: Compaction | None, state: LoopState) -> None:
        self._compaction = compaction
        self._state = state
        self._attempts: Generator[SummaryWanted, str, CompactionOutcome] | None = None
        self.wanted: SummaryWanted | None = None
        self.asked = False

    def due(self) -> CompactionStarted | None:
        """Return the start of a compaction that is due before a request; one in a turn."""
        if self._compaction is None or self._state.compacted is not None:
            return None
        items, tokens = self._state.transcript.items, self._state.last_input_tokens
        reason = self._compaction.due(item_count=len(items), token_count=tokens)
        return None if reason is None else self._start(reason)

    def after_refusal(self) -> CompactionStarted | None:
        """Return the start of a compaction after the provider said that the context is exceeded; one in a turn."""
        if self._compaction is None or not self._compaction.on_context_exceeded:
            return None
        return None if self._state.compacted == CONTEXT_EXCEEDED else self._start(CONTEXT_EXCEEDED)

    def _start(self, reason: str) -> CompactionStarted:
        self._attempts, self.wanted, self.asked = None, None, False
        return CompactionStarted(
            reason=reason,
            item_count=len(self._state.transcript.items),
            token_count=self._state.last_input_tokens,
        )

    def next(self) -> SummaryWanted | CompactionFinished:
        """Go on: return what a model is to be asked, or the end."""
        if self.wanted is not None:
            return self.wanted
        assert self._compaction is not None  # noqa: S101 - it was due
        from agentkit_loop.compaction import attempts  # noqa: PLC0415 - 3 ms; most agents have none

        trying = self._attempts = attempts(self._compaction, self._state.transcript.items)
        return self._advance(lambda: next(trying))

    def answered(self, text: str, finish_reason: str) -> SummaryWanted | CompactionFinished:
        """Take the model's summary and go on; one that is not whole is a failure."""
        if finish_reason != "completed":
            return self._refuse(f"the summary ended with {finish_reason}")
        trying = self._attempts
        assert trying is not None  # noqa: S101 - its request was open
        return self._advance(lambda: trying.send(text))

    def failed(self, failure: Failure) -> SummaryWanted | CompactionFinished:
        """Take the failure of the summary's request, and go on."""
        return self._give_up(ModelRequestError(failure.error.message, error_class=failure.error_class))

    def _refuse(self, why: str) -> SummaryWanted | CompactionFinished:
        from agentkit_loop.compaction import CompactionError  # noqa: PLC0415 - loaded with what is refused

        return self._give_up(CompactionError(why))

    def _give_up(self, error: Exception) -> SummaryWanted | CompactionFinished:
        trying = self._attempts
        assert trying is not None  # noqa: S101 - as above
        return self._advance(lambda: trying.throw(error))

    def _advance(self, step: Callable[[], SummaryWanted]) -> SummaryWanted | CompactionFinished:
        self.wanted, self.asked = None, False
        try:
            wanted = step()
        except StopIteration as stopped:
            self._attempts = None
            outcome: CompactionOutcome = stopped.value
            return self._finished(outcome)
        if not (all(isinstance(item, Item) for item in wanted.items) and _is_a_model(wanted.model)):
            return self._refuse("a strategy asks for a summary without Items or a model")
        self.wanted = wanted
        return wanted

    def _finished(self, outcome: CompactionOutcome) -> CompactionFinished:
        return CompactionFinished(
            strategy=outcome.strategy,
            plan=None if outcome.plan is None else self._numbered(outcome.plan),
            item_count=len(outcome.items),
            token_count=outcome.token_count,
            error=outcome.error,
        )

    def _numbered(self, plan: Plan) -> Plan:
        """Clean the new items, and give them ids of the session."""
        number = self._state.transcript.numbered
        steps: list[tuple[int, int] | Item] = []
        for step in plan:
            if isinstance(step, Item):
                number += 1
                steps.append(clean_item(msgspec.structs.replace(step, id=f"item-{number}")))
            else:
                steps.append((step[0], step[1]))
        return tuple(steps)


def _is_a_model(model: object) -> bool:
    return model is None or isinstance(model, Model)
