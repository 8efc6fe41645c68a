"""A moment as text: one form for logs and records."""

from __future__ import annotations

import datetime as dt

__all__ = ["utc_text"]


def utc_text(moment: dt.datetime) -> str:
    """Return an aware moment as ISO 8601, UTC, always with six digits: `2026-05-24T18:40:00.123456Z`."""
    # isoformat leaves out zero microseconds; a reader that counts on six digits would fail once in a million.
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
