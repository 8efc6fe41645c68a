"""Where objects are put: a bucket (`s3://`, `gs://`, `az://`), through obstore, or a directory (`file://`)."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import importlib
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.late import late_pattern
from agentkit_reporting.log.locks import make_private, sync_directory
from agentkit_reporting.log.places import make_directories, reason_of

SCHEMES = ("s3", "gs", "az", "file")
"""Of the addresses that are taken."""

_spoken_in: int | None = None  # the process that was the first to use obstore

_RETRIES: dict[str, Any] = {"max_retries": 2, "retry_timeout": dt.timedelta(seconds=15)}
_VENDORS = ("google", "azure", "aws")
_CLIENT_SETTINGS = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
)
_PIECES_AT_ONCE = 2  # of a large segment, 5 MiB each, in memory
_STATUS = late_pattern(r"\b(?:status(?: code)?:? ?|error: ?)?([45]\d\d) [A-Z]")
_MISSING = late_pattern(r"\A[^\n]*\b(Missing \w+|must be specified)")
_REASONS = {
    "PermissionDeniedError": "the credentials do not allow it",
    "UnauthenticatedError": "the credentials are missing or refused",
    "NotFoundError": "there is no such bucket",
    "FileNotFoundError": "there is no such bucket",
    "ImportError": "obstore is not installed; install agentkit-loop[s3]",
}


class Objects(Protocol):
    """Where objects are put. Whatever goes wrong raises."""

    def put(self, key: str, file: BinaryIO) -> None:
        """Store what the file holds under that key, in place of what was there; whole or not at all."""

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""


def checked_url(url: object) -> str:
    """Return the address of remote storage without the slashes at its end; raises ConfigurationError."""
    if not isinstance(url, str):
        raise ConfigurationError(
            f"remote={url!r} refused because it is no address; give 's3://bucket/prefix'"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(
            "remote refused because it is no address; give 's3://bucket/prefix'"
        ) from None
    if "@" in parts.netloc or parts.query or parts.fragment:  # not quoted: it may be a secret
        raise ConfigurationError(
            "remote refused because its address holds a user, a query or a fragment; "
            "give the bucket and a prefix, and credentials in the environment"
        )
    is_file = parts.scheme == "file"
    if parts.scheme not in SCHEMES or (bool(parts.netloc) is is_file) or (is_file and len(parts.path) < 2):  # noqa: PLR2004 - "/"
        raise ConfigurationError(
            f"remote={url!r} refused because it is no address of a bucket or directory; "
            "give 's3://bucket/prefix', 'gs://…', 'az://…' or 'file:///directory'"
        )
    if not is_file and not _has_obstore():
        raise ConfigurationError(
            f"remote={url!r} refused because obstore is not installed; install agentkit-loop[s3]"
        )
    return url.rstrip("/")


def _has_obstore() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - only where files go to remote storage

    return find_spec("obstore") is not None


def objects_at(url: str, *, timeout_s: float | None = None) -> Objects:
    """Return what puts objects under an address, with credentials from the environment as obstore takes them.

    timeout_s: how long a call to a bucket may take, which then is not tried again; None: as long as obstore lets it.
    """
    parts = urlsplit(url)
    return Directory(Path(unquote(parts.path))) if parts.scheme == "file" else _Bucket(url, timeout_s)


def can_put_to(url: str) -> bool:
    """Whether objects can be put from this process.

    Not into a bucket in the child of a fork whose parent has done that: obstore's threads are not there, and a call
    would never return.
    """
    return url.startswith("file:") or _spoken_in in (None, os.getpid())


def reason_of_failure(error: Exception) -> str:
    """Return why something went wrong, without what may hold a credential: no text of the server's or of ours."""
    if isinstance(error, OSError) and error.strerror:
        return reason_of(error)
    kind, text = type(error).__name__, str(error)[:2_000]
    if _MISSING.search(text) is not None:
        return "credentials or an account are missing in the environment"
    found = _STATUS.search(text)
    said = f" (status {found[1]})" if found else ""
    return _REASONS.get(kind, f"it cannot be reached or refuses ({kind})") + said


class _Bucket:
    """A bucket behind obstore."""

    def __init__(self, url: str, timeout_s: float | None) -> None:
        global _spoken_in  # noqa: PLW0603 - what obstore has started is the process' as well
        _spoken_in = _spoken_in or os.getpid()
        options: dict[str, Any] = {"retry_config": _RETRIES}
        if timeout_s is not None:
            settings = {**_client_settings(), "timeout": dt.timedelta(seconds=timeout_s)}
            options = {"retry_config": {"max_retries": 0}, "client_options": settings}
        # An extra, and heavy; its types need not be here to check ours.
        self._obstore: Any = importlib.import_module("obstore")
        self._store: Any = importlib.import_module("obstore.store").from_url(url, **options)

    def put(self, key: str, file: BinaryIO) -> None:
        """Store it and look whether it is there: what answers may be a proxy that stores nothing."""
        size = os.fstat(file.fileno()).st_size
        self._obstore.put(self._store, key, file, max_concurrency=_PIECES_AT_ONCE)
        try:
            there = self._obstore.head(self._store, key)["size"]
        except FileNotFoundError:
            there = None
        except _not_permitted():  # credentials that may write only: the answer has to do
            return
        if there != size:
            raise OSError(errno.EIO, "What was uploaded is not there, though the server said so")

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._obstore.delete(self._store, key)


def _client_settings() -> dict[str, str]:
    """Return what the environment says of connections, which obstore leaves out where it is given any option."""
    found = (
        (name, os.environ.get(f"{vendor}_{name}".upper())) for vendor in _VENDORS for name in _CLIENT_SETTINGS
    )
    return {name: value for name, value in found if value}


def _not_permitted() -> tuple[type[Exception], ...]:
    """Return what obstore raises for what the credentials do not allow."""
    found = importlib.import_module("obstore.exceptions")
    return (found.PermissionDeniedError, found.UnauthenticatedError)


class Directory:
    """A directory, such as one of another machine that is mounted here; its files are private."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, key: str, file: BinaryIO) -> None:
        """Copy a file there, under another name first; raises OSError."""
        import shutil  # noqa: PLC0415 - only where files go to remote storage

        make_directories(self._directory)
        name = key.removesuffix(".gz").removesuffix(".zst")  # it may be packed in another way by then
        unfinished = self._directory / f".{name}.tmp"  # of a crash: nobody else uploads this log now
        unfinished.unlink(missing_ok=True)
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as target:
                make_private(fd)
                shutil.copyfileobj(file, target)
                target.flush()
                os.fsync(fd)
            unfinished.rename(self._directory / key)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_directory(self._directory)

    def remove(self, key: str) -> None:
        """Remove a file, if it is there; raises OSError."""
        (self._directory / key).unlink(missing_ok=True)
