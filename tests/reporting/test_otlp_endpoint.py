"""Addresses of OTLP endpoints: how they are completed, which are refused, and that no credential is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.otlp_endpoint import (
    checked_headers,
    endpoint_of,
    shown_endpoint,
    traces_endpoint,
)
from tests.reporting.span_makers import set_variables


@pytest.mark.parametrize(
    ("endpoint", "traces", "metrics"),
    [
        ("http://host:4318", "http://host:4318/v1/traces", "http://host:4318/v1/metrics"),
        ("https://host/", "https://host/v1/traces", "https://host/v1/metrics"),
        (
            "https://host/x?key=1#part",
            "https://host/x/v1/traces?key=1",
            "https://host/x/v1/metrics?key=1",
        ),
        ("https://host/v1/traces/", "https://host/v1/traces", "https://host/v1/metrics"),
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
        (
            "ftp://host",
            "endpoint='ftp://host' refused; use http:// or https://, over which OTLP is sent here",
        ),
        ("http:/host", "endpoint='http:/host' refused, which has no scheme; write 'http://http:/host'"),
        (
            "http://h:0",
            "endpoint='http://h:0' refused, which is no URL; give one such as 'http://localhost:4318'",
        ),
        (
            "me:hush@host:4318",
            "endpoint='***@host:4318' refused, which has no scheme; write 'http://***@host:4318'",
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
    ids=[
        "host",
        "slashes",
        "empty",
        "grpc",
        "ftp",
        "slash",
        "zero",
        "user",
        "nothing",
        "port",
        "brackets",
        "space",
        "password",
    ],
)
def test_an_endpoint_that_is_no_url_gets_one_sentence(endpoint: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(said)}$"):
        endpoint_of("traces", endpoint, environ={})


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


@given(st.sampled_from(["http://", "https://", "//", "grpc://", ""]), st.text(max_size=30))
def test_any_text_is_an_address_or_refused_and_never_shows_a_password(scheme: str, text: str) -> None:
    try:
        address = endpoint_of("traces", f"{scheme}me:hush@{text}", environ={})
    except ConfigurationError as error:
        assert "hush" not in str(error)  # noqa: PT017 - either is right
    else:
        assert address.startswith(scheme)
        assert "hush" not in shown_endpoint(address)


@pytest.mark.parametrize("value", ["hush\nx: y", "hush\r", " hush", "hush ", "hush☃", "hush\0"])
def test_a_headers_value_that_http_has_not_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the value of header 'api-key' refused; ") as refused:
        checked_headers({"api-key": value})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "ä", "x-key: hush"])
def test_a_headers_name_that_http_has_not_is_refused_without_showing_what_may_be_a_value(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^a header's name .*refused for a sign ") as refused:
        checked_headers({name: "x"})
    assert "hush" not in str(refused.value)


def test_a_command_sends_nowhere_unless_somebody_names_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)
    with pytest.raises(ConfigurationError, match="give --endpoint, or set OTEL_EXPORTER_OTLP_ENDPOINT"):
        traces_endpoint()
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://all:4318/base")
    assert traces_endpoint() == "http://all:4318/base/v1/traces"
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://traces:9/as/it/is")
    assert traces_endpoint() == "http://traces:9/as/it/is"
    assert traces_endpoint("http://given") == "http://given/v1/traces"


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("https://ann:hush@host:8443/v1/traces?key=hush", "https://***@host:8443/v1/traces"),
        ("ann:hush@host", "***@host"),
        ("//ann:hu@sh@host", "//***@host"),
        ("hush@", "***@"),
        ("http://hush@:4", "http://***@:4"),
        ("http://host/p#hush", "http://host/p"),
    ],
)
def test_an_address_is_shown_without_credentials_and_query(endpoint: str, shown: str) -> None:
    assert shown_endpoint(endpoint) == shown
