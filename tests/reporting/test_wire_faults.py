"""Whatever goes wrong with the capture itself, the request goes on, and it is told once."""

from __future__ import annotations

import gc
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.clock import Clock
from agentkit_loop.testing import MessagesServer
from agentkit_loop.testing_server import ServerReply
from agentkit_reporting import OwnPattern, Redactor, WireCapture
from agentkit_reporting.wire.exchange import Exchange
from agentkit_reporting.wire.writing import MAX_WAITING_BYTES
from tests.reporting.wire_runs import ASK, KEY, exchanges


def client_of(capture: WireCapture, server: MessagesServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key=KEY, base_url=server.base_url, max_retries=0, middleware=[capture.middleware()]
    )


def test_where_nothing_can_be_written_the_request_goes_on_and_it_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with MessagesServer(["a", "b"]) as server, caplog.at_level(logging.WARNING):
        capture = WireCapture(tmp_path / "full.jsonl")
        with client_of(capture, server) as client:
            assert client.messages.create(**ASK).content
            assert len(list(client.messages.create(**ASK, stream=True))) > 3
        assert not capture.close()
    told = [record.getMessage() for record in caplog.records if "could not record" in record.getMessage()]
    assert len(told) == 1
    assert capture.account().failed == 4


def test_a_closed_capture_lets_requests_go_on_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["a", "b"]) as server, caplog.at_level(logging.WARNING):
        capture = WireCapture(path)
        with client_of(capture, server) as client:
            capture.close()
            assert capture.close()
            assert client.messages.create(**ASK).content
            assert client.messages.create(**ASK).content
    assert len([record for record in caplog.records if "is closed" in record.getMessage()]) == 1
    assert not path.exists()


def test_a_pattern_that_fails_withholds_the_body_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    deep = "[" * 5_000 + "]" * 5_000
    with (
        MessagesServer(["fine"]) as server,
        WireCapture(path, redact=["secrets", OwnPattern("ticket", r"T-\d+")]) as capture,
        client_of(capture, server) as client,
    ):
        assert client.messages.create(
            **{**ASK, "messages": [{"role": "user", "content": f"T-12 {deep}"}]}
        ).content
    (one,) = exchanges(path)
    assert one.status == 200
    assert "T-12" not in path.read_text()


def test_a_stream_that_nobody_closes_is_recorded_when_it_is_collected(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    stalled = ServerReply(events=({"type": "ping"}, {"type": "ping"}), stall_after=1)
    with MessagesServer([stalled]) as server, WireCapture(path) as capture:
        transport = capture.transport()
        asked = httpx2.Request("POST", f"{server.base_url}/v1/messages", json=ASK, headers={"x-api-key": KEY})
        response = transport.handle_request(asked)
        assert next(iter(response.stream))  # type: ignore[arg-type] # a synchronous one
        transport.close()
        del response
        gc.collect()
        assert capture.flush(10)
        assert exchanges(path)[0].outcome == "abandoned"


def test_a_forked_child_records_its_own_and_nothing_of_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["parent", "child", "parent again"]) as server,
        WireCapture(path) as capture,
        client_of(capture, server) as client,
    ):
        stream = client.messages.create(**ASK, stream=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                del stream
                gc.collect()
                own = client_of(capture, server)
                own.messages.create(**{**ASK, "metadata": {"user_id": "child"}})
                code = 0 if capture.flush(10) and capture.account().delivered == 2 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        list(stream)
        client.messages.create(**ASK)
    found = exchanges(path)
    assert [one.outcome for one in found] == ["complete"] * 3
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert sorted(ids) == sorted(2 * [str(one.text("id")) for one in found])


def test_a_body_that_finds_no_room_is_left_out_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with (
        MessagesServer(["ok"]) as server,
        WireCapture(path) as capture,
        client_of(capture, server) as client,
    ):
        may_go_on = threading.Event()

        def wait() -> None:
            may_go_on.wait(30)

        capture._thread.give(wait, MAX_WAITING_BYTES)
        client.messages.create(**ASK)
        may_go_on.set()
    (one,) = exchanges(path)
    for body in (one.request_body, one.response_body):
        assert (body.withheld, body.text) == ("the writer is behind", None)
        assert body.size
    assert one.status == 200


def test_a_stream_of_any_length_is_kept_up_to_its_bound_only() -> None:
    ended: list[Exchange] = []
    now: Any = None
    exchange = Exchange(
        most=1_000, attempt=1, via="transport", event=None, now=now, monotonic=lambda: 0.0, told=ended.append
    )
    for _ in range(10_000):
        exchange.note_chunk(b"x" * 1_000)
    exchange.end("complete")
    exchange.end("abandoned")
    assert exchange.size == 10_000_000
    assert exchange.kept is not None
    assert len(exchange.kept) == 1_000
    assert (ended, exchange.outcome) == ([exchange], "complete")


def test_another_middleware_that_answers_itself_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"

    def answer(_request: anthropic.APIRequest, _call_next: Any) -> Any:
        return "cached"

    with (
        WireCapture(path) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url="http://127.0.0.1:1", middleware=[capture.middleware(), answer]
        ) as client,
    ):
        found: Any = client.messages.create(**ASK)
        assert found == "cached"
    (one,) = exchanges(path)
    assert (one.outcome, one.status) == ("replaced", None)


def test_a_filter_of_logs_that_fails_does_not_reach_the_request(tmp_path: Path) -> None:
    def fail(_record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the host's")

    watched = [logging.getLogger(f"agentkit_reporting.wire.{name}") for name in ("capture", "writing")]
    for logger in watched:
        logger.addFilter(fail)
    try:
        (tmp_path / "full.jsonl").symlink_to("/dev/full")
        with MessagesServer(["a", "b"]) as server:
            capture = WireCapture(tmp_path / "full.jsonl")
            with client_of(capture, server) as client:
                assert client.messages.create(**ASK).content
                assert not capture.flush(10)
                capture.close()
                assert client.messages.create(**ASK).content
    finally:
        for logger in watched:
            logger.removeFilter(fail)


class FailingClock(Clock):
    """A clock that is none any more for the thread that made it, once it `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self._maker = threading.current_thread()

    def monotonic(self) -> float:
        if self.fails and threading.current_thread() is self._maker:
            raise OSError("no clock")
        return super().monotonic()


def test_a_clock_that_fails_stops_no_stream(tmp_path: Path) -> None:
    path, clock = tmp_path / "wire.jsonl", FailingClock()
    with (
        MessagesServer(["one two three"]) as server,
        WireCapture(path, clock=clock) as capture,
        client_of(capture, server) as client,
    ):
        stream = client.messages.create(**ASK, stream=True)
        clock.fails = True
        assert [event.type for event in stream][-1] == "message_stop"
        clock.fails = False
    (one,) = exchanges(path)
    assert (one.status, one.outcome, one.ms("duration_ms")) == (200, "complete", None)


def test_a_pattern_that_ends_the_thread_does_not_end_the_recording(tmp_path: Path) -> None:
    class Ending(Redactor):
        def __init__(self) -> None:
            super().__init__()
            self.ends = True

        def text(self, text: str) -> str:
            if self.ends:
                raise SystemExit(text)
            return super().text(text)

    path, redactor = tmp_path / "wire.jsonl", Ending()
    with MessagesServer(["a", "b"]) as server:
        capture = WireCapture(path, redact=redactor)
        with client_of(capture, server) as client:
            assert client.messages.create(**ASK).content
            assert not capture.flush(10)
            assert capture.account().failed == 2
            redactor.ends = False
            assert client.messages.create(**ASK).content
        assert not capture.close(10)
    assert [one.outcome for one in exchanges(path)] == ["complete"]


def test_a_response_that_is_kept_keeps_no_copy_of_its_body(tmp_path: Path) -> None:
    with MessagesServer(["long " * 1_000]) as server, WireCapture(tmp_path / "wire.jsonl") as capture:
        transport = capture.transport()
        asked = httpx2.Request("POST", f"{server.base_url}/v1/messages", json=ASK, headers={"x-api-key": KEY})
        response = transport.handle_request(asked)
        assert len(response.read()) > 5_000
        assert capture.flush(10)
        response.close()
        transport.close()
        tap: Any = response.stream
        exchange: Exchange = tap._exchange
        assert (exchange.kept, exchange.request) == (None, None)
    assert response.content


def test_a_capture_that_closes_before_the_head_came_tells_two_records_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, came = tmp_path / "wire.jsonl", threading.Event()

    def stall(_body: object) -> ServerReply:
        came.set()
        return ServerReply(stall_head=True, headers={"content-type": "application/json"}, body=b'{"a":1}')

    with MessagesServer(stall) as server, caplog.at_level(logging.WARNING):
        capture = WireCapture(path)
        with client_of(capture, server) as client:
            thread = threading.Thread(target=lambda: client.messages.create(**ASK))
            thread.start()
            assert came.wait(10)
            assert capture.close(10)
            server.release()
            thread.join(10)
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()] == [
        "wire_request", "wire_response",
    ]  # fmt: skip
    assert exchanges(path)[0].outcome == "unfinished"
    assert capture.account().is_complete
    assert not caplog.records
