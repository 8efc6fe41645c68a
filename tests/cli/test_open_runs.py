"""A run without an end, as every command that looks at it says: it crashed, or is still going."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agentkit_loop.events import AgentEvent, ToolExecutionStarted
from agentkit_reporting import DebugReplay, DiffRule, decode_event, diff_runs, encode_event, read_events
from agentkit_reporting.cli.open_runs import OpenRuns
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import agentkit

RUNNING = "the run is open, run_tests() was running"


def crashed(log: Path) -> list[AgentEvent]:
    """Write what a process leaves that is killed in its last tool, and return it."""
    whole = log.with_name("whole.jsonl")
    write_fixed(whole)
    events = list(read_events(whole))
    last = max(place for place, event in enumerate(events) if isinstance(event, ToolExecutionStarted))
    log.write_bytes(b"".join(encode_event(event) + b"\n" for event in events[: last + 1]))
    return events[: last + 1]


def test_debug_and_show_say_that_the_log_ends_and_what_was_running(tmp_path: Path) -> None:
    crashed(tmp_path / "crash.jsonl")
    listed = agentkit("debug", "crash.jsonl", cwd=tmp_path)
    assert listed.stdout.startswith("open, no end was told · 1 failed request · >= $0.0")
    assert listed.stdout.endswith(f"the log ends here: {RUNNING}\n")
    shown = agentkit("show", "crash.jsonl", cwd=tmp_path)
    said = RUNNING.replace("the run is", "the run of fixer is")
    assert shown.stderr == f"agentkit: the log ends here: {said}\n"
    told = json.loads(agentkit("debug", "crash.jsonl", "--json", cwd=tmp_path).stdout)
    assert (told["summary"]["outcome"], told["summary"]["open_runs"]) == ("open", 1)


def test_a_run_that_was_killed_breaks_rules_about_what_it_did_not_tell(tmp_path: Path) -> None:
    crashed(tmp_path / "crash.jsonl")
    rules = ("errors>5", "failed_runs>0", "duration>+10%", "open_runs>0", "calls.nothing>0")
    given = [word for rule in rules for word in ("--fail-on", rule)]
    result = agentkit("diff", "whole.jsonl", "crash.jsonl", *given, "--json", cwd=tmp_path)
    assert result.returncode == 1
    verdicts = {each["rule"]: each["verdict"] for each in json.loads(result.stdout)["rules"]}
    assert verdicts == {**dict.fromkeys(rules, "undecided"), "open_runs>0": "broken"}
    shown = agentkit("diff", "whole.jsonl", "crash.jsonl", cwd=tmp_path).stdout
    assert "B: a run has no end (a crash, or still going); figures are lower bounds" in shown
    assert re.search(r"\nduration +38\.4 s +>= .* s +\?\n", shown)


@pytest.mark.parametrize("rule", ["runs>1", "open_runs>0", "duration>+10%"])
def test_a_run_with_an_end_is_known_in_whole(tmp_path: Path, rule: str) -> None:
    write_broken(tmp_path / "broken.jsonl")
    events = list(read_events(tmp_path / "broken.jsonl"))
    assert DiffRule.parse(rule).judge(diff_runs(events, events)).verdict == "kept"


def test_what_is_under_way_is_told_the_same_from_events_as_from_steps(tmp_path: Path) -> None:
    events = crashed(tmp_path / "crash.jsonl")
    for end in range(1, len(events)):
        found = OpenRuns()
        for event in events[:end]:
            found.take(decode_event(encode_event(event)))
        summary = DebugReplay(events[:end]).summary()
        assert summary.is_open
        (told,) = found.told()
        for clause in summary.at_the_end:
            assert clause in told
