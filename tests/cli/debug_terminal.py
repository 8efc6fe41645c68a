"""`agentkit debug` on a terminal of its own, with keys that are pressed there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from tests.cli.test_command_line import ENVIRONMENT

_PROMPT = re.compile(rb"(debug [\d,/]+[^\n]*> |-- more: Enter, or q -- ?)$")


class DebugTerminal:
    """The command on a terminal of 80 columns and 24 lines, without colour."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.shown = b""
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentkit_reporting.cli", "debug", *arguments],
            cwd=cwd,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**ENVIRONMENT, "TERM": "dumb", "HOME": str(cwd)},
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - Ctrl-C reaches who owns the terminal
        )
        os.close(follower)

    def press(self, keys: str, *, enter: bool = True) -> str:
        """Wait for the prompt, press keys, and return what is shown up to the next prompt, or to the end."""
        if not self.shown:
            self._read_to_prompt()
        seen = len(self.shown)
        os.write(self._leader, keys.encode() + (b"\r" if enter else b""))
        self._read_to_prompt(seen)
        return self._text(seen)

    def begin(self) -> str:
        """Return what is shown first."""
        self._read_to_prompt()
        return self._text(0)

    def leave(self, keys: Sequence[int] | bytes) -> int:
        """Press keys that end it, and return the exit code."""
        if not self.shown:
            self._read_to_prompt()
        os.write(self._leader, bytes(keys))
        while self._read():
            pass
        os.close(self._leader)
        return self.process.wait()

    def _text(self, start: int) -> str:
        return self.shown[start:].decode().replace("\r\n", "\n")

    def _read_to_prompt(self, seen: int = 0) -> None:
        while not _PROMPT.search(self.shown[seen:]):
            if not self._read():
                return

    def _read(self) -> bytes:
        try:
            block = os.read(self._leader, 65_536)
        except OSError:  # how Linux says that the other side is closed
            return b""
        self.shown += block
        return block


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
