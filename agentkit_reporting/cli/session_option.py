"""The value of `--session`: the end of a session's id."""

from __future__ import annotations

import click

__all__ = ["SESSION_END"]


class _SessionEnd(click.types.StringParamType):
    """A text that is not empty: every id ends so, and all sessions would be meant in silence."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = super().convert(value, param, ctx)
        if not text.strip():
            self.fail(f"{text!r} refused, which names no session; give the end of an id", param, ctx)
        return text


SESSION_END = _SessionEnd()
"""The type of such an option."""
