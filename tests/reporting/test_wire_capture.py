"""What a capture records: each attempt, its request and its response, whichever way it is put in."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.testing import MessagesServer
from agentkit_loop.testing_server import ServerReply
from agentkit_reporting import Redactor, Rotation, WireCapture, read_records
from agentkit_reporting.wire.messages import streamed_message
from tests.reporting.wire_runs import ASK, KEY, Send, by_middleware, every_way, exchanges

Way = Callable[..., Send]
BUSY = ServerReply.refusal(529, "overloaded_error", "busy", retry_after_ms="1")


@every_way
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_request_and_its_response_are_recorded(way: Way, stream: bool, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "wire.jsonl"
    with MessagesServer(["hi there"]) as server, WireCapture(path) as capture:
        way(capture, server)(stream=stream, system="be kind")
        assert capture.flush(10)
        (one,) = exchanges(path)
        assert one.request["url"] == f"{server.base_url}/v1/messages"
    asked = one.request_body.json()
    assert (asked["messages"], asked["system"]) == (ASK["messages"], "be kind")
    assert (one.request["method"], one.text("model"), one.attempt) == ("POST", "m", 1)
    assert (one.status, one.outcome, one.text("provider_request_id")) == (200, "complete", "req_1")
    body = one.response_body
    assert body.size == len((body.text or "").encode())
    found = streamed_message(body.text or "") if stream else None
    message: Any = body.json() if found is None else found.message
    assert message["content"][0]["text"] == "hi there"
    head, first, whole = (one.ms(name) for name in ("head_ms", "first_byte_ms", "duration_ms"))
    assert head is not None
    assert first is not None
    assert whole is not None
    assert 0 <= head <= first <= whole
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KEY not in path.read_text()


@every_way
def test_every_attempt_of_the_sdk_is_a_record(way: Way, tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer([BUSY, BUSY, "ok"]) as server, WireCapture(path) as capture:
        way(capture, server, max_retries=3)(stream=False)
    assert [(one.attempt, one.status) for one in exchanges(path)] == [(1, 529), (2, 529), (3, 200)]
    assert "busy" in (exchanges(path)[0].response_body.text or "")


@every_way
def test_a_refused_connection_is_a_record_with_its_error(way: Way, tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer() as server:
        gone = server.base_url
    with WireCapture(path) as capture:
        send = way(capture, server=_At(gone))
        with pytest.raises(anthropic.APIConnectionError):
            send(stream=True)
    (one,) = exchanges(path)
    assert (one.outcome, one.status) == ("failed", None)
    assert "ConnectError" in {one.error["type"], one.error.get("cause")}
    assert one.request_body.json()["messages"] == ASK["messages"]


class _At:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url


@every_way
def test_a_stream_that_breaks_off_is_recorded_with_what_came(way: Way, tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    cut = ServerReply(
        events=({"type": "message_start", "message": {"id": "msg_1"}}, {"type": "ping"}), cut_after=1
    )
    with (
        MessagesServer([cut]) as server,
        WireCapture(path) as capture,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        way(capture, server)(stream=True)
    (one,) = exchanges(path)
    assert (one.outcome, one.error["type"]) == ("cut", "RemoteProtocolError")
    assert "message_start" in (one.response_body.text or "")


def test_a_stream_that_is_left_is_recorded_as_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    events = tuple({"type": "ping", "n": number} for number in range(3))
    stalled = ServerReply(
        events=({"type": "message_start", "message": {"id": "msg_1"}}, *events), stall_after=1
    )
    with (
        MessagesServer([stalled]) as server,
        WireCapture(path) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, middleware=[capture.middleware()]
        ) as client,
    ):
        stream = client.messages.create(**ASK, stream=True)
        assert next(iter(stream)).type == "message_start"  # it was passed on before the rest came
        stream.close()
    (one,) = exchanges(path)
    assert (one.outcome, one.status) == ("abandoned", 200)
    assert "message_start" in (one.response_body.text or "")


def test_what_is_open_when_the_capture_closes_is_unfinished_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["hi", "more"]) as server, WireCapture(path) as capture:
        options: dict[str, Any] = {"api_key": KEY, "base_url": server.base_url}
        with anthropic.Anthropic(**options, middleware=[capture.middleware()]) as client:
            stream = client.messages.create(**ASK, stream=True)
            assert capture.close()
            assert [event.type for event in stream][-1] == "message_stop"
            assert client.messages.create(**ASK).content
    (one,) = exchanges(path)
    assert one.outcome == "unfinished"


@every_way
def test_a_packed_body_is_recorded_unpacked(way: Way, tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["packed " * 50], gzip=True) as server, WireCapture(path) as capture:
        way(capture, server)(stream=True)
    (one,) = exchanges(path)
    assert one.response_body.packed == "gzip"
    found = streamed_message(one.response_body.text or "")
    assert found is not None
    assert found.message is not None
    assert found.message["content"][0]["text"] == "packed " * 50


def test_bodies_are_bounded_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    long = "word " * 1_000
    with MessagesServer([long]) as server, WireCapture(path, max_body_bytes=2_000) as capture:
        by_middleware(capture, server)(stream=True, messages=[{"role": "user", "content": long}])
    (one,) = exchanges(path)
    for body in (one.request_body, one.response_body):
        text = body.text or ""
        assert body.size is not None
        assert 0 < len(text.encode()) <= 2_000 < body.size == len(text.encode()) + body.cut


def test_of_the_middleware_and_the_transport_of_one_capture_one_records(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["hi"]) as server,
        WireCapture(path) as capture,
        httpx2.Client(transport=capture.transport()) as http,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, http_client=http, middleware=[capture.middleware()]
        ) as client,
    ):
        client.messages.create(**ASK)
    assert [one.request["via"] for one in exchanges(path)] == ["middleware"]


def test_many_requests_at_a_time_are_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"

    def echo(body: dict[str, object]) -> str:
        return f"echo of {json.dumps(body['messages'])}"

    with (
        MessagesServer(echo) as server,
        WireCapture(path) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, middleware=[capture.middleware()]
        ) as client,
    ):

        def ask(number: int) -> None:
            content = f"number {number}."
            list(
                client.messages.create(
                    **{**ASK, "messages": [{"role": "user", "content": content}]}, stream=True
                )
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))
        assert capture.close()
        assert capture.account().is_complete
        assert capture.account().delivered == 80
    found = exchanges(path)
    asked = [one.request_body.json()["messages"][0]["content"] for one in found]
    assert sorted(asked) == sorted(f"number {number}." for number in range(40))
    for one, content in zip(found, asked, strict=True):
        assert content in (one.response_body.text or "")


def test_segments_are_read_as_one_file(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["a", "b", "c"]) as server,
        WireCapture(path, rotation=Rotation(max_bytes=2_000)) as capture,
    ):
        for _ in range(3):
            by_middleware(capture, server)(stream=False)
    assert len(list(tmp_path.glob("wire*"))) > 1
    assert [one.outcome for one in exchanges(path)] == ["complete"] * 3


def test_the_request_is_there_while_the_response_is_awaited(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    came = threading.Event()

    def stall(_body: object) -> ServerReply:
        came.set()
        return ServerReply(stall_head=True, status=500, body=b"{}")

    with MessagesServer(stall) as server, WireCapture(path) as capture:
        client = anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, max_retries=0, middleware=[capture.middleware()]
        )
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lambda: client.messages.create(**ASK))
            assert came.wait(10)
            assert capture.flush(10)
            (record,) = read_records(path)
            assert record["type"] == "wire_request"
            assert record["body"]["text"].count("hello") == 1
            server.release()
            with pytest.raises(anthropic.APIError):
                asked.result(10)
        client.close()


def test_options_that_are_none_are_refused(tmp_path: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"max_body_bytes": -1},
        {"max_body_bytes": True},
        {"max_body_bytes": 2**30},
        {"redact": None},
        {"redact": Redactor(keep_arguments=["path"])},
        {"secrets": ["abc"]},
    ]
    for options in refused:
        with pytest.raises(ConfigurationError):
            WireCapture(tmp_path / "wire.jsonl", **options)
    assert list(tmp_path.iterdir()) == []
