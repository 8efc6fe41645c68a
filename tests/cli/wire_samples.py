"""A file of captured exchanges, the same byte for byte at every making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STAMP = "2026-05-24T18:40:0{}.123456Z"
SYSTEM = "You fix code.\nRead first.\nAnswer in one sentence.\n"
PROMPT = {"role": "user", "content": "The tests of the parser fail. Fix them."}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "parser.py"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "def parse(text): \x1b]0;owned\x07"}
HEADERS = [
    ["Host", "api.example"],
    ["Accept", "application/json"],
    ["Content-Type", "application/json"],
    ["User-Agent", "Anthropic/Python 2.11.0"],
    ["x-api-key", "[redacted:credential]"],
    ["anthropic-version", "2026-10-21"],
    ["X-Note", "it's quoted"],
    ["X-Session-Token", "[redacted:credential]"],
]


def sse(*events: dict[str, Any]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def delta(index: int, kind: str, field: str, piece: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}}


STREAM = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [],
            "usage": {"input_tokens": 420, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    delta(0, "thinking_delta", "thinking", "The parser "),
    delta(0, "thinking_delta", "thinking", "first."),
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    delta(1, "text_delta", "text", "I read "),
    delta(1, "text_delta", "text", "the parser; the token is [redacted:github_token]."),
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {**CALL, "input": {}}},
    delta(2, "input_json_delta", "partial_json", '{"path": "pars'),
    delta(2, "input_json_delta", "partial_json", 'er.py"}'),
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 60}},
    {"type": "message_stop"},
)


def request(
    number: int, messages: list[Any], *, system: str = SYSTEM, attempt: int = 1, **fields: Any
) -> dict[str, Any]:
    body = json.dumps(
        {
            "model": "claude-sonnet-5-5",
            "max_tokens": 1000,
            "stream": True,
            "system": system,
            "messages": messages,
        }
    )
    return {
        "type": "wire_request",
        "id": f"wx_{number:032}",
        "session_id": "fix-1",
        "run_id": "run_of_fix-1",
        "turn_id": f"turn-{min(number, 2)}",
        "request_id": f"request-{number}",
        "ts": STAMP.format(number),
        "attempt": attempt,
        "via": "middleware",
        "model": "claude-sonnet-5-5",
        "method": "POST",
        "url": "https://api.example/v1/messages?beta=true",
        "headers": HEADERS,
        "body": {"size": len(body), "text": body},
        **fields,
    }


def response(number: int, status: int | None, text: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "type": "wire_response",
        "id": f"wx_{number:032}",
        "session_id": "fix-1",
        "run_id": "run_of_fix-1",
        "turn_id": f"turn-{min(number, 2)}",
        "request_id": f"request-{number}",
        "outcome": "complete",
        "status": status,
        "provider_request_id": f"req_01{number}",
        "http_version": "HTTP/1.1",
        "head_ms": 812.5,
        "first_byte_ms": 830.25,
        "duration_ms": 4_210.75,
        "chunks": 14,
        "headers": [["content-type", "text/event-stream"], ["request-id", f"req_01{number}"]],
        "body": {"size": len(text), "text": text},
        **fields,
    }


def write_wire(path: Path) -> None:
    """Write exchanges: a stream, a refusal, its retry that was cut, one that failed, one without an end, and one
    whose stream the server ended with an error.
    """
    error = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    second = [PROMPT, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [RESULT]}]
    cut = {"type": "RemoteProtocolError", "message": "peer closed connection"}
    failed = {"type": "APIConnectionError", "message": "Connection error.", "cause": "ConnectError"}
    none: dict[str, Any] = {
        "outcome": "failed",
        "error": failed,
        "provider_request_id": None,
        "duration_ms": 5.5,
    }
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    for name in ("head_ms", "first_byte_ms"):
        none[name] = None
    records = [
        request(1, [PROMPT]),
        response(1, 200, STREAM, body={"size": len(STREAM), "text": STREAM, "masked": 1}),
        request(2, second),
        response(2, 529, error, duration_ms=42.0, headers=[["content-type", "application/json"]]),
        request(2, second, attempt=2, id=f"wx_{3:032}", ts=STAMP.format(3)),
        response(3, 200, sse({"type": "ping"}), outcome="cut", error=cut, request_id="request-2"),
        request(4, second, system=SYSTEM.replace("one sentence", "two sentences")),
        response(4, None, **none),
        request(
            5,
            second,
            session_id="other-1",
            body={
                "size": 9_000,
                "text": '{"model":"claude-sonnet-5-5","messages":[{"ro',
                "cut": 8_955,
                "masked": 2,
            },
        ),
        request(6, second, request_attempt=3),
        response(
            6, 200, sse({"type": "message_start", "message": {"id": "msg_6"}}, busy), outcome="abandoned"
        ),
    ]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
