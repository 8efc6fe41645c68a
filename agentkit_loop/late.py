"""What is made when it is first used, since making it takes time at each start, and most programs never need it."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, AnyStr, cast

if TYPE_CHECKING:
    import logging

__all__ = ["late_logger", "late_module", "late_pattern"]


def late_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what is used as `re.compile(pattern, flags)` is, and compiles at its first use.

    Compiling takes 0.1 to 1 ms. To ask a late one takes 20 ns more than a compiled one, each time: what is asked for
    every event is compiled at once. What is wrong with a pattern is said at its first use, too, so this is for those
    that are written here, not for a host's.
    """
    return cast("re.Pattern[AnyStr]", _LatePattern(functools.partial(re.compile, pattern, flags)))


def late_logger(name: str) -> logging.Logger:
    """Return what is used as `logging.getLogger(name)` is, and loads `logging`, which takes 2 ms, at its first use."""
    return cast("logging.Logger", _Late(lambda: importlib.import_module("logging").getLogger(name)))


def late_module(name: str) -> Any:
    """Return what is used as a module of the standard library is, and is loaded at its first use.

    For one that is used in many places, at 1 µs more each time; where it is one or two, an `import` stands in them.
    """
    return _Late(functools.partial(importlib.import_module, name))


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = functools.cache(make)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(
                name
            )  # what Python asks of any object, as one that is copied, is no use of it
        return getattr(self._make(), name)


class _LatePattern(_Late):
    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        setattr(self, name, found)  # so that this is asked once: nothing of a pattern ever changes
        return found
