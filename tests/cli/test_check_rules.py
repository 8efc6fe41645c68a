"""`agentkit check --rules` as a user meets it. `python -m tests.cli.test_check_rules` writes the golden files anew."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.events import AgentEvent, ApprovalRequired
from agentkit_reporting import AlertReporter, AlertRule, encode_event, read_events
from agentkit_reporting.alerts.log_order import LogsInOrder
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import agentkit
from tests.reporting.alert_samples import Telling

RULES = """
[[rules]]
name = "slow tools"
metric = "tool_latency_p95"
op = ">"
value = "2s"
per = "tool"
severity = "error"
message = "${tool} took ${value}: see the runbook"

[[rules]]
name = "costly"
metric = "cost"
op = ">"
value = "$0.02"
per = "run"

[[rules]]
name = "cached"
metric = "cache_hit_rate"
op = "<"
value = "50%"
per = "run"
severity = "info"

[[rules]]
name = "errors"
metric = "tool_error_rate"
op = ">="
value = "20%"
min_count = 3
window = "1h"

[[rules]]
name = "typo"
metric = "tool_errors"
op = ">"
value = 0
tool = "run_test"

[[rules]]
name = "turns"
metric = "turns"
op = ">"
value = 50
per = "run"
"""

ARGUMENTS = ("check", "--rules", "rules.toml", "a.jsonl", "b.jsonl")
OUTPUTS = {"check_rules.txt": ARGUMENTS, "check_rules_colour.txt": ARGUMENTS}


def make(folder: Path) -> None:
    (folder / "rules.toml").write_text(RULES, encoding="utf-8")
    write_fixed(folder / "a.jsonl")
    write_broken(folder / "b.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules")
    make(path)
    return path


def write_rules(path: Path, **keys: str | float | bool) -> Path:
    """Write one rule."""
    path.write_text("[[rules]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path


def write_log(path: Path, events: list[AgentEvent]) -> Path:
    path.write_bytes(b"".join(encode_event(event) + b"\n" for event in events))
    return path


@pytest.mark.parametrize("name", OUTPUTS)
def test_people_read_what_the_golden_files_show(folder: Path, name: str) -> None:
    check_golden(name, OUTPUTS[name], folder)


def test_a_broken_rule_makes_exit_code_one_and_a_kept_one_none(folder: Path, tmp_path: Path) -> None:
    result = agentkit(*ARGUMENTS, cwd=folder)
    assert result.returncode == 1
    assert result.stderr == (
        "agentkit: rule 'typo' was not judged: no tool of that name; tools: read_file, edit_file, run_tests\n"
        "agentkit: 4 of 6 rules broken in a.jsonl, b.jsonl, 4 alerts\n"
    )
    rules = write_rules(tmp_path / "r.toml", metric="tool_latency_p95", op=">", value="3s")
    result = agentkit("check", "--rules", str(rules), ".", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].split()[:2] == ["ok", "tool_latency_p95"]


def test_programs_get_one_object(folder: Path) -> None:
    result = agentkit(*ARGUMENTS, "--json", cwd=folder)
    told = json.loads(result.stdout)
    assert result.returncode == 1
    assert (told["ok"], told["alert_count"], told["bad_lines"]) == (False, 4, 0)
    assert [(rule["name"], rule["verdict"], rule["worst"]) for rule in told["rules"]] == [
        ("slow tools", "broken", 2500.0),
        ("costly", "broken", "0.02208"),
        ("cached", "broken", 0.4090909090909091),
        ("errors", "broken", 0.3333333333333333),
        ("typo", "no_data", None),
        ("turns", "ok", 4),
    ]
    first = told["alerts"][0]
    assert (first["rule"], first["group"], first["value"]) == ("slow tools", {"tool": "run_tests"}, 2500.0)
    assert first["timestamp"].startswith("2026-05-24T18:40:37")


def test_the_command_says_of_a_log_what_a_reporter_said_live(folder: Path) -> None:
    told = json.loads(agentkit(*ARGUMENTS, "--json", cwd=folder).stdout)
    reporter = AlertReporter(folder / "rules.toml")
    for event in read_events([folder / "a.jsonl", folder / "b.jsonl"]):
        reporter.handle_event(event)
    reporter.close()
    firing = [alert.as_json() for alert in reporter.alerts if alert.state == "firing"]
    assert [{**alert, "resolved": None} for alert in firing] == [
        {**alert, "resolved": None} for alert in told["alerts"]
    ]


def test_a_rule_without_data_fails_only_where_it_is_required(folder: Path, tmp_path: Path) -> None:
    keys = {"metric": "tool_errors", "op": ">", "value": 0, "tool": "run_test"}
    rules = write_rules(tmp_path / "r.toml", **keys)  # type: ignore[arg-type] # of several kinds
    assert agentkit("check", "--rules", str(rules), "a.jsonl", cwd=folder).returncode == 0
    write_rules(rules, **keys, required=True, name="typo")  # type: ignore[arg-type] # the same
    result = agentkit("check", "--rules", str(rules), "a.jsonl", cwd=folder)
    assert result.returncode == 1
    assert (
        "agentkit: rule 'typo' was not judged, and is required: no tool of that name; tools: "
        in result.stderr
    )
    assert result.stdout.splitlines()[1].startswith("no data")
    write_rules(rules, **keys)  # type: ignore[arg-type] # the same
    result = agentkit("check", "--rules", str(rules), "--require-data", "a.jsonl", cwd=folder)
    assert (result.returncode, "and is required: no tool" in result.stderr) == (1, True)
    assert agentkit("check", "--require-data", "a.jsonl", cwd=folder).returncode == 2


def test_a_run_without_an_end_is_told_and_its_figures_are_lower_bounds(tmp_path: Path) -> None:
    telling = (
        Telling()
        .begin(0, agent="fixer")
        .request(1, cost="0.05")
        .call(2)
        .begin(3, session="t")
        .end(4, session="t")
    )
    write_log(tmp_path / "a.jsonl", telling.events)
    rules = tmp_path / "r.toml"
    for metric, worst, verdict in (
        ("runs_failed", ">= 0", "ok"),
        ("cost", ">= $0.05", "broken"),
        ("runs_open", "1", "broken"),
    ):
        write_rules(rules, metric=metric, op=">", value=0)
        result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
        assert result.returncode == (1 if verdict == "broken" else 0)
        last = result.stdout.splitlines()[-1]
        assert last.startswith(verdict)
        assert f" {worst} " in last
        assert result.stderr.splitlines()[0] == (
            "agentkit: 1 run has no end, crashed or still going on: session s (agent fixer, 2026-05-24 18:40:00); "
            "what is measured of such is a lower bound, and the metric runs_open counts them"
        )
    told = json.loads(agentkit("check", "--rules", rules.name, "a.jsonl", "--json", cwd=tmp_path).stdout)
    assert (told["open_run_count"], [run["session_id"] for run in told["open_runs"]]) == (1, ["s"])
    assert told["rules"][0]["worst_is_at_least"] is False


def test_a_log_that_still_waits_for_an_answer_says_so(tmp_path: Path) -> None:
    asked = ApprovalRequired(approval_id="approval-1", call_id="call-1", summary="x")
    telling = Telling().begin(0).tell(asked, 10).begin(70, session="t").end(70, session="t")
    write_log(tmp_path / "a.jsonl", telling.events)
    rules = write_rules(tmp_path / "r.toml", metric="approvals_waiting_ms", op=">", value="30s")
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    assert result.returncode == 1
    assert ">= 1 min " in result.stdout.splitlines()[-1]
    assert (
        "agentkit: 1 question still waits for an answer; that counts up to the last event\n" in result.stderr
    )


def test_rules_of_unpriced_runs_say_why_they_were_not_judged(tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "r.toml", metric="cost", op=">", value="$0.01")
    telling = Telling().begin(0).request(1, cost=None).request(2, cost=None)
    write_log(tmp_path / "a.jsonl", telling.end(3).events)
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    said = "agentkit: rule 'cost > $0.01' was not judged: all 2 requests are unpriced\n"
    assert (result.returncode, result.stderr) == (0, said)
    priced = Telling().begin(0).request(1, cost=None).request(2, cost="0.002").end(3).events
    write_log(tmp_path / "a.jsonl", priced)
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    assert (result.returncode, ">= $0.002" in result.stdout) == (0, True)


def test_faults_of_a_file_are_told_in_the_order_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        "[[rules]]\nseverity = 'bad'\nfor = 'x'\nper = 'nobody'\nvalue = 'y'\nop = '!'\nmetric = 'cost'\nodd = 1\n"
    )
    result = agentkit("check", "--rules", "r.toml", "a.jsonl", cwd=tmp_path)
    assert [line.split(":")[2] for line in result.stderr.splitlines()] == list("234568")


def test_wrong_rules_are_told_a_line_each_and_are_usage_errors(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[[rules]]\nmetric = 'cots'\nop = '!'\nvalue = 1\n")
    result = agentkit("check", "--rules", str(tmp_path / "r.toml"), "a.jsonl", cwd=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"agentkit: {tmp_path}/r.toml:2: unknown metric 'cots' refused; did you mean 'cost'?\n"
        f"agentkit: {tmp_path}/r.toml:3: op '!' refused; use one of >, >=, <, <=, ==, !=\n"
    )
    result = agentkit("check", "--rules", "none.toml", "a.jsonl", cwd=folder)
    assert result.returncode == 2
    assert result.stderr == "agentkit: none.toml: cannot be read: No such file or directory; check the path\n"
    result = agentkit("check", "--rules", "rules.toml", "none.jsonl", cwd=folder)
    assert result.returncode == 2


def test_sessions_of_several_logs_are_judged_in_order_of_time(tmp_path: Path) -> None:
    # Each log alone keeps the rule; only together there are three calls within two seconds.
    first = Telling().begin(0).call(1).call(3).call(50).events
    second = Telling().begin(0.5, session="t").call(2, session="t").call(60, session="t").events
    rules = write_rules(tmp_path / "r.toml", metric="tool_calls", op=">=", value=3, window="3s")
    write_log(tmp_path / "a.jsonl", first)
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress(b"".join(encode_event(event) + b"\n" for event in second))
    )
    for alone in ("a.jsonl", "b.jsonl.gz"):
        assert agentkit("check", "--rules", rules.name, alone, cwd=tmp_path).returncode == 0
    for logs in (("a.jsonl", "b.jsonl.gz"), ("b.jsonl.gz", "a.jsonl"), (".",), ("*.jsonl*",)):
        told = json.loads(agentkit("check", "--rules", rules.name, "--json", *logs, cwd=tmp_path).stdout)
        assert [alert["timestamp"][17:19] for alert in told["alerts"]] == ["03"]
        assert told["alerts"][0]["resolved"][17:19] == "50"


def test_what_one_session_breaks_another_may_resolve(tmp_path: Path) -> None:
    telling = Telling().begin(0).call(1, 5_000).begin(2, session="t").call(100, 10, session="t")
    write_log(tmp_path / "a.jsonl", telling.events)
    keys = {"metric": "tool_latency_max", "op": ">", "value": "1s", "per": "tool", "window": "1m"}
    rules = write_rules(tmp_path / "r.toml", **keys)
    told = json.loads(agentkit("check", "--rules", rules.name, "--json", "a.jsonl", cwd=tmp_path).stdout)
    assert [(alert["session_id"], alert["resolved"][14:19]) for alert in told["alerts"]] == [("s", "41:40")]


def test_durations_and_counts_that_no_run_has_are_shown_short(tmp_path: Path) -> None:
    write_log(tmp_path / "a.jsonl", Telling().begin(0).call(1, 1e300).call(2, -5.0).events)
    rules = write_rules(tmp_path / "r.toml", metric="tool_latency_max", op=">", value="1s")
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    assert "1.000e+300 ms > 1 s" in result.stdout


def test_a_pipe_is_read_once_among_other_logs(tmp_path: Path) -> None:
    first = Telling().begin(0).call(1).call(5).events
    second = Telling().begin(0, session="t").call(3, session="t").events
    rules = write_rules(tmp_path / "r.toml", metric="tool_calls", op=">=", value=3)
    write_log(tmp_path / "a.jsonl", first)
    given = b"".join(encode_event(event) + b"\n" for event in second)
    arguments = ("check", "--rules", rules.name, "--json", "a.jsonl", "-")
    told = json.loads(agentkit(*arguments, cwd=tmp_path, given=given).stdout)
    assert [(alert["timestamp"][17:19], alert["count"]) for alert in told["alerts"]] == [("05", 3)]


def test_a_log_and_its_copy_count_once(tmp_path: Path) -> None:
    events = Telling().begin(0).call(1).call(2).end(3).events
    rules = write_rules(tmp_path / "r.toml", metric="tool_calls", op=">", value=2)
    for name in ("a.jsonl", "copy.jsonl"):
        write_log(tmp_path / name, events)
    result = agentkit("check", "--rules", rules.name, ".", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].split()[-3:] == ["2", "2", "0"]


def test_what_is_no_event_is_told_and_does_not_break_a_rule(tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "r.toml", metric="tool_calls", op=">", value=9)
    write_log(tmp_path / "a.jsonl", Telling().begin(0).call(1).end(2).events)
    with (tmp_path / "a.jsonl").open("ab") as log:
        log.write(b'no json\n{"v":1,"seq":9,"ts"')
    (tmp_path / "usage.jsonl").write_bytes(b'{"tokens":1}\n{"tokens":2}\n')
    result = agentkit("check", "--rules", rules.name, ".", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr.splitlines()[0].startswith("agentkit: skipped a.jsonl:4: ")
    assert result.stderr.splitlines()[-1] == "agentkit: left out 1 file of other records: usage.jsonl"
    (tmp_path / "foreign.txt").write_text("no json\nno json\n")
    result = agentkit("check", "--rules", rules.name, "foreign.txt", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("agentkit: no event in foreign.txt; give a log")


def test_events_that_stand_behind_later_ones_are_told_where_time_matters(tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "r.toml", metric="tool_calls", op=">", value=9, window="1m")
    late = Telling().begin(100).call(101).end(101).begin(0, session="t").end(0, session="t").events
    write_log(tmp_path / "a.jsonl", late)
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    assert result.stderr == (
        "agentkit: an event stands up to 1 min 41 s behind later ones of its log; windows take the order of the "
        "lines\n"
    )


def test_hostile_names_reach_no_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\u202e**[x](http://e)"
    rules = write_rules(tmp_path / "r.toml", metric="tool_latency_max", op=">", value="1s", per="tool")
    write_log(tmp_path / "a.jsonl", Telling().begin(0).call(1, 5_000, tool=name).events)
    for more in ((), ("--json",)):
        result = agentkit("check", "--rules", rules.name, "a.jsonl", *more, cwd=tmp_path)
        assert result.returncode == 1
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout


def test_many_alerts_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    telling = Telling().begin(0)
    for number in range(150):
        telling.call(number, 5_000)
    write_log(tmp_path / "a.jsonl", telling.events)
    rules = write_rules(tmp_path / "r.toml", metric="tool_latency_max", op=">", value="1s", per="call")
    result = agentkit("check", "--rules", rules.name, "a.jsonl", cwd=tmp_path)
    assert result.stdout.count("call-") == 100
    assert "\nand 50 more\n" in result.stdout
    told = json.loads(agentkit("check", "--rules", rules.name, "a.jsonl", "--json", cwd=tmp_path).stdout)
    assert (told["alert_count"], len(told["alerts"])) == (150, 150)


def test_without_rules_the_contract_is_judged_as_ever(folder: Path) -> None:
    result = agentkit("check", "a.jsonl", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("session fix-1: complete: ")


def test_the_help_says_how_rules_are_written(folder: Path) -> None:
    result = agentkit("check", "--help", cwd=folder)
    assert result.returncode == 0
    for word in ("tool_latency_p50 _p95", "approvals_waiting_ms", "min_count", "cooldown", '"10%"'):
        assert word in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


@given(
    steps=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=40),
)
@settings(deadline=None, max_examples=25)
def test_logs_are_merged_by_time_and_keep_their_own_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int]]
) -> None:
    place = tmp_path_factory.mktemp("merged")
    logs: list[list[AgentEvent]] = []
    for number, waits in enumerate(steps):
        telling, seconds = Telling(), 0
        for wait in waits:
            seconds += wait
            telling.call(seconds, session=f"s-{number}")
        logs.append(telling.events)
        write_log(place / f"{number:02}.jsonl", telling.events)
    merged = list(LogsInOrder([str(place)]))
    assert [event.timestamp for event in merged] == sorted(event.timestamp for log in logs for event in log)
    for number, log in enumerate(logs):
        assert [event for event in merged if event.session_id == f"s-{number}"] == log


def test_a_rule_of_a_window_over_many_logs_equals_one_over_their_union(tmp_path: Path) -> None:
    events: list[AgentEvent] = []
    for number in range(50):  # more than are held open
        own = Telling()
        for seconds in range(number % 7, 100, 7):
            own.call(seconds, session=f"s-{number}", failed=seconds % 3 == 0)
        write_log(tmp_path / f"{number:02}.jsonl", own.events)
        events += own.events
    rule = AlertRule("tool_error_rate", ">", "30%", window="5s", min_count=10)
    apart, together = AlertReporter([rule]), AlertReporter([rule])
    for event in LogsInOrder([str(tmp_path)]):
        apart.handle_event(event)
    for event in sorted(events, key=lambda event: event.timestamp):
        together.handle_event(event)
    assert apart.alerts == together.alerts
    assert len(apart.alerts) > 10


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
