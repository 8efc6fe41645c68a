"""A terminal that a person is asked on: blocks of untrusted lines, a question, and the line that is typed.

What is untrusted stands behind a margin, wrapped here and not by the terminal, so that nothing in it can pass
for a line of ours. The terminal stays in its line mode: an answer is a word and Enter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Self

from agentkit_reporting.page import Piece, TerminalStream
from agentkit_reporting.terminal import clipped, visible

MIN_ROWS = 6
"""Rows of a block that are shown however low the terminal is."""

_USUAL_ROWS = 24  # of a terminal that does not say
_OTHER_ROWS = 8  # of the terminal, for what stands around a block
_LONGEST_ANSWER = 4_096  # bytes; a terminal in line mode gives no more at once
_MARGINS = ("  │ ", "  ┆ ")  # of a line, and of what is left of it on the next row
_ASCII_MARGINS = ("  | ", "  : ")


class QuestionScreen:
    """An open terminal; a context manager, which closes it. Raises OSError where there is none.

    path: of its device. colour: None as the environment says.
    """

    def __init__(self, path: str, *, colour: bool | None = None) -> None:
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_NOCTTY", 0) | os.O_CLOEXEC)
        try:
            self._rows = os.get_terminal_size(self._fd).lines or _USUAL_ROWS
            self._stream = os.fdopen(os.dup(self._fd), "w", encoding="locale")
        except BaseException:
            os.close(self._fd)
            raise
        self._out = TerminalStream(self._stream, colour=colour, width=None)
        self._out.open()
        self._margins = _MARGINS if self._out.glyphs.cut == "…" else _ASCII_MARGINS
        self._width = self._out.width - len(_MARGINS[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._stream.close()
        os.close(self._fd)

    def say(self, text: str, style: str = "") -> None:
        """Write a line of ours, cut to the terminal's width: what is untrusted in it begins no other line."""
        line = visible(text[: 2 * self._out.width]).replace("\n", " ").expandtabs(4)
        shown = clipped(line, self._out.width - 2, self._out.glyphs.cut)
        self._out.write(f"  {self._out.styled(style, shown)}\n")

    def show(self, lines: Iterable[Piece], *, whole: bool) -> int:
        """Write a block of untrusted lines; return how many were not written, or not to their end.

        whole: write all of them; else as many as there is room for.
        """
        room = max(self._rows - _OTHER_ROWS, MIN_ROWS)
        left_out = 0
        for style, line in lines:
            if left_out:
                left_out += 1
                continue
            for margin, row in self._wrapped(line):
                if not whole and not room:
                    left_out = 1
                    break
                room -= 1
                self._out.write(f"{self._out.styled('dim', margin)}{self._out.styled(style, row)}\n")
        return left_out

    def ask(self, question: str) -> str | None:
        """Return the line that is typed after the question was written; None for the end of input.

        What was typed before it, perhaps for something else, is dropped.
        """
        import termios  # noqa: PLC0415 - not on every system, and only where somebody is asked

        with contextlib.suppress(termios.error):  # a device that keeps no input
            termios.tcflush(self._fd, termios.TCIFLUSH)
        self._out.write(self._out.styled("ask", f"  {question}") + " ")
        typed = b""
        try:
            while not typed.endswith(b"\n"):
                block = os.read(self._fd, _LONGEST_ANSWER)
                if not block:
                    self._out.write("\n")
                    return None
                typed += block
        except KeyboardInterrupt:
            self._out.write("\n")  # the terminal shows ^C on this line
            raise
        return visible(typed.decode("utf-8", "replace")).strip()

    def _wrapped(self, line: str) -> Iterator[tuple[str, str]]:
        """Yield a line's rows, visible, each with its margin."""
        text = visible(line).replace("\n", " ").expandtabs(4)
        margin, others = self._margins
        place = 0
        while True:
            row = clipped(text[place : place + 2 * self._width], self._width, "")
            yield margin, row
            place += len(row)
            if place >= len(text):
                return
            margin = others
