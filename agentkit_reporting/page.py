"""The paper that a run is printed on: a text stream with its glyphs and colours, and blocks of lines on it.

What is written here was made visible before, or is made so here (`TerminalStream.line`, `Page.append`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO, TypeAlias

import msgspec

from agentkit_reporting.terminal import VisibleChunks, visible

Piece: TypeAlias = tuple[str, str]
"""A style of STYLES (or "" for none) and the text that it is for."""

STYLES = {
    "dim": "dim",
    "strong": "bold",
    "lead": "cyan",
    "good": "green",
    "bad": "red",
    "ask": "yellow",
    "warn": "yellow",
}
"""What each style looks like; colour says state, everything else is plain or dim."""

LONGEST_PIECE = 4_000
"""Characters of one piece of a line that are shown at most."""


class Glyphs(msgspec.Struct, frozen=True):
    """The signs that lines begin with, one column each but for `cut`."""

    run: str = "●"
    input: str = "›"  # noqa: RUF001 - meant to be a small angle
    reasoning: str = "∴"
    call: str = "▸"
    good: str = "✓"
    bad: str = "✗"
    retry: str = "↻"
    ask: str = "?"
    warn: str = "!"
    stop: str = "■"
    change: str = "≡"
    note: str = "·"
    cut: str = "…"


ASCII_GLYPHS = Glyphs(
    run="*", input=">", reasoning="~", call=">", good="+", bad="x", retry="@", stop="#", change="=",
    note="-", cut="...",
)  # fmt: skip
"""For streams whose encoding cannot hold the others."""


def colour_wanted(colour: bool | None, environ: Mapping[str, str], *, is_terminal: bool) -> bool:  # noqa: FBT001 - the caller's own argument, passed on
    """Decide on colour: the argument, NO_COLOR, TERM=dumb, TTY_COMPATIBLE, FORCE_COLOR, the terminal.

    The first that says something wins. Empty variables say nothing, and neither does FORCE_COLOR=0.
    """
    if colour is not None:
        return colour
    if environ.get("NO_COLOR") or environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    if environ.get("TTY_COMPATIBLE") in ("0", "1"):
        return environ["TTY_COMPATIBLE"] == "1"
    return environ.get("FORCE_COLOR", "") not in ("", "0") or is_terminal


class TerminalStream:
    """A text stream that people read. What it can show is found out when the first text is written.

    stream: None means `sys.stdout` at that moment. colour, width: None means as the environment and the
    terminal say, 80 columns where there is none. A closed pipe or stream sets `stopped`, and nothing more
    is written; so does an OSError, which is raised, that time alone. Other errors of the stream are raised.
    """

    def __init__(self, stream: TextIO | None, *, colour: bool | None, width: int | None) -> None:
        self.stopped = False
        self.glyphs = Glyphs()
        self.width = width or 80
        self._stream = stream
        self._colour = colour
        self._wanted_width = width
        self._codes: dict[str, tuple[str, str]] = {}
        self._opened = False

    def open(self) -> None:
        """Find the stream and what it can show; does nothing the second time."""
        if self._opened:
            return
        self._opened = True
        stream = sys.stdout if self._stream is None else self._stream
        self._stream = stream
        if stream is None:  # a program without a console
            self.stopped = True
            return
        is_terminal = _is_terminal(stream)
        if colour_wanted(self._colour, os.environ, is_terminal=is_terminal):
            self._codes = _style_codes()
        if not _can_encode(stream, "".join(msgspec.structs.astuple(Glyphs()))):
            self.glyphs = ASCII_GLYPHS
        if self._wanted_width is None and is_terminal:
            self.width = _columns(stream)

    def styled(self, style: str, text: str) -> str:
        """Return visible text in a style."""
        codes = self._codes.get(style)
        return text if codes is None or not text else f"{codes[0]}{text}{codes[1]}"

    def line(self, pieces: tuple[Piece, ...]) -> str:
        """Return a line of pieces, each made visible here, kept on the line, and bounded."""
        return "".join(self.styled(style, self._flat(text)) for style, text in pieces).rstrip(" ") + "\n"

    def _flat(self, text: str) -> str:
        shown = visible(text[:LONGEST_PIECE])
        if len(text) > LONGEST_PIECE:
            shown += f"{self.glyphs.cut} ({len(text):,} characters)"
        return shown.replace("\n", " ").replace("\t", " ")

    def write(self, text: str) -> None:
        """Write text that is visible already, and flush."""
        stream = self._stream
        if self.stopped or stream is None:
            return
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self.stopped = True
        except OSError:
            self.stopped = True  # told once; what would come after a hole is of no use to people
            raise
        except ValueError:
            if not stream.closed:
                raise
            self.stopped = True

    def flush(self) -> None:
        """Flush the stream, if anything was ever to be written."""
        if self._opened:
            self.write("")


class Page:
    """Blocks of lines on a stream, and at most one live text that grows by chunks and owns its line.

    A block is what its lines are about; an empty line stands between blocks. Lines that are put while the
    live text is in the middle of a line wait for that line's end, so that nothing tears it.
    """

    def __init__(self, out: TerminalStream) -> None:
        self.out = out
        self.live = False
        self._style = ""
        self._chunks = VisibleChunks()
        self._block = ""
        self._line_start = True
        self._waiting: list[tuple[str, str]] = []  # block and lines, until the live line is complete
        self._after: list[tuple[str, str]] = []  # until the live text is complete

    @property
    def torn(self) -> bool:
        """Whether the live text is in the middle of a line."""
        return self.live and not self._line_start

    def put(self, block: str, lines: str) -> None:
        """Write complete lines, as soon as the line is free."""
        if self.torn:
            self._waiting.append((block, lines))
        elif self.live:
            self.out.write(lines)
        else:
            self._open_block(block)
            self.out.write(lines)

    def put_after(self, block: str, lines: str) -> None:
        """Write complete lines after the live text."""
        if self.live:
            self._after.append((block, lines))
        else:
            self.put(block, lines)

    def begin(self, block: str, style: str, lead: str) -> None:
        """Begin a live text, behind `lead`; no other may be live."""
        self._open_block(block)
        self.live, self._style, self._line_start = True, style, not lead
        if lead:
            self.out.write(lead)

    def append(self, chunk: str) -> None:
        """Write a chunk of the live text."""
        shown = self._chunks.add(chunk)
        if self._waiting and "\n" in shown:
            complete, _, shown = shown.rpartition("\n")
            self.out.write(self.out.styled(self._style, complete) + "\n")
            self._line_start = True
            self._release(self._waiting)
        if shown:
            self._line_start = shown[-1] == "\n"
            self.out.write(self.out.styled(self._style, shown) if self._style else shown)

    def end(self) -> None:
        """Complete the live text, if there is one, and write what waited for it."""
        if not self.live:
            return
        rest = self.out.styled(self._style, self._chunks.end())
        if rest or not self._line_start:
            self.out.write(rest + "\n")
        self.live, self._line_start = False, True
        self._release(self._after)
        self._release(self._waiting)

    def _open_block(self, block: str) -> None:
        if self._block not in ("", block):
            self.out.write("\n")
        self._block = block

    def _release(self, waiting: list[tuple[str, str]]) -> None:
        released = waiting.copy()
        waiting.clear()
        for block, lines in released:
            self.put(block, lines)


def _style_codes() -> dict[str, tuple[str, str]]:
    from rich.color import ColorSystem  # noqa: PLC0415 - only where colour is shown
    from rich.style import Style  # noqa: PLC0415 - only where colour is shown

    codes = {}
    for name, definition in STYLES.items():
        before, _, after = (
            Style.parse(definition).render("|", color_system=ColorSystem.STANDARD).partition("|")
        )
        codes[name] = (before, after)
    return codes


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a stream of somebody's own, or a closed one
        return False


def _can_encode(stream: TextIO, text: str) -> bool:
    encoding = getattr(stream, "encoding", None)
    if encoding is None:  # a stream of text, without bytes behind it
        return True
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _columns(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 80
    return max(columns, 20) if columns else 80
