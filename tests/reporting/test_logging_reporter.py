"""LoggingReporter: records with levels and fields, escaped, at no cost for levels that are off."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from agentkit_loop.content import CommitPart, TextPart, ToolCallPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    EVENT_TYPES,
    AgentEvent,
    ContentDelta,
    CustomEvent,
    RunFailed,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    UnknownEvent,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting import LoggingReporter
from agentkit_reporting.logging import DEFAULT_LEVELS
from tests.reporting.adapters import told
from tests.reporting.written_sessions import two_turns
from tests.strategies import event_lists

ESC = "\x1b[31mred\x1b[0m\u202e\n\u200b"


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    logger = logging.getLogger("agentkit.events")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def test_a_record_has_level_time_and_fields_of_the_event(kept: Kept) -> None:
    (event,) = told(ToolResultReceived(call_id="call-1", name="read_file", output="text", duration_ms=12.5))
    LoggingReporter().handle_event(event)
    (record,) = kept.records
    assert (record.name, record.levelno) == ("agentkit.events", logging.INFO)
    assert record.created == event.timestamp.timestamp()
    fields = vars(record)
    assert (fields["event"], fields["session_id"], fields["seq"]) == ("tool_result_received", "session", 1)
    assert (fields["call_id"], fields["tool_name"], fields["duration_ms"]) == ("call-1", "read_file", 12.5)
    assert record.getMessage() == (
        "tool_result_received call_id=call-1 tool_name=read_file is_error=False not_started=False denied=False "
        "interrupted=False duration_ms=12.5"
    )


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (RunStarted(agent_name="a", model="m"), logging.INFO),
        (RunFailed(error=ErrorInfo(type="E", message="m"), usage=Usage()), logging.ERROR),
        (Warning(code="c", message="m"), logging.WARNING),
        (ToolResultReceived(call_id="c", name="n", output="", is_error=True), logging.WARNING),
        (ToolExecutionStarted(call_id="c", name="n"), logging.INFO),
        (CustomEvent(name="n"), logging.DEBUG),
    ],
)
def test_levels_say_how_bad_it_is(event: AgentEvent, level: int, kept: Kept) -> None:
    LoggingReporter().handle_event(told(event)[0])
    assert [record.levelno for record in kept.records] == [level]


def test_every_class_but_the_stream_has_a_level() -> None:
    assert set(DEFAULT_LEVELS) == {*EVENT_TYPES.values(), UnknownEvent} - {ContentDelta}
    assert set(LoggingReporter().wants) == set(DEFAULT_LEVELS)


def test_levels_can_be_changed_and_classes_left_out(kept: Kept) -> None:
    reporter = LoggingReporter(
        levels={CustomEvent: logging.ERROR, RunStarted: None, ContentDelta: logging.DEBUG}
    )
    emitter = EventEmitter([reporter])
    emitter.emit(CustomEvent(name="n"))
    emitter.emit(RunStarted(agent_name="a", model="m"))
    emitter.emit(ContentDelta(request_id="r", delta=CommitPart("p", TextPart(text="secret"))))
    assert [(record.levelno, vars(record)["event"]) for record in kept.records] == [
        (logging.ERROR, "custom_event"),
        (logging.DEBUG, "content_delta"),
    ]
    assert "secret" not in kept.records[1].getMessage()


def test_what_the_logger_does_not_take_makes_no_record(kept: Kept) -> None:
    logging.getLogger("agentkit.events").setLevel(logging.WARNING)
    reporter = LoggingReporter()
    for event in told(CustomEvent(name="n"), Warning(code="c", message="m")):
        reporter.handle_event(event)
    assert [vars(record)["event"] for record in kept.records] == ["warning"]
    assert str(reporter.account()) == "complete: 2 of 2"


def test_untrusted_text_is_escaped_bounded_and_on_one_line(kept: Kept) -> None:
    reporter = LoggingReporter()
    error = ErrorInfo(type="E" + ESC, message=ESC + "x" * 5_000)
    for event in told(
        ToolCallRequested(
            request_id="r", call=ToolCallPart(id="c" + ESC, name="n" + ESC, input={"k": "secret"})
        ),
        ToolResultReceived(call_id="c" + ESC, name="n", output="secret", is_error=True, error=error),
        Warning(code=ESC, message=ESC, details={"k": "secret"}),
        CustomEvent(name=ESC, data="secret"),
        session_id="ses" + ESC,
    ):
        reporter.handle_event(event)
    assert len(kept.records) == 4
    for record in kept.records:
        shown = [
            record.getMessage(),
            *(str(value) for value in vars(record).values() if isinstance(value, str)),
        ]
        assert all(text.isprintable() for text in shown)
        assert all(len(text) < 3_000 for text in shown)
        assert not any("secret" in text for text in shown)


@given(events=event_lists(12))
@settings(deadline=None, max_examples=50)
def test_any_event_makes_one_printable_record(events: list[AgentEvent]) -> None:
    handler, logger = Kept(), logging.Logger("of its own")  # noqa: LOG001 - so that the examples share nothing
    logger.addHandler(handler)
    reporter = LoggingReporter(logger)
    for event in events:
        reporter.handle_event(event)
    taken = [event for event in events if not isinstance(event, ContentDelta)]
    assert [vars(record)["seq"] for record in handler.records] == [event.seq for event in taken]
    for record in handler.records:
        assert record.getMessage().isprintable()
        json.dumps({name: value for name, value in vars(record).items() if name != "args"})
    assert reporter.account().received == len(taken)


def test_usage_and_cost_are_fields(kept: Kept) -> None:
    usage = Usage(input_tokens=10, output_tokens=5)
    LoggingReporter().handle_event(told(UsageUpdated(request_id="r", model="m", usage=usage, final=True))[0])
    assert (vars(kept.records[0])["input_tokens"], vars(kept.records[0])["output_tokens"]) == (10, 5)
    assert "cached_input_tokens" not in vars(kept.records[0])


def test_a_whole_session_is_readable_with_a_plain_formatter(kept: Kept) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(levelname)s %(session_id)s %(message)s"))
    logger = logging.getLogger("agentkit.events")
    logger.addHandler(handler)
    try:
        reporter = LoggingReporter()
        two_turns(reporter.handle_event)
        assert reporter.flush() is True
    finally:
        logger.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "INFO ses_0001 run_started agent_name=fixer model=claude-sonnet-5"
    assert lines[-1].startswith("INFO ses_0001 run_finished outcome=completed")
    assert len(lines) < len(kept.records)


def test_a_logger_or_a_name_of_ones_own_is_taken() -> None:
    handler = Kept()
    logger = logging.getLogger("agentkit.tests.own")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    (event,) = told(RunStarted(agent_name="a", model="m"))
    LoggingReporter("agentkit.tests.own").handle_event(event)
    LoggingReporter(logger).handle_event(event)
    assert len(handler.records) == 2


@pytest.mark.parametrize("logger", [3, None, object()])
def test_what_is_no_logger_is_refused(logger: logging.Logger) -> None:
    with pytest.raises(ConfigurationError, match="it is none"):
        LoggingReporter(logger)


def test_levels_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no number"):
        LoggingReporter(levels={RunStarted: "INFO"})  # type: ignore[dict-item] # that it is refused is the point
    with pytest.raises(ConfigurationError, match="no class of events"):
        LoggingReporter(levels={str: 10})  # type: ignore[dict-item] # the same
