"""Arize Phoenix as it comes from PyPI, in a process of its own: a real backend, for the tests marked `phoenix`.

It has an environment of its own, since it brings 150 distributions: `python -m venv phoenix && phoenix/bin/pip install
arize-phoenix`; its `phoenix` is looked for in PHOENIX_COMMAND, then in PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

START_S = 180.0
VISIBLE_S = 60.0


class PhoenixServer:
    """A server on loopback with its data in a folder, used in a `with`."""

    def __init__(self, folder: Path) -> None:
        command = os.environ.get("PHOENIX_COMMAND") or shutil.which("phoenix")
        assert command, (
            "no phoenix: install arize-phoenix in an environment and set PHOENIX_COMMAND to its `phoenix`"
        )
        port, grpc_port = _free_port(), _free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self._log = (folder / "phoenix.txt").open("wb")
        self._process = subprocess.Popen(
            [command, "serve"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PHOENIX_WORKING_DIR": str(folder),
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(grpc_port),
                "PHOENIX_TELEMETRY_ENABLED": "false",
            },
        )

    def __enter__(self) -> Self:
        until = time.monotonic() + START_S
        while self._status() != 200:
            assert self._process.poll() is None, (
                "phoenix ended while it started; see phoenix.txt in its folder"
            )
            assert time.monotonic() < until, f"phoenix did not answer within {START_S:.0f} s"
            time.sleep(0.5)  # between two questions to another process, which has no other way to tell
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def spans(self, project: str, count: int) -> list[dict[str, Any]]:
        """Return a project's spans, once there are so many of them; they become visible some time after they came."""
        until = time.monotonic() + VISIBLE_S
        while True:
            found = self._get(f"/v1/projects/{project}/spans?limit=1000")
            if found is not None and len(found["data"]) >= count:
                spans: list[dict[str, Any]] = found["data"]
                return spans
            assert time.monotonic() < until, f"phoenix shows {found and len(found['data'])} of {count} spans"
            time.sleep(0.5)  # as above

    def sessions(self, project: str) -> list[dict[str, Any]]:
        """Return a project's sessions, each with its traces and token counts."""
        found = self._get(f"/v1/projects/{project}/sessions")
        assert found is not None
        sessions: list[dict[str, Any]] = found["data"]
        return sessions

    def _status(self) -> int | None:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz") as answer:  # noqa: S310 - a server of ours
                return int(answer.status)
        except OSError:
            return None

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return what is there; None while the project is not."""
        try:
            with urllib.request.urlopen(self.endpoint + path) as answer:  # noqa: S310 - the same
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
