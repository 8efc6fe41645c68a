"""A built-in tool that runs commands of the shell in one directory.

    agent = Agent(model, tools=[*file_tools("."), command_tool(".")])

A command may do whatever the user may who runs the agent: no path is out of its reach, nothing is hidden from
it. It asks nobody: whether a call is approved is decided before it runs, by what previews.py shows. It is
given no variable that by its name holds a secret, no terminal and no input.

A command is one process group. The call ends with its shell, at the time limit or when it is cancelled, and
whatever is left of the group then is asked to end (SIGTERM) and, after a grace period, killed. A process that
left the group is on its own; nothing waits for it.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self, TypeAlias, cast

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_reach import quoted
from agentkit_loop.file_reading import is_cancelled
from agentkit_loop.interrupts import InterruptGuard
from agentkit_loop.previews import check_command, summary_of_command
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool

TIMEOUT_S = 120.0
"""Seconds that a command may take, where the host does not say."""

GRACE_S = 1.0
"""Seconds between SIGTERM and SIGKILL; well within what a driver waits for a body when it closes."""

HEAD_BYTES = TAIL_BYTES = 49_500
"""Bytes of output that are kept of its beginning and of its end."""

SECRET_VARIABLES = re.compile(
    r".*(SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_KEY|AUTH_?TOKEN).*"
    r"|.*TOKENS?|.*CUSTOM_HEADERS|(.*_)?(KEYS?|PASS|PAT)",
    re.IGNORECASE | re.DOTALL,
)
"""Names, matched whole, of environment variables that by custom hold keys and passwords."""

_FIRST_PAUSE_S = 0.001
_POLL_S = 0.05  # how late at most a cancel, or the end of a shell whose pipe is silent, is seen
_BLOCK = 1 << 16
_PIPE_BLOCKS = 32  # more than a pipe holds
_REAPED_S = 5.0  # how long a killed shell may take to go; one that hangs in the system is not waited for
_TORN = 4  # bytes of a UTF-8 character
_CONTINUED = 0x80  # the first bits of each of its bytes but the first

_End: TypeAlias = Literal["exited", "timed out", "cancelled"]


def command_tool(
    root: str | os.PathLike[str],
    *,
    timeout_s: float = TIMEOUT_S,
    grace_s: float = GRACE_S,
    environment: Mapping[str, str] | None = None,
) -> Tool[..., Any]:
    """Return `run_command`, which runs `/bin/sh -c COMMAND` in `root`.

    timeout_s: after which a command is ended. grace_s: between SIGTERM and SIGKILL. environment: all of its
    variables, as they are; by default this process's, without those of SECRET_VARIABLES. Raises
    ConfigurationError for a root that is no directory, a time that is none, or a system without process groups.
    """
    if not hasattr(os, "killpg"):
        raise ConfigurationError("command_tool refused on this system; it needs process groups")
    if not os.path.isdir(root):  # noqa: PTH112 - as realpath, it takes any PathLike
        raise ConfigurationError(f"root {os.fspath(root)!r} is no directory; give one that exists")
    for name, seconds in (("timeout_s", timeout_s), ("grace_s", grace_s)):
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"{name}={seconds!r} refused; give seconds above 0")
    bound = _CommandTool(os.path.realpath(root), timeout_s, grace_s, environment)
    return tool(
        bound.run_command,
        timeout_s=timeout_s + grace_s + 2 * _REAPED_S,  # the call's own bound tells more than the loop's
        summary=summary_of_command,
        max_output_chars=HEAD_BYTES + TAIL_BYTES + 1_000,
    )


class _CommandTool:
    """The function; its docstring is what the model reads."""

    def __init__(
        self, root: str, timeout_s: float, grace_s: float, environment: Mapping[str, str] | None
    ) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._environment = environment

    def run_command(
        self,
        command: Annotated[str, "what /bin/sh runs; may be several lines"],
        context: ToolContext | None = None,
    ) -> str:
        """Run a shell command in the root directory and return its exit code and what it wrote.

        stdout and stderr come together. There is no input and no terminal. It is ended at a time limit, and what
        it leaves in the background is ended with it.
        """
        check_command(command)
        with InterruptGuard() as guard:  # on a main thread, Ctrl-C waits until somebody would end the command
            with self._start(command) as running:
                guard.waiting = True
                guard.check()
                end = running.watch(self._timeout_s, context)
                guard.waiting = False
            return running.report(end, self._timeout_s)

    def _start(self, command: str) -> _Running:
        variables = kept_variables(os.environ) if self._environment is None else self._environment
        try:
            process = subprocess.Popen(  # noqa: S603 - running what the model gave is what this tool is for
                ["/bin/sh", "-c", command],
                cwd=self._root,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise OSError(f"{quoted(command)} could not be started: {reason}") from None
        return _Running(process, self._grace_s)


def kept_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose names do not say that they hold secrets."""
    return {name: value for name, value in environment.items() if not SECRET_VARIABLES.fullmatch(name)}


class _Running:
    """A command that runs, and what it wrote; leaving the `with` ends and reaps it."""

    def __init__(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        self._process = process
        self._pipe = cast("IO[bytes]", process.stdout)
        self._grace_s = grace_s
        self._output = _Output()
        self._is_open = True  # whether somebody may still write
        self._left_behind = False
        self._pause_s = _FIRST_PAUSE_S
        self._readable = select.poll()
        self._readable.register(self._pipe, select.POLLIN)

    def __enter__(self) -> Self:
        os.set_blocking(self._pipe.fileno(), False)
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._end_group()
        finally:
            self._pipe.close()

    def watch(self, timeout_s: float, context: ToolContext | None) -> _End:
        """Read what it writes until its shell ends, the time is over, or nobody waits any more."""
        until = time.monotonic() + timeout_s
        while self._process.poll() is None:
            if is_cancelled(context):
                return "cancelled"
            if (left := until - time.monotonic()) <= 0:
                return "timed out"
            self._read(left)
        self._left_behind = self._is_alive()
        return "exited"

    def report(self, end: _End, timeout_s: float) -> str:
        """Return what came of it, behind a line in brackets that says what that is."""
        told = [_exit_in_words(self._process.returncode)]
        if end != "exited":
            told = ["cancelled" if end == "cancelled" else f"timed out after {timeout_s:g} s and was ended"]
        if self._left_behind:
            told.append("what it left in the background was ended")
        if not self._output.count:
            told.append("no output")
        return f"[{'; '.join(told)}]\n{self._output.text()}".removesuffix("\n")

    def _end_group(self) -> None:
        """Ask what is left of the group to end, and read meanwhile: it may hang in a full pipe."""
        if self._process.poll() is None or self._signal(0):
            self._signal(signal.SIGTERM)
            until = time.monotonic() + self._grace_s
            while (left := until - time.monotonic()) > 0 and self._is_alive():
                self._read(left)
            self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAPED_S)
        self._read_what_is_there()

    def _is_alive(self) -> bool:
        """Whether its shell, or anything else in its group, still runs."""
        return self._process.poll() is None or (self._signal(0) and _runs(self._process.pid))

    def _signal(self, number: int) -> bool:
        """Signal the group; False where there is none.

        Its number is given to no other while somebody has it, and when it is free, after all others.
        """
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # all that is left of it runs as somebody else
            return number != 0
        return True

    def _read(self, most_s: float) -> None:
        """Read what it wrote, or pause: short at first, then longer, and never longer than asked."""
        pause_s = min(most_s, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _POLL_S)
        if not self._is_open:
            time.sleep(pause_s)
        elif self._readable.poll(pause_s * 1e3):
            self._pause_s = _FIRST_PAUSE_S
            self._read_block()

    def _read_what_is_there(self) -> None:
        """Empty the pipe; who left the group and writes without end has no part in it."""
        for _ in range(_PIPE_BLOCKS):
            if not self._is_open or not self._readable.poll(0):
                return
            self._read_block()

    def _read_block(self) -> None:
        with contextlib.suppress(BlockingIOError):
            block = os.read(self._pipe.fileno(), _BLOCK)
            self._output.add(block)
            self._is_open = bool(block)


class _Output:
    """Bytes that a command wrote: how many, and the first and the last of them."""

    def __init__(self) -> None:
        self.count = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, block: bytes) -> None:
        self.count += len(block)
        room = HEAD_BYTES - len(self._head)
        self._head += block[:room]
        self._tail += block[room:]
        if len(self._tail) > TAIL_BYTES + _BLOCK:
            del self._tail[:-TAIL_BYTES]

    def text(self) -> str:
        """Return it as text, what is no UTF-8 replaced, around a mark where bytes are left out."""
        if self.count <= HEAD_BYTES + TAIL_BYTES:
            return (self._head + self._tail).decode("utf-8", "replace")
        # No character is torn by the cut: the head gives up its last bytes, the tail its first.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        head = decoder.decode(bytes(self._head))
        tail = self._tail[-TAIL_BYTES:]
        torn = next((place for place, byte in enumerate(tail[:_TORN]) if byte & 0xC0 != _CONTINUED), 0)
        left_out = self.count - len(self._head) + len(decoder.getstate()[0]) - len(tail) + torn
        mark = f"… [{left_out:,} of {self.count:,} bytes left out] …"
        return f"{head}\n{mark}\n{tail[torn:].decode('utf-8', 'replace')}"


def _runs(group: int) -> bool:
    """Whether a group has more than dead processes, which stay until their parent or the system asks for them.

    Where the system does not list its processes as Linux does (proc(5)), a group that is there is taken to run.
    """
    try:
        numbers = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    except OSError:
        return True
    for number in numbers:
        with contextlib.suppress(OSError):  # it went meanwhile
            told = Path(f"/proc/{number}/stat").read_bytes().rpartition(b") ")[2]
            state, _, its_group, _ = told.split(b" ", 3)
            if int(its_group) == group and state not in (b"Z", b"X"):
                return True
    return not numbers


def _exit_in_words(code: int | None) -> str:
    if code is None:
        return "could not be ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
