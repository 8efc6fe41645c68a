"""From the events of a log, or the steps of a step log, to outlines of its sessions.

A line that is told twice (a file that was given twice) counts once. What a run told after another had gone on from it
is no step of the session; that it was asked for and paid for counts in the figures.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeAlias

import attrs
import msgspec

from agentkit_loop.content import CommitPart, Item, TextPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ApprovalRequired,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    is_redacted,
)
from agentkit_loop.transcript import without_ids
from agentkit_loop.usage import EXACT_SUMS, Usage, can_be_added
from agentkit_loop.values import JSON
from agentkit_reporting.analysis.run_diff_outline import (
    Content,
    GivenInput,
    ModelAnswer,
    Outline,
    ToolUse,
    known_ms,
)
from agentkit_reporting.analysis.run_lineage import Lineage
from agentkit_reporting.records.settled_requests import outcome_of

__all__ = ["chosen", "families", "outlines_of", "roots_of"]

_MAX_NAMED = 5  # sessions that are named in a refusal


def outlines_of(events: Iterable[AgentEvent]) -> dict[str, Outline]:
    """Return the sessions of events, by id, in the order in which they were met."""
    folds: dict[str, _SessionFold] = {}
    for event in events:
        if type(event) is ContentDelta and type(event.delta) is not CommitPart:
            continue  # a preview; most of a log
        fold = folds.get(event.session_id)
        if fold is None:
            fold = folds[event.session_id] = _SessionFold(event.session_id)
        fold.take(event)
    return {session_id: fold.closed() for session_id, fold in folds.items()}


def chosen(outlines: Mapping[str, Outline], session_id: str | None, *, side: str) -> Outline:
    """Return the session whose id is given, or ends so; None: the only one that is no sub-agent's of another here.

    side: what the log is called in a refusal. Raises ConfigurationError.
    """
    if session_id is not None:
        found = [outlines[session_id]] if session_id in outlines else []
        found = found or [each for each in outlines.values() if each.session_id.endswith(session_id)]
        if len(found) == 1:
            return found[0]
        several = f"several ids end so: {_named(found)}; give more of it"
        none = f"it holds {_named(outlines.values())}; give the end of an id that is in it"
        raise ConfigurationError(f"session {session_id!r} of {side} refused; {several if found else none}")
    if not outlines:
        raise ConfigurationError(f"{side} refused because it holds no event; give the log of a run")
    roots = roots_of(outlines)
    if len(roots) != 1:
        raise ConfigurationError(
            f"{side} refused because it holds {len(roots)} sessions: {_named(roots)}; say which one"
        )
    return roots[0]


def roots_of(outlines: Mapping[str, Outline]) -> list[Outline]:
    """Return the sessions that are no sub-agents' of others here."""
    roots = [each for each in outlines.values() if each.parent is None]
    if roots:
        return roots
    return [each for each in outlines.values() if each.parent and each.parent.session_id not in outlines]


def _named(outlines: Iterable[Outline]) -> str:
    names = [each.session_id for each in outlines]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def families(outlines: Mapping[str, Outline]) -> dict[str, list[Outline]]:
    """Return the sessions of sub-agents by the session that started them, in order."""
    children: dict[str, list[Outline]] = {}
    for each in outlines.values():
        if each.parent is not None and each.parent.session_id != each.session_id:
            children.setdefault(each.parent.session_id, []).append(each)
    return children


@attrs.define
class _Run:
    """When a run began and last worked, and how long it took by its own word."""

    first: dt.datetime
    last: dt.datetime
    last_seq: int = 0
    duration_ms: float | None = None
    outcome: str = "open"

    def took_ms(self) -> float:
        """Return how long it took; where nobody measured, from its first event to the last that tells of work."""
        if self.duration_ms is not None:
            return self.duration_ms
        return max(0.0, (self.last - self.first) / dt.timedelta(milliseconds=1))


@attrs.define
class _Billed:
    """What a request used, by its last report. seq: of that."""

    seq: int
    usage: Usage
    amount: Decimal | None
    currency: str


@attrs.define
class _Request:
    """A request that has no end yet. texts: of its answer, by part."""

    purpose: str = "turn"
    texts: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class _Result:
    """What a call gave."""

    call_id: str
    output: Content
    outcome: str
    error: str
    duration_ms: float | None


@attrs.frozen
class _Began:
    """That the body of a tool began. arguments: those it got, where somebody changed them."""

    call_id: str
    arguments: Content | None


_Told: TypeAlias = "GivenInput | ModelAnswer | ToolUse | _Began | _Result | str"
"""What a step is made of; a text: why an exchange finished."""


class _SessionFold:
    """Takes the events of one session. Which of them count is known when all are in: its steps are made then."""

    def __init__(self, session_id: str) -> None:
        self._outline = Outline(session_id=session_id)
        self._runs: dict[str, _Run] = {}
        self._lineage = Lineage()
        self._place = -1  # of the event that is taken, among those that are no previews
        self._told: list[tuple[int, _Told]] = []  # what steps are made of, with the places
        self._open: dict[tuple[str, str], _Request] = {}  # by run and request
        self._billed: dict[tuple[str, str], _Billed] = {}  # by request, as UsageReporter has it
        self._finished: set[tuple[str, str]] = set()  # requests that ended with an answer

    def take(self, event: AgentEvent) -> None:
        """Take the next event."""
        self._place += 1
        self._lineage.take(event)
        self._note_step(event)
        run = self._runs.get(event.run_id)
        if run is None:
            self._outline.began = self._outline.began or event.timestamp
            run = self._runs[event.run_id] = _Run(event.timestamp, event.timestamp)
        elif 0 < event.seq <= run.last_seq:
            return
        run.last_seq = event.seq
        if _is_work(event):
            run.last = event.timestamp
        self._outline.redacted += is_redacted(event)
        self._note_figures(event, run)

    def closed(self) -> Outline:
        """Return the outline; no event may follow."""
        outline = self._outline
        self._make_steps(self._lineage.superseded())
        if self._runs:
            outline.duration_ms = sum(run.took_ms() for run in self._runs.values())
        outline.counts["runs"] = len(self._runs)
        outline.outcomes = [run.outcome for run in self._runs.values()]
        outline.usage = Usage.total(each.usage for each in self._billed.values())
        for each in self._billed.values():
            if each.amount is None:
                outline.unpriced += 1
            else:
                before = outline.costs.get(each.currency, Decimal(0))
                outline.costs[each.currency] = EXACT_SUMS.add(before, each.amount)
        outline.unknown_usage = len(self._finished - self._billed.keys())
        return outline

    # --- figures

    def _note_figures(self, event: AgentEvent, run: _Run) -> None:
        outline, counts = self._outline, self._outline.counts
        match event:
            case TurnStarted():
                counts["turns"] += 1
            case ModelRequestStarted():
                counts["requests"] += 1
                counts["retries"] += event.attempt > 1
            case UsageUpdated():
                self._bill(event)
            case ModelRequestFinished():
                self._finished.add((event.run_id, event.request_id))
                outline.model_ms = _added(outline.model_ms, known_ms(event.duration_ms))
            case ModelRequestFailed():
                counts["failed_requests"] += 1
                outline.failures.append(f"request failed: {event.error_class}: {event.error.message}")
                outline.model_ms = _added(outline.model_ms, known_ms(event.duration_ms))
            case ApprovalRequired():
                counts["approvals"] += 1
            case CompactionStarted():
                counts["compactions"] += 1
            case RunFinished() | RunFailed() | RunCancelled():
                run.duration_ms = known_ms(event.duration_ms)
                run.outcome = outcome_of(event)
                if isinstance(event, RunFailed):
                    counts["failed_runs"] += 1
                    outline.failures.append(f"run failed: {event.error.type}: {event.error.message}")
            case _:
                pass

    def _bill(self, event: UsageUpdated) -> None:
        usage = msgspec.structs.replace(event.usage, raw=None) if event.usage.raw else event.usage
        cost = event.cost if event.cost is not None and can_be_added(event.cost.amount) else None
        amount, currency = (None, "") if cost is None else (cost.amount, cost.currency)
        place = (event.run_id, event.request_id)
        earlier = self._billed.get(place)
        if earlier is None or earlier.seq <= event.seq:
            self._billed[place] = _Billed(event.seq, usage, amount, currency)

    # --- steps

    def _note_step(self, event: AgentEvent) -> None:
        """Note what a step is made of."""
        key = (event.run_id, getattr(event, "request_id", ""))
        match event:
            case RunStarted():
                self._start(event)
            case InputAccepted():
                self._give(event.items, event)
            case ModelRequestStarted():
                self._open[key] = _Request(event.purpose)
            case ContentDelta(delta=CommitPart(part_id=part_id, part=TextPart(text=text))):
                self._open.setdefault(key, _Request()).texts[part_id] = text
            case ModelRequestFinished():
                self._answer(event, self._open.pop(key, _Request()))
            case ModelRequestFailed():
                self._open.pop(key, None)
            case ToolCallRequested():
                self._call(event)
            case ToolExecutionStarted():
                edited = Content(event.input or {}) if event.edited else None
                self._note(_Began(event.call_id, edited))
            case ToolResultReceived():
                self._result(event)
            case TurnFinished():
                self._note(event.finish_reason)
            case _:
                pass

    def _note(self, told: _Told) -> None:
        self._told.append((self._place, told))

    def _start(self, event: RunStarted) -> None:
        outline = self._outline
        outline.parent = outline.parent or event.parent
        outline.models.setdefault(event.model)
        if not outline.settings:
            outline.agent = event.agent_name
            tools = {each.name: _without_name(msgspec.to_builtins(each)) for each in event.tools}
            told = {"system": event.system, "parameters": event.parameters, "tools": tools}
            outline.settings = {
                "agent": Content(event.agent_name),
                **{name: Content(value) for name, value in told.items()},
            }
        self._give(event.items, event)

    def _give(self, items: tuple[Item, ...], event: AgentEvent) -> None:
        for item in items:
            text = Content(_item_text(item))
            self._note(GivenInput(turn_id=event.turn_id, seq=event.seq, text=text))

    def _answer(self, event: ModelRequestFinished, request: _Request) -> None:
        if request.purpose != "turn":
            return
        text = Content("\n".join(request.texts.values()))
        reason = event.finish_reason
        self._note(ModelAnswer(turn_id=event.turn_id, seq=event.seq, text=text, finish_reason=reason))

    def _call(self, event: ToolCallRequested) -> None:
        call = event.call
        use = ToolUse(
            tool=call.name,
            turn_id=event.turn_id,
            seq=event.seq,
            call_id=call.id,
            arguments=Content(call.input if call.cut is None else call.cut),
        )
        self._note(use)

    def _result(self, event: ToolResultReceived) -> None:
        result = _Result(
            call_id=event.call_id,
            output=Content(event.output),
            outcome=_call_outcome(event),
            error="" if event.error is None else f"{event.error.type}: {event.error.message}",
            duration_ms=known_ms(event.duration_ms),
        )
        self._note(result)

    def _make_steps(self, superseded: frozenset[int]) -> None:
        """Make the steps of what counts. superseded: places of what does not."""
        outline = self._outline
        open_calls: dict[str, ToolUse] = {}
        for place, told in self._told:
            if place in superseded:
                continue
            match told:
                case str():
                    outline.finish_reasons.append(told)
                    outline.exchange_is_open = False
                case _Began(call_id=call_id):
                    use = open_calls.get(call_id)
                    if use is not None and told.arguments is not None:
                        use.edited, use.arguments = True, told.arguments
                case _Result():
                    use = open_calls.pop(told.call_id, None)
                    if use is not None:
                        use.result, use.outcome, use.error = told.output, told.outcome, told.error
                        use.duration_ms = told.duration_ms
                case _:
                    outline.steps.append(told)
                    outline.exchange_is_open = True
                    if isinstance(told, ToolUse):
                        open_calls[told.call_id] = told
        self._told = []


def _is_work(event: AgentEvent) -> bool:
    """Whether an event was told as something happened, and not by a resume that closed what a crash left open."""
    closes = isinstance(event, (ToolResultReceived, ModelRequestFailed, *RUN_ENDS))
    return not closes or getattr(event, "duration_ms", None) is not None


def _added(total_ms: float | None, more_ms: float | None) -> float | None:
    return total_ms if more_ms is None else (total_ms or 0.0) + more_ms


def _call_outcome(event: ToolResultReceived) -> str:
    claims = (
        (event.denied, "denied"),
        (event.interrupted, "interrupted"),
        (event.not_started, "not_started"),
        (event.is_error, "error"),
    )
    return next((outcome for is_so, outcome in claims if is_so), "ok")


def _without_name(tool: dict[str, JSON]) -> dict[str, JSON]:
    return {key: value for key, value in tool.items() if key != "name"}


def _item_text(item: Item) -> JSON:
    """Return what an item says: its text, where a user said nothing else; else all of it but ids."""
    if item.kind == "user" and all(isinstance(part, TextPart) for part in item.parts):
        return "\n".join(part.text for part in item.parts if isinstance(part, TextPart))
    return msgspec.to_builtins(without_ids(item))
