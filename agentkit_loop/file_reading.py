"""Text out of files, in bounded answers: a page of lines, and the lines that hold a text.

Files are read by blocks, never whole, and split at the byte newline alone. A line that is longer than a
block is looked at in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import attrs

from agentkit_loop.file_reach import Parts, Reach, quoted, shown
from agentkit_loop.tool_context import ToolContext

MAX_CHARS = 50_000
"""Characters of an answer, about; whole lines."""

MAX_LINE_CHARS = 2_000
"""Characters of one line that a page holds."""

MAX_MATCHES = 200
"""Lines that a search gives."""

MAX_QUERY_CHARS = 1_000

MAX_READ_BYTES = 256 << 20
"""Bytes that one call reads: of a file to find and count its lines, or of all files searched."""

_REPLACED = "\ufffd"
_BLOCK = 1 << 20
_LINE_BYTES = (
    4 * MAX_LINE_CHARS + 8
)  # more than a whole line of the longest characters, and a byte order mark
_OVERLAP = 4 * MAX_QUERY_CHARS  # bytes that pieces of a long line share, so that no match falls in between
_SNIFFED = 8_192  # bytes in which a NUL makes a file binary
_MATCH_CHARS = 200  # of a line that a search gives, around the match
_FRONT = 60  # of these, before the match


# --- a page


@attrs.define
class Page:
    """Lines of a file. before: how many come before them. after: and behind, None where not counted."""

    lines: list[str] = attrs.field(factory=list)
    before: int = 0
    after: int | None = 0
    cut: int = 0  # lines of which the end is missing
    replaced: int = 0  # lines with bytes that are no text

    def text(self, path: str) -> str:
        """Return the lines behind one that says which they are; raises ValueError where there are none."""
        end = self.before + len(self.lines)
        if not self.lines:
            if not self.before:
                return f"[{quoted(path)} is empty]"
            raise ValueError(
                f"start_line is behind the end of {quoted(path)}; it has {many(self.before, 'line')}"
            )
        which = f"{quoted(path)}: lines {self.before + 1:,} to {end:,}"
        told = [f"{quoted(path)}: {many(end, 'line')}" if not self.before else which]
        if self.after is None:
            told = [which, f"more lines follow; ask with start_line={end + 1}"]
        elif self.after:
            follow = many(self.after, "more line")
            told = [f"{which} of {end + self.after:,}", f"{follow}; ask with start_line={end + 1}"]
        if self.cut:
            told.append(f"{many(self.cut, 'line')} cut after {MAX_LINE_CHARS:,} characters")
        if self.replaced:
            told.append(f"{many(self.replaced, 'line')} with bytes that are not UTF-8, shown as {_REPLACED}")
        return "\n".join((f"[{'; '.join(told)}]", *self.lines))


def read_page(file: BinaryIO, start_line: int, line_count: int, *, context: ToolContext | None) -> Page:
    """Read lines; raises ValueError where the first is too far into the file to be looked for."""
    page = Page(before=_skip_lines(file, start_line - 1, context))
    if page.before < start_line - 1:
        return page
    chars = 0
    while len(page.lines) < line_count and chars < MAX_CHARS:
        raw = file.readline(_LINE_BYTES)
        if not raw:
            return page
        line = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r").replace("\0", _REPLACED)
        if page.before == 0 and not page.lines:
            line = line.removeprefix("\ufeff")
        page.replaced += line[:MAX_LINE_CHARS].count(_REPLACED) > raw.count(_REPLACED.encode())
        if len(line) > MAX_LINE_CHARS:
            page.cut += 1
            line = f"{line[:MAX_LINE_CHARS]}…"
            if not raw.endswith(b"\n"):
                _skip_lines(file, 1, context)
        page.lines.append(line)
        chars += len(line) + 1
    page.after = _count_lines(file, context)
    return page


def _skip_lines(file: BinaryIO, count: int, context: ToolContext | None) -> int:
    """Pass over so many lines, or all that there are, and return how many these are."""
    passed, last = 0, b"\n"
    while passed < count:
        block = file.read(_BLOCK)
        if not block:
            return passed + (last != b"\n")
        last = block[-1:]
        newlines = block.count(b"\n")
        if passed + newlines < count:
            passed += newlines
        else:
            end = 0
            for _ in range(count - passed):
                end = block.index(b"\n", end) + 1
            file.seek(end - len(block), 1)
            return count
        if file.tell() > MAX_READ_BYTES:
            size = f"{MAX_READ_BYTES >> 20} MB"
            raise ValueError(f"start_line is more than {size} into the file; search_files finds text there")
        if is_cancelled(context):
            return passed
    return passed


def _count_lines(file: BinaryIO, context: ToolContext | None) -> int | None:
    """Return how many lines follow, None where they are too many to count."""
    count, last = 0, b"\n"
    while block := file.read(_BLOCK):
        count += block.count(b"\n")
        last = block[-1:]
        if file.tell() > MAX_READ_BYTES or is_cancelled(context):
            return None
    return count + (last != b"\n")


# --- a search


class Search:
    """Looks for a text in files, line by line: what it found so far, and what it may still read."""

    def __init__(self, reach: Reach, query: str, *, ignore_case: bool, context: ToolContext | None) -> None:
        self._reach = reach
        self._ignore_case = ignore_case
        self._needle = self._folded(query)
        self._context = context
        self._lines: list[str] = []
        self._files = 0
        self._more_in: list[Parts] = []
        self._binary = 0
        self._unreadable = 0
        self._left = MAX_READ_BYTES

    @property
    def is_over(self) -> bool:
        """Whether a bound was reached, or nobody waits any more."""
        return len(self._lines) >= MAX_MATCHES or self._left <= 0 or is_cancelled(self._context)

    def look_into(self, parts: Parts, *, most: int) -> None:
        """Search a file, for at most so many lines."""
        found = 0
        most = min(most, MAX_MATCHES - len(self._lines))
        try:
            with self._reach.open(parts, shown(parts)) as file:
                if is_binary(file):
                    self._binary += 1
                    return
                for number, line in self._matching(file):
                    if found == most:
                        self._more_in.append(parts)
                        break
                    found += 1
                    self._lines.append(f"{shown(parts)}:{number}: {self._around(line)}")
        except OSError:
            self._unreadable += 1
        self._files += found > 0

    def text(self, where: str, notes: Iterable[str] = ()) -> str:
        """Return what was found, behind a line that says how much it is."""
        lines = fitting(self._lines)
        what = f"{many(len(lines), 'line')} in {many(self._files, 'file')} {where}"
        told = [what if lines else f"no lines found {where}"]
        if self._left <= 0:
            told.append(f"stopped after {MAX_READ_BYTES >> 20} MB; search a subdirectory or give a pattern")
        elif len(self._lines) >= MAX_MATCHES or len(lines) < len(self._lines):
            told.append("there may be more; search a subdirectory, give a pattern or a longer query")
        elif self._more_in:
            told.append(f"more in {some(map(shown, self._more_in))}; give one as path")
        for count, kind in ((self._binary, "binary"), (self._unreadable, "unreadable")):
            if count:
                told.append(f"{many(count, f'{kind} file')} left out")
        return "\n".join((f"[{'; '.join((*told, *notes))}]", *lines))

    def _folded(self, text: str) -> str:
        return text.casefold() if self._ignore_case else text

    def _matching(self, file: BinaryIO) -> Iterator[tuple[int, str]]:
        """Yield the lines that match, with their number; of a very long line, the first piece."""
        last = 0
        for number, block in self._blocks(file):
            text = block.decode("utf-8", "replace")
            if self._needle not in self._folded(text):
                continue
            for place, line in enumerate(text.split("\n"), start=number):
                if place != last and self._needle in self._folded(line):
                    last = place
                    yield place, line

    def _blocks(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of whole lines, with the number of their first; a line without end in pieces."""
        number, rest = 1, b""
        while self._left > 0 and not is_cancelled(self._context):
            read = file.read(_BLOCK)
            self._left -= len(read)
            block = rest + read
            if not read:
                yield number, block
                return
            end = block.rfind(b"\n") + 1
            whole, rest = (block[:end], block[end:]) if end else (block, block[-_OVERLAP:])
            yield number, whole.removesuffix(b"\n")
            number += whole.count(b"\n")

    def _around(self, line: str) -> str:
        """Return the part of a line that shows the match."""
        line = line.rstrip("\r").replace("\0", _REPLACED)
        if len(line) <= _MATCH_CHARS:
            return line
        # Where folding changes lengths the place is about right, which is enough to look at.
        start = max(0, min(self._folded(line).find(self._needle) - _FRONT, len(line) - _MATCH_CHARS))
        end = start + _MATCH_CHARS
        return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"


# --- both


def is_binary(file: BinaryIO) -> bool:
    """Look for a NUL at the beginning, and go back there."""
    head = file.read(_SNIFFED)
    file.seek(0)
    return b"\0" in head


def is_cancelled(context: ToolContext | None) -> bool:
    """Whether nobody waits for the answer any more."""
    return context is not None and context.cancelled


def fitting(lines: Iterable[str]) -> list[str]:
    """Return the first lines that fit into an answer."""
    kept: list[str] = []
    chars = 0
    for line in lines:
        chars += len(line) + 1
        if chars > MAX_CHARS and kept:
            break
        kept.append(line)
    return kept


def some(names: Iterable[str]) -> str:
    """Return the first ten names and how many more there are."""
    every = list(names)
    return ", ".join(every[:10]) + (f" and {len(every) - 10:,} more" if len(every) > 10 else "")  # noqa: PLR2004 - ten


def many(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
