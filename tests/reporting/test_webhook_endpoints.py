"""Webhooks to endpoints that are dead, late, drip, babble or are not who they say: bounded, and no secret told."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentkit_reporting import EventDispatcher, WebhookSink
from tests.reporting.hook_server import HookServer
from tests.reporting.topics import payload

SECRET = "sk-token"  # noqa: S105 - a secret is what these tests look for

Answering = Callable[[socket.socket, threading.Event], object]


def sink_of(url: str, **options: Any) -> WebhookSink:
    return WebhookSink(
        url, **{"backoff_s": 0.001, "timeout_s": 0.05, "attempts": 2, "close_timeout_s": 30.0, **options}
    )


@contextlib.contextmanager
def answering(answer: Answering) -> Iterator[tuple[str, list[socket.socket]]]:
    """Serve connections by a function; give the address and the connections so far."""
    over = threading.Event()
    taken: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                taken.append(connection)
                threading.Thread(target=answered, args=(connection,), daemon=True).start()

    def answered(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(connection, over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}/{SECRET}", taken
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def drips(connection: socket.socket, over: threading.Event) -> None:
    """Send a header without an end, byte by byte."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.01):
        connection.sendall(b"x")


def goes_on(connection: socket.socket, over: threading.Event) -> None:
    """Say that the request may go on, for ever."""
    while not over.wait(0.01):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def says_nothing(_: socket.socket, over: threading.Event) -> None:
    """Take the request and answer nothing."""
    over.wait()


@pytest.mark.parametrize("answer", [drips, goes_on, says_nothing], ids=["drips", "goes on", "silence"])
def test_an_endpoint_holds_a_payload_no_longer_than_the_timeout_however_it_drips(answer: Answering) -> None:
    with answering(answer) as (address, taken):
        sink = sink_of(f"http://{address}")
        sink(payload())
        assert sink.flush() is False
        assert sink.account().pending == 0  # or it would hold on to it
        assert len(taken) == 2
        assert sink.close() is False
    assert (sink.last_error or "").endswith("was not reached (TimeoutError)")


def test_a_body_that_never_ends_is_not_read() -> None:
    def begins(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nx")
        over.wait()

    with answering(begins) as (address, _), sink_of(f"http://{address}", timeout_s=20.0) as sink:
        sink(payload())
        assert sink.flush() is True


@pytest.mark.parametrize(
    "said", [b"", b"hello\r\n\r\n", b"\x16\x03\x01\x00"], ids=["nothing", "words", "bytes"]
)
def test_an_endpoint_that_talks_nonsense_is_asked_again_and_given_up(said: bytes) -> None:
    def babbles(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(said)

    with answering(babbles) as (address, taken), sink_of(f"http://{address}", timeout_s=20.0) as sink:
        sink(payload())
        assert sink.flush() is False
        assert len(taken) == 2
    assert str(sink.account()) == "incomplete: 0 of 1 (1 failed)"


def certificate(directory: Path) -> Path:
    """Write a key and a certificate that nobody signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "pair.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_server_that_nobody_vouches_for_gets_nothing_and_is_not_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.load_cert_chain(certificate(tmp_path))
    got: list[bytes] = []

    def greets(connection: socket.socket, _: threading.Event) -> None:
        with trusted.wrap_socket(connection, server_side=True) as secured:
            got.append(secured.recv(65_536))

    with answering(greets) as (address, taken), sink_of(f"https://{address}", timeout_s=20.0) as sink:
        sink(payload())
        assert sink.flush() is False
        assert len(taken) == 1
    assert b"".join(got) == b""
    assert (sink.last_error or "").endswith("was not reached (SSLCertVerificationError)")
    assert SECRET not in caplog.text


def test_a_server_without_tls_is_given_up() -> None:
    with answering(drips) as (address, _), sink_of(f"https://{address}") as sink:
        sink(payload())
        assert sink.flush() is False
    assert sink.account().failed == 1


def dead_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}/{SECRET}"


def test_a_dead_endpoint_is_given_up_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    sink = sink_of(dead_url(), attempts=2, headers={"Authorization": f"Bearer {SECRET}"})
    with EventDispatcher() as dispatcher:
        dispatcher.subscribe("a", sink)
        for number in range(3):
            dispatcher.emit("a", payload(number))
    assert str(sink.account()) == "incomplete: 0 of 3 (3 failed)"
    assert dispatcher.close() is False
    assert (sink.last_error or "").endswith("was not reached (ConnectionRefusedError)")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    for shown in (
        caplog.text,
        repr(sink),
        str(sink.last_error),
        str(sink.account()),
        repr(dispatcher.subscriptions),
    ):
        assert SECRET not in shown


def test_an_endpoint_that_answers_too_late_is_tried_again() -> None:
    with HookServer() as server:
        server.gate.clear()
        with sink_of(server.url, timeout_s=0.02) as sink:
            sink(payload())
            assert sink.flush() is False
        assert len(server.sent) == 2
    assert (sink.last_error or "").endswith("was not reached (TimeoutError)")
    assert sink.account().failed == 1
