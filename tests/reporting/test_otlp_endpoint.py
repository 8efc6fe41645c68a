"""Addresses of OTLP endpoints: how they are completed, which are refused, and that no credential is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.otlp_endpoint import shown_endpoint, traces_endpoint

VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://host/otlp", "https://host/otlp/v1/traces"),
        ("https://host/v1/traces", "https://host/v1/traces"),
        ("https://host/v1/traces/", "https://host/v1/traces"),
        ("https://host/x?key=1#part", "https://host/x/v1/traces?key=1"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_path_of_traces_is_added_once(given_text: str, expected: str) -> None:
    assert traces_endpoint(given_text) == expected


def test_the_environment_names_a_base_or_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="give --endpoint, or set OTEL_EXPORTER_OTLP_ENDPOINT"):
        traces_endpoint()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/base")
    assert traces_endpoint() == "http://all:4318/base/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:9/as/it/is")
    assert traces_endpoint() == "http://traces:9/as/it/is"
    assert traces_endpoint("http://given") == "http://given/v1/traces"


@pytest.mark.parametrize(
    "text",
    [
        "localhost:4318",
        "ftp://host",
        "http://",
        "http://host:port",
        "http:/host",
        "http://ho st",
        "x",
        "http://h:0",
    ],
)
def test_what_is_no_address_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^endpoint .* refused because .*; give one like http://localhost:4318$"
    ):
        traces_endpoint(text)


@given(
    st.sampled_from(
        [
            "ann:s3cret@host:1",
            "https://ann:s3cret@host:x/p?k=v",
            "http://host?key=s3cret",
            "s3cret@",
            "http://s3cret@:4",
        ]
    )
)
def test_no_credential_is_in_a_refusal_or_in_what_is_shown(text: str) -> None:
    said = ""
    try:
        said = shown_endpoint(traces_endpoint(text))
    except ConfigurationError as error:
        said = str(error)
    assert said
    assert "s3cret" not in said


def test_an_address_is_shown_without_credentials_and_query() -> None:
    assert shown_endpoint("https://ann:pw@host:8443/v1/traces?key=1") == "https://host:8443/v1/traces?…"
