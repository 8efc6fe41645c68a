"""Reporters that tell the same run to the same place: one of them does, and says what the others left out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit_loop import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter, UsageReporter
from agentkit_reporting.tracing.run_claims import destination_of
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.sink_runs import agent_of
from tests.reporting.span_makers import ours, set_variables
from tests.reporting.traced import Traced

USED = Usage(input_tokens=10, output_tokens=1)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def family(above: TracingReporter, below: TracingReporter) -> UsageReporter:
    """Run an agent that asks another one, each with a reporter of its own; return what was used."""
    usage = UsageReporter()
    sub = Agent(ScriptedModel([Reply(text="s", usage=USED)]), name="sub", observers=[below])
    asked = ScriptedCall(name="sub", input={"prompt": "x"})
    model = ScriptedModel([Reply(calls=(asked,), usage=USED), Reply(text="d", usage=USED)])
    Agent(model, tools=[sub.as_tool(description="S.")], name="top", observers=[above, usage]).run("x")
    return usage


def tokens(receiver: OtlpReceiver) -> list[float]:
    """Return the input tokens that metrics tell, the last total of each sequence."""
    totals: dict[Any, float] = {}
    for request in receiver.metrics:
        for resource in request.resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                for point in metric.histogram.data_points:
                    told = attributes_of(point)
                    if metric.name == "gen_ai.client.token.usage" and told["gen_ai.token.type"] == "input":
                        instance = attributes_of(resource.resource)["service.instance.id"]
                        start = point.start_time_unix_nano
                        totals[instance, start, tuple(sorted(told.items()))] = point.sum
    return list(totals.values())


def test_an_agent_and_its_sub_agent_tell_one_endpoint_each_token_once(receiver: OtlpReceiver) -> None:
    above, below = (TracingReporter.over_otlp(receiver.endpoint, headers={"k": "v"}) for _ in "12")
    usage = family(above, below)
    assert above.close(30.0)
    assert below.close(30.0)
    spans = receiver.spans
    assert len({span.span_id for span in spans}) == len(spans) == 6
    used = [attributes_of(span).get("gen_ai.usage.input_tokens", 0) for span in spans]
    assert sum(used) == sum(tokens(receiver)) == usage.total.usage.total_input_tokens == 30
    assert above.told_elsewhere + below.told_elsewhere > 0


def test_endpoints_and_headers_that_differ_are_told_by_each() -> None:
    with OtlpReceiver() as first, OtlpReceiver() as second:
        above, below, other = (
            TracingReporter.over_otlp(receiver.endpoint, headers={"x-api-key": key}, metrics=False)
            for receiver, key in ((first, "a"), (second, "a"), (first, "b"))
        )
        with agent_of(above, below, other) as agent:
            agent.run("go")
        assert [each.close(30.0) for each in (above, below, other)] == [True] * 3
        assert [each.told_elsewhere for each in (above, below, other)] == [0, 0, 0]
        assert (len(first.spans), len(second.spans)) == (8, 4)


def test_a_destination_shows_nothing_and_is_the_same_for_the_same_headers() -> None:
    here = destination_of("http://me:word@host", {"Authorization": "Bearer abc", "b": "2"})
    assert here is destination_of("http://me:word@host", {"b": "2", "authorization": "Bearer abc"})
    assert here is not destination_of("http://me:word@host", {"b": "2", "authorization": "Bearer abd"})
    assert not any(secret in f"{here!r}{vars(here)}" for secret in ("word", "abc", "host"))


def test_what_is_left_out_for_another_reporter_of_the_provider_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit_reporting.tracing.reporter")
    live, recorder = Traced(), EventRecorder()
    agent_of(live.reporter, recorder).run("go")  # whose observers are not closed
    again = TracingReporter(live.provider, live.meters)
    heard = [event for event in recorder.events if isinstance(event, again.wants)]
    for event in heard:
        again.handle_event(event)
    assert (len(live.spans), again.told_elsewhere) == (4, len(heard))
    assert (again.flush(), live.reporter.told_elsewhere) == (True, 0)
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    with EventEmitter([again]).run(model="m"):
        pass
    assert again.told_elsewhere == len(heard)


def test_a_run_may_be_told_again_to_its_provider_when_its_reporter_is_closed_or_gone() -> None:
    live, recorder = Traced(), EventRecorder()
    with agent_of(live.reporter, recorder) as agent:
        agent.run("go")
    live.reporter.close()
    for count in (8, 12):
        again = TracingReporter(live.provider, metrics=False)
        for event in recorder.events:
            if isinstance(event, again.wants):
                again.handle_event(event)
        assert (len(live.spans), again.told_elsewhere) == (count, 0)
        del again  # which was not closed


# --- processes, and reporters that nobody holds


@pytest.mark.parametrize("given", [None, "argument", "variable"])
def test_a_forked_child_measures_under_an_instance_of_its_own_unless_the_host_gave_one(
    given: str | None, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given == "variable":
        set_variables(monkeypatch, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=mine")
    resource = {"service.instance.id": "mine"} if given == "argument" else None
    reporter = TracingReporter.over_otlp(receiver.endpoint, resource=resource)
    for _ in range(2):
        if (child := os.fork()) == 0:
            with EventEmitter([reporter]).run(model="m"):
                pass
            os._exit(not reporter.close(30.0))
        assert os.waitpid(child, 0)[1] == 0
    reporter.close(30.0)
    spans = [part.resource for request in receiver.traces for part in request.resource_spans]
    metrics = [part.resource for request in receiver.metrics for part in request.resource_metrics]
    of_spans, of_metrics = (
        [attributes_of(each)["service.instance.id"] for each in resources] for resources in (spans, metrics)
    )
    assert of_spans == of_metrics
    assert len(set(of_spans)) == (2 if given is None else 1)
    assert ("mine" in of_spans) is (given is not None)


def test_a_reporter_that_nobody_holds_is_delivered_and_its_threads_end(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(threading.enumerate())
    reporter = TracingReporter.over_otlp(receiver.endpoint)
    with EventEmitter([reporter]).run(model="m"):
        pass
    gone = weakref.ref(reporter)
    del reporter
    assert gone() is None
    for thread in set(threading.enumerate()) - before:
        if thread.name != "agentkit-otlp-dropped":
            thread.join(30.0)
            assert not thread.is_alive()
    assert (len(receiver.spans), ours(caplog)) == (1, [])


ENDED = """
import sys, threading
from agentkit_reporting import TracingReporter
for _ in range(2):  # the second time with threads that are new again
    reporters = [TracingReporter.over_otlp(sys.argv[1]) for _ in range(2)]
    reporters[0].close()
    del reporters
    while others := set(threading.enumerate()) - {threading.main_thread()}:
        for thread in others:
            thread.join()
    print([thread.name for thread in threading.enumerate()])
"""


def test_with_the_last_reporter_the_thread_ends_that_closes_those_that_are_dropped(
    receiver: OtlpReceiver,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDED, receiver.endpoint],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert (ended.stdout, ended.stderr) == ("['MainThread']\n" * 2, "")
