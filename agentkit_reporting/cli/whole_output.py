"""A file that a command writes: new, whole or not there, and readable by its owner alone."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agentkit_loop.errors import LogError
from agentkit_reporting.log.locks import make_private
from agentkit_reporting.log.places import make_directories, refuse_packed_name

__all__ = ["whole_output"]


@contextlib.contextmanager
def whole_output(output: str) -> Iterator[IO[bytes]]:
    """Open a new file that gets its name when all is in it, mode 0600; `-` is standard output.

    Where the body raises, there is no file. Raises LogError where there is one already, or it cannot be written.
    """
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    refuse_packed_name(output)
    place = Path(output)
    if os.path.lexists(place):
        raise LogError("output refused because this file is there already; give a new one", path=output)
    try:
        make_directories(place.parent)
        fd, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent)
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            make_private(fd)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(name, place)  # which a file that came in between refuses
    except OSError as error:
        raise _unwritable(output, error) from error
    finally:
        Path(name).unlink(missing_ok=True)  # its directory may have been removed


def _unwritable(output: str, error: OSError) -> LogError:
    reason = (error.strerror or type(error).__name__).lower()
    return LogError(f"output refused because of: {reason}; give another path", path=output)
