"""How exchanges of a capture look: as rows of a list, one whole, and the difference of two."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from agentkit_reporting.cli.drawing import Cell, Pieces, Table, brief_duration, named
from agentkit_reporting.terminal import brief, counted, duration_text, one_line, visible
from agentkit_reporting.wire.messages import streamed_message
from agentkit_reporting.wire.reading import EMPTY, RecordedBody, WireExchange, headers_of
from agentkit_reporting.wire.request_diff import MISSING, RequestDifference

__all__ = [
    "attempt_text",
    "difference_lines",
    "exchange_lines",
    "exchange_table",
    "list_row",
    "response_message",
    "state_of",
    "summary_json",
]

_LONGEST_VALUE = 200
_LONGEST_URL = 500
_GOOD, _FIRST_BAD = 200, 400


def state_of(exchange: WireExchange) -> tuple[str, str]:
    """Return how an exchange ended, as a style and a word: its status, or why there is none or not all of it."""
    status, outcome = exchange.status, exchange.outcome
    if status is None:
        kind = exchange.error.get("cause") or exchange.error.get("type")
        return "bad", named(kind if isinstance(kind, str) else outcome, 24)
    error = exchange.stream_error
    if error is not None:
        return "bad", f"{status} {named(error.removesuffix('_error') or error, 16)}"
    if outcome != "complete":
        return "bad", f"{status} {named(outcome, 12)}"
    return ("good" if _GOOD <= status < _FIRST_BAD else "bad"), str(status)


def list_row(exchange: WireExchange) -> tuple[Cell, ...]:
    """Return the row of an exchange in the list."""
    time = exchange.text("ts") or ""
    return (
        str(exchange.number),
        named(time[11:19] or time),
        named(exchange.text("model") or ""),
        named(exchange.text("request_id") or exchange.text("provider_request_id") or ""),
        state_of(exchange),
        brief_duration(exchange.ms("duration_ms")),
        _size(exchange.request_body),
        _size(exchange.response_body) if exchange.response is not None else "-",
        attempt_text(exchange),
    )


def exchange_table(rows: Iterable[tuple[Cell, ...]]) -> Table:
    """Return the list of exchanges."""
    head = ("#", "time", "model", "request", "status", "took", "sent", "got", "try")
    return Table("", head, list(rows), names=4, leaves=("time", "try"), whole=("#",))


def attempt_text(exchange: WireExchange) -> str:
    """Return which attempt it was, as the events count them, else as the SDK does.

    `2.3` is the third that the SDK made by itself of the second.
    """
    told, of_sdk = exchange.request_attempt, exchange.attempt
    if told is None:
        return "-" if of_sdk is None else str(of_sdk)
    return str(told) if of_sdk in (None, 1) else f"{told}.{of_sdk}"


def _size(body: RecordedBody) -> str:
    return "?" if body.size is None else byte_text(body.size)


def byte_text(size: int) -> str:
    """Return a number of bytes in at most seven characters."""
    for limit, unit, name in ((1_000, 1, "B"), (10**6, 10**3, "kB"), (10**9, 10**6, "MB")):
        if size < limit:
            return f"{size} B" if unit == 1 else f"{size / unit:.1f} {name}"
    return f"{size / 10**9:.1f} GB"


# --- one exchange


def exchange_lines(exchange: WireExchange, *, raw: bool) -> Iterator[Pieces]:
    """Yield an exchange line by line. raw: bodies as they were recorded."""
    sent = exchange.sent
    yield [("strong", f"{_shown(sent.get('method'))} {_shown(sent.get('url'))}")]
    yield [state_of(exchange), f"  {'  '.join(_times(exchange))}"]
    ids = [
        f"{name} {_shown(exchange.text(name))}" for name in ("session_id", "run_id") if exchange.text(name)
    ]
    near = [_shown(exchange.text(name)) for name in ("turn_id", "request_id") if exchange.text(name)]
    for line in (
        f"at {_shown(exchange.text('ts'))}",
        *ids,
        " ".join(near),
        f"exchange {exchange.number}, {_shown(exchange.text('id'))}",
    ):
        if line:
            yield [("dim", line)]
    if exchange.error:
        told = (exchange.error.get(name) for name in ("type", "message", "cause", "cause_message"))
        yield [("bad", ": ".join(_shown(each) for each in told if isinstance(each, str) and each))]
    yield from _half("request", sent, exchange.request_body, raw=raw)
    if exchange.response is not None and exchange.status is not None:
        yield from _half("response", exchange.response, exchange.response_body, raw=raw)


def _times(exchange: WireExchange) -> Iterator[str]:
    for name, word in (("duration_ms", "took"), ("head_ms", "head"), ("first_byte_ms", "first byte")):
        took = exchange.ms(name)
        if took is not None:
            yield f"{word} {duration_text(took) or '0 ms'}"
    if (attempt := attempt_text(exchange)) != "-":
        yield f"attempt {attempt}"


def _half(word: str, record: Mapping[str, Any], body: RecordedBody, *, raw: bool) -> Iterator[Pieces]:
    yield []
    yield [("lead", f"{word} headers")]
    for name, value in headers_of(record):
        yield ["  ", ("dim", f"{one_line(name, _LONGEST_VALUE)}:"), f" {one_line(value, _LONGEST_URL)}"]
    yield []
    yield [("lead", f"{word} body"), ("dim", f"  {', '.join(_marks(body))}")]
    if body.text is None:
        return
    for line in [body.text] if raw or body.encoding is not None else _readable(body):
        for each in visible(line).split("\n"):
            yield [f"  {each}"]


def _marks(body: RecordedBody) -> Iterator[str]:
    yield "size unknown" if body.size is None else counted(body.size, "byte")
    if body.packed is not None:
        yield f"{_shown(body.packed)} undone"
    if body.encoding is not None:
        yield _shown(body.encoding)
    if body.masked:
        yield f"{counted(body.masked, 'secret')} masked"
    if body.cut:
        yield f"cut: {counted(body.cut, 'byte')} left out"
    if body.withheld is not None:
        yield f"not recorded: {_shown(body.withheld)}"


def response_message(body: RecordedBody) -> Any:
    """Return the message of a response, streamed or not; None where there is none."""
    found = body.json()
    if found is not None or body.text is None or body.encoding is not None:
        return found
    streamed = streamed_message(body.text)
    return None if streamed is None else streamed.message


def _readable(body: RecordedBody) -> Iterator[str]:
    value = body.json()
    if value is not None:
        yield _pretty(value)
        return
    streamed = streamed_message(body.text or "")
    if streamed is None:
        yield body.text or ""
        return
    if streamed.message is not None:
        yield from _message_lines(streamed.message)
    for error in streamed.errors:
        yield f"error {_pretty(error)}"
    if streamed.others:
        yield f"and {counted(streamed.others, 'event')} of another kind; --raw shows them"
    if not streamed.is_whole:
        yield "the stream has no end: no message_stop"


def _message_lines(message: dict[str, Any]) -> Iterator[str]:
    """Yield a streamed message: what it is, then its blocks, with their text as text."""
    yield _pretty({name: value for name, value in message.items() if name != "content"})
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        kind = block.get("type")
        text = block.get("thinking" if kind == "thinking" else "text")
        if isinstance(text, str):
            rest = {name: each for name, each in block.items() if name not in ("type", "text", "thinking")}
            yield f"--- {kind}{' ' + _pretty(rest) if any(rest.values()) else ''}\n{text}"
        elif "input" in block:
            rest = {name: each for name, each in block.items() if name not in ("type", "name", "id", "input")}
            more = f" {_pretty(rest)}" if rest else ""
            yield f"--- {kind} {block.get('name')} {block.get('id')}{more}\n{_pretty(block['input'])}"
        else:
            yield f"--- {_pretty(block)}"


def _pretty(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (RecursionError, ValueError):
        return msgspec.json.encode(str(type(value))).decode()


def _shown(value: object) -> str:
    return one_line(value, _LONGEST_URL) if isinstance(value, str) else "-"


# --- two exchanges


def difference_lines(
    before: WireExchange, after: WireExchange, found: Iterable[RequestDifference]
) -> Iterator[Pieces]:
    """Yield what differs between two requests."""
    yield [("bad", f"--- {_title(before)}")]
    yield [("good", f"+++ {_title(after)}")]
    for each in found:
        yield [("lead", one_line(each.path, _LONGEST_URL))]
        for line in each.lines:
            yield [_styled(visible(line).replace("\n", " "))]
        if not each.lines:
            if each.before is not MISSING:
                yield [("bad", f"- {_value(each.before)}")]
            if each.after is not MISSING:
                yield [("good", f"+ {_value(each.after)}")]
    for exchange in (before, after):
        body = exchange.request_body
        marks = [*_marks(body)][1:]
        if body.masked or body.cut or body.withheld:
            yield [("warn", f"the body of {exchange.number} is not as it was sent: {', '.join(marks)}")]


def _title(exchange: WireExchange) -> str:
    request = exchange.text("request_id") or exchange.text("provider_request_id") or exchange.text("id")
    return f"{exchange.number} {_shown(request)} {_shown(exchange.text('ts'))}"


def _styled(line: str) -> Cell:
    style = {"-": "bad", "+": "good", "@": "dim"}.get(line[:1], "")
    return f"  {line}" if not style else (style, f"  {line}")


def _value(value: Any) -> str:
    return one_line(brief(value, _LONGEST_VALUE), _LONGEST_VALUE)


def summary_json(exchange: WireExchange) -> dict[str, Any]:
    """Return what the list says of an exchange, for programs."""
    response = exchange.response or EMPTY
    names = ("id", "session_id", "run_id", "turn_id", "request_id", "provider_request_id", "ts", "model")
    return {
        "number": exchange.number,
        **{name: exchange.text(name) for name in names},
        "attempt": exchange.attempt,
        "request_attempt": exchange.request_attempt,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "stream_error": exchange.stream_error,
        "error": dict(exchange.error) or None,
        "duration_ms": exchange.ms("duration_ms"),
        "first_byte_ms": exchange.ms("first_byte_ms"),
        "sent_bytes": exchange.request_body.size,
        "got_bytes": exchange.response_body.size if response else None,
    }
