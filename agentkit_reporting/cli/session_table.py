"""The sessions of a log where one of them is to be named: a short table on stderr, in the words of people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

from agentkit_reporting.analysis.listed_session import ListedSession
from agentkit_reporting.cli.drawing import named
from agentkit_reporting.cli.reading import whisper
from agentkit_reporting.terminal import clipped, columns_of

__all__ = ["short_id", "tell_of_sessions"]

_MOST_TOLD = 10  # those that began last
_SHORT_ID = 8  # characters of the end of an id, or as many as tell it from the others
_AGENT_COLUMNS = 30
_ID_COLUMNS = 60


def tell_of_sessions(sessions: Sequence[ListedSession]) -> None:
    """Say which sessions there are, those that began last: when, agent, outcome, and the end of the id."""
    ids = [each.session_id for each in sessions]
    told = sorted(sessions, key=_began)[-_MOST_TOLD:]
    if len(told) < len(sessions):
        whisper(f"  {len(sessions) - len(told):,} that began before, and")
    rows = [_row(each, ids) for each in told]
    widths = [max(columns_of(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=True)]
        whisper(f"  {'  '.join(cells).rstrip()}")


def short_id(session_id: str, others: Collection[str]) -> str:
    """Return the end of an id, as much of it as tells it from the others."""
    for length in range(_SHORT_ID, len(session_id)):
        end = session_id[-length:]
        if sum(other.endswith(end) for other in others) <= 1:
            return end
    return session_id


def _began(session: ListedSession) -> dt.datetime:
    return session.began or dt.datetime.min.replace(tzinfo=dt.UTC)


def _row(session: ListedSession, ids: Collection[str]) -> tuple[str, ...]:
    began = "?" if session.began is None else f"{session.began:%Y-%m-%d %H:%M:%S}"
    agent = named(session.agent, _AGENT_COLUMNS)
    outcome = "open, no end" if session.outcome == "open" else session.outcome or "?"
    told = clipped(named(short_id(session.session_id, ids), _ID_COLUMNS), _ID_COLUMNS)
    return began, f"{agent}{' (sub-agent)' if session.is_child else ''}", outcome, told
