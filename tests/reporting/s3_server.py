"""A real S3 server on loopback, for tests: started once a session, and again and again by those who want it down."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAM = """
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"  # noqa: S105 - the example of the provider's documentation

SIGNED = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=s"


class S3Server:
    """A server in a process of its own; its port stays the same when it is started again."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def make_bucket(self, name: str) -> None:
        self._ask("PUT", f"/{name}").close()

    def names(self, bucket: str) -> list[str]:
        with self._ask("GET", f"/{bucket}?list-type=2") as answer:
            text = answer.read().decode()
        return sorted(piece.split("</Key>")[0] for piece in text.split("<Key>")[1:])

    def get(self, bucket: str, name: str) -> bytes:
        with self._ask("GET", f"/{bucket}/{name}") as answer:
            return bytes(answer.read())

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", SIGNED)  # of which the server looks at the form alone
        return urllib.request.urlopen(request, timeout=10)  # noqa: S310 - the same

    def environment(self) -> dict[str, str]:
        """Return what a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def use_s3(s3: S3Server) -> Iterator[S3Server]:
    """The server, with this process' environment set for it."""
    before = {name: os.environ.get(name) for name in s3.environment()}
    os.environ.update(s3.environment())
    yield s3
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
