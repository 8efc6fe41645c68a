"""One rule judged over samples as they come: its groups, and when each fires and is resolved.

A group is judged after each event that brought it a sample or took one out of its window, with all that the event
brought; so an alert's time is always that of an event, and no clock is read. A group is quiet, pending (the condition
holds, and not yet for as long as the rule asks) or firing. From firing it goes back to quiet as the condition no longer
holds, which is told as resolved; only then can it fire again, and not before `cooldown` is over.

Groups of a run or a turn are forgotten with its end, those of a window as it is empty and they are quiet; of more than
MOST_GROUPS the one that was added to the longest time ago.
"""

from __future__ import annotations

import collections
import datetime as dt
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from agentkit_reporting.alerts.alert import Alert, AlertState, where_text
from agentkit_reporting.alerts.rule import AlertRule, filled
from agentkit_reporting.alerts.samples import Labels, Request, Sample
from agentkit_reporting.alerts.units import Amount, threshold_text
from agentkit_reporting.alerts.unjudged import Missed
from agentkit_reporting.alerts.windows import Tally, tally_for
from agentkit_reporting.comparisons import COMPARISONS
from agentkit_reporting.timestamps import utc_text

__all__ = ["MOST_GROUPS", "Judged", "Moment", "RuleJudge"]

MOST_GROUPS = 10_000
"""Groups of one rule that are remembered."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_OF_SESSION = frozenset({"run", "turn", "call", "request"})  # whose ids are of their session
_ONE_SAMPLE = frozenset({"call", "request"})
_BEGIN = frozenset({"session", "run", "turn", "agent"})  # of which it is known that they are there


@attrs.frozen
class Moment:
    """When a group is judged. at: the event's own time. now_us: the latest time so far, which windows go by."""

    at: dt.datetime
    now_us: int

    @property
    def late_us(self) -> int:
        """How far it lies behind the latest one."""
        return self.now_us - (self.at - _EPOCH) // _MICROSECOND

    @classmethod
    def after(cls, at: dt.datetime, now_us: int) -> Moment:
        """Return the moment of an event that is told after `now_us`; no clock that is set back moves that back."""
        return cls(at, max(now_us, (at - _EPOCH) // _MICROSECOND))


@attrs.define(kw_only=True)
class Judged:
    """What came of a rule so far.

    samples: that it looked at. judged: how often a group was. alerts: how many fired. worst: the value nearest to the
    threshold, or furthest beyond it; of == and != the last one. at_least: whether that is a lower bound, since not all
    is known. why: of what was never judged, the reason; visible text.
    """

    rule: AlertRule
    samples: int = 0
    judged: int = 0
    alerts: int = 0
    worst: Amount | None = None
    at_least: bool = False
    why: str = ""


@attrs.define(eq=False)
class _Group:
    """labels: of its last sample. wakes_us: when it is looked at next, as its window slides."""

    key: tuple[str, ...]
    labels: Labels
    tally: Tally
    state: str = "quiet"
    since_us: int = 0
    fired_us: int | None = None
    wakes_us: int | None = None


class RuleJudge:
    """The groups of one rule. Of each event: `wake`, `begin`, `add` for each sample, `judge`, `end`.

    masked: what names of agents, tools and models go through before an alert shows them, None as they are.
    """

    def __init__(self, rule: AlertRule, masked: Callable[[str], str] | None = None) -> None:
        self.result = Judged(rule=rule)
        self.missed = Missed()
        self._masked = masked
        self.rule, self._metric, per = rule, rule.metric, {*rule.per}
        self._holds = COMPARISONS[rule.op]
        choosers = dict(rule.choosers())
        self._is_error = choosers.pop("error_class", None)
        self._choosers = tuple(choosers.items())
        self._key = rule.per if not per & _OF_SESSION else ("session", *rule.per)
        self.scope = next((name for name in ("turn", "run") if name in per), None)
        self._is_momentary = bool(per & _ONE_SAMPLE)
        self._window_us = None if rule.window_ms is None else round(rule.window_ms * 1_000)
        self._for_us, self._cooldown_us = round(rule.for_ms * 1_000), round(rule.cooldown_ms * 1_000)
        self._is_at_end = rule.when == "at_end" and not self._is_momentary
        self.counts_nothing = self._is_at_end and self._metric.kind == "count" and per <= _BEGIN
        self._groups: collections.OrderedDict[tuple[str, ...], _Group] = collections.OrderedDict()
        self._scoped: dict[tuple[str, str], dict[tuple[str, ...], _Group]] = {}
        self._touched: dict[tuple[str, ...], _Group] = {}  # to be judged after this event
        self._wakes: list[tuple[int, int, _Group]] = []
        self._most_wakes = 2 * MOST_GROUPS
        self._numbers = itertools.count()

    # --- what an event brings

    def wake(self, now_us: int) -> None:
        """Let windows slide, and look again at what waits for its time."""
        while self._wakes and self._wakes[0][0] <= now_us:
            _, _, group = heapq.heappop(self._wakes)
            if self._groups.get(group.key) is group:
                self._slide(group, now_us)
                self._touched[group.key] = group

    def begin(self, labels: Labels) -> None:
        """Take note of a run or turn that begins: what is not in it by its end counts as none."""
        agent = dict(self._choosers).get("agent")
        if agent is None or agent(labels.agent):
            self._group(labels)

    def add(self, sample: Sample, now_us: int) -> None:
        """Take a sample."""
        labels = sample.labels
        for name, is_chosen in self._choosers:
            if not is_chosen(getattr(labels, name)):
                self.missed.note_other(name, getattr(labels, name))
                return
        if self._is_error is not None and not self._is_error(labels.error_class):
            sample = attrs.evolve(sample, failed=False) if isinstance(sample, Request) else sample
        worth = self._metric.worth(sample, self.rule.currency or "")
        if worth is None:
            self.missed.note_unknown(sample)
            return
        self.result.samples += 1
        group = self._group(labels)
        group.tally.add(now_us, worth)
        if not self._is_at_end:
            self._touched[group.key] = group
        if self._window_us is not None and group.wakes_us is None:
            self._slide(group, now_us)

    def judge(self, moment: Moment) -> Iterator[Alert]:
        """Judge the groups that the event changed."""
        touched, self._touched = self._touched, {}
        for group in touched.values():
            alert = self._judged(group, moment)
            if alert is not None:
                yield alert
            is_empty = self._window_us is not None and not group.tally.count
            if self._is_momentary or (
                is_empty and group.state == "quiet"
            ):  # else it would fire a second time
                self._forget(group, moment.now_us)

    def end(self, scope: tuple[str, str], moment: Moment) -> Iterator[Alert]:
        """Judge what is judged at the end of a run or turn, given with its session, and forget it."""
        for group in self._scoped.pop(scope, {}).values():
            if self._groups.pop(group.key, None) is None or not self._is_at_end:
                continue
            alert = self._judged(group, moment)
            if alert is not None:
                yield alert

    def finish(self, moment: Moment) -> Iterator[Alert]:
        """Judge what is judged when nothing comes any more."""
        if not self._is_at_end:
            return
        groups, self._groups = self._groups, collections.OrderedDict()
        self._scoped.clear()
        for group in groups.values():
            alert = self._judged(group, moment)
            if alert is not None:
                yield alert

    def why(self) -> str:
        """Return why nothing was judged."""
        return self.missed.why(self.rule, self.result.samples, self._masked)

    @property
    def is_timed(self) -> bool:
        """Whether time alone may change what it says."""
        return self._window_us is not None or bool(self._for_us or self._cooldown_us)

    @property
    def is_touched(self) -> bool:
        """Whether there is something to judge."""
        return bool(self._touched)

    # --- groups

    def _group(self, labels: Labels) -> _Group:
        key = tuple([getattr(labels, name) for name in self._key])
        group = self._groups.get(key)
        if group is not None:
            group.labels = labels
            self._groups.move_to_end(key)
            return group
        while len(self._groups) >= MOST_GROUPS:
            self._leave_scope(self._groups.popitem(last=False)[1])
        group = _Group(key, labels, tally_for(self._metric, windowed=self._window_us is not None))
        self._groups[key] = group
        if self.scope is not None:
            self._scoped.setdefault((labels.session, getattr(labels, self.scope)), {})[key] = group
            while len(self._scoped) > MOST_GROUPS:
                del self._scoped[next(iter(self._scoped))]
        return group

    def _forget(self, group: _Group, now_us: int) -> None:
        """Forget a group that has nothing left, unless it may not fire again yet."""
        if group.fired_us is not None and group.fired_us + self._cooldown_us > now_us:
            self._wake_at(group, group.fired_us + self._cooldown_us)
        else:
            self._groups.pop(group.key, None)
            self._leave_scope(group)

    def _leave_scope(self, group: _Group) -> None:
        if self.scope is not None:
            scope = (group.labels.session, getattr(group.labels, self.scope))
            members = self._scoped.get(scope, {})
            members.pop(group.key, None)
            if not members:
                self._scoped.pop(scope, None)

    def _slide(self, group: _Group, now_us: int) -> None:
        """Let the group's window slide, and see to it that it does again."""
        if self._window_us is None:
            return
        group.tally.slide(now_us - self._window_us)
        oldest_us = group.tally.oldest_us
        if oldest_us is None:
            group.wakes_us = None
        elif group.wakes_us != oldest_us + self._window_us:
            group.wakes_us = oldest_us + self._window_us
            self._wake_at(group, group.wakes_us)

    def _wake_at(self, group: _Group, due_us: int) -> None:
        heapq.heappush(self._wakes, (due_us, next(self._numbers), group))
        if len(self._wakes) > self._most_wakes:  # of groups that were forgotten, which nobody wakes
            self._wakes = [each for each in self._wakes if self._groups.get(each[2].key) is each[2]]
            heapq.heapify(self._wakes)
            self._most_wakes = max(2 * MOST_GROUPS, 2 * len(self._wakes))

    # --- judging

    def _judged(self, group: _Group, moment: Moment) -> Alert | None:
        rule, now_us = self.rule, moment.now_us
        value = group.tally.value() if group.tally.count >= rule.min_count else None
        holds = value is not None and self._holds(value, rule.threshold)
        if value is not None:
            self._note(value)
        if not holds:
            was, group.state = group.state, "quiet"
            return self._alert("resolved", group, moment) if was == "firing" else None
        if group.state == "quiet":
            group.state, group.since_us = "pending", now_us
        if group.state == "firing":
            return None
        due_us = group.since_us + self._for_us
        if group.fired_us is not None:
            due_us = max(due_us, group.fired_us + self._cooldown_us)
        if due_us > now_us:
            self._wake_at(group, due_us)
            return None
        group.state, group.fired_us = "firing", now_us
        self.result.alerts += 1
        return self._alert("firing", group, moment)

    def _note(self, value: Amount) -> None:
        result, op = self.result, self.rule.op
        result.judged += 1
        worst: Any = result.worst
        if worst is None or op in ("==", "!="):
            result.worst = value
        else:
            result.worst = max(worst, value) if op in (">", ">=") else min(worst, value)

    def _shown(self, labels: Labels) -> Labels:
        masked = self._masked
        if masked is None:
            return labels
        return labels._replace(
            agent=masked(labels.agent), tool=masked(labels.tool), model=masked(labels.model)
        )

    def _alert(self, state: AlertState, group: _Group, moment: Moment) -> Alert:
        rule, labels, value = self.rule, self._shown(group.labels), group.tally.value()
        about = {name: getattr(labels, name) for name in rule.per}
        alert = Alert(
            rule=rule.name,
            severity=rule.severity,
            state=state,
            metric=self._metric.name,
            op=rule.op,
            value=value if group.tally.count else (0 if self._metric.kind == "count" else None),
            threshold=rule.threshold,
            unit=self._metric.unit,
            currency=rule.currency,
            group=about,
            count=group.tally.count,
            window_ms=rule.window_ms,
            at=moment.at,
            since=_EPOCH + group.since_us * _MICROSECOND,
            session_id=labels.session,
            run_id=labels.run,
            turn_id=labels.turn or None,
            message="",
        )
        return attrs.evolve(alert, message=message_of(rule, alert, labels))


def message_of(rule: AlertRule, alert: Alert, labels: Labels) -> str:
    """Return an alert's message: the rule's template, or else the rule, the group and the comparison."""
    if not rule.message:
        return (
            f"{alert.rule}: {alert.where}: {alert.comparison}"
            if alert.group
            else f"{alert.rule}: {alert.comparison}"
        )
    measured, threshold = (
        "no data",
        threshold_text(rule.threshold, rule.threshold, alert.unit, alert.currency)[1],
    )
    if alert.value is not None:
        measured, threshold = threshold_text(alert.value, rule.threshold, alert.unit, alert.currency)
    values = {
        "rule": alert.rule,
        "severity": alert.severity,
        "state": alert.state,
        "metric": alert.metric,
        "op": alert.op,
        "value": measured,
        "threshold": threshold,
        "where": where_text(alert.group),
        "count": f"{alert.count:,}",
        "at": utc_text(alert.at),
    }
    return filled(rule.message, {**labels._asdict(), **values})
