"""Why a rule was never judged: what it was shown, and did not choose or could not use."""

from __future__ import annotations

from collections.abc import Callable

from agentkit_reporting.alerts.rule import AlertRule
from agentkit_reporting.alerts.samples import (
    Approval,
    Call,
    Compaction,
    EndedRun,
    Exchange,
    ObserverFailure,
    Request,
    Retry,
    Sample,
    Spending,
    Turn,
    UnendedRun,
)
from agentkit_reporting.terminal import counted, one_line

__all__ = ["Missed"]

_WORDS: dict[type[Sample], tuple[str, str]] = {
    Call: ("call", "with a result"),
    Request: ("request", "that has ended"),
    Spending: ("request", "that told its usage"),
    Retry: ("retry", ""),
    Turn: ("turn", ""),
    Exchange: ("exchange", "that has ended"),
    EndedRun: ("run", "that has ended"),
    Approval: ("question", ""),
    Compaction: ("compaction", ""),
    ObserverFailure: ("failure of an observer", ""),
    UnendedRun: ("run", ""),
}
_MOST_NAMES, _NAME_COLUMNS = 8, 60


class Missed:
    """Samples that were not taken. unknown: how many did not say what is measured."""

    def __init__(self) -> None:
        self.unknown = 0
        self._others: dict[
            str, dict[str, None]
        ] = {}  # names that were not chosen, the first of them, by label
        self._currencies: dict[str, None] = {}

    def note_other(self, label: str, name: str) -> None:
        """Take note of a name that the rule does not choose."""
        names = self._others.setdefault(label, {})
        if len(names) <= _MOST_NAMES:
            names[name] = None

    def note_unknown(self, sample: Sample) -> None:
        """Take note of a sample that does not say what is measured."""
        self.unknown += 1
        cost = sample.cost if isinstance(sample, Spending) else None
        if cost is not None and len(self._currencies) < _MOST_NAMES:
            self._currencies[cost.currency] = None

    def why(self, rule: AlertRule, samples: int, masked: Callable[[str], str] | None = None) -> str:
        """Return the reason, where a rule with so many samples was never judged. masked: what names go through."""
        noun, rest = _WORDS[rule.metric.of]
        if samples:
            few = f"{counted(samples, 'sample')}, and min_count is {rule.min_count}"
            return few if samples < rule.min_count else "no group had enough to be judged"
        if self.unknown and rule.metric.unit == "money":
            return self._without_price(rule)
        if self.unknown:
            return f"none of {counted(self.unknown, noun)} says it"
        if self._others:
            label, names = next(iter(self._others.items()))
            known = [one_line(masked(name) if masked else name, _NAME_COLUMNS) for name in names if name]
            told = ", ".join([*known[:_MOST_NAMES], *(["…"] if len(known) > _MOST_NAMES else [])])
            return f"no {label} of that name; {label}s: {told or 'none is named'}"
        return f"there is no {noun} {rest}".rstrip()

    def _without_price(self, rule: AlertRule) -> str:
        if not self._currencies:
            requests = counted(self.unknown, "request")
            return f"all {requests} are unpriced" if self.unknown > 1 else "the request is unpriced"
        told = ", ".join(one_line(each, 8) for each in self._currencies)
        return f"none of {counted(self.unknown, 'request')} is priced in {rule.currency}; currencies: {told}"
