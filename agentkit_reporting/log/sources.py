"""What a caller names, as inputs: files, directories, patterns, streams, several of them.

A log is its active file with all its segments, and is read once however often it is named. So of names that a
shell has made of `logs/*` a segment belongs to the log that is named as well; in a directory, or where a
pattern would match the log too, also if the log's active file is not there. A segment that is named without
its log is read by itself, as it stands.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.log.inputs import Input, StreamInput, stream_input, unreadable
from agentkit_reporting.log.lines import Reading
from agentkit_reporting.log.places import is_address
from agentkit_reporting.log.segments import PACKED_SUFFIXES, Shelf, log_of
from agentkit_reporting.log.tail import LogTail

_SUFFIXES = (".jsonl", *(f".jsonl{suffix}" for suffix in PACKED_SUFFIXES))

_LONGEST_NAME = 255  # bytes of one name, on most systems
_SHOWN = 60  # characters of what is no path

_DIRECTORY, _FILE, _OTHER = "directory", "file", "pipe or device"


class Readable(Protocol):
    """An open file, binary or text, or anything with its `read`."""

    def read(self, size: int = -1, /) -> bytes | str | None:
        """Return at most `size` bytes or characters, nothing at the end."""


Source: TypeAlias = str | os.PathLike[str] | Readable | Iterable[str | os.PathLike[str] | Readable]
"""Where a log is: a file, a directory of logs, a glob pattern, "-" for standard input, an open file, or
several of these in the order to read them."""


class Sources:
    """What was named, looked at again and again where more may come.

    waiting: what is not there yet may come later; otherwise it is refused.
    """

    def __init__(self, source: Source, reading: Reading, *, waiting: bool) -> None:
        self._reading = reading
        self._waiting = waiting
        self._given: list[str | Any] = list(_flat(source))
        if not self._given:
            raise LogError("nothing to read because no log was given; give at least one", path="[]")
        names = [each for each in self._given if isinstance(each, str)]
        self._home = _working_directory()  # names mean what they mean now, whatever the process does later
        self._named = {Path(self._home, name).resolve() for name in names if "\0" not in name}
        self._shelves: dict[Path, Shelf] = {}
        self._known: set[str] = set()  # what has become an input
        self._directories: dict[str, str] = {}  # with all links followed
        self._changes: dict[str, int] = {}  # of a directory, when it was looked at

    @property
    def may_grow(self) -> bool:
        """Whether there may be other inputs later."""
        return self._waiting and bool(self._given)

    def take_new(self) -> list[Input]:
        """Return the inputs that were not there before, in the order in which to read them; raises LogError."""
        found: list[Input] = []
        for each in list(self._given):
            if not isinstance(each, str) or each == "-":
                self._given.remove(each)
                found.append(
                    stream_input(sys.stdin, self._reading, "<stdin>")
                    if each == "-"
                    else stream_input(each, self._reading)
                )
                continue
            try:
                found += self._at(each)
            except OSError as error:
                raise unreadable(each, error) from error
        return found

    def _at(self, name: str) -> list[Input]:
        if not name or "\0" in name:
            raise LogError("log not found because this names no file; give a path", path=repr(name))
        if name.lstrip().startswith("{") and not os.path.lexists(name[:_LONGEST_NAME]):
            raise LogError(
                "log not found because this is a line of a log and no path; give lines as an open file, such as "
                "io.StringIO(text)",
                path=repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"),
            )
        if is_address(name):
            raise LogError(
                "log not read because it is in remote storage; copy it to a directory first and give that",
                path=name,
            )
        place = Path(self._home, name)
        if place.is_dir():
            return self._in_directory(name)
        if place.exists() or self._shelf(place.resolve()).segments_of(place.resolve().name):
            if not (self._waiting and place.is_symlink()):  # a link may lead to another log later
                self._given.remove(name)
            return list(self._of_files([name], joins=lambda _: False))
        if glob.has_magic(name):
            return self._matching(name)
        if not self._waiting:
            raise LogError("log not found because there is no such file; check the path", path=name)
        return []

    def _in_directory(self, name: str) -> list[Input]:
        shelf = self._shelf(Path(self._home, name).resolve() / "any")
        names = [each for each in shelf.names() if each.endswith(_SUFFIXES)]
        if self._changes.get(name) == shelf.changes:
            return []
        self._changes[name] = shelf.changes
        if not self._waiting and all(Path(self._home, name, each).is_dir() for each in names):
            raise LogError(
                "log not found because the directory holds no *.jsonl, *.jsonl.gz or *.jsonl.zst; give another",
                path=name,
            )
        return list(self._of_files([str(Path(name, each)) for each in names], joins=lambda _: True))

    def _matching(self, pattern: str) -> list[Input]:
        # Path.glob() takes no absolute pattern.
        matches = glob.glob(pattern, root_dir=self._home, recursive=True)  # noqa: PTH207
        found = sorted(each for each in matches if not Path(self._home, each).is_dir())
        if not found and not self._waiting:
            raise LogError("log not found because no file matches this pattern; check it", path=pattern)
        return list(self._of_files(found, joins=lambda log: fnmatch.fnmatchcase(log, pattern)))

    def _of_files(self, names: list[str], *, joins: Callable[[str], bool]) -> Iterator[Input]:
        """Yield the inputs of these files that are new. joins: whether a log that they belong to counts."""
        logs = set()
        for name in names:
            log = log_of(Path(name))
            if log is not None and (joins(str(log)) or self._is_named(log)):
                logs.add(str(log))
            else:
                logs.add(name)
        for name in sorted(logs):
            place = self._place_of(name)
            if place not in self._known:
                self._known.add(place)
                new = self._of_file(name, Path(place))
                if new is not None:
                    yield new

    def _place_of(self, name: str) -> str:
        """Return the path with all links followed, looking at each directory once."""
        path = os.path.join(self._home, name)  # noqa: PTH118 - of thousands of names
        directory, last = os.path.split(path)
        if os.path.islink(path):  # noqa: PTH114 - the same
            return str(Path(path).resolve())
        if directory not in self._directories:
            self._directories[directory] = str(Path(directory).resolve())
        return os.path.join(self._directories[directory], last)  # noqa: PTH118 - the same

    def _is_named(self, log: Path) -> bool:
        """Whether a log, or the directory that it is in, was named as well."""
        place = Path(self._home, log).resolve()
        return place in self._named or place.parent in self._named

    def _of_file(self, name: str, place: Path) -> Input | None:
        kind = _kind(place)
        if kind == _DIRECTORY:
            return None
        if kind is not None and not os.access(place, os.R_OK):
            raise LogError("log cannot be read because that is not permitted; change its mode", path=name)
        log = log_of(place)
        plain = place.with_suffix("") if place.suffix in PACKED_SUFFIXES else place
        if place == plain and Path(name).suffix in PACKED_SUFFIXES:
            return StreamInput(
                name, self._reading, place=place
            )  # a link to what is packed under another name
        if log is not None and (place != plain or log.exists()):
            return self._of_segment(name, place, plain)
        if place != plain:
            # What was read as it grew, and is packed by somebody else now, is nothing new.
            is_known = self._waiting and str(plain) in self._known
            return None if is_known else StreamInput(name, self._reading, place=place)
        if kind == _OTHER:
            return StreamInput(name, self._reading, place=place)
        return LogTail(name, place, self._shelf(place), self._reading)

    def _of_segment(self, name: str, place: Path, plain: Path) -> Input | None:
        """Return a segment that is read by itself, in the form that is there when it is its turn."""
        forms = [plain, *(plain.with_name(plain.name + suffix) for suffix in PACKED_SUFFIXES)]
        if any(str(each) in self._known for each in forms if each != place):
            return None
        others = tuple(each for each in forms if each != place)
        return StreamInput(name, self._reading, place=place, others=others)

    def _shelf(self, place: Path) -> Shelf:
        return self._shelves.setdefault(place.parent, Shelf(place.parent))


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - of thousands of names only the text
    except OSError:  # it was removed; what is named from there is not found
        return ""


def _kind(place: Path) -> str | None:
    """Return what is there, None for nothing; raises OSError."""
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        return _DIRECTORY
    return _FILE if stat.S_ISREG(mode) else _OTHER


def _flat(source: object) -> Iterator[str | Any]:
    """Yield paths as text, and streams."""
    if isinstance(source, (str, os.PathLike)):
        yield os.path.expanduser(os.fsdecode(source))  # noqa: PTH111 - Path.expanduser() raises for no such user
    elif callable(getattr(source, "read", None)):
        yield source
    elif not isinstance(source, Iterable) or isinstance(source, (bytes, bytearray)):
        raise ConfigurationError(
            f"{source!r} refused because it is no log; give a path, paths or an open file"
        )
    else:
        for each in source:
            yield from _flat(each)
