"""RunDiff: two runs side by side: where they part, what differs in what they said, did and took.

diff = diff_runs(read_events("before.jsonl"), read_events("after.jsonl"))
diff.divergence, diff.metric("cost").change, [pair for pair in diff.calls if pair.sign != "="]

Calls are aligned by tool and arguments with a longest common subsequence; between those that both have, calls of one
tool are paired in order, so that a difference of arguments is seen as such. Answers and inputs are aligned likewise by
their text. Ids and times are no differences; neither are a model's reasoning, a host's metadata and custom events. A
mask of redaction is equal to anything. Of a resumed session all runs are compared together, as if it had run
through: that it was suspended is seen in the number of runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.analysis.run_diff_figures import DIFFERENCES, RunMetric, metrics_of
from agentkit_reporting.analysis.run_diff_outline import GivenInput, ModelAnswer, Outline, ToolUse
from agentkit_reporting.analysis.run_diff_parts import (
    CallPair,
    Divergence,
    SettingChange,
    TextPair,
    call_pairs,
    divergence,
    masks_between,
    setting_changes,
    text_pairs,
)
from agentkit_reporting.analysis.run_diff_reading import chosen, families, outlines_of
from agentkit_reporting.analysis.run_diff_steps import outlines_of_steps
from agentkit_reporting.records.step_runs import RunSteps

__all__ = ["ComparedRun", "RunDiff", "diff_outlines", "diff_runs", "outlines_in"]

_NOT_LAST = ("tool_call", "pause_turn")  # finish reasons of an answer behind which another one was to come
_MOST_CHILDREN = 100  # levels of sub-agents, and pairs of them under one session


@attrs.frozen(kw_only=True)
class ComparedRun:
    """One side. session_id: or a step log's run. finish_reasons: of exchanges. outcomes: of runs, `open`: no end.

    failures: requests and runs that failed, and why. children: sessions of sub-agents behind it. redacted: how many
    events say that something was masked.
    """

    session_id: str
    agent: str
    models: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    outcomes: tuple[str, ...]
    failures: tuple[str, ...]
    children: int
    redacted: int


@attrs.frozen(kw_only=True)
class RunDiff:
    """Two sessions side by side; `before` is A, `after` is B.

    divergence: the first step at which they differ; call_divergence: the first call. calls, answers, inputs: all of
    them, aligned. final: the last answers, one pair; an answer that asks for tools is not a last one, nor is one of an
    exchange without an end. metrics: see `run_diff_figures`, over the sub-agents too. masked: contents that differ as
    they are written and are equal by a mask. children: sub-agents behind calls that were paired, each with the tool.
    """

    before: ComparedRun
    after: ComparedRun
    settings: tuple[SettingChange, ...]
    divergence: Divergence | None
    call_divergence: Divergence | None
    calls: tuple[CallPair, ...]
    answers: tuple[TextPair, ...]
    inputs: tuple[TextPair, ...]
    final: TextPair | None
    metrics: tuple[RunMetric, ...]
    masked: int
    children: tuple[tuple[str, RunDiff], ...]

    @property
    def is_equal(self) -> bool:
        """Whether both were set to, were given, said and did the same; figures, such as tokens, may differ."""
        found = self.metric("differences")
        return found is not None and found.after == 0

    def metric(self, name: str) -> RunMetric | None:
        """Return a metric by its name, None if there is none; `cost.EUR` also where all cost is in that currency."""
        found = next((each for each in self.metrics if each.name == name), None)
        if found is None and name.startswith("cost."):
            cost = self.metric("cost")
            found = cost if cost is not None and cost.currency == name.removeprefix("cost.") else None
        return found

    @property
    def figures_differ(self) -> tuple[str, ...]:
        """Names of the metrics that differ, but for times and for counts of differences."""
        counted = (each for each in self.metrics if each.unit != "ms" and each.name not in _COUNTED)
        return tuple(each.name for each in counted if each.before != each.after)


_COUNTED = frozenset({*DIFFERENCES, "differences"})


def diff_runs(
    before: Iterable[AgentEvent] | RunSteps,
    after: Iterable[AgentEvent] | RunSteps,
    *,
    session_before: str | None = None,
    session_after: str | None = None,
) -> RunDiff:
    """Compare two runs: sessions of event logs, or runs of step logs.

    before, after: events in the order of the log, such as `read_events(path)`, or steps, `StepLog.read(path)`, which
    know of no texts, settings and input. session_before, session_after: an id of a session (of steps: of a run), or its
    end; None: the only one that is no sub-agent's. Raises ConfigurationError where that is open, and for a path.

    Memory grows with calls and answers, about 2 kB each with their contents packed; previews cost nothing.
    """
    return diff_outlines(
        outlines_in(before), outlines_in(after), session_before=session_before, session_after=session_after
    )


def diff_outlines(
    before: Mapping[str, Outline],
    after: Mapping[str, Outline],
    *,
    session_before: str | None = None,
    session_after: str | None = None,
    names: tuple[str, str] = ("before", "after"),
) -> RunDiff:
    """Compare sessions of logs that were read; see `diff_runs`. names: what the logs are called in refusals."""
    roots = (chosen(before, session_before, side=names[0]), chosen(after, session_after, side=names[1]))
    return _compared(_Family(roots[0], families(before)), _Family(roots[1], families(after)), depth=0)


def outlines_in(source: Iterable[AgentEvent] | RunSteps) -> dict[str, Outline]:
    """Return the outlines of the sessions of events, or of the runs of steps; raises ConfigurationError for a path."""
    if isinstance(source, RunSteps):
        return outlines_of_steps(source)
    given: object = source
    if isinstance(given, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"{source!r} is a path; give its events, read_events({source!r})")
    return outlines_of(source)


@attrs.frozen
class _Family:
    """A session, and the sessions of sub-agents by their parent."""

    root: Outline
    children: Mapping[str, list[Outline]]

    def all(self) -> list[Outline]:
        """Return the session and all behind it, each once."""
        found = {self.root.session_id: self.root}
        waiting = [self.root]
        while waiting:
            for child in self.children.get(waiting.pop().session_id, ()):
                if child.session_id not in found:
                    found[child.session_id] = child
                    waiting.append(child)
        return list(found.values())

    def behind(self, call: ToolUse) -> list[Outline]:
        """Return the sub-agents that a call started."""
        mine = self.children.get(self.root.session_id, ())
        return [each for each in mine if each.parent is not None and each.parent.call_id == call.call_id]

    def of(self, root: Outline) -> _Family:
        """Return the part of the family that begins with a session."""
        return _Family(root, self.children)


def _compared(one: _Family, other: _Family, *, depth: int) -> RunDiff:
    before, after = one.root, other.root
    calls: list[CallPair] = []
    children: list[tuple[str, RunDiff]] = []
    masked = 0
    for call, old, new in call_pairs(before, after):
        calls.append(call)
        if old is None or new is None:
            continue
        masked += masks_between(old.arguments, new.arguments) + masks_between(old.result, new.result)
        if depth < _MOST_CHILDREN and len(children) < _MOST_CHILDREN:
            sessions = zip(one.behind(old), other.behind(new), strict=False)
            children += [(old.tool, _compared(one.of(a), other.of(b), depth=depth + 1)) for a, b in sessions]
    answers, masked_answers = _texts(before.answers, after.answers)
    inputs, masked_inputs = _texts(before.inputs, after.inputs)
    masked += masked_answers + masked_inputs
    settings = setting_changes(before, after)
    is_whole = before.is_whole and after.is_whole
    differences = _differences(before, after, calls, answers, inputs if is_whole else [], len(settings))
    for _tool, child in children:
        masked += child.masked
        for name in differences:
            found_there = child.metric(name)
            differences[name] += int(found_there.after or 0) if found_there else 0
    return RunDiff(
        before=_side(one),
        after=_side(other),
        settings=settings,
        divergence=divergence(before, after),
        call_divergence=divergence(before, after, kinds=frozenset({"call"})),
        calls=tuple(calls),
        answers=tuple(answers),
        inputs=tuple(inputs) if is_whole else (),
        final=_final(before, after),
        metrics=metrics_of(one.all(), other.all(), differences),
        masked=masked,
        children=tuple(children),
    )


def _texts(
    before: Sequence[GivenInput | ModelAnswer], after: Sequence[GivenInput | ModelAnswer]
) -> tuple[list[TextPair], int]:
    """Return answers, or inputs, side by side, and how many are equal by a mask."""
    found = list(text_pairs(before, after))
    masked = sum(
        masks_between(old.text, new.text) for _, old, new in found if old is not None and new is not None
    )
    return [pair for pair, _, _ in found], masked


def _differences(
    before: Outline,
    after: Outline,
    calls: list[CallPair],
    answers: list[TextPair],
    inputs: list[TextPair],
    settings: int,
) -> dict[str, int]:
    ends = (before.finish_reasons, after.finish_reasons), (before.outcomes[-1:], after.outcomes[-1:])
    is_whole = before.is_whole and after.is_whole
    return {
        "calls_differ": sum(pair.sign in "+-" or pair.arguments is not None for pair in calls),
        "results_differ": sum(pair.result is not None or pair.outcome_differs for pair in calls),
        "text_differs": sum(pair.sign != "=" for pair in answers),
        "input_differs": sum(pair.sign != "=" for pair in inputs),
        "settings_differ": settings,
        "finish_differs": int(is_whole and any(one != other for one, other in ends)),
    }


def _final(before: Outline, after: Outline) -> TextPair | None:
    last = [
        [
            each
            for each in side.answers[-1:]
            if each.finish_reason not in _NOT_LAST and not side.exchange_is_open
        ]
        for side in (before, after)
    ]
    if any(answer.text is None for answers in last for answer in answers):
        return None
    return next((pair for pair, _, _ in text_pairs(*last)), None)


def _side(family: _Family) -> ComparedRun:
    outline = family.root
    return ComparedRun(
        session_id=outline.session_id,
        agent=outline.agent,
        models=tuple(outline.models),
        finish_reasons=tuple(outline.finish_reasons),
        outcomes=tuple(outline.outcomes),
        failures=tuple(outline.failures),
        children=len(family.all()) - 1,
        redacted=sum(each.redacted for each in family.all()),
    )
