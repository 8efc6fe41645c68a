"""The option `--session` of the commands that read logs: the end of a session's id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

__all__ = ["SESSION_END", "session_option"]

_ONLY = "Only this session; the end of an id is enough."

_F = TypeVar("_F", bound=Callable[..., object])


class _SessionEnd(click.types.StringParamType):
    """A text that is not empty: every id ends so, and all sessions would be meant in silence."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = super().convert(value, param, ctx)
        if not text.strip():
            self.fail(f"{text!r} refused, which names no session; give the end of an id", param, ctx)
        return text


SESSION_END = _SessionEnd()
"""The type of that option, and of others like it."""


def session_option(text: str = _ONLY) -> Callable[[_F], _F]:
    """Return what adds the option to a command, as `session_id`. text: its help."""
    return click.option("--session", "session_id", type=SESSION_END, metavar="ID", help=text)
