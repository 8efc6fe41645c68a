"""Regular expressions that are compiled when they are first looked for, for those that most programs never need."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

__all__ = ["late_pattern"]


def late_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what is used as `re.compile(pattern, flags)` is, and compiles at its first use.

    Compiling takes 0.1 to 1 ms, of which each start of a program would wait. To ask a late one takes 20 ns more than a
    compiled one, each time: what is asked for every event is compiled at once. Its errors come at the first use, too,
    so it is for patterns that are written here, not for a host's.
    """
    return cast("re.Pattern[AnyStr]", _LatePattern(pattern, flags))


class _LatePattern:
    def __init__(self, pattern: Any, flags: int) -> None:
        self._written = pattern, flags

    def __repr__(self) -> str:
        return f"late_pattern{self._written!r}"

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._written)  # which keeps what it compiled
        found = getattr(compiled, name)
        setattr(self, name, found)  # so that this is asked once
        return found
