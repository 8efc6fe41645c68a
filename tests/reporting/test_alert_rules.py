"""Rules of alerts: what is taken, and how what is wrong is refused, each fault with its line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import AlertRule, AlertRulesError, read_alert_rules
from agentkit_reporting.alerts.metrics import METRICS, metric_lines
from agentkit_reporting.alerts.rules_file import MOST_RULES
from agentkit_reporting.alerts.units import (
    parsed_duration_ms,
    parsed_threshold,
    quantity_text,
    threshold_text,
)

WHOLE = """
[[rules]]
name = "slow tools"
metric = "tool_latency_p95"
op = ">"
value = "2s"
per = ["run", "tool"]
tool = ["read_*", "write"]
window = "5m"
min_count = 5
for = "30s"
cooldown = "1h"
severity = "critical"
message = "${tool} took ${value}"
required = true

[[rules]]
metric = "cost"
op = ">="
value = "0.50 EUR"
per = "run"

[[rules]]
metric = "cache_hit_rate"
op = "<"
value = "50%"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_rules_is_read(tmp_path: Path) -> None:
    slow, cost, cached = read_alert_rules(write(tmp_path, WHOLE))
    assert slow == AlertRule(
        "tool_latency_p95",
        ">",
        2_000,
        name="slow tools",
        per=("run", "tool"),
        tool=["read_*", "write"],
        window="5 min",
        min_count=5,
        for_="0.5m",
        cooldown="60m",
        severity="critical",
        message="${tool} took ${value}",
        required=True,
    )
    assert (cost.name, cost.threshold, cost.currency) == ("cost >= 0.50 EUR per run", Decimal("0.50"), "EUR")
    assert (cost.when, cached.when, cached.threshold) == ("always", "at_end", 0.5)
    condition = "tool_latency_p95{tool=read_*|write} > 2 s per run and tool over 5 min for 30 s"
    assert slow.condition == condition


DURATION = 'give a duration such as "2s", "500ms" or "1m30s", or a number of ms'

GOOD = {"metric": '"cost"', "op": '">"', "value": "1"}

REFUSED = {
    "unknown metric": ({"metric": '"cots"'}, 2, "unknown metric 'cots' refused; did you mean 'cost'?"),
    "metric of a kind": ({"metric": "5"}, 2, "unknown metric 5 refused; give the name of a metric"),
    "unknown key": ({"windw": '"5m"'}, 5, "unknown key 'windw' refused; did you mean 'window'?"),
    "operator": ({"op": '"=>"'}, 3, "op '=>' refused; use one of >, >=, <, <=, ==, !="),
    "unit": (
        {"metric": '"tool_latency_p95"', "value": '"10%"'},
        4,
        "value '10%' refused; " + DURATION + " for tool_latency_p95",
    ),
    "share above one": (
        {"metric": '"failure_rate"', "value": "10"},
        4,
        'value 10 refused; give a share such as "10%", or a number from 0 to 1 for failure_rate',
    ),
    "money": (
        {"value": '"2s"'},
        4,
        'value \'2s\' refused; give an amount such as "$0.50" or "0.50 EUR", or a number of USD for cost',
    ),
    "part of a thing": (
        {"metric": '"turns"', "value": "1.5"},
        4,
        "value 1.5 refused; give a whole number for turns",
    ),
    "not a number": (
        {"metric": '"turns"', "value": "nan"},
        4,
        "value nan refused; give a whole number for turns",
    ),
    "below zero": (
        {"metric": '"turns"', "value": "-1"},
        4,
        "value -1 refused; give a whole number for turns",
    ),
    "a truth": (
        {"metric": '"turns"', "value": "true"},
        4,
        "value True refused; give a whole number for turns",
    ),
    "wrong dimension": (
        {"per": '"tool"'},
        5,
        "per 'tool' of cost refused; it can be judged per session, run, turn, agent, model, request",
    ),
    "unknown dimension": ({"per": '"runs"'}, 5, "per 'runs' refused; did you mean 'run'?"),
    "dimension of a kind": (
        {"per": "[1]"},
        5,
        "per a list that holds something else refused; give a name in quotes, or a list of names",
    ),
    "wrong filter": ({"tool": '"x"'}, 5, "tool of cost refused; it can be chosen by model, agent"),
    "empty filter": (
        {"model": "[]"},
        5,
        "model without a name refused; give one, a pattern, or leave it out",
    ),
    "window": ({"window": "5"}, 5, 'window 5 refused; give a duration above 0 such as "5m", "90s" or "1h"'),
    "long window": (
        {"window": '"9999d"'},
        5,
        'window \'9999d\' refused; give a duration above 0 such as "5m", "90s" or "1h"',
    ),
    "for": (
        {"for": '"soon"'},
        5,
        'for \'soon\' refused; give a duration above 0 such as "5m", "90s" or "1h"',
    ),
    "severity": (
        {"severity": '"page"'},
        5,
        "severity 'page' refused; use one of critical, error, warning, info",
    ),
    "min_count": ({"min_count": '"3"'}, 5, "min_count '3' refused; give a whole number up to 10,000"),
    "required": ({"required": '"yes"'}, 5, "required 'yes' refused; give true or false"),
    "message": ({"message": '"${valeu}"'}, 5, "unknown place '${valeu}' refused; did you mean 'value'?"),
    "name": ({"name": '" "'}, 5, "name ' ' refused; give a text of at most 120 characters"),
    "at the end, in a window": (
        {"when": '"at_end"', "window": '"5m"'},
        6,
        'window of a rule that is judged at the end refused; leave it out, or give when = "always"',
    ),
    "for, at the end": (
        {"op": '"<"', "for": '"5m"'},
        5,
        'for of a rule that is judged at the end refused; leave it out, or give when = "always"',
    ),
    "what grows, below": (
        {"op": '"<"', "window": '"5m"'},
        3,
        (
            "op '<' for cost in a window refused, since it grows from nothing; give > or >=, or leave the window "
            "out to have it judged at the end"
        ),
    ),
    "a window of one": (
        {"per": '"request"', "window": '"5m"'},
        6,
        "window refused for a rule per request, which is one sample; leave it out",
    ),
    "when": ({"when": '"end"'}, 5, "when 'end' refused; use one of always, at_end"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    changed, line, said = REFUSED[case]
    text = "[[rules]]\n" + "".join(f"{key} = {value}\n" for key, value in {**GOOD, **changed}.items())
    with pytest.raises(AlertRulesError) as caught:
        read_alert_rules(write(tmp_path, text))
    assert caught.value.problems == (f"{tmp_path}/rules.toml:{line}: {said}",)


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """[[rules]]
metric = "x"
op = ">"
value = "1"
[[rules]]
metric = "cost"
[[rules]]
metric = "cost"
op = ">"
value = 1
[[rules]]
metric = "cost"
op = ">"
value = 1.0
[[rules]]
metric = "cost"
op = ">"
value = 2
name = "cost > $1.00"
"""
    with pytest.raises(AlertRulesError) as caught:
        read_alert_rules(write(tmp_path, text))
    told = [problem.removeprefix(f"{tmp_path}/rules.toml:") for problem in caught.value.problems]
    assert told[0].startswith("2: unknown metric 'x' refused; known: ")
    assert told[1:] == [
        "5: rule without op and value refused; give metric, op and value",
        "11: name 'cost > $1.00' refused because the rule of line 7 has it; give another",
        "19: name 'cost > $1.00' refused because the rule of line 7 has it; give another",
    ]
    assert str(caught.value) == "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rules.toml: a file of 0 rules refused; give one, under a line [[rules]]"),
        ("rule = 1", "rules.toml:1: unknown key 'rule' refused; did you mean 'rules'?"),
        ("rules = 1", "rules.toml:1: rules refused; begin each with a line [[rules]]"),
        ("[rules]\nmetric = 'cost'", "rules.toml:1: rules refused; begin each with a line [[rules]]"),
        ("[[rules]]\n" * (MOST_RULES + 1), "a file of 201 rules refused; give at most 200"),
        ("a = ", "rules.toml: not TOML: "),
    ],
)
def test_a_file_that_holds_no_rules_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_alert_rules(write(tmp_path, text))
    assert said in str(caught.value)


def test_of_very_many_faults_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    text = "[[rules]]\nmetric = 'cost'\nop = 'x'\nvalue = 'x'\n" * 50
    with pytest.raises(AlertRulesError) as caught:
        read_alert_rules(write(tmp_path, text))
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1].endswith("rules.toml: 80 more faults")


def test_hostile_text_in_a_rule_reaches_no_terminal(tmp_path: Path) -> None:
    text = '[[rules]]\nmetric = "\\u001b[2J"\nop = "\\u202e"\nvalue = 1\n"a\\u001b]0;x" = 1\n'
    with pytest.raises(AlertRulesError) as caught:
        read_alert_rules(write(tmp_path, text))
    assert len(caught.value.problems) == 3
    assert all(problem.isprintable() for problem in caught.value.problems)


def test_a_rule_in_python_is_refused_as_one_of_a_file() -> None:
    with pytest.raises(ConfigurationError, match=r"^per 'tool' of cost refused; it can be"):
        AlertRule("cost", ">", 1, per="tool")
    with pytest.raises(ConfigurationError, match=r"^value 'x' refused; give an amount"):
        AlertRule("cost", ">", "x")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("2s", "ms", (2_000.0, None)),
        ("1m30s", "ms", (90_000.0, None)),
        ("1 h", "ms", (3_600_000.0, None)),
        ("500", "ms", (500.0, None)),
        (1.5, "ms", (1.5, None)),
        ("12.5 %", "share", (0.125, None)),
        (0.1, "share", (0.1, None)),
        (1, "share", (1.0, None)),
        ("$ 0.50", "money", (Decimal("0.50"), "USD")),
        ("3 EUR", "money", (Decimal(3), "EUR")),
        (0.1, "money", (Decimal("0.1"), "USD")),
        ("200k", "tokens", (200_000, None)),
        ("1.5M", "tokens", (1_500_000, None)),
        (3.0, "count", (3, None)),
        ("0", "count", (0, None)),
    ],
)
def test_thresholds_are_read_with_their_units(value: Any, unit: Any, expected: Any) -> None:
    assert parsed_threshold(value, unit) == expected


@pytest.mark.parametrize(
    "value",
    ["", "s", "2 parsecs", "-2s", "2s!", "٢s", "1e9999", 10**400, float("inf"), "9" * 60, None, [], {}, True],
    ids=repr,
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=" refused; give a duration such as "):
        parsed_threshold(value, "ms")
    with pytest.raises(ConfigurationError, match=" refused; give a duration above 0"):
        parsed_duration_ms(value)


@pytest.mark.parametrize(
    ("value", "threshold", "unit", "expected"),
    [
        (2_500.0, 2_000.0, "ms", ("2.5 s", "2 s")),
        (2_000.4, 2_000.0, "ms", ("2.0004 s", "2 s")),
        (90_000.0, 60_000.0, "ms", ("1 min 30 s", "1 min")),
        (7_200_000.0, 40.0, "ms", ("2 h", "40 ms")),
        (0.1004, 0.1, "share", ("10.04%", "10%")),
        (Decimal("0.50001"), Decimal("0.5"), "money", ("$0.50001", "$0.50")),
        (Decimal(12), Decimal(3), "money", ("$12.00", "$3.00")),
        (12_345, 12_000, "tokens", ("12,345", "12,000")),
        (3, 3, "count", ("3", "3")),
    ],
)
def test_a_value_is_told_so_that_it_differs_from_its_threshold(
    value: Any, threshold: Any, unit: Any, expected: tuple[str, str]
) -> None:
    assert threshold_text(value, threshold, unit, "USD" if unit == "money" else None) == expected


def test_nothing_measured_is_a_dash() -> None:
    assert quantity_text(None, "ms") == "-"


def test_the_help_names_every_metric() -> None:
    told = " ".join(f"{names} {meaning}" for names, _, meaning in metric_lines())
    for name in METRICS:
        stem, _, percent = name.rpartition("_")
        assert name in told or (stem in told and f"_{percent}" in told)
