"""What one line says of a step: made of its facts, so that an edited step has a title of what it says now.

Facts may be edited to anything, so no value is taken to be what an event would have there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentkit_reporting.terminal import brief, brief_arguments, counted, duration_text, one_line

__all__ = ["TITLE_COLUMNS", "WAITS_FOR", "title_of"]

TITLE_COLUMNS = 120
"""Of a title; what shows it may show less."""

WAITS_FOR = "waits_for"
"""The fact of a call that has no answer to a question: what it waits for."""

_SHORT = 60  # columns of a part of a title


def title_of(kind: str, tool: str | None, status: str, facts: Mapping[str, Any]) -> str:
    """Return what a step is about: one line, visible, of at most TITLE_COLUMNS columns."""
    made = _TITLES.get(kind, _other)(facts, tool, status)
    if (
        made.isascii() and made.isprintable()
    ):  # as nearly all are; column by column would take most of the opening
        made = " ".join(made[: 2 * TITLE_COLUMNS].split())
        return (
            made
            if 0 < len(made) <= TITLE_COLUMNS
            else f"{made[: TITLE_COLUMNS - 1]}…"
            if made
            else _words(kind)
        )
    return one_line(made, TITLE_COLUMNS) or _words(kind)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _text(value: Any, room: int = _SHORT) -> str:
    """Return a value in short: a text as it is, "" for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value[: 4 * room]
    is_json = isinstance(value, (dict, list, int, float))  # bool is an int
    return brief(value if is_json else msgspec.to_builtins(value), room)


def _member(value: Any, name: str) -> Any:
    """Return a member of a record, or of the JSON that it was edited to."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)


def _error(error: Any) -> str:
    if error is None or isinstance(error, str):
        return error or ""
    return f"{_text(_member(error, 'type'))}: {_text(_member(error, 'message'), 100)}"


def _parts(parts: Any, room: int) -> str:
    """Return the beginning of the text, and the calls, of parts."""
    texts, calls, others = [], [], []
    for part in _listed(parts):
        kind = _member(part, "kind") or getattr(getattr(part, "__struct_config__", None), "tag", "")
        if kind == "text":
            texts.append(_text(_member(part, "text"), room))
        elif kind == "tool_call":
            calls.append(_text(_member(part, "name")))
        else:
            others.append(f"[{kind}]")
    told = [" ".join(texts)] if any(text.strip() for text in texts) else others[:3]
    if calls:
        shown = [" ".join(" ".join(told)[:_SHORT].split())] if told else []
        told = [*shown, f"asks for {', '.join(calls[:5])}{' ...' if calls[5:] else ''}"]
    return "; ".join(told)


def _run_started(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    before = len(_listed(facts.get("items")))
    resumed = facts.get("resumed_run")
    return _joined(
        _text(facts.get("agent_name")),
        _text(facts.get("model")),
        f"goes on from {_text(resumed)}" if resumed else "",
        f"{counted(before, 'item')} before" if before else "",
    )


def _run_ended(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool
    if status == "failed":
        return f"failed: {_error(facts.get('error'))}"
    waiting = [*_listed(facts.get("open_approvals")), *_listed(facts.get("open_auths"))]
    waits = f"waits for {', '.join(map(_text, waiting[:5]))}" if waiting else ""
    return _joined(_text(facts.get("outcome")) or status, _text(facts.get("reason")), waits)


def _input(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return " ".join(_parts(_member(item, "parts"), 40) for item in _listed(facts.get("items"))[:4])


def _turn(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return f"turn {_text(facts.get('index'))} of its exchange"


def _exchange(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    items = facts.get("item_count")
    return _joined(_text(facts.get("finish_reason")), counted(items, "item") if type(items) is int else "")


def _request(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool
    said = "a summary: " if facts.get("purpose") == "compaction" else ""
    if status == "failed" and facts.get("error") is not None:
        kind = _text(facts.get("error_class")).replace("_", " ")
        return f"{said}{kind}: {_text(_member(facts['error'], 'message'), 100) or _error(facts['error'])}"
    reason = _text(facts.get("finish_reason") or facts.get("stop_reason"))
    told = _parts(facts.get("parts"), 120)
    if status == "open":
        return f"{said}no end was told{f'; {told}' if told else ''}"
    ended = "" if reason in ("completed", "tool_call") and told else reason.replace("_", " ")
    model = "" if told else _text(facts.get("model") or facts.get("billed_model"))
    counts = ((facts.get("input_tokens"), "in"), (facts.get("output_tokens"), "out"))  # of a step log
    model = _joined(model, *(f"{count:,} {word}" for count, word in counts if type(count) is int))
    return f"{said}{_joined(ended, told, model)}"


def _call(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    given = facts.get("edited_input") or facts.get("input")
    arguments = brief_arguments(given, _SHORT) if isinstance(given, dict) else f"({_text(given)})"
    label = f"{_text(tool)}{arguments if len(arguments) <= _SHORT else f'{arguments[: _SHORT - 3]}...'}"
    if status == "open":
        return f"{label} was running" if "attempt" in facts else f"{label} was asked for, without a result"
    if status == "waiting":
        return f"{label} waits for {_text(facts.get(WAITS_FOR)) or 'an answer'}"
    error, output = facts.get("error"), facts.get("output")
    came = _error(error) if error is not None else _text(output, 100)
    word = "" if status == "ok" else f" {status.replace('_', ' ')}"
    return f"{label}{word} -> {came}" if came else f"{label}{word}"


def _approval(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    if status == "waiting":
        return _joined(
            f"asked: {_text(facts.get('summary'), 100) or _text(tool)}", _text(facts.get("reason"))
        )
    by = facts.get("by")
    said = ("approved" if facts.get("approved") else "denied") + (f" by {_text(by)}" if by else "")
    edited = "with another input" if facts.get("edited") else ""
    return _joined(said, _text(facts.get("reason")), edited, _text(tool))


def _auth(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    if status == "waiting":
        return _joined(f"asked for {_text(facts.get('provider'))}", _text(facts.get("purpose")), _text(tool))
    return _joined("given" if status == "ok" else "refused", _text(tool))


def _retry(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    delay = facts.get("delay_ms")
    wait = f"in {duration_text(delay)}" if isinstance(delay, (int, float)) else ""
    return _joined(wait, f"attempt {_text(facts.get('next_attempt'))}")


def _compaction(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool
    if status == "failed":
        return f"by {_text(facts.get('strategy'))} failed: {_error(facts.get('error'))}"
    if status == "open":
        return _joined("no end was told", _text(facts.get("reason")))
    left = _text(facts.get("item_count"))
    return _joined(f"by {_text(facts.get('strategy'))}, {left} items left", _text(facts.get("reason")))


def _tools(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    said = []
    for word in ("added", "removed", "changed"):
        names = [_text(_member(each, "name")) or _text(each) for each in _listed(facts.get(word))]
        if names:
            said.append(f"{word} {', '.join(names[:8])}{' ...' if names[8:] else ''}")
    return "; ".join(said)


def _budget(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool
    used = f"{_text(facts.get('used'))} of {_text(facts.get('allowed'))}"
    return f"{_text(facts.get('limit'))}: {used}{' used up' if status == 'failed' else ''}"


def _warning(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return f"{_text(facts.get('code'))}: {_text(facts.get('message'), 100)}"


def _cancel(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    by = facts.get("by")
    return _joined("asked" + (f" by {_text(by)}" if by else ""), _text(facts.get("reason"), 100))


def _observer(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return f"{_text(facts.get('observer'))}: {_error(facts.get('error'))}"


def _custom(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return _joined(_text(facts.get("name")), _text(facts.get("data"), 100))


def _unknown(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return _joined(_text(facts.get("type")), _text(facts.get("payload"), 100))


def _other(facts: Mapping[str, Any], tool: str | None, status: str) -> str:
    del tool, status
    return _text(dict(facts), 100)


_TITLES = {
    "run_started": _run_started,
    "run_ended": _run_ended,
    "input": _input,
    "turn": _turn,
    "exchange_ended": _exchange,
    "model_request": _request,
    "tool_call": _call,
    "approval": _approval,
    "auth": _auth,
    "retry": _retry,
    "compaction": _compaction,
    "tools_changed": _tools,
    "budget": _budget,
    "warning": _warning,
    "cancel": _cancel,
    "observer_failed": _observer,
    "custom": _custom,
    "unknown": _unknown,
}
