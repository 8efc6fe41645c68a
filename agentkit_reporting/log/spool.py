"""The spool: where the file of records is whose path is an address in remote storage, until it is uploaded.

It is a directory of the user's own, by the address: `$XDG_CACHE_HOME/agentkit/spool/…`, that is `~/.cache/…`; where
there is no home, `agentkit-UID/spool/…` in the directory for temporary files. It outlives a crash: the next process
with the same address goes on in the same file, and uploads what the other one left.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import attrs

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.log.objects import checked_url
from agentkit_reporting.log.places import make_directories, reason_of
from agentkit_reporting.log.rotate import UPLOAD_ROTATION

SPOOL_ROTATION = attrs.evolve(UPLOAD_ROTATION, keep=1)
"""How a spooled file is rotated: what was uploaded goes, but for the newest segment."""

_NAME = "records.jsonl"


def spooled(url: str, remote: str | None = None) -> tuple[Path, str]:
    """Return the local file for an address, and where it is uploaded to; raises ConfigurationError, LogError.

    url: of a file, `s3://bucket/logs/steps.jsonl`, or of a directory, in which the file is called `records.jsonl`.
    """
    if remote is not None:
        raise ConfigurationError(
            f"remote={remote!r} refused because the path is an address already; give one of them"
        )
    above, _, name = file_at(url, _NAME).rpartition("/")
    return _home() / hashlib.sha256(above.encode()).hexdigest()[:16] / name, checked_url(above)


def file_at(url: str, name: str) -> str:
    """Return the address of a file: what url names, or `name` in the directory that it names."""
    whole = checked_url(url)
    above, _, last = whole.rpartition("/")
    return whole if last.endswith(".jsonl") and not above.endswith("/") else f"{whole}/{name}"


def _home() -> Path:
    """Return the directory of all spools, which nobody else may enter."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - raises where there is no home
    place = Path(cache, "agentkit", "spool")
    if Path(cache).is_absolute():
        try:
            make_directories(place)
        except OSError:
            pass
        else:
            if os.access(place, os.W_OK | os.X_OK):
                return place
    own = Path(tempfile.gettempdir(), f"agentkit-{os.getuid()}")
    place = own / "spool"
    try:
        make_directories(place)
        status = own.lstat()
    except OSError as error:
        raise LogError(
            f"spool refused because of: {reason_of(error)}; set XDG_CACHE_HOME", path=str(own)
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LogError("spool refused because others may write to it; set XDG_CACHE_HOME", path=str(own))
    return place
