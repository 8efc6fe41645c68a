"""Rules over events: the fold from events to alerts. It reads no clock; the same events give the same alerts."""

from __future__ import annotations

import collections
import datetime as dt
from collections.abc import Callable, Iterable, Iterator

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.alerts.alert import Alert
from agentkit_reporting.alerts.judging import Judged, Moment, RuleJudge
from agentkit_reporting.alerts.rule import AlertRule
from agentkit_reporting.alerts.samples import MEASURED, Approval, Sample, Sampler, Told, UnendedRun

__all__ = ["Evaluation"]

_MEASURED = frozenset(MEASURED)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BEGINNING = Moment(dt.datetime(1, 1, 1, tzinfo=dt.UTC), -(2**62))


class Evaluation:
    """Takes events, returns alerts; not for several threads at once. Raises ConfigurationError for two of one name.

    masked: see RuleJudge.
    """

    def __init__(self, rules: Iterable[AlertRule], masked: Callable[[str], str] | None = None) -> None:
        self.rules = tuple(rules)
        names = [rule.name for rule in self.rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if not names or twice is not None:
            what = "no rule" if twice is None else f"two rules of the name {twice!r}"
            raise ConfigurationError(f"{what} refused; give {'one' if twice is None else 'each its own'}")
        self._judges = [RuleJudge(rule, masked) for rule in self.rules]
        self._of: dict[type[Sample], list[RuleJudge]] = collections.defaultdict(list)
        for judge in self._judges:
            self._of[judge.rule.metric.of].append(judge)
        self._timed = [judge for judge in self._judges if judge.is_timed]
        self._scoped = [judge for judge in self._judges if judge.scope is not None]
        self._counting = [judge for judge in self._judges if judge.counts_nothing]
        self._sampler = Sampler()
        self._moment = _BEGINNING
        self._saw_runs = False
        self.open_runs: list[UnendedRun] = []  # that `finish` found
        self.open_questions: list[Approval] = []  # the same
        self.late_us = 0  # how far the time of an event lay behind that of one before it

    def take(self, event: AgentEvent) -> list[Alert]:
        """Return the alerts that an event raises or resolves, in the order of the rules."""
        if event.__class__ not in _MEASURED or self._sampler.is_known(event):
            return []
        moment = self._moment = Moment.after(event.timestamp, self._moment.now_us)
        self.late_us = max(self.late_us, moment.late_us)
        told = self._sampler.take(event)
        self._saw_runs = self._saw_runs or bool(told.here.run)
        for judge in self._timed:
            judge.wake(moment.now_us)
        for judge in self._counting:
            if told.turn_began if judge.scope == "turn" else told.run_began:
                judge.begin(told.here)
        for sample in told.samples:
            for judge in self._of.get(sample.__class__, ()):
                judge.add(sample, moment.now_us)
        alerts = [alert for judge in self._judges if judge.is_touched for alert in judge.judge(moment)]
        if told.ended_turn is not None or told.run_ended:
            alerts.extend(self._ended(told, moment))
        return alerts

    def _ended(self, told: Told, moment: Moment) -> Iterator[Alert]:
        session = told.here.session
        for judge in self._scoped:
            if judge.scope == "turn" and told.ended_turn is not None:
                yield from judge.end((session, told.ended_turn), moment)
            elif judge.scope == "run" and told.run_ended:
                yield from judge.end((session, told.here.run), moment)

    def finish(self) -> list[Alert]:
        """Return the alerts of what is judged when nothing comes any more; their time is that of the last event.

        What is open then counts as far as it came: runs without an end, and questions that still wait.
        """
        moment = self._moment
        alerts: list[Alert] = []
        for sample in self._sampler.unfinished(_EPOCH + dt.timedelta(microseconds=max(moment.now_us, 0))):
            if isinstance(sample, UnendedRun):
                self.open_runs.append(sample)
            elif isinstance(sample, Approval):
                self.open_questions.append(sample)
            for judge in self._of.get(sample.__class__, ()):
                judge.add(sample, moment.now_us)
        alerts += [alert for judge in self._judges if judge.is_touched for alert in judge.judge(moment)]
        alerts += [alert for judge in self._judges for alert in judge.finish(moment)]
        return alerts

    def results(self) -> tuple[Judged, ...]:
        """Return what came of each rule so far, in order.

        Where runs were seen and a count of all of something found none, that is zero; with a pattern, which may be
        mistyped, it was not measured.
        """
        return tuple(self._result(judge) for judge in self._judges)

    def _result(self, judge: RuleJudge) -> Judged:
        result, rule = judge.result, judge.rule
        is_zero = rule.metric.kind == "count" and rule.when == "always" and not rule.patterns
        if not result.judged and is_zero and self._saw_runs and not rule.min_count:
            result = attrs.evolve(result, judged=1, worst=0)
        return attrs.evolve(result, at_least=self._is_bound(judge), why="" if result.judged else judge.why())

    def _is_bound(self, judge: RuleJudge) -> bool:
        """Whether the worst value may be worse: of what rises, where runs or questions are open or prices unknown."""
        metric = judge.rule.metric
        if judge.rule.op not in (">", ">="):
            return False
        if metric.of is Approval:
            return bool(self.open_questions)
        return metric.grows and not metric.at_end and (bool(self.open_runs) or judge.missed.unknown > 0)
