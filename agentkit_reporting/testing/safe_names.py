"""Names of files made of the names of tests, which hold parameters and so any text."""

from __future__ import annotations

import hashlib
import re

__all__ = ["safe_name"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)  # Windows, any ending
_MAX_KEPT = 80


def safe_name(text: str) -> str:
    """Return a name of a file, without ending, for any text: letters, digits, `_`, `-` and `.` within it.

    What is such a name already stays, unless Windows means a device by it; else what is left of it and eight hex
    digits of its hash, so that two texts do not share a file.
    """
    if _PLAIN.fullmatch(text) and not text.endswith(".") and not _DEVICE.fullmatch(text):
        return text
    kept = _UNSAFE.sub("-", text).strip("-")[-_MAX_KEPT:].strip("-")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{kept}-{digest}" if kept else digest
