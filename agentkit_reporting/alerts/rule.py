"""AlertRule: when an alert is raised, from Python or from a table of a file; and what is wrong with one.

The words are those of Prometheus and Grafana: the condition says what is wrong (`tool_latency_p95 > 2s`), `for` how
long it must hold before the alert fires, `severity` how bad that is. The operators are those of k6's thresholds, which
say the opposite: what must hold.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.alerts.alert import Severity
from agentkit_reporting.alerts.metrics import DIMENSIONS, METRICS, Metric
from agentkit_reporting.alerts.units import (
    Amount,
    parsed_duration_ms,
    parsed_threshold,
    quantity_text,
)
from agentkit_reporting.comparisons import COMPARISONS
from agentkit_reporting.terminal import one_line
from agentkit_reporting.toml_source import nearest

__all__ = ["OPERATORS", "RULE_KEYS", "AlertRule", "Problem", "When", "parsed_rule"]

When: TypeAlias = Literal["always", "at_end"]

OPERATORS = tuple(COMPARISONS)
SEVERITIES: tuple[Severity, ...] = ("critical", "error", "warning", "info")

RULE_KEYS: dict[str, str] = {
    "metric": "what is measured (see below)",
    "op": f"how it is compared: {' '.join(OPERATORS)}",
    "value": "with what: a number, or text with a unit (2s, 10%, $0.50, 200k)",
    "name": "of the rule, for people; by default its condition",
    "per": "one alert each: " + ", ".join(DIMENSIONS) + "; or a list of these",
    "tool": "only calls of these tools: a name, a pattern such as read_*, or a list",
    "model": "only requests to these models",
    "agent": "only runs of these agents",
    "error_class": "which failed requests count as errors: rate_limited, timeout, …",
    "window": "only the last 5m, 1h, …; without it, all since the beginning",
    "when": 'always, or "at_end" of the run, turn or log; that for <, <=, == and != without a window',
    "min_count": "samples that it takes to judge",
    "for": "how long it must hold before the alert fires",
    "cooldown": "how long after an alert there is no second one of the same group",
    "severity": f"{', '.join(SEVERITIES)}; by default warning",
    "message": "a text in which ${value}, ${threshold}, ${where}, ${rule}, ${tool}, … are filled in",
    "required": "true: it fails `agentkit check` where nothing was measured",
}
"""The keys of a rule and what each is; refusals and the help are made of it."""

Problem: TypeAlias = tuple[str, str]
"""What is wrong with a rule: which key, "" for the rule as a whole, and a sentence."""

PLACES = (
    *("rule", "severity", "state", "metric", "op", "value", "threshold", "where", "count", "at"),
    *DIMENSIONS,
)
"""What a message can be filled in with."""

_PLACE = re.compile(r"\$(?:\$|\{([^{}$]*)\})")
_MOST_TEXT = 1_000
_MOST_NAME = 120
_MOST_COUNT = 10_000
_ONE_EACH = ("call", "request")


@attrs.frozen(init=False)
class AlertRule:
    """A condition that raises an alert, once for each group that comes to meet it.

    metric: a name of METRICS. op, value: with what it is compared. name: by default the condition. per: one of
    DIMENSIONS or several; by default one group of everything. tool, model, agent, error_class: names or patterns
    (`*`, `?`, `[…]`), one or several. window, for_, cooldown: texts such as "5m". when: "at_end" judges a group once,
    as its run, its turn, or what is watched is over; the default without a window for all operators but `>` and `>=`.
    min_count: samples that it takes to judge. message: see RULE_KEYS. required: whether `agentkit check` fails where
    nothing was measured.

    Raises ConfigurationError.
    """

    name: str
    metric: Metric = attrs.field(repr=lambda metric: repr(metric.name))
    op: str
    threshold: Amount
    currency: str | None
    per: tuple[str, ...]
    patterns: dict[str, tuple[str, ...]] = attrs.field(hash=False)
    window_ms: float | None
    when: When
    min_count: int
    for_ms: float
    cooldown_ms: float
    severity: Severity
    message: str
    required: bool

    def __init__(
        self,
        metric: str,
        op: str,
        value: Amount | str,
        *,
        name: str | None = None,
        per: str | Iterable[str] = (),
        tool: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        agent: str | Iterable[str] | None = None,
        error_class: str | Iterable[str] | None = None,
        window: str | None = None,
        when: When | None = None,
        min_count: int | None = None,
        for_: str | None = None,
        cooldown: str | None = None,
        severity: Severity = "warning",
        message: str | None = None,
        required: bool = False,
    ) -> None:
        given = {
            "metric": metric,
            "op": op,
            "value": value,
            "name": name,
            "per": per if isinstance(per, str) else tuple(per),
            "tool": tool,
            "model": model,
            "agent": agent,
            "error_class": error_class,
            "window": window,
            "when": when,
            "min_count": min_count,
            "for": for_,
            "cooldown": cooldown,
            "severity": severity,
            "message": message,
            "required": required,
        }
        fields, problems = parsed_rule({key: each for key, each in given.items() if each is not None})
        if problems:
            raise ConfigurationError(problems[0][1])  # which names its key
        self.__attrs_init__(**fields)

    @property
    def condition(self) -> str:
        """The condition for people: `tool_latency_p95 > 2 s per tool over 5 min`."""
        return _condition({field.name: getattr(self, field.name) for field in attrs.fields(type(self))})

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> AlertRule:
        """Return the rule of fields that `parsed_rule` found nothing wrong with."""
        rule = cls.__new__(cls)
        rule.__attrs_init__(**fields)
        return rule

    def as_required(self) -> AlertRule:
        """Return the same rule, required."""
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return self.of_fields({**fields, "required": True})

    def choosers(self) -> list[tuple[str, Callable[[str], object]]]:
        """Return of each label that is chosen by, what says whether a value is."""
        return [(name, _matcher(patterns)) for name, patterns in self.patterns.items()]


def parsed_rule(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the fields of a rule that is given by its keys, and everything that is wrong with it."""
    reading = _Reading(given)
    fields = reading.fields()
    return fields, reading.problems


class _Reading:
    """The keys of one rule, as they are read."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.problems: list[Problem] = []

    def fields(self) -> dict[str, Any]:
        given = self._given
        for key in given:
            if key not in RULE_KEYS:
                self._refuse(key, f"unknown key {_shown(key)} refused; {nearest(key, RULE_KEYS)}")
        missing = [key for key in ("metric", "op", "value") if key not in given]
        if missing:
            self._refuse("", f"rule without {' and '.join(missing)} refused; give metric, op and value")
        found: dict[str, Any] = {"metric": self._metric(), "op": self._one_of("op", OPERATORS, None)}
        found["threshold"], found["currency"] = self._threshold(found["metric"])
        found["per"] = self._per(found["metric"])
        found["patterns"] = self._patterns(found["metric"])
        found["window_ms"] = self._duration("window")
        found["for_ms"], found["cooldown_ms"] = (
            self._duration("for") or 0.0,
            self._duration("cooldown") or 0.0,
        )
        found["severity"] = self._one_of("severity", SEVERITIES, "warning")
        found["required"] = self._flag("required")
        found["min_count"] = self._count("min_count")
        found["when"] = self._when(found)
        found["message"] = self._message()
        found["name"] = self._text("name", _MOST_NAME) or ("" if self.problems else _condition(found))
        return found

    def _refuse(self, key: str, reason: str) -> None:
        self.problems.append((key, reason))

    def _metric(self) -> Metric | None:
        name = self._given.get("metric")
        if isinstance(name, str) and name in METRICS:
            return METRICS[name]
        if name is not None:
            hint = nearest(name, METRICS) if isinstance(name, str) else "give the name of a metric"
            self._refuse("metric", f"unknown metric {_shown(name)} refused; {hint}")
        return None

    def _threshold(self, metric: Metric | None) -> tuple[Amount | None, str | None]:
        if metric is None or "value" not in self._given:
            return None, None
        try:
            return parsed_threshold(self._given["value"], metric.unit)
        except ConfigurationError as error:
            self._refuse("value", f"value {error} for {metric.name}")
            return None, None

    def _per(self, metric: Metric | None) -> tuple[str, ...]:
        per = self._texts("per")
        known = metric.per if metric is not None else DIMENSIONS
        for name in per:
            if name not in known:
                what = f" of {metric.name}" if metric is not None and name in DIMENSIONS else ""
                can = ", ".join(known) if what else nearest(name, DIMENSIONS)
                hint = f"it can be judged per {can}" if what else can
                self._refuse("per", f"per {_shown(name)}{what} refused; {hint}")
        return tuple(dict.fromkeys(per))

    def _patterns(self, metric: Metric | None) -> dict[str, tuple[str, ...]]:
        found = {}
        for key in ("tool", "model", "agent", "error_class"):
            if key not in self._given:
                continue
            if metric is not None and key not in metric.filters:
                can = ", ".join(metric.filters)
                self._refuse(key, f"{key} of {metric.name} refused; it can be chosen by {can}")
            found[key] = self._texts(key)
            if not found[key]:
                self._refuse(key, f"{key} without a name refused; give one, a pattern, or leave it out")
        return found

    def _when(self, found: Mapping[str, Any]) -> When:
        metric: Metric | None = found["metric"]
        has_window, op = found["window_ms"] is not None, found["op"]
        rises = op in (">", ">=", None)
        given = self._one_of("when", ("always", "at_end"), None)
        when: When = "always" if given == "always" or (given is None and (has_window or rises)) else "at_end"
        only_at_end = metric is not None and metric.at_end
        if only_at_end:
            when = "at_end"
            if given == "always" and metric is not None:
                self._refuse(
                    "when", f"when 'always' of {metric.name} refused, which is known at the end; leave it out"
                )
        if when == "at_end":
            hint = "leave it out" if only_at_end else 'leave it out, or give when = "always"'
            for key in ("window", "for", "cooldown"):
                if key in self._given:
                    self._refuse(
                        key,
                        f"{key} of a rule that is judged at the end refused; {hint}",
                    )
        if has_window and metric is not None and metric.grows and not rises:
            self._refuse(
                "op",
                f"op {op!r} for {metric.name} in a window refused, since it grows from nothing; give > or >=, or "
                "leave the window out to have it judged at the end",
            )
        for key in ("window", "for", "cooldown"):
            one = next((name for name in _ONE_EACH if name in found["per"]), None)
            if one is not None and key in self._given and when == "always":
                self._refuse(key, f"{key} refused for a rule per {one}, which is one sample; leave it out")
        return when

    def _message(self) -> str:
        text = self._text("message", _MOST_TEXT) or ""
        for match in _PLACE.finditer(text):
            if match[1] is not None and match[1] not in PLACES:
                self._refuse(
                    "message", f"unknown place {_shown(match[0])} refused; {nearest(match[1], PLACES)}"
                )
        return text

    # --- values of a kind

    def _text(self, key: str, most: int) -> str | None:
        value = self._given.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > most:
            self._refuse(key, f"{key} {_shown(value)} refused; give a text of at most {most:,} characters")
            return None
        return one_line(value, most)

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._given.get(key, ())
        several = (value,) if isinstance(value, str) else value
        if isinstance(several, (list, tuple)) and all(isinstance(each, str) and each for each in several):
            return tuple(several)
        self._refuse(key, f"{key} {_shown(value)} refused; give a name in quotes, or a list of names")
        return ()

    def _one_of(self, key: str, known: tuple[str, ...], default: str | None) -> Any:
        value = self._given.get(key)
        if value is None or value in known:
            return value or default
        self._refuse(key, f"{key} {_shown(value)} refused; use one of {', '.join(known)}")
        return default

    def _duration(self, key: str) -> float | None:
        if key not in self._given:
            return None
        try:
            return parsed_duration_ms(self._given[key])
        except ConfigurationError as error:
            self._refuse(key, f"{key} {error}")
            return None

    def _flag(self, key: str) -> bool:
        value = self._given.get(key, False)
        if not isinstance(value, bool):
            self._refuse(key, f"{key} {_shown(value)} refused; give true or false")
            return False
        return value

    def _count(self, key: str) -> int:
        value = self._given.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_COUNT:
            self._refuse(key, f"{key} {_shown(value)} refused; give a whole number up to {_MOST_COUNT:,}")
            return 0
        return value


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a message with its places filled in; what is not known of this alert is `-`."""

    def put(match: re.Match[str]) -> str:
        return "$" if match[1] is None else one_line(values.get(match[1], ""), 200) or "-"

    return _PLACE.sub(put, template)


def _condition(fields: Mapping[str, Any]) -> str:
    metric: Metric = fields["metric"]
    chosen = ", ".join(f"{key}={'|'.join(names)}" for key, names in fields["patterns"].items())
    threshold = quantity_text(fields["threshold"], metric.unit, fields["currency"])
    text = f"{metric.name}{'{' + chosen + '}' if chosen else ''} {fields['op']} {threshold}"
    if fields["per"]:
        text += f" per {' and '.join(fields['per'])}"
    if fields["window_ms"] is not None:
        text += f" over {quantity_text(fields['window_ms'], 'ms')}"
    if fields["for_ms"]:
        text += f" for {quantity_text(fields['for_ms'], 'ms')}"
    return one_line(text, 200)


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], object]:
    whole = re.compile("|".join(map(fnmatch.translate, patterns)))
    return whole.match


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple, dict)):
        return "a table" if isinstance(value, dict) else "a list that holds something else"
    return one_line(repr(value)[:200], 60)
