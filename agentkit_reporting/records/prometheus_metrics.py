"""PrometheusMetrics: counts and durations of everything observed, at an endpoint for Prometheus to scrape.

The metrics and their labels are those of run_metrics.py. The official client formats and serves them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import EventKind, LoopObserver
from agentkit_loop.values import JSON
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.bridges import topic_of
from agentkit_reporting.records.run_metrics import KINDS, WANTED, RunMetrics, cumulative

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_JOIN_S = 5.0


class PrometheusMetrics(LoopObserver):
    """Counts what it is told, as an observer of loops or subscribed to a dispatcher (`"agent.**"`, or `"**"`).

    At a dispatcher it counts the events that are told there, each once whatever it is called, and payloads that were
    emitted directly by their topic. May be shared by sessions and threads. Equal when the same was accumulated.

    max_label_values: see RunMetrics. registry: its own CollectorRegistry, with nothing else in it; the default registry
    of the client is not touched. Needs the extra `prometheus`.
    """

    wants: ClassVar[tuple[EventKind, ...]] = WANTED

    def __init__(self, *, max_label_values: int = 100) -> None:
        try:
            from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigurationError(
                "a Prometheus endpoint refused because prometheus-client is not installed; "
                "install agentkit-loop[prometheus]"
            ) from None
        if type(max_label_values) is not int or max_label_values < 1:
            raise ConfigurationError(f"max_label_values={max_label_values!r} refused; give 1 or more")
        self._metrics = RunMetrics(max_label_values=max_label_values)
        self.registry: CollectorRegistry = CollectorRegistry()
        self.registry.register(_Collector(self._metrics))
        self._serving: tuple[Any, threading.Thread] | None = None
        self._lock = threading.RLock()
        watch(self, at_exit=False)

    def begin_anew(self) -> None:
        """Serve nothing: this is a forked child, and the endpoint is its parent's. What was counted stays."""
        self._lock = threading.RLock()
        self._metrics.renew_lock()
        serving, self._serving = self._serving, None
        if serving is not None:
            serving[0].socket.close()  # this process's descriptor of it

    def handle_event(self, event: AgentEvent) -> None:
        """Count an event."""
        self._metrics.take(event)

    def __call__(self, payload: Mapping[str, JSON]) -> None:
        """Count what a dispatcher delivers."""
        event, topic = getattr(payload, "event", None), str(getattr(payload, "topic", ""))
        if event is None:
            self._metrics.take_topic(topic)
        elif topic == topic_of(event):  # not an alias
            self._metrics.take(event)

    def text(self) -> str:
        """Return the metrics as Prometheus' text format has them."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - an extra

        return generate_latest(self.registry).decode()

    def serve(self, port: int = 0, address: str = "127.0.0.1") -> str:
        """Serve them over HTTP on a thread; return the address, `http://127.0.0.1:PORT/metrics`.

        port: 0 for any that is free. address: whoever reaches it reads the metrics, without a password. Raises
        IllegalMoveError while it serves already, OSError where the port is taken.
        """
        from prometheus_client import start_http_server  # noqa: PLC0415 - an extra

        with self._lock:
            if self._serving is not None:
                raise IllegalMoveError("serve", "serving", "close it first")
            server, thread = start_http_server(port, addr=address, registry=self.registry)
            self._serving = (server, thread)
            host, bound = server.server_address[:2]
            shown = host.decode() if isinstance(host, bytes) else str(host)
            return f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}/metrics"

    def close(self) -> None:
        """End the endpoint, if there is one; twice is harmless, and it still counts."""
        with self._lock:
            serving, self._serving = self._serving, None
        if serving is not None:
            server, thread = serving
            server.shutdown()
            server.server_close()
            thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrometheusMetrics):
            return NotImplemented
        return self._metrics == other._metrics

    __hash__ = LoopObserver.__hash__  # its place in the sets of observers is by identity


class _Collector:
    """Gives the client's registry what was counted."""

    def __init__(self, metrics: RunMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return one family for each metric, also for those without a value yet."""
        from prometheus_client.core import (  # noqa: PLC0415 - an extra
            CounterMetricFamily,
            HistogramMetricFamily,
        )

        families: dict[str, Any] = {
            kind.name: (HistogramMetricFamily if kind.buckets else CounterMetricFamily)(
                kind.name, kind.help, labels=kind.labels
            )
            for kind in KINDS
        }
        for series in self._metrics.series():
            family = families[series.kind.name]
            if series.distribution is None:
                family.add_metric(series.labels, series.value)
            else:
                buckets = cumulative(series.kind, series.distribution)
                family.add_metric(series.labels, buckets=buckets, sum_value=series.distribution.total_s)
        return families.values()
