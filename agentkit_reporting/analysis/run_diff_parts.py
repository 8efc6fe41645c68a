"""The pieces of a difference of two runs: pairs of calls and of texts, settings, and where they part."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from agentkit_loop.values import JSON
from agentkit_reporting.analysis.run_diff_alignment import aligned
from agentkit_reporting.analysis.run_diff_outline import (
    Content,
    GivenInput,
    ModelAnswer,
    Outline,
    ToolUse,
    is_same,
)
from agentkit_reporting.analysis.run_diff_values import TextChange, ValueChange, text_change, value_changes
from agentkit_reporting.terminal import brief, brief_arguments

__all__ = [
    "CallPair",
    "Changes",
    "ComparedCall",
    "Divergence",
    "SettingChange",
    "Sign",
    "TextPair",
    "call_pairs",
    "divergence",
    "masks_between",
    "setting_changes",
    "text_pairs",
]

Sign: TypeAlias = Literal["=", "~", "-", "+"]
"""Both have it alike, both have it and it differs, only A has it, only B."""

_BRIEF = 200  # characters of arguments, a result or a text that stand for it
_WHOLE_VALUE = "the values are too long to be compared in detail"


@attrs.frozen(kw_only=True)
class Changes:
    """How two values differ. values: where, path by path; text: how, where both are texts. is_cut: there is more."""

    values: tuple[ValueChange, ...] = ()
    text: TextChange | None = None
    is_cut: bool = False


@attrs.frozen(kw_only=True)
class ComparedCall:
    """A call of one side. arguments, result: the beginning of their JSON. number: among the session's calls, from 1."""

    number: int
    tool: str
    turn_id: str | None
    call_id: str
    arguments: str
    result: str
    outcome: str
    error: str
    duration_ms: float | None
    edited: bool


@attrs.frozen(kw_only=True)
class CallPair:
    """A call of A, of B, or of both. arguments, result: how they differ, None where they do not.

    outcome_differs: one was denied or failed, say, and the other was not.
    """

    sign: Sign
    before: ComparedCall | None
    after: ComparedCall | None
    arguments: Changes | None = None
    result: Changes | None = None
    outcome_differs: bool = False


@attrs.frozen(kw_only=True)
class TextPair:
    """An answer, or an input, of A, of B, or of both. before, after: the beginning of each, None: not there.

    change: how they differ. finish_reasons: of the two answers, where they differ.
    """

    sign: Sign
    before_turn: str | None
    after_turn: str | None
    before: str | None
    after: str | None
    change: Changes | None = None
    finish_reasons: tuple[str, str] | None = None


@attrs.frozen(kw_only=True)
class SettingChange:
    """A setting of RunStarted that differs: agent, model, system, tools or parameters."""

    name: str
    change: Changes


@attrs.frozen(kw_only=True)
class Divergence:
    """Where two runs part.

    kind: input, answer, call, result or end. step: its number from 1, among steps of every kind, or of the kinds that
    were looked at. before_turn, after_turn: ids, None where a side has none or did nothing more. before, after: what
    each side did there, in words.
    """

    kind: str
    step: int
    before_turn: str | None
    after_turn: str | None
    before: str
    after: str


# --- values


def changes(before: Content | None, after: Content | None) -> Changes | None:
    """Return how two contents differ; None where they do not, or nobody knows."""
    if before is None or after is None or is_same(before, after):
        return None
    if not (before.is_whole and after.is_whole):
        told = (f"{before.size:,} bytes", f"{after.size:,} bytes")
        return Changes(values=(ValueChange(path=_WHOLE_VALUE, before=told[0], after=told[1]),), is_cut=True)
    old, new = before.value, after.value
    if isinstance(old, str) and isinstance(new, str):
        text = text_change(old, new)
        return Changes(text=text, is_cut=text is not None and text.is_cut)
    values, is_cut = value_changes(old, new)
    return Changes(values=values, is_cut=is_cut)


def masks_between(before: Content | None, after: Content | None) -> bool:
    """Whether two contents differ as they are written, and are equal by a mask."""
    if before is None or after is None or before.digest == after.digest:
        return False
    return is_same(before, after)


def text_of(content: Content | None) -> str:
    """Return the beginning of a content, as a text."""
    value: JSON = None if content is None else content.value
    return value[:_BRIEF] if isinstance(value, str) else "" if value is None else brief(value, _BRIEF)


def arguments_of(call: ToolUse) -> str:
    """Return a call's arguments as Python would write them."""
    value = call.arguments.value
    return brief_arguments(value, _BRIEF) if isinstance(value, dict) else f"({text_of(call.arguments)})"


# --- pairs

_Element = TypeVar("_Element")


def _pairs(
    before: Sequence[_Element],
    after: Sequence[_Element],
    what: Callable[[_Element], Hashable],
    kind: Callable[[_Element], Hashable],
) -> Iterator[tuple[_Element | None, _Element | None, int, int]]:
    """Yield the elements side by side, with their places."""
    a, b = [(what(each), kind(each)) for each in before], [(what(each), kind(each)) for each in after]
    for x, y in aligned(a, b):
        yield (
            None if x is None else before[x],
            None if y is None else after[y],
            -1 if x is None else x,
            -1 if y is None else y,
        )


def call_pairs(before: Outline, after: Outline) -> Iterator[tuple[CallPair, ToolUse | None, ToolUse | None]]:
    """Yield the calls of both side by side, those with equal arguments first, then those of one tool in order."""
    pairs = _pairs(
        before.calls, after.calls, lambda call: (call.tool, call.arguments.digest), lambda call: call.tool
    )
    for old, new, x, y in pairs:
        one = _compared(old, x)
        other = _compared(new, y, one, old)
        if old is None or new is None:
            yield CallPair(sign="+" if old is None else "-", before=one, after=other), old, new
            continue
        arguments, result = changes(old.arguments, new.arguments), changes(old.result, new.result)
        outcome_differs = old.outcome != new.outcome
        sign: Sign = "~" if arguments or result or outcome_differs else "="
        pair = CallPair(
            sign=sign,
            before=one,
            after=other,
            arguments=arguments,
            result=result,
            outcome_differs=outcome_differs,
        )
        yield pair, old, new


def _compared(
    call: ToolUse | None, place: int, told: ComparedCall | None = None, beside: ToolUse | None = None
) -> ComparedCall | None:
    """Return a call as it is told. told, beside: the other one of a pair, whose texts serve for both where equal."""
    if call is None:
        return None
    if told and beside and beside.arguments.digest == call.arguments.digest:
        arguments = told.arguments
    else:
        arguments = arguments_of(call)
    if told and beside and beside.result and call.result and beside.result.digest == call.result.digest:
        result = told.result
    else:
        result = text_of(call.result)
    return ComparedCall(
        number=place + 1,
        tool=sys.intern(call.tool),
        turn_id=call.turn_id,
        call_id=call.call_id,
        arguments=arguments,
        result=result,
        outcome=call.outcome,
        error=call.error[:_BRIEF],
        duration_ms=call.duration_ms,
        edited=call.edited,
    )


_Told: TypeAlias = "GivenInput | ModelAnswer"


def text_pairs(before: Sequence[_Told], after: Sequence[_Told]) -> Iterator[tuple[TextPair, Any, Any]]:
    """Yield answers, or inputs, side by side."""
    pairs = _pairs(before, after, lambda each: (each.text and each.text.digest, _reason(each)), lambda _: "")
    for old, new, _x, _y in pairs:
        told: dict[str, Any] = {
            "before_turn": old.turn_id if old else None,
            "after_turn": new.turn_id if new else None,
            "before": text_of(old.text) if old else None,
            "after": text_of(new.text) if new else None,
        }
        if old is None or new is None:
            yield TextPair(sign="+" if old is None else "-", **told), old, new
            continue
        change = changes(old.text, new.text)
        reasons = (_reason(old), _reason(new))
        differing = reasons if reasons[0] != reasons[1] else None
        sign: Sign = "~" if change or differing else "="
        yield TextPair(sign=sign, change=change, finish_reasons=differing, **told), old, new


def _reason(told: _Told) -> str:
    return told.finish_reason if isinstance(told, ModelAnswer) else ""


def setting_changes(before: Outline, after: Outline) -> tuple[SettingChange, ...]:
    """Return the settings that differ; none where one side is told by steps alone."""
    if not (before.is_whole and after.is_whole):
        return ()
    found = []
    names = dict.fromkeys([*before.settings, *after.settings])
    sides = [{**each.settings, "model": Content(", ".join(each.models))} for each in (before, after)]
    for name in ("model", *names):
        old, new = (side.get(name) or Content(None) for side in sides)
        change = changes(old, new)
        if change is not None:
            found.append(SettingChange(name=name, change=change))
    return tuple(found)


# --- where they part


@attrs.frozen
class _WalkedStep:
    """A step in the order in which a diff walks: kind, what it was, its contents, and how it is said."""

    kind: str
    turn_id: str | None
    word: str
    content: Content | None
    said: Callable[[], str]


def divergence(before: Outline, after: Outline, *, kinds: frozenset[str] | None = None) -> Divergence | None:
    """Return the first step at which two sessions differ; kinds: look at these alone.

    Results stand behind the calls of their turn, in the order of the calls: which came first is no difference.
    """
    is_whole = before.is_whole and after.is_whole
    walks = [iter(_walk(each, kinds, is_whole=is_whole)) for each in (before, after)]
    step = 0
    while True:
        step += 1
        one, other = (next(walk, None) for walk in walks)
        if one is None and other is None:
            return None
        if one is not None and other is not None and _is_alike(one, other):
            continue
        kind = (one or other).kind  # type: ignore[union-attr] # one of them is there
        return Divergence(
            kind=kind,
            step=step,
            before_turn=one.turn_id if one else None,
            after_turn=other.turn_id if other else None,
            before=one.said() if one else "did nothing more",
            after=other.said() if other else "did nothing more",
        )


def _is_alike(one: _WalkedStep, other: _WalkedStep) -> bool:
    if (one.kind, one.word) != (other.kind, other.word):
        return False
    if one.kind == "answer" and (one.content is None or other.content is None):
        return True
    return is_same(one.content, other.content)


def _walk(outline: Outline, kinds: frozenset[str] | None, *, is_whole: bool) -> Iterator[_WalkedStep]:
    for told in _all_steps(outline):
        if kinds is not None and told.kind not in kinds:
            continue
        if is_whole or told.kind not in ("input", "end"):
            yield told


def _all_steps(outline: Outline) -> Iterator[_WalkedStep]:
    round_: list[ToolUse] = []
    for step in outline.steps:
        if isinstance(step, ToolUse):
            round_.append(step)
            said = functools.partial(_call_words, step)
            yield _WalkedStep("call", step.turn_id, step.tool, step.arguments, said)
            continue
        yield from map(_result_step, round_)
        round_ = []
        if isinstance(step, GivenInput):
            said = functools.partial(_quoted, "was given", step.text)
            yield _WalkedStep("input", step.turn_id, "", step.text, said)
        else:
            said = functools.partial(_answer_words, step)
            yield _WalkedStep("answer", step.turn_id, step.finish_reason, step.text, said)
    yield from map(_result_step, round_)
    ended = (
        f"ended: {', '.join(outline.finish_reasons) or 'no answer'}; run {', '.join(outline.outcomes[-1:])}"
    )
    last = outline.steps[-1].turn_id if outline.steps else None
    yield _WalkedStep("end", last, ended, None, lambda: ended)


def _result_step(call: ToolUse) -> _WalkedStep:
    return _WalkedStep("result", call.turn_id, call.outcome, call.result, lambda: _result_words(call))


def _call_words(call: ToolUse) -> str:
    return f"called {call.tool}{arguments_of(call)}"


def _result_words(call: ToolUse) -> str:
    return _quoted(f"{call.tool} gave ({call.outcome.replace('_', ' ')})", call.result)


def _answer_words(answer: ModelAnswer) -> str:
    return _quoted(f"said ({answer.finish_reason.replace('_', ' ')})", answer.text)


def _quoted(words: str, content: Content | None) -> str:
    text = text_of(content)
    return f"{words}: {text}" if text else f"{words}: nothing"
