"""No credential is recorded, wherever it stands, and no secret of the rules, however it was split."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.testing import MessagesServer
from agentkit_loop.testing_server import ServerReply
from agentkit_reporting import Redactor, WireCapture
from agentkit_reporting.wire.bodies import body_record
from agentkit_reporting.wire.credentials import clean_headers, clean_url, literal_redactor, secrets_in
from agentkit_reporting.wire.messages import streamed_message
from tests.reporting.redaction_samples import POSITIVES, chars
from tests.reporting.wire_runs import ASK, KEY, Send, every_way, exchanges

JSON_KIND = {"content-type": "application/json"}
STREAM_KIND = {"content-type": "text/event-stream; charset=utf-8"}
MOST = 2**20
TOKEN = chars(30, seed="token")


@every_way
@pytest.mark.parametrize("redact", [True, False], ids=["redacted", "not-redacted"])
def test_what_was_sent_as_a_credential_is_nowhere(
    way: Callable[..., Send], redact: bool, tmp_path: Path
) -> None:
    path = tmp_path / "wire.jsonl"
    others = [chars(24, seed=name) for name in ("cookie", "proxy", "query", "internal", "set-cookie")]
    cookie, proxy, query, internal, set_cookie = others
    said = f"you sent {KEY} and {internal} and {query}, and get {set_cookie}"
    echo = json.dumps({"type": "error", "error": {"type": "api_error", "message": said}})
    reply = ServerReply(
        status=400,
        headers={
            "content-type": "application/json",
            "set-cookie": f"s={set_cookie}; Path=/",
            "request-id": f"req_{KEY}",
        },
        body=echo.encode(),
    )
    with MessagesServer([reply]) as server, WireCapture(path, redact=redact) as capture:
        send = way(capture, server)
        with pytest.raises(anthropic.BadRequestError):
            send(
                stream=True,
                system=f"my key is {KEY}",
                extra_headers={
                    "Cookie": f"a={cookie}; b=c",
                    "Proxy-Authorization": f"Bearer {proxy}",
                    "X-Internal-Auth": internal,
                    "X-Trace": "kept-1",
                },
                extra_query={"api_key": query, "page": "2"},
            )
    text = path.read_text()
    for secret in (KEY, *others):
        assert secret not in text
    (one,) = exchanges(path)
    assert "page=2" in one.request["url"]
    assert ["x-trace", "kept-1"] in [[name.lower(), value] for name, value in one.sent["headers"]]
    assert "[redacted:credential]" in one.request_body.json()["system"]
    if one.response_body.text:
        assert "you sent [redacted:credential] and [redacted:credential]" in one.response_body.text


def test_the_address_is_told_without_its_user() -> None:
    url = "https://ann:pa%2Fssword@api.example:8443/v1/messages?beta=true&sig=abc&X-Amz-Signature=x#f"
    cleaned = clean_url(url)
    assert cleaned == (
        "https://api.example:8443/v1/messages?beta=true&sig=[redacted:credential]"
        "&X-Amz-Signature=[redacted:credential]#f"
    )
    encoded = base64.b64encode(b"ann:pa/ssword").decode()
    assert {"pa/ssword", "pa%2Fssword", encoded} <= secrets_in((), url)


@pytest.mark.parametrize(
    "name",
    ["x-api-key", "Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "X-Auth", "x-session-id",
     "X-Amz-Security-Token", "x-goog-api-key", "x-webhook-signature", "X-CSRF"],
)  # fmt: skip
def test_headers_that_hold_secrets_are_masked(name: str) -> None:
    assert clean_headers([(name, TOKEN)]) == [[name, "[redacted:credential]"]]


@pytest.mark.parametrize(
    "name",
    ["anthropic-ratelimit-tokens-remaining", "idempotency-key", "request-id", "content-type", "retry-after",
     "anthropic-beta", "traceparent", "accept"],
)  # fmt: skip
def test_headers_that_help_are_told(name: str) -> None:
    assert clean_headers([(name, "12")]) == [[name, "12"]]
    assert secrets_in([(name, "a value that is long")]) == frozenset()


def streamed(pieces: list[str], field: str = "text") -> str:
    """Return a stream whose first block comes in these pieces."""
    kind = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}[field]
    block = {"text": "text", "thinking": "thinking", "partial_json": "tool_use"}[field]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": block}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def said(stream: str) -> str:
    """Return what the blocks of a stream say, put together."""
    found = streamed_message(stream)
    assert found is not None
    assert found.message is not None
    return json.dumps(found.message, ensure_ascii=False)


def split(text: str, places: list[int]) -> list[str]:
    cuts = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def in_full(text: str) -> list[str]:
    """Return the forms in which a text stands in JSON."""
    return [text, json.dumps(text)[1:-1]]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*POSITIVES, ("own", f"it is {TOKEN}!", TOKEN)]),
    st.lists(st.integers(0, 500), max_size=6),
    st.sampled_from(["text", "thinking", "partial_json"]),
)
def test_a_secret_split_over_events_of_a_stream_is_masked(
    sample: tuple[str, str, str], places: list[int], field: str
) -> None:
    _, text, gone = sample
    whole = json.dumps({"note": text}) if field == "partial_json" else text
    stream = streamed(split(whole, places), field)
    own = literal_redactor(frozenset({TOKEN}))
    assert own is not None
    told = body_record(stream.encode(), None, STREAM_KIND, (own, Redactor()), MOST)
    shown = str(told["text"])
    assert told["masked"]
    assert not any(form in said(shown) for form in in_full(gone))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(POSITIVES), st.integers(0, 400), st.integers(0, 60))
def test_a_body_that_is_cut_within_a_secret_shows_no_beginning_of_it(
    sample: tuple[str, str, str], most: int, before: int
) -> None:
    _, text, gone = sample
    body = json.dumps({"messages": [{"role": "user", "content": "x" * before + " " + text}]}).encode()
    for kept in (body, body[: most + 1]):
        told = body_record(kept, len(body), JSON_KIND, (Redactor(),), most)
        shown = str(told.get("text", ""))
        assert gone not in shown
        assert len(shown.encode()) <= max(most, len(body)) + 200  # a mask may be longer than what it hides


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(1, 29))
def test_no_beginning_of_a_key_of_ones_own_is_left_where_a_body_is_cut(before: int, shown: int) -> None:
    own = literal_redactor(frozenset({TOKEN}))
    assert own is not None
    body = ("a" * before + " " + TOKEN).encode()
    most = before + 1 + shown
    told = body_record(body, len(body), {"content-type": "text/plain"}, (own,), most)
    assert TOKEN[: min(shown, 4)] not in str(told.get("text", "")) or shown < 4


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(POSITIVES))
def test_secrets_in_a_json_body_are_masked_however_they_are_written(sample: tuple[str, str, str]) -> None:
    _, text, gone = sample
    escaped = "".join(f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else sign for sign in text)
    for body in (json.dumps({"a": [text]}), f'{{"a": ["{escaped}"]}}'):
        told = body_record(body.encode(), None, JSON_KIND, (Redactor(),), MOST)
        assert told["masked"]
        assert gone not in json.loads(str(told["text"]))["a"][0]


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200),
    st.booleans(),
    st.sampled_from(["text/event-stream", "application/json", "x/y", ""]),
)
def test_any_bytes_are_a_body(raw: bytes, whole: bool, kind: str) -> None:
    size = len(raw) if whole else len(raw) + 5
    told = body_record(raw, size, {"content-type": kind}, (Redactor(),), 100)
    assert told["size"] == size
    if told.get("encoding") == "base64" and not told.get("masked"):
        assert raw.startswith(base64.b64decode(str(told["text"]))[:1])


def test_a_body_without_secrets_stays_letter_for_letter() -> None:
    body = '{ "a" : 1.50, "b":"\\u00fc",  "n": 123456789012345678901234567890 }'
    assert body_record(body.encode(), None, JSON_KIND, (Redactor(),), MOST) == {
        "size": len(body), "text": body,
    }  # fmt: skip
    stream = streamed(["hel", "lo"])
    assert body_record(stream.encode(), None, STREAM_KIND, (Redactor(),), MOST)["text"] == stream


def test_a_packed_bomb_is_unpacked_up_to_the_bound_only() -> None:
    import zlib  # noqa: PLC0415 - for this test alone

    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"0" * 5_000_000) + packer.flush()
    headers = {"content-encoding": "gzip", "content-type": "text/plain"}
    told = body_record(packed, None, headers, (), 1_000)
    assert told["text"] == "0" * 1_000
    assert "cut" in told


def test_a_capture_shows_no_secret_of_its_own(tmp_path: Path) -> None:
    with WireCapture(tmp_path / "wire.jsonl", secrets=[TOKEN]) as capture:
        assert TOKEN not in repr(capture)
        assert TOKEN not in repr(capture.account())


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(POSITIVES), st.booleans())
def test_no_secret_of_an_exchange_reaches_the_file(sample: tuple[str, str, str], stream: bool) -> None:
    _, text, gone = sample
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wire.jsonl"
        with MessagesServer([text], framing="byte") as server, WireCapture(path) as capture:
            options: dict[str, Any] = {"api_key": KEY, "base_url": server.base_url, "max_retries": 0}
            with (
                anthropic.Anthropic(**options, middleware=[capture.middleware()]) as client,
                contextlib.suppress(anthropic.APIError),
            ):
                asked: dict[str, Any] = {**ASK, "messages": [{"role": "user", "content": text}]}
                answer = client.messages.create(**asked, stream=stream)
                if stream:
                    list(answer)
        (one,) = exchanges(path)
        shown = json.dumps([one.request_body.json(), one.response_body.json()], ensure_ascii=False)
        shown += said(one.response_body.text or "") if stream else ""
        assert not any(form in shown for form in in_full(gone))
