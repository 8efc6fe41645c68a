"""Rules that a difference of two runs must keep: `cost>+10%`, `errors>0`, `calls!=`.

    METRIC COMPARISON [VALUE]

A rule says what must not be: it is broken when it is true. METRIC: a name of `run_diff_figures`. COMPARISON: one of
`>`, `>=`, `<`, `<=`, `==`, `!=`. VALUE:

| written | compared is | with |
|---|---|---|
| `cost>0.50` | the value of B | 0.50 |
| `cost>+0.05`, `tokens<-500` | the change, B less A | 0.05 more, 500 fewer |
| `cost>+10%`, `tokens<-10%` | the change | a tenth of A |
| `calls!=`, `errors>` | the value of B | the value of A |

`text`, `input` and `settings` are short for the counts of what differs in them. Times have a unit: `duration>+2s`,
`tool_time.search>500ms` (ms, s, m, h). Counts may end with k or M. Blanks do not count. A change from nothing is more
than any share of it. What a rule needs and nobody knows (a request without a price, say) leaves it undecided, and that
counts as broken; but a lower bound that is too much already is broken.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import EXACT_SUMS
from agentkit_loop.values import safe_repr
from agentkit_reporting.analysis.run_diff import RunDiff
from agentkit_reporting.analysis.run_diff_figures import METRICS, RunMetric, Unit
from agentkit_reporting.comparisons import COMPARISONS
from agentkit_reporting.toml_source import nearest

__all__ = ["DiffRule", "RuleVerdict", "Verdict"]

Verdict = Literal["kept", "broken", "undecided"]

_RULE = re.compile(r"\s*([A-Za-z_]+)(?:\.(.*?))?\s*(>=|<=|==|!=|>|<)\s*(.*?)\s*", re.DOTALL)
_VALUE = re.compile(r"([+-]?)\s*\$?\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(%|[A-Za-z]*)")
_UNITS: dict[Unit, dict[str, int]] = {
    "ms": {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000},
    "count": {"": 1, "k": 1_000, "M": 1_000_000},
    "money": {"": 1},
}
_ALIASES = {"text": "text_differs", "input": "input_differs", "settings": "settings_differ"}
_WITH_TOOL = ("calls", "tool_time")
_EXAMPLE = "give METRIC, a comparison and a value, such as 'cost>+10%' or 'errors>0'"


@attrs.frozen(kw_only=True)
class RuleVerdict:
    """What became of a rule. allowed, found: in the metric's unit; None where it is not known. reason: of `undecided`.

    compared: `value` of B, or `change` against A.
    """

    rule: str
    verdict: Verdict
    metric: RunMetric | None
    compared: Literal["value", "change"]
    comparison: str
    allowed: Decimal | None
    found: Decimal | None
    reason: str = ""


@attrs.frozen(kw_only=True)
class DiffRule:
    """A rule that was read; made by `parse`.

    metric: its name. comparison: its sign. amount: in ms, money or as a count; a share of A where `is_share`; None: the
    value of A. is_change: the change is compared.
    """

    text: str
    metric: str
    comparison: str
    amount: Decimal | None
    is_share: bool
    is_change: bool

    @classmethod
    def parse(cls, text: str) -> DiffRule:
        """Read a rule; raises ConfigurationError, which says what is wrong and what was meant."""
        found = _RULE.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"rule {safe_repr(text)} refused; {_EXAMPLE}")
        name, part, comparison, value = found.groups()
        name = _ALIASES.get(name, name)
        if name not in METRICS:
            raise ConfigurationError(
                f"rule {safe_repr(text)} refused because {name!r} is no metric; {nearest(name, METRICS)}"
            )
        if part is not None and (not part or name not in (*_WITH_TOOL, "cost")):
            parts = "calls.TOOL, tool_time.TOOL and cost.CURRENCY"
            raise ConfigurationError(
                f"rule {safe_repr(text)} refused because {name!r} has no part {part!r}; {parts} are there"
            )
        metric = name if part is None else f"{name}.{part}"
        if not value:
            return cls(
                text=text, metric=metric, comparison=comparison, amount=None, is_share=False, is_change=False
            )
        sign, amount, is_share = _amount(text, name, value)
        return cls(
            text=text,
            metric=metric,
            comparison=comparison,
            amount=amount,
            is_share=is_share,
            is_change=bool(sign),
        )

    def judge(self, diff: RunDiff) -> RuleVerdict:
        """Say whether two runs keep the rule."""
        metric = diff.metric(self.metric)
        if metric is None:
            metric, reason = self._missing(diff)
            if reason:
                return self._told("undecided", None, reason=reason)
        assert metric is not None  # noqa: S101 - else there is a reason
        before, after = _decimal(metric.before), _decimal(metric.after)
        needs_before = self.is_change or self.amount is None
        if after is None or (needs_before and before is None):
            side = "B" if after is None else "A"
            return self._told("undecided", metric, reason=f"{self.metric} of {side} is not known")
        found, allowed = self._sides(before, after)
        is_true = COMPARISONS[self.comparison](found, allowed)
        if metric.after_at_least or (needs_before and metric.before_at_least):
            is_sure = (
                is_true and self.comparison in (">", ">=") and not (needs_before and metric.before_at_least)
            )
            if not is_sure:
                reason = f"{self.metric} is known in part: what is known is a lower bound"
                return self._told("undecided", metric, found=found, allowed=allowed, reason=reason)
        return self._told("broken" if is_true else "kept", metric, found=found, allowed=allowed)

    def _sides(self, before: Decimal | None, after: Decimal) -> tuple[Decimal, Decimal]:
        """Return what is compared, and with what."""
        old = before if before is not None else Decimal(0)
        if self.amount is None:
            return after, old
        if not self.is_change:
            return after, self.amount
        allowed = EXACT_SUMS.multiply(old, self.amount) if self.is_share else self.amount
        return EXACT_SUMS.subtract(after, old), allowed

    def _missing(self, diff: RunDiff) -> tuple[RunMetric | None, str]:
        """Return what stands for a metric that neither run has, such as no calls of a tool; or why there is none."""
        name, _, _ = self.metric.partition(".")
        if name in _WITH_TOOL:
            whole = diff.metric(name)
            return RunMetric(
                name=self.metric,
                unit=METRICS[name],
                before=0,
                after=0,
                before_at_least=whole is not None and whole.before_at_least,
                after_at_least=whole is not None and whole.after_at_least,
            ), ""
        several = [each.name for each in diff.metrics if each.name.startswith("cost.")]
        cost = diff.metric("cost")
        known = ", ".join(several) or (cost.currency if cost is not None else "") or "no known currency"
        return None, f"the cost is in {known}"

    def _told(
        self,
        verdict: Verdict,
        metric: RunMetric | None,
        *,
        found: Decimal | None = None,
        allowed: Decimal | None = None,
        reason: str = "",
    ) -> RuleVerdict:
        return RuleVerdict(
            rule=self.text,
            verdict=verdict,
            metric=metric,
            compared="change" if self.is_change else "value",
            comparison=self.comparison,
            allowed=allowed,
            found=found,
            reason=reason,
        )


def _amount(text: str, name: str, value: str) -> tuple[str, Decimal, bool]:
    """Return a rule's sign, value and whether that is a share."""
    found = _VALUE.fullmatch(value)
    if found is None:
        raise ConfigurationError(
            f"rule {safe_repr(text)} refused because {safe_repr(value)} is no value; {_EXAMPLE}"
        )
    sign, number, unit = found.groups()
    signed = Decimal(f"{sign}{number}")
    if unit == "%":
        if not sign:
            raise ConfigurationError(
                f"rule {safe_repr(text)} refused because a share is one of A; give +{number}% or -{number}%"
            )
        return sign, EXACT_SUMS.divide(signed, Decimal(100)), True
    units = _UNITS[METRICS[name]]
    if unit not in units:
        named = ", ".join(each for each in units if each) or "none"
        raise ConfigurationError(
            f"rule {safe_repr(text)} refused because {unit!r} is no unit of {name}; units: {named}"
            if unit
            else f"rule {safe_repr(text)} refused because a time needs a unit; give {value}s, or ms, m, h"
        )
    return sign, EXACT_SUMS.multiply(signed, Decimal(units[unit])), False


def _decimal(amount: Any) -> Decimal | None:
    return amount if amount is None or isinstance(amount, Decimal) else Decimal(str(amount))
