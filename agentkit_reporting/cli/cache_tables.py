"""Cache breaks in words and tables, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from agentkit_reporting.analysis.cache_breaks_causes import BreakCause
from agentkit_reporting.analysis.cache_breaks_requests import (
    CacheRequest,
    CacheSession,
    CacheTotals,
    total_of,
)
from agentkit_reporting.cli.drawing import (
    Cell,
    Pieces,
    Table,
    brief_duration,
    drawn,
    escaped,
    grid,
    markdown_table,
    money_text,
    named,
    styled_line,
)
from agentkit_reporting.terminal import counted, one_line
from agentkit_reporting.timestamps import utc_text

__all__ = ["as_json", "as_markdown", "as_text", "cause_text"]

_MOST_ROWS = 30  # requests of a session that are shown whole; of more, those that did not hold
_MOST_SESSIONS = 5  # that are shown request by request; of more there is a line each
_MOST_LINES = 50
_MOST_TOLD = 20  # breaks that are explained
_DETAIL = 200
_SUBJECTS = {
    "model": "model",
    "tools": "tools",
    "system": "system prompt",
    "messages": "messages",
    "settings": "settings",
    "cache_off": "cache turned off",
    "expired": "time to live",
    "missed": "missed",
}
_STYLES = {
    "break": "bad",
    "missed": "warn",
    "failed": "dim",
    "compaction": "dim",
    "off": "dim",
    "empty": "dim",
    "unknown": "dim",
}
_NO_ANSWER = {"failed": "no answer", "unknown": "?"}


def cause_text(cause: BreakCause, *, room: int = _DETAIL) -> str:
    """Return a cause in a few words, visible, on one line: `tools: +search`, `messages: item 3, by compaction`."""
    subject, detail = _SUBJECTS.get(cause.what, cause.what), cause.detail
    if cause.item is not None:
        detail = f"item {cause.item:,}" + (f" ({detail})" if detail else "")
    if not detail and cause.what not in ("cache_off", "expired", "missed"):
        detail = "changed"
    if cause.by:
        detail = f"{detail}, by {cause.by}" if detail else f"by {cause.by}"
    if cause.what == "missed":
        detail = "the prefix matched"
    if cause.what == "expired":
        detail = f"past {detail}"
    return one_line(f"{subject}: {detail}" if detail else subject, room)


def as_text(sessions: Sequence[CacheSession], *, show_all: bool) -> str:
    """Return the sessions as tables for people, with what is to be known of each break below."""

    def draw(console: Any) -> None:
        if len(sessions) > _MOST_SESSIONS and not show_all:
            console.print(grid(_session_table(sessions), console.width, tells_left_out=True))
            left = len(sessions) - _MOST_LINES
            if left > 0:
                console.print(
                    styled_line([("dim", f"and {counted(left, 'more session')}; --all shows them")])
                )
        else:
            for place, session in enumerate(sessions):
                if place:
                    console.print()
                _draw_session(console, session, show_all=show_all)
        if len(sessions) > 1:
            console.print()
            for line in _totals(total_of(sessions), counted(len(sessions), "session")):
                console.print(styled_line(line), overflow="fold")

    return drawn(draw)


def _draw_session(console: Any, session: CacheSession, *, show_all: bool) -> None:
    console.print(styled_line(_head(session)), no_wrap=True, overflow="ellipsis")
    table, left_out = _request_table(session, show_all=show_all)
    if table.rows:
        console.print(grid(table, console.width, tells_left_out=True))
    if left_out:
        console.print(styled_line([("dim", f"{counted(left_out, 'request')} more; --all shows them")]))
    for line in (
        *_explained(session),
        *_unjudged(session),
        *_totals(session.totals, counted(session.totals.requests, "request")),
    ):
        console.print(styled_line(line), overflow="fold")


def _head(session: CacheSession) -> Pieces:
    pieces: list[Cell] = [("lead", named(session.session_id, 40)), f"  {named(session.agent, 24)}"]
    models = dict.fromkeys(request.model for request in session.requests)
    pieces.append(("dim", f"  {named(', '.join(models), 40)}"))
    if session.parent_session is not None:
        pieces.append(("dim", f"  sub-agent of {named(session.parent_session, 30)}"))
    return pieces


def _request_table(session: CacheSession, *, show_all: bool, in_full: bool = False) -> tuple[Table, int]:
    """Return the table of a session's requests, and how many are left out of it."""
    shown: Sequence[CacheRequest] = session.requests
    if len(shown) > _MOST_ROWS and not show_all:
        shown = [request for request in shown if request.causes][:_MOST_ROWS]
    return Table(
        title="",
        head=("turn", "request", "cache", "cached", "written", "fresh", "lost", "cost"),
        rows=[_row(request, in_full=in_full) for request in shown],
        names=3,
        leaves=("request", "fresh", "written"),
        whole=("turn", "request"),
    ), len(session.requests) - len(shown)


def _row(request: CacheRequest, *, in_full: bool) -> tuple[Cell, ...]:
    told = _NO_ANSWER.get(request.verdict, request.verdict)
    if request.causes:
        told = "; ".join(cause_text(cause) if in_full else _SUBJECTS[cause.what] for cause in request.causes)
    return (
        named(request.turn_id or ""),
        named(request.request_id),
        (_STYLES.get(request.verdict, ""), one_line(told, _DETAIL)),
        _count(request.cached_tokens),
        _count(request.written_tokens),
        _count(request.fresh_tokens),
        _count(request.lost_tokens) if request.causes else "",
        _lost_cost(request) if request.causes else "",
    )


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"


def _lost_cost(request: CacheRequest) -> str:
    return "?" if request.lost_cost is None else _money(request.lost_cost, request.currency)


def _money(amount: Decimal, currency: str) -> str:
    return money_text(amount, currency or "USD")


def _explained(session: CacheSession) -> list[Pieces]:
    """Return a line for each break and miss: what happened, and what it cost."""
    lossy = [request for request in session.requests if request.causes]
    lines: list[Pieces] = []
    for request in lossy[:_MOST_TOLD]:
        where = f"{named(request.turn_id or '-')} {named(request.request_id)}"
        told = [_explanation(cause, request) for cause in request.causes]
        style = _STYLES.get(request.verdict, "")
        lines.append([(style, where), f" {'; '.join(told)}: {_loss(request)}"])
    if len(lossy) > _MOST_TOLD:
        lines.append([("dim", f"and {len(lossy) - _MOST_TOLD:,} more; --json tells them all")])
    return lines


def _unjudged(session: CacheSession) -> list[Pieces]:
    """Return why requests have a question mark, where some have."""
    found = sum(request.verdict == "unknown" for request in session.requests)
    if not found:
        return []
    told = f"? of {counted(found, 'request')}: what was read from the cache was not told, of it or of the one before"
    return [[("dim", told)]]


def _explanation(cause: BreakCause, request: CacheRequest) -> str:
    gap = brief_duration(max(0.0, request.gap_s or 0.0) * 1_000)  # a clock may have been set back
    match cause.what:
        case "expired":
            return f"{gap} after the request before; the cache lives {cause.detail}"
        case "missed":
            return (
                f"the prefix matched, {gap} after the request before, and less was read than the cache held"
            )
        case "cache_off":
            return "the cache was turned off"
        case _:
            return cause_text(cause)


def _loss(request: CacheRequest) -> str:
    if request.lost_tokens is None:
        return f"loss unknown, {request.unknown}"
    if not request.lost_tokens:
        return "nothing lost"
    lost = f"{request.lost_tokens:,} tokens paid again"
    if request.lost_cost is None:
        return f"{lost}, cost unknown: {request.unknown}"
    return f"{lost}, {_money(request.lost_cost, request.currency)} more than from the cache"


def _totals(totals: CacheTotals, of: str) -> list[Pieces]:
    share = totals.cached_share
    told = f"{of}: " + ("?" if share is None else f"{share:.1%}") + " of the input from the cache"
    if totals.uncounted:
        told += f" ({totals.uncounted:,} told nothing of it)"
    if totals.saved_costs and share is not None:
        least = ">= " if totals.unsaved else ""
        if not any(totals.saved_costs.values()):
            told += ", which saved nothing" + (" that is known" if least else "")
        elif max(totals.saved_costs.values()) < 0 and not least:
            told += f", which cost {_sums({name: -each for name, each in totals.saved_costs.items()})} more than none"
        else:
            told += f", which saved {least}{_sums(totals.saved_costs)}"
    breaks = f"{counted(totals.breaks, 'break')}, {totals.misses:,} missed"
    if totals.breaks or totals.misses:
        is_unknown = totals.lost_unknown and not totals.lost_tokens
        breaks += ", tokens lost unknown" if is_unknown else f", {totals.lost_tokens:,} tokens lost"
        if totals.lost_unknown and totals.lost_tokens:
            breaks += f" (of {totals.lost_unknown:,} it is not known how many)"
        if totals.lost_costs:
            breaks += f", {_sums(totals.lost_costs)}"
        if totals.lost_unpriced:
            breaks += f" + {totals.lost_unpriced:,} at an unknown cost"
    return [[("strong", told)], [("strong", breaks)]]


def _sums(costs: Mapping[str, Decimal]) -> str:
    return " + ".join(_money(amount, currency) for currency, amount in sorted(costs.items()))


def _session_table(sessions: Sequence[CacheSession]) -> Table:
    ordered = sorted(sessions, key=lambda each: (-each.totals.lost_tokens, -each.totals.breaks))
    rows: list[tuple[Cell, ...]] = []
    for session in ordered[:_MOST_LINES]:
        totals = session.totals
        share = totals.cached_share
        rows.append(
            (
                named(session.session_id),
                named(session.agent, 24),
                f"{totals.requests:,}",
                "?" if share is None else f"{share:.1%}",
                ("bad" if totals.breaks else "", f"{totals.breaks:,}"),
                ("warn" if totals.misses else "", f"{totals.misses:,}"),
                _lost_tokens(totals),
                _sums(totals.lost_costs) or ("?" if totals.lost_unpriced or totals.lost_unknown else "-"),
            )
        )
    return Table(
        title="",
        head=("session", "agent", "requests", "cached", "breaks", "missed", "lost", "cost"),
        rows=rows,
        names=2,
        leaves=("agent", "requests"),
    )


def _lost_tokens(totals: CacheTotals) -> str:
    if not totals.lost_unknown:
        return f"{totals.lost_tokens:,}"
    return f">= {totals.lost_tokens:,}" if totals.lost_tokens else "?"


def as_markdown(sessions: Sequence[CacheSession], *, show_all: bool) -> str:
    """Return the sessions as Markdown."""
    texts = []
    if len(sessions) > _MOST_SESSIONS and not show_all:
        texts.append(markdown_table(_session_table(sessions)))
    else:
        for session in sessions:
            table, left_out = _request_table(session, show_all=show_all, in_full=True)
            texts.append(f"## {escaped(named(session.session_id))}")
            texts += [markdown_table(table)] if table.rows else []
            texts += [f"{counted(left_out, 'request')} more"] if left_out else []
            texts += [
                _plain(line) for line in _totals(session.totals, counted(session.totals.requests, "request"))
            ]
    if len(sessions) > 1:
        texts += [_plain(line) for line in _totals(total_of(sessions), counted(len(sessions), "session"))]
    return "\n\n".join(texts) + "\n"


def _plain(line: Pieces) -> str:
    return escaped("".join(piece if isinstance(piece, str) else piece[1] for piece in line))


# --- for programs


def as_json(sessions: Sequence[CacheSession]) -> dict[str, Any]:
    """Return the sessions as JSON values; what is not known is null."""
    return {
        "sessions": [
            {
                "session_id": session.session_id,
                "agent": session.agent,
                "parent_session": session.parent_session,
                "requests": [_request_json(request) for request in session.requests],
                "totals": _totals_json(session.totals),
            }
            for session in sessions
        ],
        "totals": _totals_json(total_of(sessions)),
    }


def _request_json(request: CacheRequest) -> dict[str, Any]:
    told = {name: getattr(request, name) for name in attrs.fields_dict(CacheRequest)}
    return {
        **told,
        "timestamp": utc_text(request.timestamp),
        "causes": [attrs.asdict(cause) for cause in request.causes],
        "currency": request.currency or None,
        "unknown": request.unknown or None,
    }


def _totals_json(totals: CacheTotals) -> dict[str, Any]:
    return {**attrs.asdict(totals), "cached_share": totals.cached_share}
