"""Where spans are sent and as what: the argument, else the standard variables, and one sentence for what cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import NonRecordingSpan

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.otlp_endpoint import checked_headers, endpoint_of, shown_endpoint
from agentkit_reporting.tracing.otlp_provider import otlp_tracing
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.span_makers import end_spans, ours, set_variables, tracing_to


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)


@pytest.mark.parametrize(
    ("endpoint", "traces", "metrics"),
    [
        ("http://host:4318", "http://host:4318/v1/traces", "http://host:4318/v1/metrics"),
        ("https://host/", "https://host/v1/traces", "https://host/v1/metrics"),
        ("http://host/otlp/", "http://host/otlp/v1/traces", "http://host/otlp/v1/metrics"),
        ("http://host/v1/traces", "http://host/v1/traces", "http://host/v1/metrics"),
        ("http://host/a/v1/metrics/", "http://host/a/v1/traces", "http://host/a/v1/metrics"),
        (
            "http://[::1]:4318?key=1",
            "http://[::1]:4318/v1/traces?key=1",
            "http://[::1]:4318/v1/metrics?key=1",
        ),
        (None, "http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"),
    ],
)
def test_an_argument_is_a_base_to_which_the_path_of_the_signal_is_added(
    endpoint: str | None, traces: str, metrics: str
) -> None:
    assert endpoint_of("traces", endpoint, environ={}) == traces
    assert endpoint_of("metrics", endpoint, environ={}) == metrics


def test_the_variable_of_a_signal_is_its_whole_address_and_that_of_all_a_base() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:1/base/",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://own:2/as/it/is",
    }
    assert endpoint_of("traces", environ=environ) == "http://own:2/as/it/is"
    assert endpoint_of("metrics", environ=environ) == "http://all:1/base/v1/metrics"
    assert endpoint_of("traces", "http://argument", environ=environ) == "http://argument/v1/traces"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (
            "localhost:4318",
            "endpoint='localhost:4318' refused, which has no scheme; write 'http://localhost:4318'",
        ),
        ("//host", "endpoint='//host' refused, which has no scheme; write 'http://host'"),
        ("", "endpoint='' refused, which has no scheme; write 'http://localhost:4318'"),
        (
            "grpc://host:4317",
            "endpoint='grpc://host:4317' refused; use http:// or https://, over which OTLP is sent here",
        ),
        ("http://", "endpoint='http://' refused, which is no URL; give one such as 'http://localhost:4318'"),
        (
            "http://host:port",
            "endpoint='http://host:port' refused, which is no URL; give one such as 'http://localhost:4318'",
        ),
        (
            "http://[::1",
            "endpoint='http://[::1' refused, which is no URL; give one such as 'http://localhost:4318'",
        ),
        (
            "http://a b",
            "endpoint='http://a b' refused for the space in it; give a URL such as 'http://localhost:4318'",
        ),
        (
            "http://me:hush@host:x?key=hush",
            "endpoint='http://***@host:x' refused, which is no URL; give one such as 'http://localhost:4318'",
        ),
    ],
    ids=["host", "slashes", "empty", "grpc", "nothing", "port", "brackets", "space", "password"],
)
def test_an_endpoint_that_is_no_url_gets_one_sentence(endpoint: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(said)}$"):
        otlp_tracing(endpoint)


def test_a_variable_that_is_no_url_is_named_in_its_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"^OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='collector' refused"):
        endpoint_of("traces", environ={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector"})


def test_another_protocol_in_the_environment_is_refused_unless_the_program_gives_an_endpoint() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(
        ConfigurationError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL='grpc' refused; use 'http/protobuf'"
    ):
        endpoint_of("traces", environ=environ)
    assert endpoint_of("traces", "http://host", environ=environ) == "http://host/v1/traces"
    own = {**environ, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert endpoint_of("traces", environ=own) == "http://localhost:4318/v1/traces"


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused_and_never_shows_a_password(text: str) -> None:
    try:
        address = endpoint_of("traces", f"http://me:hush@{text}", environ={})
    except ConfigurationError as error:
        assert "hush" not in str(error)  # noqa: PT017 - either is right
    else:
        assert address.startswith("http://")
        assert "hush" not in shown_endpoint(address)


@pytest.mark.parametrize("value", ["hush\nx: y", "hush\r", " hush", "hush ", "hush☃", "hush\0"])
def test_a_headers_value_that_http_has_not_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the value of header 'api-key' refused; ") as refused:
        otlp_tracing("http://localhost", headers={"api-key": value})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "ä"])
def test_a_headers_name_that_http_has_not_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^a header's name .* refused; "):
        checked_headers({name: "x"})


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
    assert told.startswith("a header in OTEL_EXPORTER_OTLP_HEADERS is left out because it cannot be read; ")
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
        "OTEL_BSP_MAX_QUEUE_SIZE='many' is left out, which is no whole number above 0; it is 2048",
        "OTEL_BSP_SCHEDULE_DELAY='0' is left out, which is no whole number above 0; it is 5000",
    ]


def test_a_queue_smaller_than_a_batch_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_BSP_MAX_QUEUE_SIZE="3")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 3)
        assert tracing.flush(30.0)
        assert len(receiver.spans) == 3
