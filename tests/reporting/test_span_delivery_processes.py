"""Spans when a process ends or forks: what is held is sent within a bound, or said; a child has its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.otlp_receiver import OtlpReceiver

HEAD = """
import os, sys, threading
from agentkit_reporting.tracing.otlp_provider import otlp_tracing
tracing = otlp_tracing(sys.argv[1])
def end_spans(number, name="span", tracing=tracing):
    tracer = tracing.tracer_provider.get_tracer("test")
    for _ in range(number): tracer.start_span(name).end()
def count(number, tracing=tracing):
    tracing.meter_provider.get_meter("test").create_counter("answers").add(number)
def done(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def stderr_of(program: str, endpoint: str, *, code: int = 0, head: str = HEAD, **variables: str) -> str:
    """Run a program of its own; return what it said on stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + program, endpoint],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **variables},
    )
    assert ran.returncode == code, ran.stderr
    return ran.stderr


def names(receiver: OtlpReceiver) -> list[str]:
    return sorted(span.name for span in receiver.spans)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("del tracing, end_spans, count", 0),
        ("threading.Thread(target=print, args=['x']).start()", 0),
    ],
    ids=["the end of main", "sys.exit", "nobody holds it", "with a thread"],
)
def test_what_is_held_is_sent_however_the_program_ends(ending: str, code: int) -> None:
    with OtlpReceiver() as receiver:
        assert stderr_of(f"end_spans(700)\ncount(3)\n{ending}", receiver.endpoint, code=code) == ""
        assert len(receiver.spans) == 700
        assert receiver.metrics


def test_what_is_held_is_sent_when_an_exception_ends_the_program() -> None:
    with OtlpReceiver() as receiver:
        said = stderr_of("end_spans(7)\nraise ValueError('own')", receiver.endpoint, code=1)
        assert said.endswith("ValueError: own\n")
        assert "spans" not in said.replace("end_spans", "")
        assert len(receiver.spans) == 7


def test_a_program_that_closed_has_nothing_left_to_say() -> None:
    with OtlpReceiver() as receiver:
        assert stderr_of("end_spans(7)\nassert tracing.close()", receiver.endpoint) == ""
        assert len(receiver.traces) == 1


def test_a_receiver_that_hangs_holds_the_end_up_for_a_bound_and_what_is_lost_is_said() -> None:
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        shorter = "import agentkit_reporting.process_ends as ends, atexit\n"
        shorter += "atexit.unregister(ends.deliver_all)\natexit.register(ends.deliver_all, 0.3)\n"
        said = stderr_of(f"{shorter}end_spans(7)", receiver.endpoint)
        assert said == (
            f"TracingReporter: 0 of 7 spans were delivered to {receiver.endpoint}/v1/traces (7 failed); "
            "last error: no answer yet\n"
        )


def test_who_interrupts_the_wait_at_the_end_is_told_what_is_lost() -> None:
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        program = [sys.executable, "-c", f"{HEAD}end_spans(7)", receiver.endpoint]
        with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process, receiver.arrived:
            assert receiver.arrived.wait_for(lambda: receiver.requests, 30)
            process.send_signal(signal.SIGINT)
            said = process.communicate()[1]
        assert said == (
            f"TracingReporter: 0 of 7 spans were delivered to {receiver.endpoint}/v1/traces (7 failed); "
            "last error: no answer yet\n"
        )


def test_a_receiver_that_refuses_is_told_once_and_the_loss_in_one_line_at_the_end() -> None:
    with OtlpReceiver(statuses=(401,) * 9) as receiver:
        said = stderr_of("end_spans(7)\ntracing.flush()\nend_spans(3)", receiver.endpoint)
        told, lost = said.splitlines()
        assert told.startswith(
            f"TracingReporter: spans are not delivered to {receiver.endpoint}/v1/traces: 401 Unauthorized; "
        )
        assert lost == (
            f"TracingReporter: 0 of 10 spans were delivered to {receiver.endpoint}/v1/traces (10 failed)"
        )


FORK = """
def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
    return child
"""


def test_a_forked_child_has_counts_and_connections_of_its_own() -> None:
    program = """
end_spans(3, "before")
assert tracing.flush(30.0)
end_spans(5, "held by the parent")
def work():
    assert tracing.counts().ended == 0
    end_spans(2, "of the child")
    count(1)
    assert tracing.close(30.0), tracing
    assert tracing.counts().delivered == 2
count(40)
done(forked(work))
assert tracing.counts().pending == 5
"""
    with OtlpReceiver() as receiver:
        assert stderr_of(FORK + program, receiver.endpoint) == ""
        assert names(receiver) == ["before"] * 3 + ["held by the parent"] * 5 + ["of the child"] * 2
        totals = [
            point.as_int
            for request in receiver.metrics
            for metric in request.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.sum.data_points
        ]
        assert totals == [1, 40]


def test_a_child_that_ends_by_itself_sends_what_it_holds() -> None:
    program = (
        "end_spans(1, 'of the parent')\nif os.fork() == 0: end_spans(2, 'of the child')\nelse: os.wait()"
    )
    with OtlpReceiver() as receiver:
        assert stderr_of(program, receiver.endpoint) == ""
        assert names(receiver) == ["of the child"] * 2 + ["of the parent"]


@pytest.mark.parametrize("made", ["by the parent", "by the child"])
def test_a_child_of_multiprocessing_sends_what_it_holds_when_it_ends(made: str) -> None:
    program = f"""
import multiprocessing
def work():
    if {made!r} == "by the child":
        end_spans(2, "of the child", otlp_tracing(sys.argv[1]))
    else:
        end_spans(2, "of the child")
end_spans(1, "of the parent")
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
"""
    with OtlpReceiver() as receiver:
        assert stderr_of(program, receiver.endpoint) == ""
        assert names(receiver) == ["of the child"] * 2 + ["of the parent"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_that_is_the_first_to_hold_anything_sends_it_when_it_ends(method: str) -> None:
    program = f"""
import multiprocessing
from tests.reporting.span_makers import end_two_spans
child = multiprocessing.get_context({method!r}).Process(target=end_two_spans, args=sys.argv[1:])
child.start()
child.join()
assert child.exitcode == 0
"""
    with OtlpReceiver() as receiver:
        assert stderr_of(program, receiver.endpoint, head="import sys\n") == ""
        assert len(receiver.spans) == 2


def test_forks_while_a_request_hangs_leave_no_lock_held() -> None:
    program = """
stop = threading.Event()
def tell():
    while not stop.is_set(): end_spans(1, "of the parent")
threads = [threading.Thread(target=tell) for _ in range(2)]
for thread in threads: thread.start()
def work():
    end_spans(1, "of a child")
    count(1)
    sys.exit(tracing.close(0.0))
for _ in range(10):
    child = os.fork()
    if child == 0:
        end_spans(1)
        count(1)
        os._exit(tracing.close(0.01))
    done(child)
stop.set()
for thread in threads: thread.join()
os._exit(0)
"""
    with OtlpReceiver() as receiver:
        receiver.release.clear()
        said = stderr_of(
            program, receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="1", OTEL_METRIC_EXPORT_INTERVAL="1"
        )
        assert said.count("0 of 1 spans were delivered") == 10


def test_without_the_extra_the_error_names_it() -> None:
    program = (
        "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.http'] = None\n"
        "from agentkit_reporting.tracing.otlp_provider import otlp_tracing\n"
        "try: otlp_tracing(headers={'authorization': 'secret'})\n"
        "except Exception as error: print(type(error).__name__, error, sep=': ')"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == (
        "ConfigurationError: a delivery over OTLP refused because opentelemetry-exporter-otlp-proto-http is not "
        "installed; install agentkit-loop[otel]\n"
    )


def test_naming_the_provider_loads_nothing_of_opentelemetry() -> None:
    program = (
        "import sys\nfrom agentkit_reporting.tracing.otlp_provider import otlp_tracing\n"
        "print([name for name in ('opentelemetry', 'requests', 'asyncio', 'ssl') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
