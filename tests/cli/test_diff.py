"""`agentkit diff` as a user meets it: real processes over real logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit_loop.testing import Reply
from agentkit_reporting import StepLog, read_events
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.sample_logs import call, write_broken, write_fixed, write_session
from tests.cli.test_command_line import agentkit

HOSTILE = "\x1b]0;owned\x07</details><script>```\n```\n~~~\n| a | b |\n# head <img src=x> [x](javascript:y) @all\u202e"

OUTPUTS = {
    "diff.txt": ("diff", "a.jsonl", "b.jsonl", "--fail-on", "cost>+10%", "--fail-on", "errors>5"),
    "diff_colour.txt": ("diff", "a.jsonl", "b.jsonl", "--fail-on", "cost>+10%", "--fail-on", "errors>5"),
    "diff_equal.txt": ("diff", "a.jsonl", "both.jsonl#fix-1"),
    "diff_arguments.txt": ("diff", "both.jsonl#fix-1", "other.jsonl", "--all"),
    "diff.md": ("diff", "a.jsonl", "b.jsonl", "--markdown", "--fail-on", "cost>+10%", "--fail-on", "turns>"),
    "diff_hostile.md": ("diff", "hostile.jsonl#host-1", "hostile.jsonl#host-2", "--markdown"),
}


def make(folder: Path) -> None:
    """Write the logs that the golden outputs are of."""
    write_fixed(folder / "a.jsonl")
    write_broken(folder / "b.jsonl")
    write_fixed(folder / "both.jsonl")
    write_broken(folder / "both.jsonl")
    write_other(folder / "other.jsonl")
    for number, text in enumerate((HOSTILE, HOSTILE + "!"), 1):
        replies = [
            Reply(text=text, calls=(call("read_file", path=text), call(f"{HOSTILE}{number}"))),
            Reply(text="done " + text),
        ]
        write_session(
            folder / "hostile.jsonl", f"host-{number}", replies, prompts=(text,), name=f"a{HOSTILE}"
        )


def write_other(log: Path) -> None:
    """Write a run like fix-1 with other arguments, other results and another prompt."""
    replies = [
        Reply(text="I read the parser.", calls=(call("read_file", path="lexer.py"),)),
        Reply(
            text="It does not strip spaces.", calls=(call("edit_file", path="parser.py", old="a", new="b"),)
        ),
        Reply(text="Now the tests.", calls=(call("run_tests"),)),
        Reply(text="The parser strips blanks now, and all 42 tests pass."),
    ]
    write_session(
        log, "fix-3", replies, system="You fix code.\nRead before you edit.", prompts=("Fix the tests.",)
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    make(folder)
    return folder


@pytest.mark.parametrize("name", OUTPUTS)
def test_it_prints_what_the_golden_file_holds(logs: Path, name: str) -> None:
    check_golden(name, OUTPUTS[name], logs)


def test_without_a_rule_the_exit_is_0_equal_or_not(logs: Path) -> None:
    for other in ("a.jsonl", "b.jsonl"):
        result = agentkit("diff", "a.jsonl", other, cwd=logs)
        assert (result.returncode, result.stderr) == (0, "")
        assert ("\nequal\n" in result.stdout) == (other == "a.jsonl")


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ("cost>+10%", 1, "cost>+10%: broken: change of cost +$0.006232, allowed at most +$0.001585"),
        ("errors>5", 0, "errors>5: kept: errors of B 3, allowed at most 5"),
        ("reasoning_tokens>0", 1, "undecided, which counts as broken: reasoning_tokens of B is not known"),
        ("turns!=", 1, "turns!=: broken: turns of B 3, allowed only 4"),
    ],
)
def test_a_broken_rule_is_told_and_the_exit_is_1(logs: Path, rule: str, code: int, said: str) -> None:
    result = agentkit("diff", "a.jsonl", "b.jsonl", "--fail-on", rule, cwd=logs)
    assert result.returncode == code
    assert said in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a.jsonl", "none.jsonl"), 2, "none.jsonl"),
        (("a.jsonl", "b.jsonl", "--fail-on", "costs>1"), 2, "'costs' is no metric; did you mean 'cost'?"),
        (
            ("a.jsonl", "both.jsonl"),
            2,
            "18:40:00  fixer  failed     fix-2\nagentkit: both.jsonl refused because it holds 2 sessions",
        ),
        (("a.jsonl", "b.jsonl#nobody"), 1, "no event of session nobody in b.jsonl; give the end of"),
        (("a.jsonl", "empty.jsonl"), 1, "no event in empty.jsonl; give the log of a run"),
        (("a.jsonl", "b.jsonl", "--json", "--markdown"), 2, "exclude each other"),
        (("both.jsonl#fix-1", "b.jsonl", "--session-a", "fix-1"), 2, "give one of them"),
        (("-", "-"), 2, "stdin can be read once"),
    ],
)
def test_what_cannot_work_is_said(logs: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (logs / "empty.jsonl").touch()
    result = agentkit("diff", *arguments, cwd=logs, given=b"")
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr


def test_sessions_are_named_by_option_or_behind_a_sign_and_a_file_may_be_both(logs: Path) -> None:
    by_sign = agentkit("diff", "both.jsonl#1", "both.jsonl#fix-2", cwd=logs)
    by_option = agentkit(
        "diff", "both.jsonl", "both.jsonl", "--session-a", "fix-1", "--session-b", "2", cwd=logs
    )
    assert by_sign.returncode == 0
    assert by_sign.stdout == by_option.stdout
    assert "different: 4 calls, 3 answers, how they ended" in by_sign.stdout
    given = (logs / "both.jsonl").read_bytes()
    named = ("--session-a", "fix-1", "--session-b", "fix-2")
    from_stdin = agentkit("diff", "-", "-", *named, cwd=logs, given=given).stdout
    assert from_stdin.replace("-#", "both.jsonl#") == by_sign.stdout


def test_programs_get_all_of_it_as_one_object(logs: Path) -> None:
    result = agentkit("diff", "a.jsonl", "b.jsonl", "--json", "--fail-on", "cost>+10%", cwd=logs)
    told = json.loads(result.stdout)
    assert result.returncode == 1
    assert (told["equal"], told["a"]["session_id"], told["b"]["outcomes"]) == (False, "fix-1", ["failed"])
    metrics = {each["name"]: each for each in told["metrics"]}
    assert (metrics["cost"]["a"], metrics["cost"]["b"]) == ("0.0158475", "0.02208")
    assert metrics["cost"]["change"] == "0.0062325"
    assert [each["sign"] for each in told["calls"]] == ["+", "+", "=", "-", "-"]
    assert told["divergence"]["before"] == 'called read_file(path="parser.py")'
    assert told["rules"][0]["verdict"] == "broken"
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "form", [(), ("--markdown",), ("--json",), ("--all",)], ids=["text", "markdown", "json", "all"]
)
def test_nothing_from_a_log_controls_a_terminal_or_a_page(logs: Path, form: tuple[str, ...]) -> None:
    shown = agentkit("diff", "hostile.jsonl#host-1", "hostile.jsonl#host-2", *form, cwd=logs).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    if form == ("--markdown",):
        outside = []
        fence = ""
        for line in shown.splitlines():
            if fence:
                fence = "" if line == fence else fence
            elif line.startswith("```"):
                fence = line.removesuffix("diff")
            else:
                outside.append(line)
        assert fence == ""
        assert outside.count("<details>") == outside.count("</details>") > 1
        text = "\n".join(outside)
        assert "<script>" not in text
        assert "<img" not in text.replace("\\<img", "")
        assert "](javascript" not in text


def test_figures_that_no_run_can_have_and_hostile_currencies_are_shown_in_plain_text(logs: Path) -> None:
    records = [json.loads(line) for line in (logs / "a.jsonl").read_text().splitlines()]
    for record in records:
        payload = record["payload"]
        if payload.get("duration_ms") is not None:
            payload["duration_ms"] = 1.7e308
        if record["type"] == "usage_updated":
            payload["usage"]["input_tokens"] = -(10**18)
            payload["cost"] = payload["cost"] and {**payload["cost"], "currency": "E\x1b[31m|R"}
    (logs / "odd.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rules = ("--fail-on", "cost>+1%", "--fail-on", "duration>+1s", "--fail-on", "cost.E\x1b[31m|R>0")
    for form in ((), ("--markdown",), ("--json",)):
        result = agentkit("diff", "a.jsonl", "odd.jsonl", *form, *rules, cwd=logs)
        assert (result.returncode, result.stderr) == (1, "")
        assert "\x1b" not in result.stdout
        assert form == ("--json",) or "not in cost" in result.stdout


def test_step_logs_and_torn_logs_are_taken(logs: Path) -> None:
    for name in ("a", "b"):
        with StepLog(logs / f"steps-{name}.jsonl") as log:
            for event in read_events(logs / f"{name}.jsonl"):
                log.handle_event(event)
    result = agentkit("diff", "steps-a.jsonl", "steps-b.jsonl", cwd=logs)
    assert (result.returncode, result.stderr) == (0, "")
    assert "+ turn-1  read_file" in result.stdout
    (logs / "torn.jsonl").write_bytes((logs / "a.jsonl").read_bytes()[:-40])
    torn = agentkit("diff", "a.jsonl", "torn.jsonl", cwd=logs)
    assert "B ended: completed (run open)" in torn.stdout
    assert "skipped torn.jsonl:" in torn.stderr


def test_files_of_other_records_beside_a_log_are_named_once(logs: Path, tmp_path: Path) -> None:
    write_fixed(tmp_path / "run.jsonl")
    (tmp_path / "tools.jsonl").write_text('{"tool":"fetch","calls":1}\n' * 9)
    result = agentkit("diff", "a.jsonl", str(tmp_path), cwd=logs)
    assert (result.returncode, result.stdout.count("\nequal\n")) == (0, 1)
    assert result.stderr == "agentkit: left out 1 file of other records: tools.jsonl\n"


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
