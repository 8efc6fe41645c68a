"""How the files of a rotated log are called: `run.jsonl`, `run.000001.jsonl`, `run.000002.jsonl.gz`.

The file that is written keeps the log's name; rotated ones carry a number that rises, of six digits, or seven
above 999,999. Longer numbers, such as dates of eight digits, are no segment's. A name of this form beside
`run.jsonl`, or with other numbers like it, belongs to that log.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import msgspec

PACKED_SUFFIXES = (".gz", ".zst")
"""What is added to the name of a packed file: gzip and Zstandard."""

MAX_NUMBER = 9_999_999
"""The highest number of a segment."""

_SEGMENT = re.compile(r"(.+)\.(\d{6}|[1-9]\d{6})(\.[^.]*)??(\.gz|\.zst)?", re.DOTALL)
_TICK_NS = 50_000_000  # file systems stamp a change with the last tick of the kernel's clock, 1 to 10 ms ago
_READ_AT_ONCE = 100  # names, even the longest ones, that a directory is read with in one piece
_COARSE_TICK_NS = 2_000_000_000  # and some know whole seconds only


class Segment(msgspec.Struct, frozen=True):
    """One rotated file of a log. suffix: how it is packed, such as `.gz`, empty for a plain one."""

    path: Path
    number: int
    suffix: str = ""


def segment_path(path: Path, number: int, suffix: str = "") -> Path:
    """Return where the segment of that number of the log at `path` is."""
    return path.with_name(f"{path.stem}.{number:06}{path.suffix}{suffix}")


def forms_of(path: Path, number: int) -> tuple[Path, ...]:
    """Return where the segment of that number may be: plain, and packed in each way.

    Who looks in this order misses no segment that is packed meanwhile, since the packed form is there before the
    plain one goes.
    """
    return tuple(segment_path(path, number, suffix) for suffix in ("", *PACKED_SUFFIXES))


def has_segment(path: Path, number: int) -> bool:
    """Whether the log has a segment of that number.

    What a directory is said to hold is not enough: a large one is read piece by piece, and a name that changes
    meanwhile, as a segment's does when it is packed, may be in none of the pieces.
    """
    return any(os.path.lexists(form) for form in forms_of(path, number))


def free_number(path: Path, noted: int = 0) -> int:
    """Return the number that the next segment of the log gets; raises OSError.

    noted: the last one that was given, as far as that is known. It counts if there is such a segment.
    """
    number = max((each.number for each in segments_of(path)), default=0)
    if noted > number and has_segment(path, noted):
        number = noted
    while has_segment(path, number + 1):
        number += 1
    return number + 1


def log_of(path: Path) -> Path | None:
    """Return the log that a file with the name of a segment belongs to, None for any other name."""
    found = _parsed(path.name)
    return None if found is None else path.with_name(found[0])


def segments_of(path: Path) -> list[Segment]:
    """Return the rotated files of a log by rising number; of one number the plain one first.

    Where compression was cut short a number may be there twice; both hold the same. One that is packed just now
    may be left out where the directory is large. Raises OSError for a directory that cannot be read; one that is
    missing has no segments.
    """
    return Shelf(path.parent).segments_of(path.name)


def is_trimmed(path: Path) -> bool:
    """Whether the first segments of a log are gone, as its retention removes them; raises OSError."""
    segments = segments_of(path)
    return bool(segments) and segments[0].number > 1


def lock_path(path: Path) -> Path:
    """Return the file whose lock is held while the log is rotated."""
    return path.with_name(f".{path.name}.lock")


def unfinished_path(path: Path) -> Path:
    """Return where a file is written before it is given its name."""
    return path.with_name(f".{path.name}.tmp")


class Shelf:
    """The names in a directory, read again only where it changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.changes = 0
        """How often other names were found."""
        self._names: list[str] = []
        self._segments: dict[str, list[Segment]] = {}
        self._stamp = -1  # when the directory changed, as it said before its names were read
        self._is_settled = False

    def names(self) -> list[str]:
        """Return the names, sorted; none for a directory that is missing. Raises OSError."""
        try:
            stamp = self.directory.stat().st_mtime_ns
            if stamp != self._stamp or not self._is_settled:
                self._read(stamp)
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, self._is_settled = -1, False
            self._take([])
        return self._names

    def segments_of(self, name: str) -> list[Segment]:
        """Return the segments of the log of that name, as the function of that name does."""
        self.names()
        return self._segments.get(name, [])

    def _read(self, stamp: int) -> None:
        age = time.time_ns() - stamp
        # What comes within the same tick changes the directory, but not its stamp.
        self._is_settled = age > (_TICK_NS if stamp % 1_000_000_000 else _COARSE_TICK_NS)
        self._stamp = stamp
        names = set(os.listdir(self.directory))  # noqa: PTH208 - of thousands of names only the text
        if len(names) > _READ_AT_ONCE and not self._is_settled:
            names.update(os.listdir(self.directory))  # noqa: PTH208 - what changed meanwhile may be in no piece
        self._take(sorted(names))

    def _take(self, names: list[str]) -> None:
        if names == self._names:
            return
        self.changes += 1
        self._names, self._segments = names, {}
        for name in names:
            found = _parsed(name)
            if found is not None:
                log, number, suffix = found
                segment = Segment(self.directory / name, number, suffix)
                self._segments.setdefault(log, []).append(segment)
        for segments in self._segments.values():
            segments.sort(key=lambda each: (each.number, each.suffix))


def _parsed(name: str) -> tuple[str, int, str] | None:
    """Return the log, number and suffix of a segment's name."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    stem, digits, extension, suffix = match.groups()
    return f"{stem}{extension or ''}", int(digits), suffix or ""
