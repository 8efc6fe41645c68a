"""The pytest plugin, in a pytest of its own: fixtures, reports, golden logs, kept logs, and what it does not do."""

from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentkit_reporting import pytest_plugin, read_events

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
PLUGIN = "agentkit_reporting.pytest_plugin"
AGENT = """
from agentkit_loop import Agent, RunFinished, RunStarted, ScriptedModel, ToolCallRequested, tool

@tool
def pay(amount: int, to: str) -> str:
    "Pay somebody."
    return f"paid {amount} to {to}"

def run(events, amount=3, to="bob"):
    call = {"name": "pay", "input": {"amount": amount, "to": to}}
    model = ScriptedModel([{"text": "I pay.", "calls": [call]}, "Done."])
    return Agent(model, tools=[pay], observers=[events]).run("Pay.")
"""


@pytest.fixture(autouse=True)
def alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each inner pytest have our plugin and no other, not as in CI, and every warning as an error."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(paying=AGENT)


def ran(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", PLUGIN, *options)


def test_the_fixtures_work_in_functions_coroutines_and_unittest_classes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, unittest, pytest
        from paying import *

        def test_function(agent_events):
            run(agent_events)
            agent_events.assert_sequence(RunStarted, ..., ToolCallRequested, ..., RunFinished)

        def test_each_test_has_its_own(agent_events):
            assert len(agent_events) == 0

        def test_coroutine(agent_events):
            asyncio.run(Agent(ScriptedModel(["hello"]), observers=[agent_events]).arun("hi"))
            assert agent_events.text == "hello"

        class TestUnit(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def record(self, agent_events):
                self.events = agent_events

            def test_unit(self):
                run(self.events)
                self.assertEqual(self.events.assert_tool_called("pay").input["amount"], 3)
        """
    )
    ran(pytester).assert_outcomes(passed=4)


def test_a_failing_test_shows_its_run_and_keeps_its_log(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        r"""
        import pytest
        from paying import *

        @pytest.mark.parametrize("to", ["../../../x\x1b[2J", "bob"])
        def test_fails(agent_events, to):
            run(agent_events, to=to)
            agent_events.assert_never(ToolCallRequested)

        def test_passes(agent_events):
            run(agent_events)

        def test_without_events():
            assert False

        def test_with_an_observer_that_nobody_got(agent_events):
            assert False
        """
    )
    result = ran(pytester, "--agentkit-logs", "kept")
    result.assert_outcomes(failed=4, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: expected no ToolCallRequested, came #*",
            "*- agent events -*",
            '*pay(amount=3, to="../../../x*',
            "log: *kept*test_fails*.jsonl",
        ]
    )
    result.stdout.fnmatch_lines(
        ["no event was recorded: no run had told one, or none has the fixture as an observer"]
    )
    assert "\x1b[2J" not in str(result.stdout)
    assert str(result.stdout).count("- agent events -") == 3
    assert str(result.stdout).count("\nlog: ") == 2  # of the one without events there is none
    kept = sorted((pytester.path / "kept").iterdir())
    assert len(kept) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    assert next(event.type for event in read_events(kept[0])) == "run_started"


def test_logs_of_all_tests_are_kept_by_two_workers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from paying import *

        @pytest.mark.parametrize("amount", range(6))
        def test_pays(agent_events, amount):
            run(agent_events, amount)
            agent_events.assert_golden("one" if amount == 1 else None)
        """
    )
    options = ("--agentkit-logs", "kept", "--agentkit-logs-of", "all", "-p", "xdist", "-n", "2")
    result = pytester.runpytest_subprocess("-p", PLUGIN, *options, "-p", "pytest_randomly")
    result.assert_outcomes(passed=6)
    assert len(list((pytester.path / "kept").glob("*.jsonl"))) == 6
    golden = pytester.path / "golden"
    assert len(list(golden.iterdir())) == 6
    result.stdout.fnmatch_lines(["written: *one.jsonl"])
    assert str(result.stdout).count("written: ") == 6
    ran(pytester).assert_outcomes(passed=6)


def test_golden_logs_are_written_compared_updated_and_missed_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\nagentkit_golden_dir = logs/right\n")
    pytester.makepyfile(
        """
        import os
        from paying import *

        def test_by_method(agent_events):
            run(agent_events, int(os.environ["AMOUNT"]))
            agent_events.assert_golden()

        def test_by_fixture(agent_events, golden_log):
            run(agent_events)
            golden_log(agent_events, "named")
        """
    )
    monkeypatch.setenv("AMOUNT", "3")
    monkeypatch.setenv("CI", "true")
    missing = ran(pytester)
    missing.assert_outcomes(failed=2)
    missing.stdout.fnmatch_lines(["*is missing, and none is written in CI*"])
    assert not (pytester.path / "logs").exists()
    monkeypatch.delenv("CI")
    ran(pytester).assert_outcomes(passed=2)
    written = sorted(path.name for path in (pytester.path / "logs" / "right").iterdir())
    stem = "test_golden_logs_are_written_compared_updated_and_missed_in_ci"
    assert written == ["named.jsonl", f"{stem}.test_by_method.jsonl"]
    monkeypatch.setenv("AMOUNT", "4")
    differing = ran(pytester)
    differing.assert_outcomes(failed=1, passed=1)
    differing.stdout.fnmatch_lines(["*delta.part.input.amount: before 3, now 4"])
    ran(pytester, "--agentkit-update-golden").assert_outcomes(passed=2)
    monkeypatch.setenv("CI", "true")
    ran(pytester).assert_outcomes(passed=2)


def test_the_example_passes_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    example = ROOT / "examples" / "test_with_agentkit.py"
    result = ran(pytester, str(example), "--rootdir", str(pytester.path), "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)


def test_a_log_that_cannot_be_kept_changes_no_result(pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("a file", encoding="utf-8")
    pytester.makepyfile(
        """
        from paying import *

        def test_fails(agent_events):
            run(agent_events)
            assert False
        """
    )
    result = ran(pytester, "--agentkit-logs", "kept")
    result.assert_outcomes(failed=1)
    assert "\nlog: " not in str(result.stdout)
    assert str(result.stdout).count("the log was not kept: ") == 2  # with the failure, and at the end


def test_logs_of_passing_tests_that_cannot_be_kept_are_told_at_the_end(pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("a file", encoding="utf-8")
    pytester.makepyfile(
        """
        import pytest
        from paying import *

        @pytest.mark.parametrize("amount", range(7))
        def test_passes(agent_events, amount):
            run(agent_events, amount)
        """
    )
    result = ran(pytester, "--agentkit-logs", "kept", "--agentkit-logs-of", "all")
    result.assert_outcomes(passed=7)
    assert str(result.stdout).count("the log was not kept: ") == 5
    result.stdout.fnmatch_lines(["=*= logs of tests =*=", "the log was not kept: *", "and 2 more"])


@pytest.mark.parametrize(
    "misuse",
    [
        "agent_events.assert_count('model_request_stated', 1)",
        "agent_events.assert_sequence(3)",
        "matching('run_started', nam='x')",
        "agent_events.assert_golden()",
    ],
    ids=["wire-name", "no-event", "field", "directory"],
)
def test_a_misuse_is_shown_in_the_line_of_the_test(pytester: pytest.Pytester, misuse: str) -> None:
    (pytester.path / "golden").write_text("a file", encoding="utf-8")
    pytester.makepyfile(
        f"""
        from agentkit_reporting import matching
        from paying import *

        def test_misuse(agent_events):
            run(agent_events)
            {misuse}
        """
    )
    result = ran(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">*{misuse}", "E *Error: *"])
    assert "agentkit_reporting/testing" not in str(result.stdout).replace("\\", "/")


@pytest.mark.parametrize(
    "misuse",
    ["scripted_from_log('none.jsonl')", "Agent(ScriptedModel([])).run('x')"],
    ids=["missing-log", "no-reply-left"],
)
def test_an_error_of_ours_is_shown_without_our_own_lines(pytester: pytest.Pytester, misuse: str) -> None:
    pytester.makepyfile(
        f"""
        from paying import *

        def test_misuse(scripted_from_log):
            {misuse}
        """
    )
    result = pytester.runpytest_subprocess("-p", PLUGIN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">*{misuse}", "E *Error: *"])
    shown = str(result.stdout).replace("\\", "/").partition("short test summary")[0]
    assert shown.count("def ") == 1
    assert len(shown.splitlines()) < 35


def test_two_runs_that_differ_do_not_write_one_golden_log_in_turn(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from paying import *

        @pytest.mark.parametrize("amount", [3, 4, 3])
        def test_pays(agent_events, amount):
            run(agent_events, amount)
            agent_events.assert_golden("shared")
        """
    )
    result = ran(pytester, "--agentkit-update-golden")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*is that of *test_pays?3*, and this run differs*give each its own name*"])


def test_without_the_plugin_there_is_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass\ndef test_events(agent_events): pass")
    result = pytester.runpytest_inprocess("-p", f"no:{PLUGIN}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'agent_events' not found"])


def test_it_is_found_by_its_entry_point_and_warns_of_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name, home), *others = project["entry-points"]["pytest11"].items()
    assert (name, home, others) == ("agentkit", PLUGIN, [])
    info = tmp_path / "site" / "agentkit_probe-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentkit-probe\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {home}\n")
    (info / "RECORD").write_text("agentkit_loop/__init__.py,,\nagentkit_reporting/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", f"{info.parent}:{ROOT}")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    # Other plugins of the machine may warn of what is theirs.
    pytester.makeini("[pytest]\nfilterwarnings = error::pytest.PytestAssertRewriteWarning\n")
    pytester.makepyfile("def test_events(agent_events): assert len(agent_events) == 0")
    others_off = ["-p", "no:randomly", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:anyio"]
    code = f"import sys, agentkit_loop, agentkit_reporting, pytest; sys.exit(pytest.main({others_off!r}))"
    result = pytester.run(sys.executable, "-c", code)
    assert (result.ret, result.parseoutcomes()) == (0, {"passed": 1})
    blocked = pytester.run(sys.executable, "-m", "pytest", *others_off, "-p", "no:agentkit")
    assert blocked.parseoutcomes() == {"errors": 1}


def test_its_hooks_are_of_the_kinds_that_older_versions_of_pluggy_know() -> None:
    asked = [
        {name for name, value in hook.pytest_impl.items() if value}
        for hook in vars(pytest_plugin).values()
        if hasattr(hook, "pytest_impl")
    ]
    assert asked == [{"hookwrapper"}]


def test_importing_it_loads_nothing_else_of_the_packages() -> None:
    check = (
        "import sys, threading, pytest\nbefore = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('_')), "
        "threading.active_count())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert printed.strip() == f"['agentkit_reporting', '{PLUGIN}'] 1"
