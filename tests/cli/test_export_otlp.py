"""`agentkit export otlp`: what arrives, what is said where not all of it does, and what is never said."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import JsonlReporter, read_events
from agentkit_reporting.cli import main
from agentkit_reporting.tracing.log_spans import batches_of, spans_of
from agentkit_reporting.tracing.otlp import OtlpSender, Sent
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import ENVIRONMENT, agentkit
from tests.cli.test_export import spans_of as spans_of_lines
from tests.cli.test_export import write_many
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.span_makers import set_variables
from tests.reporting.span_samples import exported, span

Export: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

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
def export(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Export:
    """Return what runs `agentkit export` in the folder, in this process, as the console script does."""
    monkeypatch.chdir(folder)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            set_variables(patch, **environment)
            main(["export", *arguments])
        code = ended.value.code
        assert code is None or isinstance(code, int)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code or 0, said.out, said.err)

    return run


@pytest.fixture
def dead_endpoint() -> str:
    """Return the address of a port where nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_all_spans_arrive_with_their_service_and_are_counted(export: Export, receiver: OtlpReceiver) -> None:
    url = receiver.endpoint
    result = export(
        "otlp",
        "runs.jsonl",
        "--endpoint",
        url,
        "--service-name",
        "mine",
        "--header",
        "X-Key=a=b",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"sent 16 of 16 spans (2 traces) to {url}/v1/traces\n"
    assert receiver.headers[0]["x-key"] == "a=b"
    (resource,) = receiver.traces[0].resource_spans
    assert attributes_of(resource.resource)["service.name"] == "mine"
    lines = export("otlp-json", "runs.jsonl").stdout
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
        (400, "400 Bad Request"),
        (302, "302 Found"),
        (503, "503 Service Unavailable"),
        (999, "999"),
    ],
)
def test_a_refused_batch_says_why(monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")  # less than the pause before a second try
    with (
        OtlpReceiver(statuses=(status,) * 9) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(exported(span())) == Sent(failure=said, status=status)


class PageServer(OtlpReceiver):
    """A server that takes everything and answers with a page."""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["content-length"]))
        request.send_response(200)
        request.send_header("content-type", "text/html; charset=utf-8")
        request.send_header("content-length", "6")
        request.end_headers()
        request.wfile.write(b"<html>")


class WordyServer(PageServer):
    """A server that refuses everything, and says why."""

    def __init__(self, kind: str, body: str) -> None:
        super().__init__()
        self._kind, self._body = kind, body.encode()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["content-length"]))
        request.send_response(400)
        request.send_header("content-type", self._kind)
        request.send_header("content-length", str(len(self._body)))
        request.end_headers()
        request.wfile.write(self._body)


def test_a_page_is_no_answer_of_an_endpoint() -> None:
    with PageServer() as server, OtlpSender(server.endpoint, headers={}, resource={}) as sender:
        sent = sender.send(exported(span()))
    assert sent == Sent(failure="a web page answered, not a receiver of OTLP", status=200)


def test_a_refusal_is_one_sentence_that_says_what_is_missing_and_no_secret(export: Export) -> None:
    with OtlpReceiver(statuses=(401,)) as receiver:
        address = receiver.endpoint.removeprefix("http://")
        result = export(
            *("otlp", "runs.jsonl", "--endpoint", f"http://ann:{SECRET}@{address}/?k={SECRET}"),
            *("--header", f"x-key={SECRET}"),
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"agentkit: sent 0 of 16 spans (2 traces) to http://***@{address}/v1/traces: 401 Unauthorized; "
        "give its credentials by --header; spans are missing of fix-1, fix-2\n"
    )


def test_an_endpoint_that_is_not_there_or_hangs_is_told_in_one_sentence(
    export: Export, dead_endpoint: str, receiver: OtlpReceiver
) -> None:
    arguments = ("otlp", "runs.jsonl", "--json", "--endpoint")
    dead = export(*arguments, dead_endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="0.1")
    assert dead.returncode == 1
    assert ": Connection refused; spans are missing of fix-1, fix-2\n" in dead.stderr
    told = json.loads(dead.stdout)
    assert (told["spans"], told["delivered"], told["not_sent"]) == (16, 0, 16)
    assert told["incomplete_sessions"] == ["fix-1", "fix-2"]
    receiver.release.clear()
    hanging = export(*arguments, receiver.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="0.1")
    assert hanging.returncode == 1
    assert ": no answer in time; spans are missing of fix-1, fix-2\n" in hanging.stderr
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


def test_spans_that_the_endpoint_rejects_are_not_counted_as_sent(export: Export) -> None:
    with OtlpReceiver(rejected=2) as receiver:
        result = export("otlp", "runs.jsonl", "--endpoint", receiver.endpoint)
    assert (result.returncode, result.stdout) == (1, "")
    assert "sent 14 of 16 spans (2 traces) to " in result.stderr
    assert result.stderr.endswith(": 2 spans rejected\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no endpoint to send to; give --endpoint"),
        (("--endpoint", f"ann:{SECRET}@host"), "='***@host' refused, which has no scheme"),
        (("--endpoint", "http://h", "--header", SECRET), "it is no NAME=VALUE"),
        (("--endpoint", "http://h", "--header", f"x={SECRET}\nb: c"), "the value of header 'x' refused"),
        (
            ("--endpoint", "http://h", "--header", f"x: {SECRET}=="),
            "a header's name that begins with 'x' refused",
        ),
    ],
    ids=["no-endpoint", "no-address", "no-header", "two-lines", "colon"],
)
def test_wrong_options_are_refused_without_their_secrets(
    export: Export, arguments: tuple[str, ...], said: str
) -> None:
    result = export("otlp", "runs.jsonl", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr


def test_what_the_endpoint_says_of_a_refusal_is_told_without_what_it_was_sent(export: Export) -> None:
    body = json.dumps({"error": {"message": f"no tenant for {SECRET}\n\x1b[31m" + "x" * 500}})
    with WordyServer("application/json", body) as server:
        result = export("otlp", "runs.jsonl", "--endpoint", server.endpoint, "--header", f"x-key={SECRET}")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "/v1/traces: 400 Bad Request: no tenant for ***" in result.stderr
    assert SECRET not in result.stderr
    assert "\x1b" not in result.stderr
    assert "x" * 130 not in result.stderr


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("application/json", '{"error":"tenant quota exceeded"}', ": tenant quota exceeded"),
        ("application/json", '{"errors":[{"message":"no"}]}', ": no"),
        ("application/json", "{}", ": {}"),
        ("application/problem+json", '{"title":"no such tenant"}', ": no such tenant"),
        ("text/plain; charset=utf-8", "quota\n", ": quota"),
        ("text/plain", "<html>", ""),
        ("text/html", "no page", ""),
        ("application/x-protobuf", "\x12\x04gone", ": gone"),
        ("application/x-protobuf", "\x7f", ""),
        ("", "x", ""),
    ],
)
def test_a_refusal_in_words_is_told_with_its_status(kind: str, body: str, said: str) -> None:
    with WordyServer(kind, body) as server, OtlpSender(server.endpoint, headers={}, resource={}) as sender:
        assert sender.send(exported(span())) == Sent(failure=f"400 Bad Request{said}", status=400)


def test_a_header_of_the_environment_that_cannot_be_read_is_told_by_name(
    folder: Path, receiver: OtlpReceiver
) -> None:
    result = agentkit(
        *("export", "otlp", "runs.jsonl", "--endpoint", receiver.endpoint),
        cwd=folder,
        OTEL_EXPORTER_OTLP_HEADERS=SECRET,
    )
    assert result.stderr.startswith("agentkit: a header in OTEL_EXPORTER_OTLP_HEADERS is left out because ")


def test_runs_without_an_end_and_what_is_told_twice_stand_in_the_json_too(
    export: Export, folder: Path, receiver: OtlpReceiver
) -> None:
    log = folder / "runs.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    (folder / "cut.jsonl").write_bytes(b"".join(lines[:-1]))
    result = export("otlp", "cut.jsonl", "cut.jsonl", "--json", "--endpoint", receiver.endpoint)
    told = json.loads(result.stdout)
    assert (result.returncode, told["open_sessions"]) == (0, {"fix-2": 1})
    assert told["repeated_events"] in {
        0,
        len(lines) - 1,
    }  # where the reader takes one name twice for one file
    assert len({each.span_id for each in receiver.spans}) == len(receiver.spans) == told["spans"]


def test_a_log_without_a_run_sends_nothing(export: Export, folder: Path, receiver: OtlpReceiver) -> None:
    (folder / "empty.jsonl").write_bytes(b"")
    result = export("otlp", "empty.jsonl", "--endpoint", receiver.endpoint)
    assert (result.returncode, result.stdout, receiver.requests) == (1, "", 0)
    assert "no run in empty.jsonl" in result.stderr


def test_what_was_sent_before_a_refusal_counts_and_the_rest_is_missing(export: Export, folder: Path) -> None:
    write_many(folder / "many.jsonl", folder / "runs.jsonl", 50)
    with OtlpReceiver(statuses=(200, 400)) as receiver:
        result = export("otlp", "many.jsonl", "--endpoint", receiver.endpoint)
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
        assert sender.send(exported(span())) == Sent(rejected=1, said="a span that is larger than it takes")


def test_an_endpoint_that_is_overloaded_for_a_moment_gets_the_batch_again() -> None:
    with (
        OtlpReceiver(statuses=(503,)) as receiver,
        OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource={}) as sender,
    ):
        assert sender.send(exported(span())) == Sent(taken=1)
    assert (receiver.requests, len(receiver.spans)) == (2, 1)


def test_what_was_said_is_sent_where_that_is_asked_for_and_masked_first(
    export: Export, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6a1B2c3D4e5F6a1B2c3D4e5F6"  # of nothing
    with Agent(ScriptedModel(["said"]), observers=[JsonlReporter(tmp_path / "one.jsonl")]) as agent:
        agent.run(f"use {secret} please")
    capture = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    for arguments, variables, is_told in (
        ((), {}, False),
        (("--content",), {}, True),
        ((), {capture: "SPAN_ONLY"}, True),
        (("--no-content",), {capture: "SPAN_ONLY"}, False),
    ):
        receiver.traces.clear()
        given = ("one.jsonl", *arguments)
        assert export("otlp", *given, "--endpoint", receiver.endpoint, **variables).returncode == 0
        told = str(receiver.traces) + export("otlp-json", *given, **variables).stdout
        assert told.count("please") == (4 if is_told else 0)
        assert secret not in told


def test_without_opentelemetry_one_sentence_says_what_to_install(folder: Path) -> None:
    (folder / "opentelemetry.py").write_text("raise ImportError('not here')\n")
    result = agentkit("export", "otlp", "runs.jsonl", "--endpoint", "http://h", cwd=folder)
    assert result.returncode == 2
    assert "OpenTelemetry is not installed; install agentkit-loop[otel]\n" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_limit_that_the_sdk_cannot_read_is_one_sentence(folder: Path) -> None:
    arguments = ("export", "otlp", "runs.jsonl", "--endpoint", "http://h")
    result = agentkit(*arguments, cwd=folder, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="many")
    assert result.returncode == 2
    assert result.stderr.startswith("agentkit: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative")
    assert result.stderr.count("\n") == 1
