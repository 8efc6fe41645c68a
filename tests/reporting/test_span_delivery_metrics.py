"""Metrics on their way to a receiver: totals, sent again with the next export, with the same care as spans."""

from __future__ import annotations

import http.server
import logging

import pytest

from agentkit_reporting.tracing.otlp_provider import OtlpTracing, otlp_tracing
from tests.otlp_receiver import OtlpReceiver
from tests.reporting.span_makers import end_spans, ours, set_variables, tracing_to


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)


def count(tracing: OtlpTracing, number: int) -> None:
    tracing.meter_provider.get_meter("test").create_counter("answers").add(number)


def totals(receiver: OtlpReceiver) -> list[int]:
    """Return what was told of the counter, export by export."""
    return [
        point.as_int
        for request in receiver.metrics
        for metric in request.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.sum.data_points
    ]


def test_a_flush_sends_the_totals_and_a_close_the_last_of_them() -> None:
    with OtlpReceiver() as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        count(tracing, 3)
        assert tracing.flush(30.0)
        count(tracing, 4)
        assert tracing.close(30.0)
        assert totals(receiver) == [3, 7]


def test_metrics_that_are_refused_are_told_once_and_spans_arrive_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with OtlpReceiver() as receiver, OtlpReceiver(statuses=(400,) * 9) as other:
        tracing = otlp_tracing(receiver.endpoint)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.endpoint}/v1/traces")
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", other.endpoint)
            split = otlp_tracing()
        assert tracing.close(30.0)
        for _ in range(3):
            count(split, 1)
            end_spans(split, 1)
            assert not split.flush(30.0)
        assert split.metrics_error == "400 Bad Request"
        assert split.counts().is_complete
        assert not split.close(30.0)
        (told,) = ours(caplog)
        assert told == (
            f"TracingReporter: metrics are not delivered to {other.endpoint}/v1/metrics: 400 Bad Request; "
            "this is told once, the account counts spans alone"
        )
        assert len(receiver.spans) == 3


class SpansAlone(OtlpReceiver):
    """Takes spans, and answers metrics with a status, or with a page where that is 200."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status
        self.refused = 0

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if not request.path.endswith("/v1/metrics"):
            super().answer(request)
            return
        request.rfile.read(int(request.headers["content-length"]))
        self.refused += 1
        request.send_response(self.status)
        request.send_header("content-type", "text/html")
        request.send_header("content-length", "6")
        request.end_headers()
        request.wfile.write(b"<html>")


@pytest.mark.parametrize("status", [404, 405, 501, 200])
def test_a_backend_that_takes_spans_alone_is_asked_once_and_judged_by_the_spans(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with SpansAlone(status) as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        for _ in range(3):
            count(tracing, 1)
            end_spans(tracing, 1)
            assert tracing.flush(30.0)
        assert tracing.metrics_error is None
        assert tracing.close(30.0)
        assert str(tracing.account()) == "complete: 3 of 3"
        assert (receiver.refused, len(receiver.spans)) == (1, 3)
    (told,) = ours(caplog)
    assert told.startswith(f"TracingReporter: metrics are not taken at {receiver.endpoint}/v1/metrics: ")
    assert told.endswith("; they are not sent again, give metrics=False for a backend that takes spans alone")


def test_metrics_that_fail_at_the_end_alone_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with OtlpReceiver(statuses=(400,)) as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        count(tracing, 1)
        assert not tracing.close(30.0)
        assert not tracing.close(30.0)
    (told,) = ours(caplog)
    assert told.startswith(
        f"TracingReporter: metrics are not delivered to {receiver.endpoint}/v1/metrics: 400 "
    )


def test_one_cause_for_spans_and_metrics_is_told_once_for_each(caplog: pytest.LogCaptureFixture) -> None:
    with OtlpReceiver(statuses=(401,) * 9) as receiver, tracing_to(receiver.endpoint) as tracing:
        count(tracing, 1)
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)
        assert sorted(line.partition(";")[0] for line in ours(caplog)) == [
            f"TracingReporter: {what} are not delivered to {receiver.endpoint}/v1/{path}: 401 Unauthorized"
            for what, path in (("metrics", "metrics"), ("spans", "traces"))
        ]


def test_the_next_export_has_what_a_failed_one_lost() -> None:
    with OtlpReceiver(statuses=(500,)) as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        count(tracing, 3)
        assert not tracing.flush(30.0)
        count(tracing, 4)
        assert tracing.close(30.0)
        assert totals(receiver) == [7]


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_metrics_can_be_left_out(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "variable":
        set_variables(monkeypatch, OTEL_METRICS_EXPORTER="none")
    with OtlpReceiver() as receiver:
        tracing = otlp_tracing(receiver.endpoint, metrics=by == "variable")
        count(tracing, 3)
        assert tracing.close(30.0)
        assert receiver.requests == 0


def test_they_are_sent_from_time_to_time_without_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_METRIC_EXPORT_INTERVAL="5")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        count(tracing, 3)
        with receiver.arrived:
            assert receiver.arrived.wait_for(lambda: receiver.metrics, 30.0)
        assert totals(receiver)[0] == 3
