"""Packed files: gzip, which is built in, and Zstandard, which needs the extra `zstd`.

`pack` replaces a plain segment by a packed one. At every moment at least one of the two is there, whole and
under its own name: the packed one is written under another name, forced to the disk and renamed before the
plain one goes. What a crash left is finished by the next call.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.log.locks import is_at, lock_alone, sync_directory, unlock
from agentkit_reporting.log.segments import unfinished_path

PackingName: TypeAlias = Literal["gzip", "zstd"]
"""How segments may be packed."""

MAX_UNPACKED_BYTES = 2**30
MAX_EXPANSION = 100
"""A packed file that gives more than MAX_UNPACKED_BYTES and more than this times its own size is taken for
one that was made to keep its reader busy."""

_BLOCK_BYTES = 256 * 1024
_GZIP = 31  # zlib's number for a window of 32 KiB with gzip's header
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


class _Packer(Protocol):
    def compress(self, block: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, block: bytes, /) -> bytes: ...


class Packing(msgspec.Struct, frozen=True):
    """One way to pack. step_bytes: how much is unpacked at once; it bounds what that can give."""

    suffix: str
    packer: Callable[[], _Packer]
    unpacker: Callable[[], _Unpacker]
    error: type[Exception]
    step_bytes: int


class PackedBeyondBoundsError(Exception):
    """A packed file gives more than its reader is willing to take."""


def packing_of(name: str, *, wanted_by: str) -> Packing:
    """Return a way to pack by its name or suffix; raises ConfigurationError where its package is missing.

    wanted_by: what needs it, for the error's sentence.
    """
    if name in ("gzip", ".gz"):
        return Packing(
            suffix=".gz",
            packer=lambda: zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP),
            unpacker=lambda: zlib.decompressobj(_GZIP),
            error=zlib.error,
            step_bytes=4096,  # gives 4 MiB at most
        )
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            f"{wanted_by} refused because zstandard is not installed; install agentkit-loop[zstd]"
        ) from None
    return Packing(
        suffix=".zst",
        packer=lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj(),
        unpacker=lambda: zstandard.ZstdDecompressor().decompressobj(),
        error=zstandard.ZstdError,
        step_bytes=1024,  # gives 32 MiB at most
    )


def unpacked(
    read: Callable[[int], bytes], packing: Packing, *, max_bytes: int = MAX_UNPACKED_BYTES
) -> Generator[bytes]:
    """Yield what a packed file holds, of several members one after another.

    read: gives the next bytes of the file. Raises EOFError where it ends early, the packing's error where it
    is damaged, PackedBeyondBoundsError, and what `read` raises.
    """
    given = taken = 0
    unpacker: _Unpacker | None = None
    while block := read(packing.step_bytes):
        given += len(block)
        while block:
            if unpacker is None:
                block = block.lstrip(b"\0")  # what gzip allows between members
                if not block:
                    break
                unpacker = packing.unpacker()
            piece = unpacker.decompress(block)
            taken += len(piece)
            if piece:
                yield piece
            if taken > max_bytes and taken > MAX_EXPANSION * given:
                raise PackedBeyondBoundsError(
                    f"it unpacks to more than {max_bytes:,} bytes and {MAX_EXPANSION} times its size; "
                    "raise max_unpacked_bytes, or unpack it first"
                )
            block = unpacker.unused_data if unpacker.eof else b""
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError("the packed file ends early")


def pack(segment: Path, packing: Packing) -> bool:
    """Replace a plain segment by its packed form, with its owner, mode and time; raises OSError.

    False where that has to wait, since a writer still has it open. Nothing is left to do where it is gone.
    """
    try:
        fd = os.open(segment, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        if not lock_alone(fd):
            return False
        try:
            if is_at(os.fstat(fd), segment):  # else another process was quicker
                _replace(fd, segment, packing)
        finally:
            unlock(fd)
    finally:
        os.close(fd)
    return True


def _replace(fd: int, segment: Path, packing: Packing) -> None:
    target = segment.with_name(segment.name + packing.suffix)
    if not _holds(target, fd, packing):  # it does where a crash came before the plain one went
        unfinished = unfinished_path(target)
        unfinished.unlink(missing_ok=True)  # of a crash: nobody else is at it while the lock is ours
        try:
            _write_packed(fd, unfinished, packing)
            unfinished.rename(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_directory(segment.parent)
    segment.unlink()


def _write_packed(fd: int, unfinished: Path, packing: Packing) -> None:
    status = os.fstat(fd)
    packer = packing.packer()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
        offset = 0
        while block := os.pread(fd, _BLOCK_BYTES, offset):
            offset += len(block)
            file.write(packer.compress(block))
        file.write(packer.flush())
        file.flush()
        with contextlib.suppress(OSError):  # only who may do everything gives files away
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode & 0o777)
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))  # age counts from the last line
        os.fsync(file.fileno())


def _holds(target: Path, fd: int, packing: Packing) -> bool:
    """Whether the packed file is there and holds what the plain one does."""
    offset = 0
    try:
        with target.open("rb", buffering=0) as file:
            for piece in unpacked(file.read, packing, max_bytes=os.fstat(fd).st_size):
                if os.pread(fd, len(piece), offset) != piece:
                    return False
                offset += len(piece)
    except (FileNotFoundError, EOFError, packing.error, PackedBeyondBoundsError):
        return False
    return not os.pread(fd, 1, offset)
