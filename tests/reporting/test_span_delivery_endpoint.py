"""What a delivery is told by its arguments, else by the standard variables."""

from __future__ import annotations

import re

import pytest
from opentelemetry.trace import NonRecordingSpan

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.otlp_provider import otlp_tracing
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.span_makers import end_spans, ours, set_variables, tracing_to


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_s": 0}, "timeout_s=0 refused; give seconds, more than 0"),
        ({"compression": "zip"}, "compression='zip' refused; use 'gzip', 'deflate' or 'none'"),
    ],
    ids=["timeout", "compression"],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(said)}$"):
        otlp_tracing("http://localhost", **options)  # type: ignore[arg-type] # what is refused


def test_a_limit_that_the_sdk_cannot_read_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_SPAN_EVENT_COUNT_LIMIT="many")
    said = "^OTEL_SPAN_EVENT_COUNT_LIMIT must be a non-negative integer but got many; OpenTelemetry's SDK refuses it"
    with pytest.raises(ConfigurationError, match=said):
        otlp_tracing("http://localhost")


def test_headers_of_the_program_win_over_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        set_variables(
            monkeypatch,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_HEADERS="api-key=env,tenant=one%20two",
        )
        with tracing_to(None, headers={"Api-Key": "given"}, compression="gzip") as tracing:
            end_spans(tracing, 1)
            assert tracing.flush(30.0)
        headers = receiver.headers[0]
    assert (headers["api-key"], headers["tenant"]) == ("given", "one two")
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "application/x-protobuf"


def test_a_header_of_the_environment_that_cannot_be_read_is_told_without_its_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_HEADERS="hush-hush")
    with tracing_to("http://localhost:1"):
        pass
    (told,) = ours(caplog)
    assert told.startswith(
        "TracingReporter: a header in OTEL_EXPORTER_OTLP_HEADERS is left out because it cannot be read; "
    )
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("service_name", "variables", "expected"),
    [
        (None, {}, "agentkit"),
        (None, {"OTEL_SERVICE_NAME": "env"}, "env"),
        (None, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=res,team=blue"}, "res"),
        ("given", {"OTEL_SERVICE_NAME": "env"}, "given"),
    ],
    ids=["default", "variable", "resource", "argument"],
)
def test_the_service_is_named_by_the_argument_else_the_environment(
    service_name: str | None, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **variables)
    with OtlpReceiver() as receiver:
        with tracing_to(receiver.endpoint, service_name=service_name, resource={"zone": "a"}) as tracing:
            end_spans(tracing, 1)
            assert tracing.flush(30.0)
        told = attributes_of(receiver.traces[0].resource_spans[0].resource)
    assert (told["service.name"], told["zone"]) == (expected, "a")
    assert told.get("team") == ("blue" if expected == "res" else None)


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}], ids=["sdk", "traces"]
)
def test_what_is_switched_off_in_the_environment_sends_nothing(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **variables)
    with OtlpReceiver() as receiver:
        with tracing_to(receiver.endpoint) as tracing:
            end_spans(tracing, 3)
            assert tracing.flush(30.0)
            assert tracing.counts().ended == 0
            span = tracing.tracer_provider.get_tracer("t").start_span("x")
            assert isinstance(span, NonRecordingSpan) == ("OTEL_SDK_DISABLED" in variables)
        assert tracing.close(30.0)
        assert receiver.requests == 0


def test_a_number_that_is_none_is_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_variables(monkeypatch, OTEL_BSP_MAX_QUEUE_SIZE="many", OTEL_BSP_SCHEDULE_DELAY="0")
    with tracing_to("http://localhost:1"):
        pass
    assert ours(caplog) == [
        "TracingReporter: OTEL_BSP_MAX_QUEUE_SIZE='many' is left out, which is no whole number above 0; it is 2048",
        "TracingReporter: OTEL_BSP_SCHEDULE_DELAY='0' is left out, which is no whole number above 0; it is 5000",
    ]


def test_a_queue_smaller_than_a_batch_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_BSP_MAX_QUEUE_SIZE="3")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 3)
        assert tracing.flush(30.0)
        assert len(receiver.spans) == 3
