"""What is in reach of tools that read and change files: everything under one directory, and nothing else.

A path from a model is resolved with its symlinks and must come out under the root. What comes out is then
opened from the root downwards, one name after the other, each relative to the directory opened before it and
none of them through a symlink (`dir_fd`, O_NOFOLLOW). So who swaps a directory for a link in between gets a
refusal, never a file elsewhere. Only regular files are opened; a FIFO or a device never is.

Errors are sentences for the model, in the builtin classes. They name paths as the model gave them, or from
the root: the rest of the machine is none of its business.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError

Parts: TypeAlias = tuple[str, ...]
"""A path from the root, name by name; resolved, so that none is a symlink, `.` or `..`."""

NOT_ENTERED = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"})
"""Directories that a walk names and leaves alone; as its start they are looked into."""

MAX_ENTRIES = 50_000
"""Directory entries that a walk looks at."""

MAX_DEPTH = 64
"""Directories below each other that a walk goes down."""

MAX_PATH_CHARS = 4_096
"""Characters of a path; the system takes no longer ones, and resolving them takes its square."""

SECRET_NAMES = re.compile(
    r"(?!\.env\.example\Z)\.env(\..*)?"
    r"|.*\.(pem|key)|id_(rsa|ed25519).*|\.(netrc|npmrc|pypirc)|\.(ssh|aws|gnupg)",
    re.IGNORECASE | re.DOTALL,
)
"""Names, matched whole, of files and directories that by custom hold keys and passwords."""

KEPT_OUT = "kept out: may hold secrets"
"""How a walk notes them."""

_MAX_QUOTED = 200  # characters of a path that an error repeats


def _flags(*names: str) -> int:
    """Return flags for opening; where one is not known `Reach` refuses the system anyhow."""
    flags = os.O_RDONLY
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


_DIRECTORY = _flags("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
# O_NONBLOCK: should a FIFO take a file's place after it was looked at, opening it does not wait for a writer.
_FILE = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC")

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link that leads nowhere",  # of a resolved path: a loop, or one made meanwhile
}


@attrs.frozen
class Found:
    """An entry that a walk came by.

    parts: from the root. below: from the walk's start. note: what it is, empty for a regular file.
    """

    parts: Parts
    below: Parts
    note: str


class Reach:
    """A directory whose files may be read and changed. hidden: files and directories in it that may not.

    Both are resolved. What is hidden need not exist yet; it is known by its path and by its identity (device,
    inode), whatever name reaches it. secrets: whether what SECRET_NAMES names, below the root, is in reach; it
    is known by its name and a link's to it. Raises ConfigurationError for a root that is none, or is hidden.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        hidden: Iterable[str | os.PathLike[str]] = (),
        secrets: bool = False,
    ) -> None:
        if os.open not in os.supports_dir_fd:
            raise ConfigurationError("file tools refused on this system; they need open() with dir_fd")
        self._root = os.path.realpath(root)
        self._hidden = tuple(Path(path).absolute() for path in hidden)
        self._secrets = secrets
        if not Path(self._root).is_dir():
            raise ConfigurationError(f"root {os.fspath(root)!r} is no directory; give one that exists")
        for path in self._hidden:
            if Path(self._root).is_relative_to(path.resolve()):
                raise ConfigurationError(
                    f"root {os.fspath(root)!r} lies in {str(path)!r}, which is hidden from it; "
                    "give another root, or hide less"
                )

    @property
    def root(self) -> str:
        """The directory, as an absolute path without links."""
        return self._root

    def resolve(self, path: str) -> Parts:
        """Return where a path leads, whether or not something is there; raises ValueError, PermissionError."""
        parts = _names(path)
        self._refuse_secrets(parts, path)  # a link of such a name leads to one, whatever that is called
        return self._resolved(parts, path)

    def keeps_out(self, name: str) -> bool:
        """Whether a file or directory of this name is out of reach since it may hold secrets."""
        return not self._secrets and SECRET_NAMES.fullmatch(name) is not None

    def is_directory(self, path: str) -> bool:
        """Tell a directory from a regular file; raises OSError's children for anything else."""
        parts = self.resolve(path)
        if not parts:
            return True
        with _told(path):
            status = self._status(parts)
            if status is not None and stat.S_ISDIR(status.st_mode):
                return True
            self._check(status, path)
            return False

    @contextlib.contextmanager
    def open(self, parts: Parts, path: str) -> Iterator[BinaryIO]:
        """Open a regular file for reading bytes. path: as errors, OSError's children, are to call it."""
        with _told(path):
            self._refuse_secrets(parts, path)
            if not parts:
                self._check(Path(self._root).stat(), path)
            with self._directory(parts[:-1]) as parent:
                self._check(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False), path)
                opened = os.fdopen(os.open(parts[-1], _FILE, dir_fd=parent), "rb")
            with opened as file:
                self._check(os.fstat(file.fileno()), path)  # it may be another one by now
                yield file

    @contextlib.contextmanager
    def parent(self, parts: Parts, path: str, *, make: bool = True) -> Iterator[int]:
        """Open the directory of what `resolve` gave, to put a file there by `dir_fd`; make: where it is missing.

        A regular file in reach has its name, or nothing. path: as our errors call it; the system's are raised raw.
        """
        self._refuse_secrets(parts, path)
        if not parts:
            self._check(Path(self._root).stat(), path)
        with self._directory(parts[:-1], make=make) as parent:
            with contextlib.suppress(FileNotFoundError):
                self._check(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False), path)
            yield parent

    def walk(
        self, path: str, *, cancelled: Callable[[], bool] = lambda: False, limit: int = MAX_ENTRIES
    ) -> Walk:
        """Return a walk through the tree below a directory. cancelled: asked now and then, ends it early."""
        return Walk(self, self.resolve(path), path, cancelled, limit)

    def entries(self, parts: Parts, *, limit: int) -> list[tuple[str, os.stat_result]]:
        """Return at most `limit` entries of a directory, by name, without the hidden; raises OSError."""
        found = []
        with self._directory(parts) as fd, os.scandir(fd) as entries:
            for entry in itertools.islice(entries, limit):
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        hidden = self._hidden_now()
        return sorted((name, status) for name, status in found if _identity(status) not in hidden)

    def link_note(self, parts: Parts) -> str:
        """Say where a symlink leads."""
        try:
            target = self._resolved(parts, "")
            status = self._status(target) if target else None
        except PermissionError:
            return "a link out of reach"
        except OSError:
            return "a link that leads nowhere"
        if target and status is None:
            return "a link out of reach"
        if status is not None and stat.S_ISLNK(status.st_mode):
            return "a link that leads nowhere"
        return f"a link to {shown(target)}"

    def _resolved(self, parts: Parts, path: str) -> Parts:
        real = os.path.realpath("/".join((self._root, *parts)))  # lenient: what is missing is told by open
        if real == self._root:
            return ()
        below = self._root.rstrip("/") + "/"
        if not real.startswith(below):
            raise PermissionError(f"{quoted(path)} is a link that leads out of the root")
        if any(Path(real).is_relative_to(os.path.realpath(hidden)) for hidden in self._hidden):
            self._check(None, path)  # also what is not there yet, so that nobody makes it
        resolved = tuple(real.removeprefix(below).split("/"))
        self._refuse_secrets(resolved, path)
        return resolved

    def _refuse_secrets(self, parts: Parts, path: str) -> None:
        if any(map(self.keeps_out, parts)):
            raise PermissionError(
                f"{quoted(path)} is kept out because it may hold secrets; look at other files"
            )

    def _status(self, parts: Parts) -> os.stat_result | None:
        """Return what a resolved path names, None where it is hidden; raises OSError."""
        with self._directory(parts[:-1]) as parent:
            status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        return None if _identity(status) in self._hidden_now() else status

    def _check(self, status: os.stat_result | None, path: str) -> None:
        """Refuse what is hidden, and what is no regular file."""
        if status is None or _identity(status) in self._hidden_now():
            raise PermissionError(f"{quoted(path)} is out of reach; look at other files")
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(f"{quoted(path)} is a directory; list_files shows what is in it")
        if kind != stat.S_IFREG:
            raise PermissionError(
                f"{quoted(path)} is {_KINDS.get(kind, 'no file')}; only regular files are read"
            )

    @contextlib.contextmanager
    def _directory(self, parts: Parts, *, make: bool = False) -> Iterator[int]:
        """Open a directory, made where it is missing if wanted; raises OSError."""
        hidden = self._hidden_now()
        fd = os.open(self._root, _DIRECTORY)
        try:
            for place, name in enumerate(parts, start=1):
                inner = _enter(name, fd, make=make)
                os.close(fd)
                fd = inner
                if _identity(os.fstat(fd)) in hidden:
                    self._check(None, "/".join(parts[:place]))
            yield fd
        finally:
            os.close(fd)

    def _hidden_now(self) -> frozenset[tuple[int, int]]:
        found = set()
        for path in self._hidden:
            with contextlib.suppress(OSError):  # not there yet
                found.add(_identity(path.stat()))
        return frozenset(found)


class Walk:
    """The files below a directory: the nearest first, then by name. Symlinks are told and not followed.

    Raises what the start's opening raises. After it: not_entered: directories that were left alone.
    unreadable: how many could not be read. stopped: whether the limit of entries ended it.
    """

    def __init__(
        self, reach: Reach, start: Parts, path: str, cancelled: Callable[[], bool], limit: int
    ) -> None:
        self.not_entered: list[Parts] = []
        self.unreadable = 0
        self.stopped = False
        self._reach = reach
        self._start = start
        self._path = path
        self._cancelled = cancelled
        self._limit = limit

    def __iter__(self) -> Iterator[Found]:
        left = self._limit
        waiting = collections.deque([self._start])
        while waiting and not self._cancelled():
            directory = waiting.popleft()
            entries = self._read(directory, left + 1)
            self.stopped = len(entries) > left
            for name, status in entries[:left]:
                place = (*directory, name)
                if self._reach.keeps_out(name):
                    yield Found(place, place[len(self._start) :], KEPT_OUT)
                elif not stat.S_ISDIR(status.st_mode):
                    yield Found(place, place[len(self._start) :], self._note(place, status))
                elif name in NOT_ENTERED or len(place) - len(self._start) > MAX_DEPTH:
                    self.not_entered.append(place)
                else:
                    waiting.append(place)
            left -= len(entries)
            if self.stopped:
                return

    def _read(self, directory: Parts, limit: int) -> list[tuple[str, os.stat_result]]:
        if directory == self._start:
            with _told(self._path):
                return self._reach.entries(directory, limit=limit)
        try:
            return self._reach.entries(directory, limit=limit)
        except OSError:
            self.unreadable += 1
            return []

    def _note(self, place: Parts, status: os.stat_result) -> str:
        if stat.S_ISLNK(status.st_mode):
            return self._reach.link_note(place)
        return _KINDS.get(stat.S_IFMT(status.st_mode), "")


def shown(parts: Parts) -> str:
    """Return a path from the root on one line; what is not printable as an escape."""
    path = "/".join(parts) or "."
    if path.isprintable():
        return path
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)


def quoted(path: str) -> str:
    """Return a path as an error repeats it."""
    return repr(path if len(path) <= _MAX_QUOTED else path[: _MAX_QUOTED - 1] + "…")


def _names(path: str) -> Parts:
    """Split a path from the model; raises ValueError with a sentence for one that cannot be meant."""
    if not path:
        raise ValueError("path '' names nothing; give '.' for the root")
    if len(path) > MAX_PATH_CHARS:
        raise ValueError(f"path {quoted(path)} is too long; give one of at most {MAX_PATH_CHARS} characters")
    if "\0" in path:
        raise ValueError(f"path {quoted(path)} holds a NUL; give one without")
    if path.startswith("/"):
        raise ValueError(f"path {quoted(path)} is absolute; give one from the root, such as 'docs/notes.md'")
    if path.startswith("~"):
        raise ValueError(
            f"path {quoted(path)} begins with '~', which is not expanded; give a path from the root, "
            "or './~…' for a file of that name"
        )
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError(f"path {quoted(path)} goes up with '..'; give one from the root downwards")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(f"path {quoted(path)} cannot be the name of a file here") from None
    return parts


def _enter(name: str, fd: int, *, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # made by another meanwhile, whatever it is
        os.mkdir(name, dir_fd=fd)
    return os.open(name, _DIRECTORY, dir_fd=fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Make a sentence of what the system says; ours, which have no number, pass."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        _raise(error, path)


def _raise(error: OSError, path: str) -> NoReturn:
    match error.errno:
        case errno.ENOENT | errno.ENAMETOOLONG:
            raise FileNotFoundError(
                f"no {quoted(path)} under the root; list_files shows what is there"
            ) from None
        case errno.ENOTDIR | errno.ELOOP:
            raise NotADirectoryError(
                f"{quoted(path)} leads through something that is no directory; list_files shows what is there"
            ) from None
        case errno.EACCES | errno.EPERM:
            raise PermissionError(f"{quoted(path)} may not be read; look at other files") from None
        case _:
            reason = error.strerror or type(error).__name__
            raise OSError(f"{quoted(path)} could not be read: {reason[:1].lower()}{reason[1:]}") from None
