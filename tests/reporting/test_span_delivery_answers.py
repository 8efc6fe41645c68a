"""What an endpoint answers is judged by what OTLP says of it, and shown without what it was sent."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.otlp_exchange import reason_of
from agentkit_reporting.tracing.otlp_provider import otlp_tracing
from tests.reporting.span_makers import end_spans, ours, set_variables, tracing_to

PASSWORD = "hush-hush-hush"  # noqa: S105 - of nothing


class AnsweringServer:
    """Answers every request with the same; `answer` None: closes the connection instead.

    missing: bytes that it announces, and does not send before it closes the connection.
    """

    def __init__(self) -> None:
        self.missing = 0
        self.authorizations: list[str | None] = []
        self.answer: tuple[str, bytes] | None = ("application/x-protobuf", b"")
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                server.authorizations.append(self.headers["authorization"])
                if server.answer is not None:
                    kind, body = server.answer
                    self.send_response(200)
                    self.send_header("content-type", kind)
                    self.send_header("content-length", str(len(body) + server.missing))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the client read as much as it wanted
                    super().handle()

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringServer]:
    set_variables(monkeypatch)
    answering = AnsweringServer()
    thread = threading.Thread(target=answering.http.serve_forever, args=(0.01,))
    thread.start()
    yield answering
    answering.http.shutdown()
    thread.join()
    answering.http.server_close()


def partial_success(rejected: int, message: str) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


TERMINAL = f"no such key: {PASSWORD}\n\x1b[31mred" + "x" * 9_000


@pytest.mark.parametrize(
    ("kind", "body", "rejected"),
    [
        ("application/x-protobuf", b"", 0),
        ("text/plain", b"ok", 0),
        ("text/html; charset=utf-8", b"", 0),
        ("text/html", b"ok", 0),
        ("application/x-protobuf", b"\xff\xff no message", 0),
        ("application/x-protobuf", b"\0" * 3_000_000, 0),
        ("application/json", b"{}", 0),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":{}}}', 0),
        ("application/json; charset=utf-8", b'{"partialSuccess":{"rejectedSpans":"2"}}', 2),
        ("application/x-protobuf", partial_success(2, TERMINAL), 2),
        ("application/x-protobuf", partial_success(99, ""), 5),
        ("application/x-protobuf", partial_success(-1, "a warning"), 0),
    ],
    ids=[
        "empty",
        "text",
        "no page",
        "hardly a page",
        "torn",
        "endless",
        "json",
        "odd",
        "json some",
        "some",
        "too many",
        "fewer",
    ],
)
def test_an_answer_of_success_is_one_but_for_the_spans_that_it_rejects(
    kind: str, body: bytes, rejected: int, server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = (kind, body)
    with tracing_to(server.endpoint, headers={"authorization": f"Bearer {PASSWORD}"}) as tracing:
        end_spans(tracing, 5)
        assert tracing.flush(30.0) is (rejected == 0)
        counts = tracing.counts()
    assert (counts.delivered, counts.rejected, counts.failed) == (5 - rejected, rejected, 0)
    assert PASSWORD not in caplog.text + str(counts.last_error)
    assert "\x1b" not in caplog.text
    assert len(counts.last_error or "") < 300


def test_a_web_page_is_no_receiver(server: AnsweringServer) -> None:
    server.answer = ("text/html; charset=utf-8", b"<html>Sign in</html>")
    with tracing_to(server.endpoint) as tracing:
        end_spans(tracing, 5)
        assert not tracing.flush(30.0)
        assert (tracing.counts().failed, tracing.counts().last_error) == (
            5,
            "a web page answered, not a receiver of OTLP",
        )


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_that_ends_early_is_one_and_the_spans_are_sent_once(
    encoding: str, server: AnsweringServer
) -> None:
    server.missing = 100
    server.answer = (f"application/x-protobuf\r\nContent-Encoding: {encoding}", b"ab")
    with tracing_to(server.endpoint) as tracing:
        end_spans(tracing, 5)
        assert tracing.flush(30.0)
        assert len(server.authorizations) == 1


def test_what_the_endpoint_repeats_of_the_address_is_masked(
    server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = ("application/x-protobuf", partial_success(2, f"who is {PASSWORD}? Use another protobuf"))
    address = server.endpoint.replace("//", f"//ann:{PASSWORD}@")
    for endpoint in (address, f"{server.endpoint}?key={PASSWORD}"):
        with tracing_to(endpoint) as tracing:
            end_spans(tracing, 5)
            assert not tracing.flush(30.0)
            assert (
                tracing.counts().last_error == "2 rejected by the receiver: who is ***? Use another protobuf"
            )
    assert PASSWORD not in caplog.text


def test_a_header_wins_over_what_the_home_directory_says(
    server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for headers in ({"Authorization": "Bearer given"}, None):
        with tracing_to(server.endpoint, headers=headers) as tracing:
            end_spans(tracing, 1)
            assert tracing.flush(30.0)
    assert server.authorizations == ["Bearer given", "Basic YW5uOnB3"]


def test_what_the_library_below_says_of_an_answer_is_left_out(
    server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = ("text/plain\r\nno header at all", b"")
    with tracing_to(f"{server.endpoint}?key={PASSWORD}") as tracing:
        end_spans(tracing, 1)
        assert tracing.flush(30.0)
    assert PASSWORD not in caplog.text
    assert ours(caplog) == []


def test_a_limit_that_leaves_no_time_is_said_in_words(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_TIMEOUT="-1")
    with tracing_to(server.endpoint) as tracing:
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)
        assert str(tracing.counts().last_error).startswith("no time to send it; ")


def test_a_connection_that_is_closed_without_an_answer_has_failed(server: AnsweringServer) -> None:
    server.answer = None
    with tracing_to(server.endpoint, timeout_s=0.2) as tracing:
        end_spans(tracing, 5)
        assert not tracing.flush(30.0)
        assert tracing.counts().last_error == "the connection was closed without an answer"


def test_a_host_that_nobody_knows_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)
    error = requests.ConnectionError("https://me:hush@host")
    error.__context__ = socket.gaierror(-2, "Name or service not known")
    assert reason_of(error) == "Name or service not known"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectTimeout("hush"), "no connection in time"),
        (requests.ReadTimeout("hush"), "no answer in time"),
        (requests.exceptions.InvalidHeader("hush"), "a header's value that HTTP does not allow"),
        (requests.exceptions.SSLError(ssl.SSLError(1, "hush")), "no secure connection: TLS failed"),
        (requests.exceptions.ProxyError("http://me:hush@proxy"), "the proxy cannot be reached"),
        (ValueError("hush"), "ValueError"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_why_a_request_failed_is_said_without_what_it_holds(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_the_port_of_grpc_is_named_where_it_is_the_reason() -> None:
    with socket.socket() as taken:  # so that nobody listens there, whoever else runs
        try:
            taken.bind(("127.0.0.9", 4317))
        except OSError:
            taken.close()
        with tracing_to("http://127.0.0.9:4317", timeout_s=0.1, metrics=False) as tracing:
            end_spans(tracing, 1)
            assert not tracing.flush(30.0)
            assert str(tracing.counts().last_error).endswith(
                ": 4317 is the port of OTLP over gRPC, over HTTP it is 4318"
            )


def test_a_credential_provider_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER="nobody")
    with pytest.raises(ConfigurationError, match=r"^the credential provider 'nobody' refused, which is not"):
        otlp_tracing("http://localhost:1")


def signed_session() -> requests.Session:
    """What a credential provider is: makes a session that signs what it sends."""
    session = requests.Session()
    session.headers["x-signed"] = "yes"
    return session


def test_a_credential_providers_session_is_what_posts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.otlp_receiver import OtlpReceiver  # noqa: PLC0415 - the server of the others answers too little

    group = "opentelemetry_otlp_credential_provider"
    assert EntryPoint("signed", f"{__name__}:signed_session", group).load() is signed_session
    information = tmp_path / "signing-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: signing\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{group}]\nsigned = {__name__}:signed_session\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    set_variables(monkeypatch, OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER="signed")
    with OtlpReceiver() as receiver, tracing_to(receiver.endpoint) as tracing:
        end_spans(tracing, 1)
        assert tracing.flush(30.0)
        assert receiver.headers[0]["x-signed"] == "yes"


def test_the_certificates_of_opentelemetrys_variable_win_and_a_missing_file_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, other = tmp_path / "wanted.pem", tmp_path / "other.pem"
    other.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_CERTIFICATE=str(wanted))
    with tracing_to("https://127.0.0.1:1", timeout_s=1.0) as tracing:
        end_spans(tracing, 1)
        assert not tracing.flush(30.0)
        error = tracing.counts().last_error
    assert error is not None
    assert error.startswith("Could not find a suitable TLS CA certificate bundle, invalid path: ")
    assert "other.pem" not in error
