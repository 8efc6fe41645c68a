"""What a call of write_file or edit_file makes of a file: found out first, then carried out.

Finding out changes nothing, so that a person can be shown it (previews.py). A file is put in place whole: it
is written under a passing name in the same directory and then renamed, so a reader sees the old one or the
new one, and a crash leaves one of them. The new one has the old one's permission bits; other names (hard
links) of the old one stay with the old one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import attrs

from agentkit_loop.file_reach import Parts, Reach, quoted
from agentkit_loop.file_reading import many
from agentkit_loop.line_diff import LineDiff, diff_lines, lines_of

MAX_TEXT_BYTES = 10 << 20
"""Bytes of a file that is edited, or compared with what is to replace it."""

MAX_COUNTED = 100
"""Matches of an edit's old text that are counted."""

_MAX_NUMBERED = 10  # of these, whose lines are named
_PERMISSIONS = 0o777  # without set-user-id and the like, which a system drops from a file that is written to
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@attrs.frozen
class FileChange:
    """What a call makes of a file.

    path: as the model gave it. parts: where it leads. is_new: whether no such file is there. before: the
    file's text, None for one that cannot be compared since it is too large or no UTF-8. after: its text then.
    """

    path: str
    parts: Parts
    is_new: bool
    before: str | None
    after: str

    def diff(self) -> LineDiff | None:
        """Compare the text now and then; None where the one now cannot be compared."""
        return None if self.before is None else diff_lines(self.before, self.after)


def extent(change: FileChange, diff: LineDiff | None) -> str:
    """Return in words how much a change changes."""
    lines = many(len(lines_of(change.after)), "line")
    if change.is_new:
        return f"new, {lines}"
    if diff is None:
        return f"{lines} in place of what is large or no text"
    return f"+{diff.added:,} -{diff.removed:,}"


# --- finding out


def written(reach: Reach, path: str, content: str) -> FileChange:
    """Return what writing a whole file changes; raises OSError, ValueError with a sentence where it may not."""
    parts = _file_at(reach, path)
    _check_text("content", content)
    try:
        raw = _read(reach, parts, path)
    except FileNotFoundError:
        return FileChange(path, parts, is_new=True, before="", after=content)
    try:
        before = None if raw is None else raw.decode()
    except UnicodeDecodeError:
        before = None
    return FileChange(path, parts, is_new=False, before=before, after=content)


def edited(reach: Reach, path: str, old: str, new: str) -> FileChange:
    """Return what putting `new` in place of the one `old` changes; raises OSError, ValueError with a sentence.

    Line ends are equal whatever they are: those of the file stay, those of `new` become what they were.
    """
    parts = _file_at(reach, path)
    _check_text("new", new)
    if not old or old == new:
        what = "old is empty" if not old else "old and new are the same"
        raise ValueError(f"edit of {quoted(path)} refused because {what}; give the text that is to go as old")
    raw = _read(reach, parts, path)
    if raw is None:
        most = f"{MAX_TEXT_BYTES >> 20} MB"
        raise ValueError(f"{quoted(path)} has more than {most}, too much to edit; run a command instead")
    try:
        before = raw.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{quoted(path)} is not UTF-8; only UTF-8 files are edited") from None
    return FileChange(path, parts, is_new=False, before=before, after=_replaced(before, old, new, path))


def _file_at(reach: Reach, path: str) -> Parts:
    if path.endswith("/"):
        raise ValueError(f"path {quoted(path)} names a directory; give a file's")
    return reach.resolve(path)


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which no UTF-8 file can; give it without") from None


def _read(reach: Reach, parts: Parts, path: str) -> bytes | None:
    """Return a file's bytes, None for too many."""
    with reach.open(parts, path) as file:
        raw = file.read(MAX_TEXT_BYTES + 1)
    return raw if len(raw) <= MAX_TEXT_BYTES else None


def _replaced(before: str, old: str, new: str, path: str) -> str:
    text, sought = before.replace("\r\n", "\n"), old.replace("\r\n", "\n")
    places = _places(text, sought)
    if len(places) != 1:
        raise ValueError(_not_one(text, places, path))
    start, end = _place_before(before, places[0]), _place_before(before, places[0] + len(sought))
    gone = before[start:end]
    line_end = _line_end(gone if "\n" in gone else before)
    return before[:start] + new.replace("\r\n", "\n").replace("\n", line_end) + before[end:]


def _places(text: str, sought: str) -> list[int]:
    """Return where a text is found, also where matches overlap; one more than are counted at most."""
    found: list[int] = []
    place = text.find(sought)
    while place >= 0 and len(found) <= MAX_COUNTED:
        found.append(place)
        place = text.find(sought, place + 1)
    return found


def _not_one(text: str, places: list[int], path: str) -> str:
    if not places:
        return f"no match for old in {quoted(path)}; read the file and give its text exactly, with all spaces"
    times = f"{len(places)} times" if len(places) <= MAX_COUNTED else f"more than {MAX_COUNTED} times"
    numbers = ", ".join(str(text.count("\n", 0, place) + 1) for place in places[:_MAX_NUMBERED])
    more = ", …" if len(places) > _MAX_NUMBERED else ""
    return (
        f"old is in {quoted(path)} {times} (from lines {numbers}{more}); give more of the text around the one"
    )


def _place_before(before: str, place: int) -> int:
    """Return the place in a text of one in the same text whose line ends are newlines alone."""
    passed = 0
    for line in before.split("\r\n"):
        if place <= len(line):
            return passed + place
        place -= len(line) + 1
        passed += len(line) + 2
    return len(before)


def _line_end(text: str) -> str:
    """Return the more frequent line end."""
    return "\r\n" if 2 * text.count("\r\n") > text.count("\n") else "\n"


# --- carrying out


def check_place(reach: Reach, change: FileChange) -> None:
    """Raise what carrying out would, as far as that is seen without making anything."""
    with (
        _told(change.path),
        contextlib.suppress(FileNotFoundError),  # a directory that would be made
        reach.parent(change.parts, change.path, make=False) as parent,
    ):
        _mode(parent, change.parts[-1], change.path)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=parent):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def carry_out(reach: Reach, change: FileChange) -> None:
    """Put the changed file in its place, with the directories that are missing; raises OSError with a sentence."""
    with _told(change.path), reach.parent(change.parts, change.path) as parent:
        name = change.parts[-1]
        mode = _mode(parent, name, change.path)
        passing = f".agentkit-{os.urandom(8).hex()}.tmp"
        # Until it has its mode, nobody else may open it; a new file's mode is for the system to say.
        fd = os.open(passing, _NEW_FILE, 0o666 if mode is None else 0o600, dir_fd=parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(change.after.encode())
                file.flush()
                if mode is not None:
                    os.fchmod(fd, mode)
                os.fsync(fd)
            os.replace(passing, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(passing, dir_fd=parent)
            raise


def _mode(parent: int, name: str, path: str) -> int | None:
    """Return a file's permission bits, None where there is none; refuses one that is not to be written."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    # A rename asks for no right to the file itself, but such a file was meant to stay as it is.
    if not status.st_mode & 0o222 or not os.access(name, os.W_OK, dir_fd=parent):
        raise PermissionError(f"{quoted(path)} is read-only; choose another file")
    return status.st_mode & _PERMISSIONS


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Make a sentence of what the system says; ours, which have no number, pass."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case None:
                raise
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise PermissionError(f"{quoted(path)} may not be written; choose another place") from None
            case errno.ENOTDIR | errno.ELOOP:
                raise NotADirectoryError(
                    f"{quoted(path)} leads through something that is no directory; list_files shows what is there"
                ) from None
            case errno.ENAMETOOLONG:
                raise ValueError(
                    f"{quoted(path)} holds a name that is too long; give a shorter one"
                ) from None
            case _:
                reason = error.strerror or type(error).__name__
                told = f"{quoted(path)} could not be written: {reason[:1].lower()}{reason[1:]}"
                raise OSError(told) from None
