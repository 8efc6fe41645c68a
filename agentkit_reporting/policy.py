"""PolicyReporter: any observer under any policy, with the loop or without it."""

from __future__ import annotations

import collections

from agentkit_loop.errors import InnerObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import FailurePolicy, Observer, ObserverFailure, Registration, checked_policy
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.inner import MAX_UNTOLD, Inner, ReportingAdapter, finish
from agentkit_reporting.process_ends import watch

MAX_KEPT_ERRORS = MAX_UNTOLD
"""How many failures ACCUMULATE keeps, as the loop does; older ones make room."""


class PolicyReporter(ReportingAdapter):
    """Puts an observer under a failure policy.

    inner: the observer; a policy of its own, or nearer to it than this one, wins. disable_after: failures after
    which it gets no more events.

    With the loop it is as if the observer were registered with that policy. Without one `handle_event` does
    what the policy says: raises nothing under IGNORE, LOG and ACCUMULATE; under FAIL_FAST ObserverError from the
    original, and the observer gets no more events. KeyboardInterrupt and SystemExit always pass.
    """

    def __init__(
        self, inner: Observer | Registration, policy: FailurePolicy, disable_after: int | None = None
    ) -> None:
        super().__init__()
        self.policy = checked_policy(policy)
        given = inner if isinstance(inner, Registration) else Registration(inner)
        self._inner = Inner(
            Registration(
                given.observer,
                policy=given.policy or policy,
                disable_after=disable_after if given.disable_after is None else given.disable_after,
            )
        )
        self.wants = self._inner.wants  # type: ignore[misc] # of this one observer
        self._errors: collections.deque[ObserverFailure] = collections.deque(maxlen=MAX_KEPT_ERRORS)
        self.begin_anew()
        watch(self, at_exit=False)

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The observer behind, as it is called."""
        return (self._inner,)

    def pass_on(self, event: AgentEvent) -> None:
        """Give the event to the observer; raises InnerObserverError with the policy on each failure."""
        inner = self._inner
        if event.__class__ is ObserverFailed and inner.failed_itself(event):
            return
        self._received.add()
        if not inner.is_active:
            self._dropped.add()
            return
        try:
            inner.handle(event)
        except Exception as error:
            failed_before = inner.failed
            failures = inner.failures(event, error)
            if inner.failed > failed_before:
                self._failed.add()
            self._errors.extend(
                ObserverFailure(failure.name, failure.event.seq, failure.error)
                for failure in failures
                if failure.policy is FailurePolicy.ACCUMULATE
            )
            raise InnerObserverError(failures) from error
        except BaseException:
            self._failed.add()
            raise

    def take_errors(self) -> tuple[ObserverFailure, ...]:
        """Return and forget the failures kept under ACCUMULATE, oldest first, at most 1,000."""
        taken = []
        while self._errors:
            taken.append(self._errors.popleft())
        return tuple(taken)

    def account(self) -> Account:
        """Return what became of the events."""
        failed, dropped, received = self._failed.value, self._dropped.value, self._received.value
        return Account(
            name=type(self).__name__,
            received=received,
            delivered=received - failed - dropped,
            dropped=dropped,
            failed=failed,
            inner=(self._inner.account(received - failed - dropped),),
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Flush the observer; what it raises is logged. Return whether everything so far arrived."""
        return finish((self._inner,), "flush", timeout_s) and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Close the observer; what it raises is logged. Return whether everything arrived."""
        return finish((self._inner,), "close", timeout_s) and self.account().is_complete

    def begin_anew(self) -> None:
        """Forget what was counted and kept: this is a forked child."""
        self._received, self._failed, self._dropped = Tally(), Tally(), Tally()
        self._errors.clear()
