"""The kinds of subscribers that a configuration may name; the class of each is imported when it is named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agentkit_reporting.records.subscriptions import TopicHandler, is_async
from agentkit_reporting.records.topics import TopicPayload
from agentkit_reporting.terminal import one_line

if TYPE_CHECKING:
    from agentkit_loop.values import JSON
    from agentkit_reporting.records.run_metrics import MetricSeries
    from agentkit_reporting.redaction.redactor import Redactor

__all__ = [
    "POSTING",
    "LogSubscriber",
    "MetricsSubscriber",
    "NewRedactor",
    "made_subscriber",
    "without_content",
]

NewRedactor = Callable[[], "Redactor | bool"]
"""Returns a redactor of its own for each who needs one, False for none."""

POSTING = ("webhook", "slack", "pagerduty")
"""The kinds that need the extra `webhook`."""

_LONGEST = 120  # characters of an id in a record
_MOST_SESSIONS = 4_096
_IDENTITY = ("session_id", "timestamp", "run_id", "turn_id", "request_id", "call_id", "seq")
"""What of any payload says what it belongs to."""


class LogSubscriber:
    """Tells topics to the standard logging: which, in what session and run; nothing of what was said.

    logger: its name. level: of the records. Their `extra` has `topic`, `session_id`, `run_id` and `seq`.
    """

    def __init__(self, logger: str = "agentkit.topics", level: str = "info") -> None:
        self._logger = logging.getLogger(logger)
        self._level = getattr(logging, level.upper())

    def __call__(self, payload: Mapping[str, JSON]) -> None:
        """Log one payload."""
        names = {name: payload.get(name) for name in ("session_id", "run_id", "seq")}
        topic = str(getattr(payload, "topic", ""))
        if self._logger.isEnabledFor(self._level):
            session = one_line(str(names["session_id"]), _LONGEST)
            extra = {"topic": topic, **names}
            self._logger.log(self._level, "%s in session %s", one_line(topic, _LONGEST), session, extra=extra)


class MetricsSubscriber:
    """Counts in memory what it gets: events as run_metrics.py counts them, other payloads by topic.

    An alias counts as its event, which is counted once where both come. max_label_values: see RunMetrics.
    """

    def __init__(self, max_label_values: int = 100) -> None:
        from agentkit_reporting.records.run_metrics import RunMetrics  # noqa: PLC0415 - for who names it

        self._metrics = RunMetrics(max_label_values=max_label_values)
        self._last: dict[str, int] = {}  # by session: the event that was counted last
        self._lock = threading.RLock()

    def __call__(self, payload: Mapping[str, JSON]) -> None:
        """Count one payload."""
        event = getattr(payload, "event", None)
        if event is None:
            self._metrics.take_topic(str(getattr(payload, "topic", "")))
            return
        with self._lock:
            if self._last.get(event.session_id) == event.seq:
                return
            self._last.pop(event.session_id, None)
            self._last[event.session_id] = event.seq
            if len(self._last) > _MOST_SESSIONS:
                del self._last[next(iter(self._last))]
        self._metrics.take(event)

    def series(self) -> Iterator[MetricSeries]:
        """Iterate over all that was counted, by metric."""
        return self._metrics.series()


class _WithoutContent:
    """A handler, and sink, that gets no content of what is emitted directly; events come without it."""

    def __init__(self, handler: TopicHandler, redactor: Redactor, whole: Collection[str]) -> None:
        self._handler = handler
        self._redactor = redactor
        self._whole = whole

    def __call__(self, payload: TopicPayload) -> object:
        """Hand one payload on."""
        return self._handler(self._withheld(payload))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)  # `account`, `flush` and `close` of what holds payloads

    def _withheld(self, payload: TopicPayload) -> TopicPayload:
        if payload.event is not None or payload.topic in self._whole:
            return payload
        kept = {name: payload[name] for name in _IDENTITY if _is_name(payload.get(name))}
        told: Any = self._redactor.told({name: each for name, each in payload.items() if name not in kept})
        return TopicPayload({**told, **kept}, topic=payload.topic, replayed=payload.replayed)


class _AsyncWithoutContent(_WithoutContent):
    async def __call__(self, payload: TopicPayload) -> object:
        """Hand one payload on."""
        handled: Any = self._handler(self._withheld(payload))
        return await handled


def without_content(handler: TopicHandler, redactor: Redactor, whole: Collection[str]) -> TopicHandler:
    """Return a handler that is told no content by the host's own payloads. whole: topics that have none."""
    return (_AsyncWithoutContent if is_async(handler) else _WithoutContent)(handler, redactor, whole)


def _is_name(value: object) -> bool:
    return type(value) in (int, float) or (isinstance(value, str) and len(value) <= _LONGEST)


def made_subscriber(
    kind: str, settings: Mapping[str, Any], environ: Mapping[str, str], new_redactor: NewRedactor
) -> Callable[..., object]:
    """Return a subscriber of a kind that is built in. settings: of its table, checked. Raises ConfigurationError."""
    if kind == "log":
        return LogSubscriber(**settings)
    if kind == "metrics":
        return MetricsSubscriber(**settings)
    if kind == "prometheus":
        from agentkit_reporting.records.prometheus_metrics import (  # noqa: PLC0415 - an extra
            PrometheusMetrics,
        )

        counted = {name: value for name, value in settings.items() if name not in ("port", "address")}
        return PrometheusMetrics(**counted)
    return _posting(kind, dict(settings), environ, new_redactor)


def _posting(
    kind: str, settings: dict[str, Any], environ: Mapping[str, str], new_redactor: NewRedactor
) -> Callable[..., object]:
    from agentkit_reporting.records.webhook import WebhookSink  # noqa: PLC0415 - for who names it
    from agentkit_reporting.records.webhook_templates import (  # noqa: PLC0415 - as above
        PAGERDUTY_URL,
        pagerduty_template,
        slack_template,
    )

    secret = {
        name: environ.get(settings.pop(f"{name}_env", ""), "") for name in ("url", "token", "routing_key")
    }
    if kind == "slack":
        text = {name: settings.pop(name) for name in ("text",) if name in settings}
        settings["template"] = slack_template(**text)
    elif kind == "pagerduty":
        said = {name: settings.pop(name) for name in ("summary", "severity", "dedup_key") if name in settings}
        settings["template"] = pagerduty_template(secret["routing_key"], **said)
    elif secret["token"]:
        settings["headers"] = {"Authorization": f"Bearer {secret['token']}"}
    url = secret["url"] or (PAGERDUTY_URL if kind == "pagerduty" else "")
    return WebhookSink(url, redact=new_redactor(), **settings)
