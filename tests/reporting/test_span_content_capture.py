"""Whether spans tell content at all: off by default, on by argument or variable, and the strictest word counts."""

from __future__ import annotations

import logging

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import TracingReporter
from agentkit_reporting.redaction.content_marks import ContentRedactor
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.capture import CAPTURE_VARIABLE, content_of
from tests.reporting.content_runs import accepted, requested, said, started, told

KEY = "sk-ant-api03-" + "a1B2c3D4e5F6g7H8" * 5 + "-abcdefAA"


def test_without_a_word_spans_tell_no_content() -> None:
    assert content_of(environ={}) is None


@pytest.mark.parametrize(
    ("given", "is_on"),
    [
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        (" true ", True),
        ("True", True),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("false", False),
        ("", False),
    ],
)
def test_opentelemetrys_variable_turns_content_on(given: str, is_on: bool) -> None:
    assert (content_of(environ={CAPTURE_VARIABLE: given}) is not None) == is_on


def test_a_word_that_the_variable_does_not_have_is_taken_as_no_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert content_of(environ={CAPTURE_VARIABLE: "yes please"}) is None
    assert (
        "is taken as NO_CONTENT; use one of NO_CONTENT, EVENT_ONLY, FALSE, SPAN_ONLY, SPAN_AND_EVENT, TRUE"
        in caplog.text
    )


def test_what_masks_nothing_is_refused_also_where_no_content_is_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TracingReporter(redact="nope")  # type: ignore[arg-type] # what is tested
    assert str(caught.value) == "redact='nope' refused because it masks nothing; give True or a Redactor(…)"


@pytest.mark.parametrize("argument", [True, "full"])
def test_an_argument_turns_content_on_and_wins_over_the_variable(argument: bool | None) -> None:
    assert content_of(content=argument, environ={CAPTURE_VARIABLE: "NO_CONTENT"}) is not None


@pytest.mark.parametrize("argument", [False, "metadata", "off"])
def test_an_argument_turns_content_off_and_wins_over_the_variable(argument: bool | None) -> None:
    assert content_of(content=argument, environ={CAPTURE_VARIABLE: "SPAN_ONLY"}) is None


@pytest.mark.parametrize("told_level", ["metadata", "off"])
def test_the_projects_own_setting_is_stricter_than_any_argument(told_level: str) -> None:
    environ = {"AGENTKIT_CONTENT": told_level, CAPTURE_VARIABLE: "SPAN_ONLY"}
    assert content_of(content=True, environ=environ) is None
    assert content_of(environ=environ) is None


def test_the_projects_own_setting_full_turns_nothing_on() -> None:
    assert content_of(environ={"AGENTKIT_CONTENT": "full"}) is None
    assert content_of(content=True, environ={"AGENTKIT_CONTENT": "full"}) is not None


def test_a_choice_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="content='all' refused because it is no choice; use 'full'"):
        content_of(content="all", environ={})  # type: ignore[arg-type] # that is what is tested


def test_a_redactor_that_takes_content_out_leaves_none_to_tell() -> None:
    assert content_of(content=True, redact=ContentRedactor("metadata"), environ={}) is None


@pytest.mark.parametrize("redact", [True, False])
def test_secrets_are_taken_out_unless_the_host_says_otherwise(redact: bool) -> None:
    content = content_of(content=True, redact=redact, environ={})
    assert content is not None
    (heard,) = said(told([started(), accepted(KEY), requested()]), content)
    assert (KEY in str(heard)) != redact


def test_a_redactor_of_the_hosts_own_is_used() -> None:
    content = content_of(content=True, redact=Redactor(["email"]), environ={})
    assert content is not None
    (heard,) = said(told([started(), accepted("ask ann@example.com"), requested()]), content)
    assert "ann@example.com" not in str(heard)


@pytest.mark.parametrize(
    "variable", ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
)
def test_content_is_no_longer_than_the_sdk_would_cut_it(variable: str) -> None:
    content = content_of(content=True, environ={variable: "400"})
    assert content is not None
    content.take(told([started(system="x" * 5_000)])[0])
    text = content.told_by(told([started()])[0])["system"]
    assert isinstance(text, str)
    assert 300 < len(text) <= 400


def test_where_the_sdk_would_cut_all_json_no_content_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert content_of(content=True, environ={"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100"}) is None
    assert "100 bytes hold none; allow 256 or more" in caplog.text


@pytest.mark.parametrize("given", ["", "none", "-1", "4.5"])
def test_a_length_that_is_none_changes_nothing(given: str) -> None:
    assert content_of(content=True, environ={"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": given}) is not None


def test_a_variable_that_says_no_word_is_told_once_by_a_reporter_with_a_delivery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, "yes please")
    TracingReporter.over_otlp("http://127.0.0.1:9").close()
    assert [record.getMessage().partition("=")[0] for record in caplog.records] == [CAPTURE_VARIABLE]
