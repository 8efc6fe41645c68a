"""RedactingReporter: an observer behind it sees events without their secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.errors import ConfigurationError, InnerObserverError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    is_redacted,
)
from agentkit_loop.observers import EventKind, Observer, Registration
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.inner import Inner, ReportingAdapter, finish
from agentkit_reporting.process_ends import watch
from agentkit_reporting.redaction.masking import RedactionMode
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.rule_set import SECRETS, RuleChoice

_AROUND_PIECES: tuple[EventKind, ...] = (
    BeginPart,
    CommitPart,
    ModelRequestStarted,
    ModelRequestFinished,
    ModelRequestFailed,
)
"""What has to be seen so that the pieces between can be scrubbed."""


class RedactingReporter(ReportingAdapter):
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
        super().__init__()
        given: dict[str, Any] = {"mode": mode, "key": key, "keep_arguments": keep_arguments}
        if isinstance(rules, Redactor):
            if given != {"mode": "mask", "key": None, "keep_arguments": None} or not fail_closed:
                raise ConfigurationError(
                    "options refused beside a Redactor, which has its own; give them to the Redactor"
                )
            self.redactor = rules
        else:
            self.redactor = Redactor(rules, **given, fail_closed=fail_closed)
        self._inner = Inner(inner)
        self._wanted = self._inner.wants
        self.wants = _needed(self._wanted)  # type: ignore[misc] # what it wants is what the one behind it wants
        self._redact = self.redactor.event
        self.begin_anew()
        watch(self, at_exit=False)

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The observer behind, as it is called."""
        return (self._inner,)

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
            failed_before = inner.failed
            failures = inner.failures(event, error)
            if inner.failed > failed_before:
                self._failed.add()
            raise InnerObserverError(failures) from error
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
        failed, dropped, redacted = self._failed.value, self._dropped.value, self._redacted.value
        received = self._received.value
        return Account(
            name=type(self).__name__,
            received=received,
            delivered=received - failed - dropped,
            dropped=dropped,
            failed=failed,
            redacted=redacted,
            inner=(self._inner.account(received - failed - dropped),),
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Flush the observer behind; what it raises is logged. Return whether everything so far arrived."""
        return finish((self._inner,), "flush", timeout_s) and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Close the observer behind; what it raises is logged. Return whether everything arrived."""
        return finish((self._inner,), "close", timeout_s) and self.account().is_complete

    def begin_anew(self) -> None:
        """Forget what was counted: this is a forked child."""
        self._received, self._failed, self._dropped = Tally(), Tally(), Tally()
        self._redacted = Tally()


def _needed(wanted: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
    """Return what has to be seen for an observer that wants some kinds of events."""
    if not wanted:
        return ()
    needed = dict.fromkeys(wanted)
    if {AgentEvent, ContentDelta, AppendText, AppendBytes} & set(wanted):
        needed.update(dict.fromkeys(_AROUND_PIECES))
    if {RunFinished, RunFailed, RunCancelled} & set(wanted):
        return ()  # a receipt is of everything
    return tuple(needed)
