"""A call in a session's state: what was asked for it, and how far it is."""

from __future__ import annotations

import attrs

from agentkit_loop.content import ToolCallPart
from agentkit_loop.records import Record
from agentkit_loop.values import JSON


@attrs.define(eq=False, repr=False)
class Approval(Record):
    """What was asked of a person about a call. approved: None while it is open. input: only where edited."""

    id: str
    summary: str
    why: str | None
    approved: bool | None = None
    reason: str | None = None
    input: dict[str, JSON] | None = None


@attrs.define(eq=False, repr=False)
class Auth(Record):
    """Credentials that a body asked for. attempt: the body's; it ended with that. outcome: None while open."""

    id: str
    provider: str
    scopes: tuple[str, ...]
    purpose: str | None
    attempt: int
    outcome: str | None = None


@attrs.define(eq=False, repr=False)
class Call(Record):
    """A call of the current answer.

    attempts: how often its body was started. approval, auth: what was last asked for it. survives: it was
    approved and not started when a cancel was requested, so it runs to its end first.
    """

    part: ToolCallPart
    request_id: str
    requested: bool = False
    attempts: int = 0
    answered: bool = False
    approval: Approval | None = None
    auth: Auth | None = None
    survives: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether it waits for an approval or for credentials."""
        if self.answered:
            return False
        approval, auth = self.approval, self.auth
        return (approval is not None and approval.approved is None) or (
            auth is not None and auth.outcome is None
        )

    @property
    def has_to_start(self) -> bool:
        """Whether the body was never started, or ended for want of credentials."""
        return not self.answered and self.attempts == (0 if self.auth is None else self.auth.attempt)

    @property
    def is_own(self) -> bool:
        """Whether a hand-written loop made it by itself, for no model."""
        return not self.request_id

    @property
    def is_running(self) -> bool:
        """Whether the body was started and has no result."""
        return not self.answered and not self.has_to_start

    @property
    def input(self) -> dict[str, JSON]:
        """What the body gets: the model's input, or what an approval made of it."""
        edited = None if self.approval is None else self.approval.input
        return self.part.input if edited is None else edited
