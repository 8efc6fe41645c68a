"""Rules that a difference of two runs must keep: what they mean, and what is none."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import DiffRule, RunDiff, diff_runs, read_events
from agentkit_reporting.analysis.run_diff_figures import METRICS
from tests.cli.sample_logs import write_broken, write_fixed, write_session
from tests.loop.families import says


@pytest.fixture(scope="module")
def diff(tmp_path_factory: pytest.TempPathFactory) -> RunDiff:
    """Return A with a cost of $0.0158475 and 4 turns, B with $0.02208 and 3."""
    folder = tmp_path_factory.mktemp("logs")
    write_fixed(folder / "a.jsonl")
    write_broken(folder / "b.jsonl")
    return diff_runs(read_events(folder / "a.jsonl"), read_events(folder / "b.jsonl"))


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("cost>0.02", "broken"),
        ("cost>$0.03", "kept"),
        ("cost>+0.006", "broken"),
        ("cost>+0.007", "kept"),
        ("cost>+39%", "broken"),
        ("cost > +40%", "kept"),
        ("cost.USD>+10%", "broken"),
        ("cost.EUR>+10%", "undecided"),
        ("tokens>+0%", "kept"),
        ("tokens<-2%", "broken"),
        ("tokens<-500", "kept"),
        ("tokens>8k", "broken"),
        ("turns!=", "broken"),
        ("calls!=", "kept"),
        ("calls==3", "broken"),
        ("calls.read_file>+0", "broken"),
        ("calls.nothing>0", "kept"),
        ("calls.nothing>=0", "broken"),
        ("duration>+2s", "kept"),
        ("duration<-30s", "broken"),
        ("duration>0.1m", "broken"),
        ("tool_time.run_tests>2500ms", "kept"),
        ("errors>0", "broken"),
        ("failed_runs>+100%", "broken"),
        ("denied>", "kept"),
        ("text>0", "broken"),
        ("text<=3", "broken"),
        ("calls_differ>4", "kept"),
        ("differences>0", "broken"),
        ("reasoning_tokens>10", "undecided"),
    ],
)
def test_a_rule_is_broken_where_what_it_says_is_so(diff: RunDiff, rule: str, verdict: str) -> None:
    assert DiffRule.parse(rule).judge(diff).verdict == verdict


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("costs>1", "because 'costs' is no metric; did you mean 'cost'\\?"),
        ("ouput_tokens>1", "did you mean 'output_tokens'"),
        ("weather>1", "is no metric; known: approvals, cache_write"),
        ("cost", "rule 'cost' refused; give METRIC, a comparison and a value, such as 'cost>\\+10%'"),
        ("cost=>1", "refused"),
        ("cost>10%", "because a share is one of A; give \\+10% or -10%"),
        ("cost>lots", "because 'lots' is no value"),
        ("duration>2", "because a time needs a unit; give 2s, or ms, m, h"),
        ("duration>+2d", "'d' is no unit of duration; units: ms, s, m, h"),
        ("tokens>2s", "'s' is no unit of tokens; units: k, M"),
        ("turns.search>2", "'turns' has no part 'search'; calls.TOOL, tool_time.TOOL and cost.CURRENCY"),
        ("", "rule '' refused"),
        ("cost>1e999999999", "refused"),
        ("cost>NaN", "refused"),
        ("cost>\N{ARABIC-INDIC DIGIT ONE}", "refused"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason_and_what_was_meant(rule: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        DiffRule.parse(rule)


def test_a_verdict_says_what_was_found_and_what_is_allowed(diff: RunDiff) -> None:
    told = DiffRule.parse("cost>+10%").judge(diff)
    assert (told.found, told.allowed) == (Decimal("0.0062325"), Decimal("0.00158475"))
    assert (told.compared, told.comparison, told.rule) == ("change", ">", "cost>+10%")
    assert DiffRule.parse("cost>+10%").judge(diff) == told


def test_a_cost_of_which_a_part_is_not_known_is_broken_or_undecided_and_never_kept(tmp_path: Path) -> None:
    write_fixed(tmp_path / "a.jsonl")
    write_session(tmp_path / "b.jsonl", "s", [says("hi", tokens=10)], prices=None)
    priced, unpriced = (list(read_events(tmp_path / name)) for name in ("a.jsonl", "b.jsonl"))
    told = DiffRule.parse("cost>1").judge(diff_runs(priced, unpriced))
    assert (told.verdict, told.reason) == ("undecided", "cost of B is not known")
    assert DiffRule.parse("cost>+1").judge(diff_runs(unpriced, priced)).verdict == "undecided"
    assert DiffRule.parse("cost>1").judge(diff_runs(unpriced, priced)).verdict == "kept"


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_rule_over_a_metric_or_refused_in_printable_words(text: str) -> None:
    reason, metric = "", "cost"
    try:
        metric = DiffRule.parse(text).metric
    except ConfigurationError as error:
        reason = str(error)
    assert reason.isprintable()
    assert metric.partition(".")[0] in METRICS
