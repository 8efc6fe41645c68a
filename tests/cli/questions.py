"""Terminals on which a person is asked: a bare one, and one that controls a process as a shell's does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Self

PATIENCE_S = 60  # far more than anything here takes; a test that hangs says why
ROWS, COLUMNS = 24, 80

# Makes an inherited terminal the controlling one of a new session, then becomes the command.
_TAKE_CONTROL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class Terminal:
    """A terminal of which the test is screen and keyboard; a context manager.

    path: its device. shown: all that it showed so far, with what was typed.
    """

    def __init__(self) -> None:
        self.shown = b""
        self._waited = 0  # bytes up to the end of what was last waited for
        self._leader, self.follower = pty.openpty()
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.path = os.ttyname(self.follower)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for fd in (self._leader, self.follower):
            with contextlib.suppress(OSError):  # closed by the test
                os.close(fd)

    @property
    def text(self) -> str:
        """What was shown, with newlines as the program wrote them."""
        return self.shown.decode().replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        """Read until the text was shown, after what was waited for before."""
        while (place := self.shown.find(text.encode(), self._waited)) < 0:
            assert self._read(), f"ended before {text!r} was shown: {self.text}"
        self._waited = place + len(text.encode())

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._leader, text.encode())

    def read_to_the_end(self) -> None:
        """Read until nobody else has it open."""
        os.close(self.follower)
        while self._read():
            pass

    def _read(self) -> bool:
        assert select.select([self._leader], [], [], PATIENCE_S)[0], f"nothing came after: {self.text}"
        try:
            block = os.read(self._leader, 65_536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.shown += block
        return bool(block)


class Controlled(Terminal):
    """A command in a process that this terminal controls. stdin, stdout, stderr: the terminal by default."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        environment: dict[str, str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        super().__init__()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_CONTROL, str(self.follower), *command],
            cwd=cwd,
            env=environment,
            stdin=self.follower if stdin is None else stdin,
            stdout=self.follower if stdout is None else stdout,
            stderr=self.follower if stderr is None else stderr,
            pass_fds=(self.follower,),
            start_new_session=True,
        )

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        super().__exit__(*exc_info)

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self.read_to_the_end()
        return self.process.wait(PATIENCE_S)
