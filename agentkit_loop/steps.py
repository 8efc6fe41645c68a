"""Steps: what `driver.next()` returns, and the result of an exchange."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from agentkit_loop.content import AnyPart, Item, ToolCallPart, ToolResultPart
from agentkit_loop.credentials import checked_secret
from agentkit_loop.records import FrozenRecord
from agentkit_loop.signals import AuthAnswer, Decision, Signal
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON

if TYPE_CHECKING:
    from agentkit_loop.state import LoopState


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunResult(FrozenRecord):
    """What came of an exchange.

    text: of the last assistant item since the input, empty without one. finish_reason: see
    FINISH_REASONS; empty while suspended. status: completed, or suspended where something waits for the
    host. pending: the steps that wait. usage, costs (by currency): of the whole run so far; an empty `costs` is
    unknown, not zero. items: the transcript.
    """

    text: str
    finish_reason: str
    status: Literal["completed", "suspended"]
    usage: Usage
    costs: dict[str, Decimal]
    items: tuple[Item, ...]
    session_id: str
    run_id: str
    pending: tuple[ApprovalRequest | AuthRequest, ...] = ()

    @property
    def cost(self) -> Decimal | None:
        """The cost where it is known and in one currency; None otherwise (see `costs`)."""
        return next(iter(self.costs.values())) if len(self.costs) == 1 else None

    @classmethod
    def of(
        cls, state: LoopState, finish_reason: str, pending: tuple[ApprovalRequest | AuthRequest, ...] = ()
    ) -> RunResult:
        """Read the result off the state; with steps that wait it is `suspended`."""
        return cls(
            text=last_text(state.transcript.items),
            finish_reason=finish_reason,
            status="suspended" if pending else "completed",
            pending=pending,
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


@attrs.frozen(eq=False, repr=False)
class AwaitingInput(FrozenRecord):
    """Nothing is to be done before `driver.submit(…)`; cooperative."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ApprovalRequest(FrozenRecord):
    """A call waits for a person's decision; blocking: `next()` returns this again until it is answered.

    approval_id, call: what is asked about. summary: what the call would do, one line. reason: why it is asked,
    None if nobody said. session_id: the session that asks, a sub-agent's where it is one.
    """

    approval_id: str
    call: ToolCallPart
    summary: str
    reason: str | None
    session_id: str
    _answer: Callable[[Signal], None] = attrs.field(repr=False, eq=False)

    def approve(
        self,
        *,
        edited_input: dict[str, JSON] | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> None:
        """Let the call run, with other arguments where they are given.

        Raises IllegalMoveError for a second answer, ConfigurationError for arguments that do not fit.
        """
        self._answer(
            Decision(approval_id=self.approval_id, approved=True, reason=reason, by=by, input=edited_input)
        )

    def deny(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Refuse the call; the model is told the reason. Raises IllegalMoveError for a second answer."""
        self._answer(Decision(approval_id=self.approval_id, approved=False, reason=reason, by=by))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AuthRequest(FrozenRecord):
    """A tool needs credentials; blocking, as ApprovalRequest is.

    auth_id, call: what needs them. provider, scopes, purpose: as the tool said it. session_id: as above.
    """

    auth_id: str
    call: ToolCallPart
    provider: str
    scopes: tuple[str, ...]
    purpose: str | None
    session_id: str
    _answer: Callable[[Signal, str | None], None] = attrs.field(repr=False, eq=False)

    def resolve(self, credential: str) -> None:
        """Give the credential, which no event and no log will hold; the call starts again.

        Raises IllegalMoveError for a second answer, ConfigurationError for what is no text.
        """
        self._answer(AuthAnswer(self.auth_id, "resolved"), checked_secret(credential))

    def cancel(self) -> None:
        """Give none: the call gets an error result. Raises IllegalMoveError for a second answer."""
        self._answer(AuthAnswer(self.auth_id, "cancelled"), None)


def key_of(step: ApprovalRequest | AuthRequest) -> tuple[str, str]:
    """Return what names a step among those of all agents of a family: its session, and its id there."""
    return step.session_id, step.approval_id if isinstance(step, ApprovalRequest) else step.auth_id


@attrs.frozen(eq=False, repr=False)
class AfterToolResult(FrozenRecord):
    """A round of tool results is in; the host may `submit` to interject; cooperative.

    results: the round's, in call order.
    """

    results: tuple[ToolResultPart, ...]
    _submit: Callable[..., None] = attrs.field(repr=False, eq=False)

    def submit(self, *content: str | AnyPart | Item) -> None:
        """Interject input before the model is asked again."""
        self._submit(*content)


@attrs.frozen(eq=False, repr=False)
class Finished(FrozenRecord):
    """The exchange has ended; TurnFinished was told just before."""

    result: RunResult


Step: TypeAlias = AwaitingInput | ApprovalRequest | AuthRequest | AfterToolResult | Finished
"""Everything that `next()` returns."""
