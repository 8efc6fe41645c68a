"""A command in a process on a terminal of its own, and what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path


class OnTerminal:
    """The command on a terminal, and what it shows there so far. columns: its width where that matters."""

    def __init__(
        self, command: Sequence[str], cwd: Path, environment: dict[str, str], *, columns: int | None = None
    ) -> None:
        self.shown = b""
        self._leader, follower = pty.openpty()
        if columns is not None:
            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
            env=environment,
        )
        os.close(follower)

    def wait_for(self, text: bytes) -> None:
        """Read until the text was shown."""
        while text not in self.shown:
            block = self._read()
            assert block, f"ended before {text!r} was shown: {self.shown!r}"

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        os.close(self._leader)
        return self.process.wait()

    def _read(self) -> bytes:
        try:
            block = os.read(self._leader, 65_536)
        except OSError:  # how Linux says that the other side is closed
            return b""
        self.shown += block
        return block
