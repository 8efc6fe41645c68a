"""Steps: what `driver.next()` returns, and the result of an exchange."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from agentkit_loop.content import AnyPart, Item, ToolResultPart
from agentkit_loop.usage import Usage

if TYPE_CHECKING:
    from agentkit_loop.state import LoopState


@attrs.frozen(kw_only=True)
class RunResult:
    """What came of an exchange.

    text: of the last assistant item since the input, empty without one. finish_reason: see
    FINISH_REASONS. status: completed, or suspended where something waits for the host. pending: the steps
    that wait. usage, costs (by currency): of the whole run so far; an empty `costs` is unknown, not zero.
    items: the transcript.
    """

    text: str
    finish_reason: str
    status: Literal["completed", "suspended"]
    usage: Usage
    costs: dict[str, Decimal]
    items: tuple[Item, ...]
    session_id: str
    run_id: str
    pending: tuple[Step, ...] = ()

    @property
    def cost(self) -> Decimal | None:
        """The cost where it is known and in one currency; None otherwise (see `costs`)."""
        return next(iter(self.costs.values())) if len(self.costs) == 1 else None

    @classmethod
    def of(cls, state: LoopState, finish_reason: str) -> RunResult:
        """Read the result off the state."""
        return cls(
            text=last_text(state.transcript.items),
            finish_reason=finish_reason,
            status="completed",
            usage=state.run_spent.usage,
            costs=dict(state.run_spent.costs),
            items=tuple(state.transcript.items),
            session_id=state.session_id,
            run_id=state.run_id,
        )


def last_text(items: list[Item]) -> str:
    """Return the text of the last assistant item since the last user item; empty without one."""
    for item in reversed(items):
        if item.kind == "user":
            return ""
        if item.kind == "assistant":
            return item.text
    return ""


@attrs.frozen
class AwaitingInput:
    """Nothing is to be done before `driver.submit(…)`; cooperative."""


@attrs.frozen
class AfterToolResult:
    """A round of tool results is in; the host may `submit` to interject; cooperative.

    results: the round's, in call order.
    """

    results: tuple[ToolResultPart, ...]
    _submit: Callable[..., None] = attrs.field(repr=False, eq=False)

    def submit(self, *content: str | AnyPart | Item) -> None:
        """Interject input before the model is asked again."""
        self._submit(*content)


@attrs.frozen
class Finished:
    """The exchange has ended; TurnFinished was told just before."""

    result: RunResult


Step: TypeAlias = AwaitingInput | AfterToolResult | Finished
"""Everything that `next()` returns."""
