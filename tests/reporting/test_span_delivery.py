"""Spans on their way to a receiver: every one is counted as what became of it, and nobody is believed."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit_loop.agent import Agent
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting.tracing.otlp_provider import OtlpTracing, otlp_tracing
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.paying_agent import pay, paying
from tests.reporting.span_makers import QUICK, RunSpans, end_spans, ours, set_variables, tracing_to


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)


@pytest.fixture
def dead() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_the_spans_of_a_run_arrive_with_their_resource_and_are_counted() -> None:
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint, service_name="shop") as tracing:
        agent = Agent(ScriptedModel(paying()), tools=[pay], observers=[RunSpans(tracing.tracer_provider)])
        agent.run("Pay bob.")
        assert tracing.flush(30.0)
        assert sorted(span.name for span in receiver.spans) == [
            "chat scripted",
            "chat scripted",
            "execute_tool pay",
            "invoke_agent agent",
        ]
        resource = attributes_of(receiver.traces[0].resource_spans[0].resource)
        counts, account = tracing.counts(), tracing.account()
    assert resource["service.name"] == "shop"
    assert resource["telemetry.sdk.name"] == "opentelemetry"
    assert (counts.ended, counts.delivered, counts.pending, counts.last_error) == (4, 4, 0, None)
    assert str(account) == "complete: 4 of 4"


def test_closing_delivers_what_is_held_and_says_that_all_of_it_arrived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with OtlpReceiver() as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        end_spans(tracing, 1_000)
        assert tracing.close(30.0)
        assert len(receiver.spans) == 1_000
        assert tracing.close(30.0)
    assert str(tracing.account()) == "complete: 1000 of 1000"
    assert ours(caplog) == []


def test_what_ends_after_the_close_is_refused_and_counted() -> None:
    with OtlpReceiver() as receiver:
        tracing = otlp_tracing(receiver.endpoint)
        end_spans(tracing, 2)
        assert tracing.close(30.0)
        end_spans(tracing, 3)
        counts = tracing.counts()
    assert (counts.ended, counts.delivered, counts.refused, counts.pending) == (5, 2, 3, 0)
    assert not tracing.close(30.0)


def test_spans_that_are_not_sampled_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_TRACES_SAMPLER="always_off")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 5)
        assert tracing.flush(30.0)
        assert tracing.counts().ended == 0


@pytest.mark.parametrize("status", [302, 400, 401, 404, 500])
def test_a_receiver_that_refuses_is_told_once_and_the_rest_is_counted(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        OtlpReceiver(statuses=(status,) * 10) as receiver,
        tracing_to(receiver.endpoint, headers={"authorization": "Bearer hush-hush"}) as tracing,
    ):
        for _ in range(10):
            end_spans(tracing, 3)
            assert not tracing.flush(30.0)
        counts = tracing.counts()
        assert (counts.ended, counts.failed, counts.delivered, counts.pending) == (30, 30, 0, 0)
        assert counts.last_error is not None
        assert counts.last_error.startswith(f"{status} ")
        (told,) = ours(caplog)
        assert told.startswith(
            f"TracingReporter: spans are not delivered to {receiver.endpoint}/v1/traces: {status} "
        )
    assert "hush" not in caplog.text + repr(tracing) + repr(tracing.__dict__)


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_is_busy_for_a_moment_gets_the_batch_again(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with OtlpReceiver(statuses=(status,)) as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 3)
        assert tracing.flush(30.0)
        assert receiver.requests == 2
        assert len(receiver.spans) == 3
    assert ours(caplog) == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_stays_busy_fails_the_batch_within_its_time(status: int) -> None:
    with (
        OtlpReceiver(statuses=(status,) * 50) as receiver,
        tracing_to(receiver.endpoint, timeout_s=0.2) as tracing,
    ):
        end_spans(tracing, 3)
        assert not tracing.flush(30.0)
        assert tracing.counts().failed == 3


def test_a_dead_receiver_is_told_once_whatever_the_sdk_says(
    dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with tracing_to(f"{dead}?api_key=hush", timeout_s=0.2) as tracing:
        end_spans(tracing, 2)
        assert tracing.tracer_provider.force_flush() is False
        end_spans(tracing, 3)
        assert not tracing.flush(30.0)
        assert tracing.counts().failed == 5
        told = f"TracingReporter: spans are not delivered to {dead}/v1/traces: Connection refused; "
        assert [line[: len(told)] for line in ours(caplog)] == [told]
        assert not tracing.close(30.0)
    assert ours(caplog)[1:] == [
        f"TracingReporter: 0 of 5 spans were delivered to {dead}/v1/traces (5 failed)"
    ]
    assert "hush" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_receiver_that_takes_only_some_is_counted_as_it_says(caplog: pytest.LogCaptureFixture) -> None:
    with OtlpReceiver(rejected=2) as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 5)
        assert not tracing.flush(30.0)
        counts = tracing.counts()
        assert (counts.delivered, counts.rejected, counts.failed) == (3, 2, 0)
        assert str(tracing.account()) == "incomplete: 3 of 5 (2 failed)"
        assert ["2 rejected by the receiver" in line for line in ours(caplog)] == [True]


def test_a_span_that_cannot_be_encoded_takes_no_other_with_it() -> None:
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 3)
        end_spans(tracing, 1, name="torn \ud800")
        end_spans(tracing, 4)
        assert not tracing.flush(30.0)
        assert len(receiver.spans) == 7
        counts = tracing.counts()
    assert (counts.delivered, counts.failed, counts.last_error) == (7, 1, "spans that cannot be encoded")


def test_a_batch_that_is_too_large_is_sent_in_halves() -> None:
    with OtlpReceiver(statuses=(413, 413)) as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 8)
        assert tracing.flush(30.0)
        assert [len(each.resource_spans[0].scope_spans[0].spans) for each in receiver.traces] == [2, 2, 4]


def test_what_the_full_queue_drops_is_counted_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_variables(monkeypatch, OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_SCHEDULE_DELAY="60000")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        receiver.release.clear()
        end_spans(tracing, 10)  # the batch: the queue is empty again when it is on its way
        with receiver.arrived:
            assert receiver.arrived.wait_for(lambda: receiver.requests == 1, 30.0)
        end_spans(tracing, 25)
        counts = tracing.counts()
        assert (counts.ended, counts.dropped, counts.pending) == (35, 15, 20)
        receiver.release.set()
        assert not tracing.flush(30.0)
        assert len(receiver.spans) == 20
        counts = tracing.counts()
        assert (counts.delivered, counts.dropped, counts.pending) == (20, 15, 0)
    assert [line for line in ours(caplog) if "10 wait already, more are dropped" in line] == [ours(caplog)[0]]


def test_many_threads_that_end_spans_at_once_lose_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_BSP_MAX_QUEUE_SIZE="50", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="7")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        threads = [threading.Thread(target=end_spans, args=(tracing, 300)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tracing.flush(30.0)
        counts = tracing.counts()
        assert counts.ended == 1_800
        assert (counts.pending, counts.failed) == (0, 0)
        assert counts.delivered == len(receiver.spans) == 1_800 - counts.dropped


def test_the_sdks_own_messages_about_others_exports_are_not_touched(caplog: pytest.LogCaptureFixture) -> None:
    with OtlpReceiver(statuses=(400,)) as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)
    caplog.clear()
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").warning("of somebody else")
    assert ours(caplog) == ["of somebody else"]


def test_an_endpoint_that_hangs_holds_no_agent_up(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, **QUICK)
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        receiver.release.clear()

        @tool
        def look(round_: int) -> str:
            """Look, from the second round on while a request hangs: spans of the first have ended by then."""
            if round_:
                with receiver.arrived:
                    assert receiver.arrived.wait_for(lambda: receiver.requests > 0, 30.0)
            return "seen"

        replies = [Reply(calls=(ScriptedCall(name="look", input={"round_": turn}),)) for turn in range(19)]
        spans = RunSpans(tracing.tracer_provider)
        result = Agent(ScriptedModel([*replies, "Done."]), tools=[look], observers=[spans]).run("Look.")
        assert result.text == "Done."
        assert (receiver.requests, receiver.spans) == (1, [])  # held as yet, and everything was handled
        assert tracing.counts().pending == tracing.counts().ended == 20 + 19 + 1
        assert not tracing.flush(0.0)
        receiver.release.set()
        assert tracing.flush(30.0)
        assert len(receiver.spans) == 40


def test_an_endpoint_that_is_known_to_be_dead_gets_one_try_and_its_retries_when_it_answers_again() -> None:
    tries = 6  # of the exporter's own
    with OtlpReceiver(statuses=(503,) * (tries + 1)) as receiver, tracing_to(receiver.endpoint) as tracing:
        for made in (tries, tries + 1):
            end_spans(tracing, 1)
            assert not tracing.flush(30.0)
            assert receiver.requests == made
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)  # those before have failed
        receiver.statuses.append(503)
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)
        counts = tracing.counts()
        assert (counts.failed, counts.delivered, receiver.requests) == (2, 2, tries + 4)


def test_a_close_tries_a_dead_endpoint_once_more_and_says_once_what_is_missing(
    dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = otlp_tracing(dead, timeout_s=0.5)
    end_spans(tracing, 1)
    assert not tracing.flush(30.0)
    end_spans(tracing, 2)
    assert not tracing.close(30.0)
    assert tracing.counts().failed == 3
    assert [line.partition("/v1/traces")[2] for line in ours(caplog)] == [
        ": Connection refused; this is told once, the account counts the rest",
        " (3 failed)",
    ]


def test_closing_gives_up_what_hangs_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_variables(monkeypatch, **QUICK)
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        tracing = otlp_tracing(receiver.endpoint)
        end_spans(tracing, 3)
        with receiver.arrived:
            assert receiver.arrived.wait_for(lambda: receiver.requests > 0, 30.0)
        assert not tracing.close(0.01)
        counts = tracing.counts()
        assert (counts.delivered, counts.failed, counts.pending) == (0, 3, 0)
        assert not tracing.close(0.01)
        (said,) = ours(caplog)
        assert said.startswith(
            f"TracingReporter: 0 of 3 spans were delivered to {receiver.endpoint}/v1/traces (3 failed); "
        )
        assert said.endswith("; last error: no answer yet")


def test_who_gives_no_time_waits_for_that_of_the_option_and_only_once() -> None:
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        tracing = otlp_tracing(receiver.endpoint, close_timeout_s=0.01)
        end_spans(tracing, 3)
        assert not tracing.flush()
        assert not tracing.close()
        assert not tracing.close(600.0)
        assert not tracing.flush(600.0)
        assert tracing.counts().failed == 3


async def _both(tracing: OtlpTracing) -> tuple[bool, bool]:
    return tracing.flush(None), tracing.close(None)


def test_on_an_event_loop_neither_a_flush_nor_a_close_waits_and_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, **QUICK)
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        tracing = otlp_tracing(receiver.endpoint)
        end_spans(tracing, 3)
        assert asyncio.run(_both(tracing)) == (False, False)
        receiver.release.set()
        assert tracing.close(30.0)
        assert len(receiver.spans) == 3


def test_other_processors_can_be_added_beside() -> None:
    exporter = InMemorySpanExporter()
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        tracing.tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
        end_spans(tracing, 2)
        assert tracing.flush(30.0)
        assert len(exporter.get_finished_spans()) == len(receiver.spans) == 2
        tracing.tracer_provider.shutdown()
        assert tracing.close(30.0)
