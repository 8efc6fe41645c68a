"""`agentkit export otlp`: what arrives, what is said where not all of it does, and what is never said."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit_reporting import read_events
from agentkit_reporting.tracing.log_spans import batches_of, spans_of
from agentkit_reporting.tracing.otlp import OtlpSender, Sent
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import ENVIRONMENT, agentkit
from tests.cli.test_export import spans_of as spans_of_lines
from tests.cli.test_export import write_many
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.span_samples import exported, span

SECRET = "s3cret-never-shown"  # noqa: S105 - of nothing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fixed(tmp_path / "runs.jsonl")
    write_broken(tmp_path / "runs.jsonl")
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as started:
        yield started


@pytest.fixture
def dead_endpoint() -> str:
    """Return the address of a port where nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_all_spans_arrive_with_their_service_and_are_counted(folder: Path, receiver: OtlpReceiver) -> None:
    url = receiver.endpoint
    result = agentkit(
        "export",
        "otlp",
        "runs.jsonl",
        "--endpoint",
        url,
        "--service-name",
        "mine",
        "--header",
        "X-Key=a=b",
        cwd=folder,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"sent 16 of 16 spans (2 traces) to {url}/v1/traces\n"
    assert receiver.headers[0]["x-key"] == "a=b"
    (resource,) = receiver.traces[0].resource_spans
    assert attributes_of(resource.resource)["service.name"] == "mine"
    lines = agentkit("export", "otlp-json", "runs.jsonl", cwd=folder).stdout
    assert [each.span_id.hex() for each in receiver.spans] == [
        each["spanId"] for each in spans_of_lines(lines)
    ]


def test_a_log_from_standard_input_goes_to_the_endpoint_of_the_environment(
    folder: Path, receiver: OtlpReceiver
) -> None:
    result = agentkit(
        "export",
        "otlp",
        "-",
        "--json",
        "--session",
        "x-2",
        cwd=folder,
        given=(folder / "runs.jsonl").read_bytes(),
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.endpoint}/v1/traces",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=t1",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    )
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert (told["spans"], told["delivered"], told["not_sent"], told["traces"]) == (7, 7, 0, 1)
    assert (told["failure"], told["incomplete_sessions"]) == (None, [])
    assert len(receiver.spans) == 7
    assert receiver.headers[0]["x-tenant"] == "t1"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "it answered 400 (Bad Request)"),
        (403, "it answered 403 (Forbidden); give its credentials by --header"),
        (404, "it answered 404 (Not Found); give an endpoint that takes OTLP over HTTP"),
        (302, "it answered 302 (Found), and no redirect is followed; give the address that it leads to"),
        (503, "it answered 503 (Service Unavailable)"),
        (999, "it answered 999"),
    ],
)
def test_a_refused_batch_says_why(monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # less than the pause before a second try
    with (
        OtlpReceiver(statuses=(status,) * 9) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(exported(span())) == Sent(failure=said)


class PageServer(OtlpReceiver):
    """A server that takes everything and answers with a page."""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["content-length"]))
        request.send_response(200)
        request.send_header("content-type", "text/html; charset=utf-8")
        request.send_header("content-length", "0")
        request.end_headers()


def test_a_page_is_no_answer_of_an_endpoint() -> None:
    with PageServer() as server, OtlpSender(server.endpoint, headers={}, resource={}) as sender:
        sent = sender.send(exported(span()))
    assert sent == Sent(failure="it answered with a web page; give an endpoint that takes OTLP over HTTP")


def test_a_header_wins_over_what_the_home_directory_says(
    folder: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "netrc").write_text("machine 127.0.0.1 login ann password pw\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    for headers in ({"Authorization": "Bearer given"}, {}):
        with OtlpSender(f"{receiver.endpoint}/v1/traces", headers=headers, resource={}) as sender:
            assert sender.send(exported(span())) == Sent(taken=1)
    assert [each["authorization"][:6] for each in receiver.headers] == ["Bearer", "Basic "]


def test_a_certificate_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/not/there.pem")
    with OtlpSender("https://127.0.0.1:1/v1/traces", headers={}, resource={}) as sender:
        sent = sender.send(exported(span()))
    assert sent == Sent(
        failure="a certificate cannot be read; look at OTEL_EXPORTER_OTLP_CERTIFICATE and the like"
    )


def test_a_refusal_is_one_sentence_that_says_what_is_missing_and_no_secret(folder: Path) -> None:
    with OtlpReceiver(statuses=(401,)) as receiver:
        address = receiver.endpoint.removeprefix("http://")
        result = agentkit(
            *("export", "otlp", "runs.jsonl", "--endpoint", f"http://ann:{SECRET}@{address}/?k={SECRET}"),
            *("--header", f"x-key={SECRET}"),
            cwd=folder,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"agentkit: sent 0 of 16 spans (2 traces) to http://{address}/v1/traces?…: it answered 401 (Unauthorized); "
        "give its credentials by --header; spans are missing of fix-1, fix-2\n"
    )


def test_an_endpoint_that_is_not_there_or_hangs_is_told_in_one_sentence(
    folder: Path, dead_endpoint: str, receiver: OtlpReceiver
) -> None:
    arguments = ("export", "otlp", "runs.jsonl", "--json", "--endpoint")
    dead = agentkit(*arguments, dead_endpoint, cwd=folder, OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
    assert dead.returncode == 1
    assert "it cannot be reached (connection refused); spans are missing of fix-1, fix-2\n" in dead.stderr
    told = json.loads(dead.stdout)
    assert (told["spans"], told["delivered"], told["not_sent"]) == (16, 0, 16)
    assert told["incomplete_sessions"] == ["fix-1", "fix-2"]
    receiver.release.clear()
    hanging = agentkit(*arguments, receiver.endpoint, cwd=folder, OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
    assert hanging.returncode == 1
    assert "it did not answer in time; spans are missing of fix-1, fix-2\n" in hanging.stderr
    assert hanging.stderr.count("\n") == 1


class HangingReceiver(OtlpReceiver):
    """A receiver that never answers, and says when somebody asks."""

    def __init__(self) -> None:
        super().__init__()
        self.release.clear()
        self.asked = threading.Event()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.set()
        super().answer(request)


def test_an_interrupt_says_what_was_sent(folder: Path) -> None:
    command = (sys.executable, "-m", "agentkit_reporting.cli", "export", "otlp", "runs.jsonl")
    with HangingReceiver() as receiver:
        process = subprocess.Popen(
            [*command, "--endpoint", receiver.endpoint], cwd=folder, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        assert receiver.asked.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.decode().split("\n") == [
        f"agentkit: sent 0 of 16 spans (2 traces) to {receiver.endpoint}/v1/traces",
        "",  # click goes to the next line, since a terminal shows ^C
        "agentkit: interrupted",
        "",
    ]


def test_spans_that_the_endpoint_rejects_are_not_counted_as_sent(folder: Path) -> None:
    with OtlpReceiver(rejected=2) as receiver:
        result = agentkit("export", "otlp", "runs.jsonl", "--endpoint", receiver.endpoint, cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert "sent 14 of 16 spans (2 traces) to " in result.stderr
    assert result.stderr.endswith(": it refused 2 spans\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no endpoint to send to; give --endpoint"),
        (("--endpoint", f"ann:{SECRET}@host"), "does not begin with http:// or https://"),
        (("--endpoint", "http://h", "--header", SECRET), "it is no NAME=VALUE"),
        (("--endpoint", "http://h", "--header", f"x={SECRET}\nb: c"), "--header x=… refused"),
    ],
    ids=["no-endpoint", "no-address", "no-header", "two-lines"],
)
def test_wrong_options_are_refused_without_their_secrets(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = agentkit("export", "otlp", "runs.jsonl", *arguments, cwd=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_log_without_a_run_sends_nothing(folder: Path, receiver: OtlpReceiver) -> None:
    (folder / "empty.jsonl").write_bytes(b"")
    result = agentkit("export", "otlp", "empty.jsonl", "--endpoint", receiver.endpoint, cwd=folder)
    assert (result.returncode, result.stdout, receiver.requests) == (1, "", 0)
    assert "no run in empty.jsonl" in result.stderr


def test_what_was_sent_before_a_refusal_counts_and_the_rest_is_missing(folder: Path) -> None:
    write_many(folder / "many.jsonl", folder / "runs.jsonl", 50)
    with OtlpReceiver(statuses=(200, 400)) as receiver:
        result = agentkit("export", "otlp", "many.jsonl", "--endpoint", receiver.endpoint, cwd=folder)
    assert (result.returncode, receiver.requests) == (1, 2)
    assert result.stderr.startswith("agentkit: sent 512 of 800 spans (100 traces) to ")
    assert result.stderr.endswith(
        "spans are missing of fix-32-1, fix-32-2, fix-33-1, fix-33-2, fix-34-1 and 31 more sessions\n"
    )


def test_a_batch_that_is_too_large_is_sent_in_halves(folder: Path) -> None:
    (batch,) = batches_of(spans_of(read_events(folder / "runs.jsonl")))
    with (
        OtlpReceiver(statuses=(413,)) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(batch) == Sent(taken=16)
    assert [len(request.resource_spans[0].scope_spans[0].spans) for request in receiver.traces] == [8, 8]
    assert len(receiver.spans) == 16
    with (
        OtlpReceiver(statuses=(413,)) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(exported(span())) == Sent(rejected=1, said="larger than it takes")


def test_an_endpoint_that_is_overloaded_for_a_moment_gets_the_batch_again() -> None:
    with (
        OtlpReceiver(statuses=(503,)) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(exported(span())) == Sent(taken=1)
    assert (receiver.requests, len(receiver.spans)) == (2, 1)


def test_without_opentelemetry_one_sentence_says_what_to_install(folder: Path) -> None:
    (folder / "opentelemetry.py").write_text("raise ImportError('not here')\n")
    result = agentkit("export", "otlp", "runs.jsonl", "--endpoint", "http://h", cwd=folder)
    assert result.returncode == 2
    assert "OpenTelemetry is not installed; install agentkit-loop[otel]\n" in result.stderr
    assert result.stderr.count("\n") == 1
