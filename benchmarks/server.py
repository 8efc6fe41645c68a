"""A server in a process of its own that streams a session whose bytes were made before anybody asks.

`StreamServer` starts it and tells it when to go on; `python -m benchmarks.server TURNS DELTAS PAUSE_S
HOLD_S` is the process. It speaks as much HTTP/1.1 as an answer of the Messages API needs (keep-alive, chunked), and
the first segment of the path says how the answer is framed:

- `event`: one HTTP chunk for each event, written back to back;
- `whole`: the whole answer in one chunk;
- `paced`: one chunk and one write for each event, with a pause before each, as tokens come;
- `held`: all up to the first delta in one write, the rest once the client has said `go_on()`. The text of
  that delta is the moment of its write, `time.monotonic_ns()`, which the processes of a machine share.

Which turn is asked for is counted in the request: one result of a tool for each turn before.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.session import encode as encode_event
from benchmarks.session import ending, make_session, opening, text_delta

FRAMINGS = ("event", "whole", "paced")
PAUSE_S = 0.0005
"""Before each event of a paced answer; a fast model's pace is ten times slower, and so would the benchmark."""

HOLD_S = 10.0
"""Seconds that a held answer waits for `go_on()`; then its connection is dropped, which fails the request."""

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"request-id: req_benchmark\r\ntransfer-encoding: chunked\r\n\r\n"
)
_END = b"0\r\n\r\n"
_RESULT = b'"tool_result"'


class StreamServer:
    """Serves a session of so many turns and deltas; the process lives until `with` is left."""

    def __init__(
        self, turns: int = 1, deltas: int = 2, *, pause_s: float = PAUSE_S, hold_s: float = HOLD_S
    ) -> None:
        arguments = [str(given) for given in (turns, deltas, pause_s, hold_s)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=Path(__file__).parent.parent,
        )
        try:
            self._port = int(self._process.stdout.readline())  # type: ignore[union-attr] # a pipe
        except BaseException:
            end_process(self._process)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_process(self._process)

    def base_url(self, framing: str) -> str:
        """Return the address whose answers are framed so."""
        return f"http://127.0.0.1:{self._port}/{framing}"

    def go_on(self) -> None:
        """Let one held answer go on."""
        self._process.stdin.write(b".")  # type: ignore[union-attr] # a pipe


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process that ends with its standard input, and wait for it."""
    with process:  # closes the pipes, which ends the process, and waits
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr] # a pipe
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


class _Answers:
    """The bytes of all answers, and how each framing writes them."""

    def __init__(self, turns: int, deltas: int, pause_s: float, hold_s: float) -> None:
        answers = make_session(turns, deltas).answers
        self._pause_s, self._hold_s = pause_s, hold_s
        self._gone_on = threading.Semaphore(0)
        self._paced = [[_chunk(event) for event in events] for events in answers]
        self._event = [_HEAD + b"".join(chunks) + _END for chunks in self._paced]
        self._whole = [_HEAD + _chunk(b"".join(events)) + _END for events in answers]
        self._opening = _HEAD + b"".join(_chunk(encode_event(event)) for event in opening(0))
        stop = encode_event({"type": "content_block_stop", "index": 0})
        rest = [stop, *(encode_event(event) for event in ending(0, "end_turn", output_tokens=1))]
        self._rest = b"".join(_chunk(event) for event in rest) + _END

    def write(self, framing: str, turn: int, connection: socket.socket) -> None:
        """Write one answer; raises TimeoutError where a held one was not let go on."""
        if framing == "event":
            connection.sendall(self._event[turn])
        elif framing == "whole":
            connection.sendall(self._whole[turn])
        elif framing == "held":
            self._hold(connection)
        else:
            connection.sendall(_HEAD)
            for chunk in self._paced[turn]:
                time.sleep(self._pause_s)
                connection.sendall(chunk)
            connection.sendall(_END)

    def _hold(self, connection: socket.socket) -> None:
        connection.sendall(self._opening + _chunk(encode_event(text_delta(str(time.monotonic_ns())))))
        if not self._gone_on.acquire(timeout=self._hold_s):
            raise TimeoutError
        connection.sendall(self._rest)

    def go_on(self) -> None:
        self._gone_on.release()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _serve(connection: socket.socket, answers: _Answers) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with (
        connection,
        contextlib.suppress(OSError),
    ):  # a client may go at any time; TimeoutError is one of these
        waiting = b""
        while True:
            while (end := waiting.find(b"\r\n\r\n")) < 0:
                received = connection.recv(65_536)
                if not received:
                    return
                waiting += received
            head, body = waiting[:end].lower(), bytearray(waiting[end + 4 :])
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            while len(body) < length:
                received = connection.recv(65_536)
                if not received:
                    return
                body += received
            framing = head.split(b" ", 2)[1].split(b"/")[1].decode()
            answers.write(framing, body.count(_RESULT), connection)
            waiting = bytes(body[length:])


def _accept(listener: socket.socket, answers: _Answers) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, answers), daemon=True).start()


def main(turns: int, deltas: int, pause_s: float, hold_s: float) -> None:
    """Serve until standard input ends; each byte of it lets one held answer go on."""
    # Ctrl-C goes to the whole group of processes: who measures ends, and then our standard input does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _Answers(turns, deltas, pause_s, hold_s)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, answers), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while sys.stdin.buffer.read(1):
        answers.go_on()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
