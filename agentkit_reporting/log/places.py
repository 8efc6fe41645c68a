"""Where a log may be written: the path is looked at before the first line."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.log.segments import PACKED_SUFFIXES

_LOOKED_AT_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"  # some editors put it in front
_NOTHING = b"\0 \t\r\n"  # what a power cut may leave of lines, too
_ADDRESS = re.compile(r"(s3|gs|az|file)://")


def is_address(name: str) -> bool:
    """Whether a name is the address of remote storage, and no path."""
    return _ADDRESS.match(name) is not None


def writable_path(path: str | os.PathLike[str], *, directory: bool = False) -> Path:
    """Return the absolute path of a log, or of a directory of logs; raises LogError if it cannot work.

    A `~` at its beginning is the home directory, where there is one.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise ConfigurationError(f"{path!r} refused because it is no path; give one") from None
    if not name or "\0" in name:
        raise LogError("log refused because this names no file; give a path", path=repr(name))
    if is_address(name):
        raise LogError(
            "log refused because this is the address of remote storage; give a local file, and the address as remote=…",
            path=name,
        )
    place = Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111 - Path.absolute() keeps '..', resolve() follows links, expanduser() raises
    try:
        is_directory = stat.S_ISDIR(place.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_directory = None
    except OSError as error:
        raise LogError(f"log refused because of: {reason_of(error)}; give another path", path=name) from error
    if directory and is_directory is False:
        raise LogError("log refused because it is a file; give a directory for one log a session", path=name)
    if not directory and (is_directory or name.endswith("/")):
        raise LogError(
            'log refused because it is a directory; give a file in it, or per="session"', path=name
        )
    if not directory:
        refuse_packed_name(name)
    _refuse_unwritable(place, name)
    return place


def refuse_foreign(
    place: Path, start: bytes, what: str, *, is_ours: Callable[[bytes], bool] = lambda _: False
) -> None:
    """Raise LogError for a file that holds something, and no line of ours near its beginning.

    start: what lines of ours begin with; what: what they are, in plural. is_ours: asked where they do not, since
    another program may have written them anew. A torn line is ours as far as it goes. What cannot be read is left to
    who writes there.
    """
    try:
        if not stat.S_ISREG(place.stat().st_mode):
            return
        with place.open("rb") as file:
            block = file.read(_LOOKED_AT_BYTES)
    except OSError:
        return
    lines = [line.strip() for line in block.removeprefix(_BOM).strip(_NOTHING).split(b"\n")]
    if any(line.startswith(start) or is_ours(line) for line in lines):
        return
    if start.startswith(lines[-1]) and not (lines[-1] and block.endswith(b"\n")):
        return
    raise LogError(
        f"log refused because the file holds something else than {what}; give another path", path=str(place)
    )


def refuse_packed_name(name: str) -> None:
    """Raise LogError for the name of a packed file, since what is written is plain lines."""
    if name.endswith(PACKED_SUFFIXES):
        raise LogError(
            "log refused because of its name, which is that of a packed file, and lines are written plain; "
            f"leave away {name[name.rfind('.') :]!r}",
            path=name,
        )


def reason_of(error: Exception) -> str:
    """Return what an error says, as a part of a sentence."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{reason[:1].lower()}{reason[1:]}"


def _refuse_unwritable(place: Path, name: str) -> None:
    """Look at the path itself, or at the nearest directory that exists above it."""
    existing = place
    while not os.path.lexists(existing):
        existing = existing.parent
    needed = os.W_OK
    if existing != place:
        if not existing.is_dir():
            reason = f"{str(existing)!r} is no directory"
            raise LogError(f"log refused because {reason}; give another path", path=name)
        needed |= os.X_OK
    if existing.exists() and not os.access(existing, needed):
        reason = f"{str(existing)!r} may not be written"
        raise LogError(f"log refused because {reason}; give another path", path=name)


def make_directories(directory: Path) -> None:
    """Make a directory and those above it that are missing, mode 0700; raises OSError."""
    # Path.mkdir(parents=True) gives the mode to the last one only.
    if not directory.exists():
        make_directories(directory.parent)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:  # another was quicker
            if not directory.is_dir():
                raise
        else:
            directory.chmod(0o700)  # an unusual umask takes bits away
