"""StraightAdapter: what adapters do alike that give each event at once to one observer behind them."""

from __future__ import annotations

from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import InnerFailure, Observer, Registration
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.inner import Inner, ReportingAdapter, finish
from agentkit_reporting.process_ends import watch


class StraightAdapter(ReportingAdapter):
    """Base of adapters that hold nothing back: counts what came in, and what did not arrive.

    inner: the observer behind; it is flushed and closed with this one.
    """

    def __init__(self, inner: Observer | Registration) -> None:
        super().__init__()
        self._inner = Inner(inner)
        self.wants = self._inner.wants  # type: ignore[misc] # of this one observer
        self.begin_anew()
        watch(self, at_exit=False)

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The observer behind, as it is called."""
        return (self._inner,)

    def _raised(self, event: AgentEvent, error: Exception) -> tuple[InnerFailure, ...]:
        """Return what is to be told of what the observer raised; counts the event unless only others failed behind."""
        failed_before = self._inner.failed
        failures = self._inner.failures(event, error)
        if self._inner.failed > failed_before:
            self._failed.add()
        return failures

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
        """Flush the observer behind; what it raises is logged. Return whether everything so far arrived."""
        return finish((self._inner,), "flush", timeout_s) and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Close the observer behind; what it raises is logged. Return whether everything arrived."""
        return finish((self._inner,), "close", timeout_s) and self.account().is_complete

    def begin_anew(self) -> None:
        """Forget what was counted: this is a forked child."""
        self._received, self._failed, self._dropped = Tally(), Tally(), Tally()
