"""RedactingReporter: an observer behind it sees events without their secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.errors import ConfigurationError, InnerObserverError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    ObserverFailed,
    is_redacted,
)
from agentkit_loop.observers import EventKind, Observer, Registration
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.redaction.masking import RedactionMode
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.rule_set import SECRETS, RuleChoice
from agentkit_reporting.straight import StraightAdapter

_AROUND_PIECES: tuple[EventKind, ...] = (
    BeginPart,
    CommitPart,
    ModelRequestStarted,
    ModelRequestFinished,
    ModelRequestFailed,
)
"""What has to be seen so that the pieces between can be scrubbed."""


class RedactingReporter(StraightAdapter):
    """Scrubs each event and gives it to an observer behind it.

    inner: the observer; it is flushed and closed with this one, and its failures are told as its own. rules: a
    Redactor, or the rules of one; mode, key, keep_arguments, fail_closed: see `Redactor`. An event that cannot be
    scrubbed is not passed on: RedactionError is raised, and the account counts it as failed.

    What was masked in a run stands on its closing event as `redaction_receipt`, by rule: so it reaches whatever sink
    there is, without an event more than came in. `redactor.receipt()` has the counts of all runs.
    """

    def __init__(
        self,
        inner: Observer | Registration,
        rules: Redactor | Iterable[RuleChoice] = (SECRETS,),
        *,
        mode: RedactionMode = "mask",
        key: str | bytes | None = None,
        keep_arguments: Collection[str] | None = None,
        fail_closed: bool = True,
    ) -> None:
        given: dict[str, Any] = {"mode": mode, "key": key, "keep_arguments": keep_arguments}
        if isinstance(rules, Redactor):
            if given != {"mode": "mask", "key": None, "keep_arguments": None} or not fail_closed:
                raise ConfigurationError(
                    "options refused beside a Redactor, which has its own; give them to the Redactor"
                )
            self.redactor = rules
        else:
            self.redactor = Redactor(rules, **given, fail_closed=fail_closed)
        self._redact = self.redactor.event
        super().__init__(inner)
        self._wanted = self._inner.wants
        self.wants = _needed(self._wanted)  # type: ignore[misc] # what it wants is what the one behind it wants

    def pass_on(self, event: AgentEvent) -> None:
        """Scrub an event and hand it on; raises RedactionError, and InnerObserverError for what is behind."""
        inner = self._inner
        if self._wanted and not self._is_wanted(event):
            self._redact(event)  # it may begin or end a part
            return
        if event.__class__ is ObserverFailed and inner.failed_itself(event):
            return
        self._received.add()
        if not inner.is_active:
            self._dropped.add()
            return
        try:
            told = self._redact(event)
        except BaseException:
            self._failed.add()
            raise
        try:
            inner.handle(told)
        except Exception as error:
            raise InnerObserverError(self._raised(event, error)) from error
        except BaseException:
            self._failed.add()
            raise
        if told is not event and is_redacted(told):
            self._redacted.add()

    def _is_wanted(self, event: AgentEvent) -> bool:
        kind = event.delta.__class__ if isinstance(event, ContentDelta) else event.__class__
        return isinstance(event, self._wanted) or kind in self._wanted

    def account(self) -> Account:
        """Return what became of the events that the observer behind wants."""
        redacted = self._redacted.value
        return attrs.evolve(super().account(), redacted=redacted)

    def begin_anew(self) -> None:
        """Forget what was counted: this is a forked child."""
        super().begin_anew()
        self._redacted = Tally()


def _needed(wanted: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
    """Return what has to be seen for an observer that wants some kinds of events."""
    if not wanted:
        return ()
    needed = dict.fromkeys(wanted)
    if {AgentEvent, ContentDelta, AppendText, AppendBytes} & set(wanted):
        needed.update(dict.fromkeys(_AROUND_PIECES))
    if not set(wanted).isdisjoint(RUN_ENDS):
        return ()  # a receipt is of everything
    return tuple(needed)
