"""PolicyReporter: any observer under any policy, with the loop or without it."""

from __future__ import annotations

import collections

from agentkit_loop.errors import InnerObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import FailurePolicy, Observer, ObserverFailure, Registration, checked_policy
from agentkit_reporting.inner import MAX_UNTOLD
from agentkit_reporting.straight import StraightAdapter

MAX_KEPT_ERRORS = MAX_UNTOLD
"""How many failures ACCUMULATE keeps, as the loop does; older ones make room."""


class PolicyReporter(StraightAdapter):
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
        self.policy = checked_policy(policy)
        self._errors: collections.deque[ObserverFailure] = collections.deque(maxlen=MAX_KEPT_ERRORS)
        given = inner if isinstance(inner, Registration) else Registration(inner)
        super().__init__(
            Registration(
                given.observer,
                policy=given.policy or policy,
                disable_after=disable_after if given.disable_after is None else given.disable_after,
            )
        )

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
            failures = self._raised(event, error)
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

    def begin_anew(self) -> None:
        """Forget what was counted and kept: this is a forked child."""
        super().begin_anew()
        self._errors.clear()
