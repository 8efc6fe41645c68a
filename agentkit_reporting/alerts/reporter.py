"""AlertReporter: rules judged as events come, and what hears of the alerts.

reporter = AlertReporter("rules.toml", on_alert=lambda alert: print(alert.message))
with Agent(model, observers=[reporter]) as agent: …
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.alerts.alert import Alert
from agentkit_reporting.alerts.evaluation import Evaluation
from agentkit_reporting.alerts.judging import Judged
from agentkit_reporting.alerts.rule import AlertRule
from agentkit_reporting.alerts.rules_file import read_alert_rules
from agentkit_reporting.alerts.samples import MEASURED
from agentkit_reporting.records.patterns import check_topic
from agentkit_reporting.redaction.redactor import Redaction, redactor_of

if TYPE_CHECKING:
    from agentkit_reporting.records.dispatcher import EventDispatcher

__all__ = ["AlertReporter"]

DEFAULT_KEEP = 1_000
"""Alerts that a reporter keeps in memory."""


class AlertReporter(Locked, LoopObserver):
    """Raises an alert as a rule comes to hold, and tells as it no longer does; may be shared by sessions and threads.

    rules: AlertRules, or the path of a TOML file of them. on_alert: called with each Alert, firing and resolved.
    dispatcher: where each is emitted, as `<topic>.firing` or `<topic>.resolved`, with `Alert.as_json()` as payload; it
    may observe the same loop. keep: how many alerts stay in `alerts`. redact: secrets are masked in the names
    of agents, tools and models that an alert shows, as in a log: a model may call a tool by any name.

    Times are the events' own: a log that is given to a new reporter raises the alerts that were raised live, and what
    is told a second time counts once. An alert is raised once as its condition comes to hold for a group, and again
    only after it was resolved; while nothing is told, nothing is raised. What is judged at the end is judged as its
    run or turn ends, else by `close()`; there runs that have not ended are open, and questions wait up to the last
    event.

    They are told in order, outside of any lock, before `handle_event` returns; what one causes to be told meanwhile
    comes after it. What `on_alert` or the dispatcher raises is raised by `handle_event` after all of them were told,
    and judged by the loop's policy; no alert is lost or told twice by it.

    Raises ConfigurationError for wrong rules.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = MEASURED

    def __init__(
        self,
        rules: str | os.PathLike[str] | Iterable[AlertRule],
        *,
        on_alert: Callable[[Alert], object] | None = None,
        dispatcher: EventDispatcher | None = None,
        topic: str = "alert",
        keep: int = DEFAULT_KEEP,
        redact: Redaction = True,
    ) -> None:
        super().__init__()
        if type(keep) is not int or keep < 0:
            raise ConfigurationError(f"keep={keep!r} refused; give how many alerts are kept, 0 or more")
        check_topic(topic)
        redactor = redactor_of(redact)
        self._evaluation = Evaluation(
            read_alert_rules(rules) if isinstance(rules, (str, os.PathLike)) else rules,
            None if redactor is None else redactor.text,
        )
        self._on_alert = on_alert
        self._dispatcher = dispatcher
        self._topic = topic
        self._alerts: collections.deque[Alert] = collections.deque(maxlen=keep)
        self._untold: collections.deque[Alert] = collections.deque()
        self._is_telling = False

    def after_fork(self) -> None:
        """Go on in the child of a fork with what was counted; what the parent was telling it tells itself."""
        super().after_fork()
        self._untold.clear()
        self._is_telling = False

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """The rules, in order."""
        return self._evaluation.rules

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The last alerts, firing and resolved, in order."""
        with self._lock:
            return tuple(self._alerts)

    @property
    def results(self) -> tuple[Judged, ...]:
        """What came of each rule so far, in order."""
        with self._lock:
            return self._evaluation.results()

    @property
    def late_ms(self) -> float:
        """How far the time of an event lay behind that of one before it; windows took it for as late."""
        return self._evaluation.late_us / 1_000

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event; tell the alerts that it raises or resolves."""
        with self._lock:
            self._note(self._evaluation.take(event))
        self._tell()

    def close(self) -> bool:
        """Judge what is judged at the end, and tell those alerts. Twice is harmless."""
        with self._lock:
            self._note(self._evaluation.finish())
        self._tell()
        return True

    def _note(self, alerts: list[Alert]) -> None:
        self._alerts.extend(alerts)
        if self._on_alert is not None or self._dispatcher is not None:
            self._untold.extend(alerts)

    def _tell(self) -> None:
        """Tell what is not told yet, unless somebody does already; he tells that as well."""
        errors: list[Exception] = []
        while True:
            with self._lock:
                if self._is_telling or not self._untold:
                    break
                alert, self._is_telling = self._untold.popleft(), True
            try:
                errors += self._told(alert)
            finally:
                self._is_telling = False
        if errors:
            raise errors[0]

    def _told(self, alert: Alert) -> list[Exception]:
        """Tell one; return what was raised."""
        errors: list[Exception] = []
        for tell in (self._on_alert, None if self._dispatcher is None else self._emit):
            if tell is not None:
                try:
                    tell(alert)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is raised once all were told
                    errors.append(error)
        return errors

    def _emit(self, alert: Alert) -> None:
        if self._dispatcher is not None:
            self._dispatcher.emit(f"{self._topic}.{alert.state}", alert.as_json())
