"""An exchange as its two records; the schema is in `WireCapture`'s docstring."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from agentkit_loop.usage import error_text
from agentkit_loop.values import JSON
from agentkit_reporting.timestamps import utc_text
from agentkit_reporting.wire.bodies import Body, Redactors, body_record, masked_text
from agentkit_reporting.wire.credentials import Headers, clean_headers, clean_url
from agentkit_reporting.wire.exchange import Exchange, SentRequest

__all__ = ["encoded", "request_record", "response_record"]

_LONGEST_ERROR = 2_000
_MODEL_NAME = 200
_PROVIDER_IDS = ("request-id", "x-request-id")
BEHIND = "the writer is behind"
"""Why a body was left out where more waits to be written than may."""


def request_record(exchange: Exchange, redactors: Redactors, most: int) -> dict[str, Any]:
    """Return the record of the request of an exchange."""
    request = exchange.request
    assert request is not None  # noqa: S101 - who asks has noted it
    told = {
        "type": "wire_request",
        **_ids(exchange),
        "ts": utc_text(exchange.started_at),
        "attempt": exchange.attempt,
        "request_attempt": exchange.event and exchange.event.attempt,
        "via": exchange.via,
    }
    model = _model_of(request.content)
    if model is not None:
        told["model"] = masked_text(model, redactors)[:_MODEL_NAME]
    return {**told, **_request(request, redactors, most)}


def response_record(exchange: Exchange, redactors: Redactors, most: int) -> dict[str, Any]:
    """Return the record of how an exchange ended."""
    by_name = {name.lower(): value for name, value in exchange.headers}
    if exchange.is_unpacked:
        by_name.pop("content-encoding", None)
    named = next((by_name[name] for name in _PROVIDER_IDS if name in by_name), None)
    told: dict[str, Any] = {
        "type": "wire_response",
        **_ids(exchange),
        "outcome": exchange.outcome,
        "status": exchange.status,
        "provider_request_id": None if named is None else masked_text(named, redactors),
        "http_version": exchange.http_version,
        "head_ms": _rounded(exchange.head_ms),
        "first_byte_ms": _rounded(exchange.first_byte_ms),
        "duration_ms": _rounded(exchange.duration_ms),
        "chunks": exchange.chunks,
        "headers": _headers(exchange.headers, redactors),
    }
    if exchange.error is not None:
        told["error"] = _error(exchange.error, redactors)
    sent = _sent_otherwise(exchange, redactors, most)
    if sent is not None:
        told["sent"] = sent
    kept = exchange.kept
    if exchange.status is not None and kept is None:
        told["body"] = {"size": exchange.size, "withheld": BEHIND}
    elif exchange.status is not None and kept is not None:
        told["body"] = _body(lambda: body_record(bytes(kept), exchange.size, by_name, redactors, most))
    return told


def _ids(exchange: Exchange) -> dict[str, JSON]:
    event = exchange.event
    return {
        "id": exchange.id,
        "session_id": event and event.session_id,
        "run_id": event and event.run_id,
        "turn_id": event and event.turn_id,
        "request_id": event and event.request_id,
    }


def _request(request: SentRequest, redactors: Redactors, most: int) -> dict[str, Any]:
    by_name = {name.lower(): value for name, value in request.headers}
    content, size = request.content, request.size
    told: dict[str, Any] = {
        "method": request.method,
        "url": masked_text(clean_url(request.url), redactors),
        "headers": _headers(request.headers, redactors),
    }
    if content is None:
        told["body"] = {"size": size, "withheld": BEHIND if size else "it was not at hand as bytes"}
    else:
        told["body"] = _body(lambda: body_record(content, size, by_name, redactors, most))
    return told


def _body(make: Callable[[], Body]) -> Body:
    """Return a body, or without its text what could not be masked."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - a pattern of the host's; its text may quote the secret
        return {"size": None, "withheld": f"masking it raised {type(error).__name__}"}


def _headers(headers: Headers, redactors: Redactors) -> list[list[str]]:
    return [[name, masked_text(value, redactors)] for name, value in clean_headers(headers)]


def _error(error: BaseException, redactors: Redactors) -> dict[str, JSON]:
    text = masked_text(error_text(error), redactors)[:_LONGEST_ERROR]
    told: dict[str, JSON] = {"type": type(error).__name__, "message": text}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told["cause"] = type(cause).__name__
        told["cause_message"] = masked_text(error_text(cause), redactors)[:_LONGEST_ERROR]
    return told


def _sent_otherwise(exchange: Exchange, redactors: Redactors, most: int) -> dict[str, Any] | None:
    """Return what of the request left otherwise than it was told, None for nothing."""
    sent, told = exchange.sent, exchange.request
    if sent is None or told is None or sent is told:
        return None
    found = _request(sent, redactors, most)
    if sent.content is None or (told.content is not None and _is_same(told.content, sent.content)):
        del found["body"]
    return found


def _is_same(told: bytes, sent: bytes) -> bool:
    if told == sent:
        return True
    try:
        return bool(msgspec.json.decode(told) == msgspec.json.decode(sent))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _model_of(content: bytes | None) -> str | None:
    """Return the model that a request is for, from its JSON."""
    try:
        found = _asked(content or b"").model
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


class _Asked(msgspec.Struct):
    model: Any = None


_asked = msgspec.json.Decoder(_Asked).decode


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


def encoded(value: object) -> bytes:
    """Return a request's body as the SDK would send it: JSON, as far as it can be."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace")
