"""Secrets where a reader of a body, or of its requests alone, would not find them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.testing import MessagesServer
from agentkit_loop.testing_server import ServerReply
from agentkit_reporting import ContentRedactor, Redactor, WireCapture
from agentkit_reporting.wire.bodies import body_record
from agentkit_reporting.wire.credentials import clean_headers, literal_redactor, secrets_in
from agentkit_reporting.wire.messages import streamed_message
from agentkit_reporting.wire.reading import WireExchange
from tests.reporting.redaction_samples import chars
from tests.reporting.wire_runs import ASK, KEY, Send, by_async_middleware, by_middleware, every_way, exchanges

TOKEN = "own-" + chars(30, seed="hidden token")
ESCAPED = "".join(f"\\u{ord(sign):04x}" for sign in TOKEN)
JSON_KIND = {"content-type": "application/json"}
STREAM_KIND = {"content-type": "text/event-stream"}
MASK = "[redacted:credential]"


def masks() -> tuple[Redactor, ...]:
    own = literal_redactor(frozenset({TOKEN}))
    assert own is not None
    return own, Redactor()


BODIES: dict[str, tuple[str, dict[str, str]]] = {
    "a name that comes twice": (f'{{"a":"{TOKEN}","a":"x"}}', JSON_KIND),
    "a name that comes twice, escaped": (f'{{"a":"{ESCAPED}","a":"x"}}', JSON_KIND),
    "half a character": (f'{{"s":"\\ud83d","a":"{ESCAPED}"}}', JSON_KIND),
    "a value a line": (f'{{"a":1}}\n{{"b":"\u2028{ESCAPED}"}}\n', {"content-type": "application/x-ndjson"}),
    "a mark of byte order": (f'\ufeff{{"a":"{ESCAPED}"}}', JSON_KIND),
    "what is nearly JSON": (f'{{"a":"{ESCAPED}",}}', JSON_KIND),
    "JSON within JSON": (json.dumps({"a": json.dumps({"b": TOKEN})}), JSON_KIND),
    "an event's name that comes twice": (f'data: {{"type":"y","a":"{ESCAPED}","a":1}}\n\n', STREAM_KIND),
    "a comment of a stream": (f": {TOKEN}\n\ndata: {{}}\n\n", STREAM_KIND),
    "an id of a stream": (f'id: {TOKEN}\r\ndata: {{"a":1}}\r\n\r\n', STREAM_KIND),
    "a name of no event": (f'event: {TOKEN}\n\ndata: {{"a":1}}\n\n', STREAM_KIND),
    "a stream that is a text": (f"you sent {TOKEN}", STREAM_KIND),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_secret_that_no_reader_would_see_is_masked(name: str) -> None:
    body, kind = BODIES[name]
    told = body_record(body.encode(), None, kind, masks(), 2**20)
    assert TOKEN not in str(told["text"])
    assert ESCAPED not in str(told["text"])
    assert told["masked"] == 1


@pytest.mark.parametrize("name", BODIES)
def test_where_such_a_body_holds_no_secret_it_stays_letter_for_letter(name: str) -> None:
    body = BODIES[name][0].replace(TOKEN, "plain").replace(ESCAPED, "\\u0070lain")
    told = body_record(body.encode(), None, BODIES[name][1], masks(), 2**20)
    assert told == {"size": len(body.encode()), "text": body}


@pytest.mark.parametrize(
    ("kind", "field"),
    [("signature_delta", "signature"), ("compaction_delta", "content"), ("of_a_later_day_delta", "words")],
)
@pytest.mark.parametrize("headers", [STREAM_KIND, {}], ids=["declared", "not-declared"])
def test_a_secret_split_over_pieces_of_any_kind_is_masked(
    kind: str, field: str, headers: dict[str, str]
) -> None:
    pieces = [TOKEN[:9], TOKEN[9:20], TOKEN[20:]]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1"}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
    ]  # fmt: skip
    stream = ": begins\n\n" + "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
    told = str(body_record(stream.encode(), None, headers, masks(), 2**20)["text"])
    said = [json.loads(line[6:]) for line in told.split("\n") if line.startswith("data: ")]
    assert "".join(one["delta"][field] for one in said if "delta" in one) == MASK
    assert streamed_message(told) is not None


def test_a_very_long_credential_is_masked_to_its_end() -> None:
    long = "own-" + chars(20_000, seed="long")
    own = literal_redactor(secrets_in([("x-api-key", long)]))
    assert own is not None
    told = str(body_record(f"sent {long}.".encode(), None, {"content-type": "text/plain"}, (own,), 2**20))
    assert not any(long[place : place + 8] in told for place in range(0, len(long), 8))


def test_forms_of_a_credential_are_looked_for() -> None:
    basic = base64.b64encode(b"ann:pass/word+1").decode()
    found = secrets_in([("Authorization", f"basic {basic}")])
    assert {"ann:pass/word+1", "pass/word+1", "pass%2Fword%2B1", "pass\\/word+1", basic} <= found
    assert {"abc-123", "def-456"} <= secrets_in([("x-api-key", "abc-123\ndef-456")])


def test_an_address_in_a_header_is_told_without_its_secrets() -> None:
    address = f"https://ann:{TOKEN}@api.example/v1?page=2&sig={TOKEN[:12]}"
    headers = [("Location", address), ("Location", f"/v1?key={TOKEN}")]
    assert clean_headers(headers) == [
        ["Location", f"https://api.example/v1?page=2&sig={MASK}"], ["Location", f"/v1?key={MASK}"],
    ]  # fmt: skip
    assert {TOKEN, TOKEN[:12]} <= secrets_in(headers)


def test_the_scheme_of_a_credential_is_told() -> None:
    assert clean_headers([("Authorization", f"Bearer {TOKEN}"), ("x-api-key", f"Token {TOKEN}")]) == [
        ["Authorization", f"Bearer {MASK}"], ["x-api-key", MASK],
    ]  # fmt: skip
    assert secrets_in([("Authorization", f"Bearer {MASK}")]) == frozenset()


def of_proxy(url: str, token: str) -> dict[str, Any]:
    return {"http_client": httpx2.Client(proxy=url.replace("//", f"//ann:{token}@"))}


def of_http_headers(_url: str, token: str) -> dict[str, Any]:
    return {"http_client": httpx2.Client(headers={"X-Gate-Token": token})}


def of_http_cookies(_url: str, token: str) -> dict[str, Any]:
    return {"http_client": httpx2.Client(cookies={"gate": token})}


def of_http_auth(_url: str, token: str) -> dict[str, Any]:
    return {"http_client": httpx2.Client(auth=("ann", token))}


def of_default_headers(_url: str, token: str) -> dict[str, Any]:
    return {"default_headers": {"X-Gate-Token": token}}


def of_auth_token(_url: str, token: str) -> dict[str, Any]:
    return {"api_key": None, "auth_token": token}


KNOWN = [of_proxy, of_http_headers, of_http_cookies, of_http_auth, of_default_headers, of_auth_token]


@pytest.mark.parametrize("known", KNOWN)
def test_what_only_the_client_knows_is_masked_in_what_is_asked_and_answered(
    known: Callable[[str, str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "wire.jsonl"
    reply = ServerReply(
        status=407, headers={"content-type": "text/plain"}, body=f"not with {TOKEN}, no".encode()
    )
    with MessagesServer([reply]) as server, WireCapture(path, redact=False) as capture:
        given = {"api_key": KEY, "base_url": server.base_url, **known(server.base_url, TOKEN)}
        with (
            anthropic.Anthropic(**given, max_retries=0, middleware=[capture.middleware()]) as client,
            pytest.raises(anthropic.APIStatusError),
        ):
            client.messages.create(**ASK, system=f"what is {TOKEN}?")
    (one,) = exchanges(path)
    assert one.request_body.json()["system"] == f"what is {MASK}?"
    assert one.response_body.text == f"not with {MASK}, no"
    assert TOKEN not in path.read_text()


def test_a_token_that_was_fetched_is_known_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["a", "b"]) as server, WireCapture(path, redact=False) as capture:
        provider = anthropic.StaticToken(TOKEN)
        with anthropic.Anthropic(
            credentials=provider, base_url=server.base_url, middleware=[capture.middleware()]
        ) as client:
            client.messages.create(**ASK)
            client.messages.create(**ASK, system=f"what is {TOKEN}?")
    assert exchanges(path)[1].request_body.json()["system"] == f"what is {MASK}?"
    assert TOKEN not in path.read_text()


@pytest.mark.parametrize("way", [by_middleware, by_async_middleware], ids=["sync", "async"])
def test_credentials_given_as_bytes_are_masked_though_the_sdk_refuses_them(
    way: Callable[..., Send], tmp_path: Path
) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["ok"]) as server,
        WireCapture(path, redact=False) as capture,
        pytest.raises(AttributeError, match="bytes"),
    ):
        way(capture, server)(
            stream=True, system=f"it is {TOKEN}", extra_headers={"X-Gate-Token": TOKEN.encode()}
        )
    (one,) = exchanges(path)
    assert one.request_body.json()["system"] == f"it is {MASK}"
    assert TOKEN not in path.read_text()


@every_way
def test_a_key_that_cannot_be_sent_is_in_no_error(way: Callable[..., Send], tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["ok"]) as server,
        WireCapture(path, redact=False) as capture,
        pytest.raises(anthropic.APIConnectionError),
    ):
        way(capture, server)(stream=False, extra_headers={"X-Api-Key": f"{TOKEN}\n{KEY}"})
    (one,) = exchanges(path)
    assert one.outcome == "failed"
    text = path.read_text()
    assert TOKEN not in text
    assert KEY not in text


def test_proxies_of_the_environment_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"ann:{TOKEN}@proxy.example:3128")
    path = tmp_path / "wire.jsonl"
    answer = httpx2.MockTransport(lambda _: httpx2.Response(407, text=f"not with {TOKEN}"))
    with (
        WireCapture(path, redact=False) as capture,
        httpx2.Client(transport=capture.transport(answer), trust_env=False) as client,
    ):
        client.get("http://api.example/")
    (one,) = exchanges(path)
    assert one.response_body.text == f"not with {MASK}"


def test_a_redactor_of_content_is_refused_since_bodies_would_be_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="content"):
        WireCapture(tmp_path / "wire.jsonl", redact=ContentRedactor("off"))


def test_no_secret_is_in_what_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Redactor):
        def text(self, text: str) -> str:
            raise ValueError(f"cannot mask {text} with {KEY}")

    with (
        MessagesServer(["ok"]) as server,
        caplog.at_level(logging.WARNING),
        WireCapture(tmp_path / "wire.jsonl", redact=Failing()) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, middleware=[capture.middleware()]
        ) as client,
    ):
        assert client.messages.create(**ASK).content
        assert not capture.flush(10)
    assert "could not record an exchange" in caplog.text
    assert KEY not in caplog.text


def test_a_models_name_shows_no_beginning_of_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["ok"], strict=False) as server, WireCapture(path, secrets=[TOKEN]) as capture:
        options: dict[str, Any] = {"api_key": KEY, "base_url": server.base_url}
        with anthropic.Anthropic(**options, middleware=[capture.middleware()]) as client:
            client.messages.create(**{**ASK, "model": "m" * 190 + TOKEN})
    (one,) = exchanges(path)
    assert isinstance(one, WireExchange)
    assert TOKEN[:8] not in path.read_text()
