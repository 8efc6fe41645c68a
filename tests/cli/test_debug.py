"""`agentkit debug` as a user meets it: walked through on a terminal, listed in a pipe, as JSON, and forked."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, RunStarted, ToolResultReceived
from agentkit_loop.state import FORKED_FROM
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.testing_server import MessagesServer
from agentkit_loop.tools import tool
from agentkit_reporting import DebugReplay, JsonlReporter, StepLog, check_log, read_events, write_fork
from agentkit_reporting.cli.debug_console import resume_command
from tests.cli.debug_terminal import DebugTerminal
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.sample_logs import write_broken, write_fixed
from tests.cli.test_command_line import agentkit

OUTPUTS: Mapping[str, Sequence[str]] = {
    "debug_list.txt": ("debug", "run.jsonl", "--session", "fix-1"),
    "debug_list_colour.txt": ("debug", "run.jsonl", "--session", "fix-2"),
    "debug_tool.txt": ("debug", "run.jsonl", "--session", "fix-1", "--tool", "edit_file"),
    "debug_step.txt": ("debug", "run.jsonl", "--session", "fix-1", "--step", "9"),
    "debug_step_colour.txt": ("debug", "run.jsonl", "--session", "fix-1", "--step", "8"),
    "debug_step.json": ("debug", "run.jsonl", "--session", "fix-1", "--step", "5", "--json"),
    "debug_steps_of_a_step_log.txt": ("debug", "steps.jsonl", "--session", "fix-1"),
}


def make(folder: Path) -> None:
    """Write what the commands read."""
    write_fixed(folder / "run.jsonl")
    write_broken(folder / "run.jsonl")
    log = StepLog(folder / "steps.jsonl")
    for event in read_events(folder / "run.jsonl"):
        log.handle_event(event)
    log.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("debug")
    make(path)
    return path


@pytest.mark.parametrize("name", OUTPUTS)
def test_it_prints_what_its_golden_file_holds(name: str, folder: Path) -> None:
    check_golden(name, OUTPUTS[name], folder)


# --- elsewhere than on a terminal


def test_of_several_sessions_the_last_is_taken_and_all_are_listed_by_what_people_know(folder: Path) -> None:
    result = agentkit("debug", "run.jsonl", cwd=folder)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        "agentkit: session fix-2, which began last, of 2; for --session:",
        "agentkit:   2026-05-24 18:40:00  fixer  completed  fix-1",
        "agentkit:   2026-05-25 18:40:00  fixer  failed     fix-2",
    ]
    other = agentkit("debug", "run.jsonl", "--session", "-1", "--json", cwd=folder)
    assert json.loads(other.stdout)["session_id"] == "fix-1"


def test_calls_that_ended_in_another_order_say_so(tmp_path: Path) -> None:
    gate = threading.Event()

    @tool
    def first() -> str:
        """End behind the other one."""
        assert gate.wait(60)
        return "a"

    @tool
    def second() -> str:
        """End first."""
        return "b"

    def open_gate(event: AgentEvent) -> None:
        if isinstance(event, ToolResultReceived):
            gate.set()

    asks = Reply(calls=(ScriptedCall(name="first", input={}), ScriptedCall(name="second", input={})))
    log = JsonlReporter(tmp_path / "run.jsonl")
    with Agent(ScriptedModel([asks, "done"]), tools=[first, second], observers=[log, open_gate]) as agent:
        agent.run("go")
    rows = agentkit("debug", "run.jsonl", "--kind", "tool-call", cwd=tmp_path).stdout.splitlines()[1:]
    assert "second() -> b" in rows[0]
    assert "first() -> a" in rows[1]
    assert "asked before 5" in rows[1]
    assert "asked before" not in rows[0]


def test_only_what_failed_is_listed_and_a_call_without_an_answer_waits(tmp_path: Path) -> None:
    @tool(approval=True)
    def pay(to: str, amount: int) -> str:
        """Pay."""
        return f"{amount} to {to}"

    asks = Reply(calls=(ScriptedCall(name="pay", input={"to": "bob", "amount": 3}),))
    log = JsonlReporter(tmp_path / "run.jsonl")
    with Agent(ScriptedModel([asks]), tools=[pay], observers=[log]) as agent:
        agent.run("go")
    shown = agentkit("debug", "run.jsonl", "--failed", cwd=tmp_path).stdout
    assert shown.startswith("suspended · ")
    assert '? tool call       pay(to="bob", amount=3) waits for approval\n' in shown
    assert "? run ended       suspended, waits for approval-1" in shown
    assert shown.count("\n") == 3
    assert "the log ends here" not in shown


def test_a_pipe_is_as_wide_as_columns_says(folder: Path) -> None:
    for columns in (60, 140):
        shown = agentkit("debug", "run.jsonl", "--session", "fix-1", cwd=folder, COLUMNS=f"{columns}").stdout
        assert columns - 8 < max(map(len, shown.splitlines())) <= columns


def test_files_of_other_records_are_left_out_by_name(tmp_path: Path) -> None:
    write_fixed(tmp_path / "run.jsonl")
    (tmp_path / "tools.jsonl").write_text('{"tool":"fetch","calls":1}\n' * 9)
    result = agentkit("debug", ".", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == "agentkit: left out 1 file of other records: tools.jsonl\n"
    told = json.loads(agentkit("debug", ".", "--json", cwd=tmp_path).stdout)
    assert (told["bad_lines"], len(told["left_out"])) == (0, 1)


def test_json_has_all_steps_and_a_step_has_its_state(folder: Path) -> None:
    given = ("debug", "run.jsonl", "--session", "fix-1", "--json")
    whole = json.loads(agentkit(*given, cwd=folder).stdout)
    replay = DebugReplay.open(folder / "run.jsonl", "fix-1")
    assert [step["title"] for step in whole["steps"]] == [step.title for step in replay]
    totals = replay.state_after(len(replay)).totals
    assert whole["totals"]["costs"] == {"USD": str(totals.costs["USD"])}
    calls = json.loads(agentkit(*given, "--kind", "tool-call", cwd=folder).stdout)
    assert [step["tool"] for step in calls["steps"]] == ["read_file", "edit_file", "run_tests"]
    asked = next(step.number for step in replay if step.status == "waiting")
    told = json.loads(agentkit(*given, "--step", str(asked), cwd=folder).stdout)
    assert told["state"]["pending_approvals"] == ["approval-1"]
    assert told["state"]["phase"] == "an answer is awaited"
    nothing = json.loads(agentkit(*given, "--step", "0", cwd=folder).stdout)
    assert nothing["state"]["transcript"] == []


def test_a_step_names_its_tool_and_shows_input_tools_and_errors_in_words(folder: Path) -> None:
    def shown(step: int) -> str:
        return agentkit("debug", "run.jsonl", "--session", "fix-2", "--step", str(step), cwd=folder).stdout

    assert "  tools  read_file, edit_file, run_tests\n" in shown(1)
    given = shown(2)
    assert "  user\n  text  The tests of the parser fail. Fix them.\n" in given
    assert "tokens" not in given
    assert given.endswith("cost        nothing used yet\n")
    failed = shown(5)
    assert failed.startswith('step 5 of 13  ✗ tool call · failed  read_file(path="/src/parser.py")\n')
    assert "  error\n    FileNotFoundError: /src/parser.py\n      at " in failed
    assert "digests" not in shown(4)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["--step", "99"], 1, "there is no step 99; give 0 to", id="step"),
        pytest.param(
            ["--step", "1", "--tool", "read_file"],
            1,
            "step 1 is no step of tool read_file; those are 5",
            id="other",
        ),
        pytest.param(["--kind", "tol_call"], 2, "did you mean 'tool_call'", id="kind"),
        pytest.param(["--session", "zzz"], 1, "no id there ends so", id="session"),
        pytest.param(
            ["--tool", "nobody"], 1, "no step of tool nobody; tools: read_file, run_tests", id="tool"
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    result = agentkit("debug", "run.jsonl", *arguments, cwd=folder)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pipe_is_read_and_hostile_text_controls_nothing(tmp_path: Path) -> None:
    @tool
    def shout(text: str) -> str:
        """Shout."""
        return f"\x1b]0;owned\x07{text}\u202e"

    log = tmp_path / "run.jsonl"
    replies: list[Reply | str] = [
        Reply(text="\x1b[2J", calls=(ScriptedCall(name="shout", input={"text": "\x9b2J"}),)),
        "\x1b[31mred",
    ]
    with Agent(ScriptedModel(replies), tools=[shout], observers=[JsonlReporter(log)]) as agent:
        agent.run("hi\x1b]52;c;x\x07")
    listed = agentkit("debug", "-", cwd=tmp_path, given=log.read_bytes())
    steps = [agentkit("debug", "run.jsonl", "--step", number, cwd=tmp_path) for number in ("4", "5")]
    for result in (listed, *steps):
        assert result.returncode == 0
        assert result.stdout.replace("\n", "").isprintable()
    assert "\\x1b]0;owned" in steps[1].stdout


# --- on a terminal


def test_keys_walk_through_a_session(folder: Path) -> None:
    terminal = DebugTerminal("run.jsonl", "--session", "fix-1", cwd=folder)
    begun = terminal.begin()
    assert "step 1 of 19  ✓ run started" in begun
    assert begun.endswith("debug 1/19> ")
    assert "completed · 1 failed request · $0.0158 · 38.4 s" in begun
    assert "step 2 of 19  ✓ input" in terminal.press("")
    assert "step 3 of 19" in terminal.press("n")
    assert "step 2 of 19" in terminal.press("p")
    assert "step 6 of 19" in terminal.press("g 6")
    assert "there is no step 99; give 0 to 19" in terminal.press("g 99")
    assert "step 19 of 19" in terminal.press("g $")
    assert "this is the end" in terminal.press("n")
    again = terminal.press("e")
    assert "from the beginning again" in again
    assert "step 12 of 19  ✗ model request · failed  overloaded" in again
    assert "nothing has happened yet" in terminal.press("g 0")
    found = terminal.press("/OVERLOADED")
    assert "1 of 1 step with that text" in found
    assert "overloaded" in found
    assert "from the beginning again" in terminal.press("/")
    assert "is no command; h shows which there are" in terminal.press("frobnicate")
    assert "/TEXT" in terminal.press("?")
    assert terminal.leave(b"q\r") == 0


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param("f ~nobody-of-this-name/fork.jsonl", "there is no such home", id="home"),
        pytest.param(f"n 000000001{'9' * 300}", "step 19 of 19", id="number"),
        pytest.param("p 100", "this is the beginning", id="far"),
        pytest.param("p 0", "give a number of steps", id="nothing"),
    ],
)
def test_what_is_mistyped_ends_no_walk(folder: Path, keys: str, said: str) -> None:
    terminal = DebugTerminal("run.jsonl", "--session", "fix-1", cwd=folder)
    assert said in " ".join(terminal.press(keys).split())
    assert terminal.leave(b"q\r") == 0


def test_keys_show_the_state_the_transcript_and_a_filter(folder: Path) -> None:
    terminal = DebugTerminal("run.jsonl", "--session", "fix-1", "--kind", "approval", cwd=folder)
    terminal.begin()
    state = terminal.press("s")
    assert "an answer is awaited" in state
    assert "edit_file call-2: waits for approval (approval-1)" in state
    talk = terminal.press("t")
    assert "The tests of the parser fail. Fix them." in talk
    assert "strip blanks now" not in talk
    assert "3 of 19 steps" in terminal.press("k tool_call")
    assert "1 of 19 steps" in terminal.press("o run_tests")
    assert terminal.press("l").count("tool call") == 1
    assert "no step is of that kind and tool; all as before; tools: edit_file" in terminal.press("o nobody")
    assert "3 of 19 steps" in terminal.press("o")
    assert "19 of 19 steps" in terminal.press("k")
    assert "did you mean 'tool_call'?" in terminal.press("k toolcall")
    assert terminal.leave(b"\x04") == 0


# A Ctrl-C that comes just before Python waits for keys is seen with the next one, so there is one.
@pytest.mark.parametrize(("keys", "code"), [(b"\x03\r", 130), (b"\x04", 0), (b"q\r", 0)], ids=["C", "D", "q"])
def test_it_is_left_quietly(folder: Path, keys: bytes, code: int) -> None:
    terminal = DebugTerminal("run.jsonl", cwd=folder)
    shown = terminal.begin()
    assert terminal.leave(keys) == code
    rest = terminal.shown.decode()[len(shown) :]
    assert "Traceback" not in rest
    assert "interrupted" not in rest


def test_what_is_long_is_bounded_and_paged_when_it_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    text = "\n".join(f"line {number} " + "word " * 30 for number in range(60))
    with Agent(ScriptedModel([text]), observers=[JsonlReporter(log)]) as agent:
        agent.run("go")
    terminal = DebugTerminal("run.jsonl", "--step", "4", cwd=tmp_path)
    shown = terminal.begin()
    assert "more lines, 9," in shown
    assert shown.count("\n") <= 24
    assert all(len(line) <= 80 for line in shown.split("\n"))
    page = terminal.press("v")
    assert page.endswith("-- more: Enter, or q -- ") or "-- more" in page
    assert "line 59" not in page
    assert terminal.press("q").endswith("> ")
    assert terminal.leave(b"q\r") == 0


# --- forks


def test_f_forks_into_a_new_log_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_fixed(tmp_path / "run.jsonl")
    before = (tmp_path / "run.jsonl").read_bytes()
    terminal = DebugTerminal("run.jsonl", "--step", "8", cwd=tmp_path)
    refused = terminal.press("f")
    assert "fork refused because 1 call (edit_file) had no result yet" in refused
    terminal.press("g 5")
    said = terminal.press("f")
    assert "run-fork-5.jsonl" in said
    assert "agentkit resume run-fork-5.jsonl --agent MODULE:NAME" in said
    assert "run-fork-5-2.jsonl" in terminal.press("f")
    assert "there is such a file already" in terminal.press("f run.jsonl")
    assert terminal.leave(b"q\r") == 0
    assert (tmp_path / "run.jsonl").read_bytes() == before
    assert (tmp_path / "run-fork-5.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("deltas", ["all", "none"])
def test_a_fork_from_every_point_is_a_whole_session_that_an_agent_goes_on_with(
    tmp_path: Path, deltas: str
) -> None:
    write_fixed(tmp_path / "run.jsonl")
    source = tmp_path / "run.jsonl"
    if deltas == "none":
        source = tmp_path / "none.jsonl"
        reporter = JsonlReporter(source, deltas="none")
        for event in read_events(tmp_path / "run.jsonl"):
            reporter.handle_event(event)
        reporter.close()
    replay = DebugReplay.open(source)
    forked = 0
    while step := replay.step():
        place = tmp_path / f"fork-{step.number}.jsonl"
        if replay.state().open_calls:
            with pytest.raises(ConfigurationError, match="had no result yet"):
                write_fork(replay, place)
            assert not place.exists()
            continue
        fork = write_fork(replay, place)
        forked += 1
        assert not check_log(place).faults
        first = next(iter(read_events(place)))
        assert isinstance(first, RunStarted)
        assert (first.agent_name, first.model, len(first.tools)) == ("fixer", "claude-sonnet-5-5", 3)
        assert first.items == replay.state().transcript + replay.state().waiting_input
        assert first.metadata[FORKED_FROM]["seq"] == fork.seq == replay.state().seq
        with (
            Agent(ScriptedModel(["more"]), observers=[JsonlReporter(place)]) as agent,
            agent.resume(read_events(place)) as driver,
        ):
            result = driver.run() if fork.awaits_answer else driver.run("go on")
            assert result.text == "more"
        assert not check_log(place).faults
    assert forked > 10


def test_the_printed_command_goes_on_with_a_fork(tmp_path: Path) -> None:
    log = tmp_path / "my run.jsonl"
    with (
        Agent(
            ScriptedModel(["first answer", "second answer"], name="claude-sonnet-5"),
            system="Be brief.",
            observers=[JsonlReporter(log)],
        ) as agent,
        agent.start() as driver,
    ):
        driver.run("one")
        driver.run("two")
    replay = DebugReplay.open(log)
    replay.seek(5)  # behind the first answer
    fork = write_fork(replay, tmp_path / "my fork.jsonl")
    assert not fork.awaits_answer
    printed = resume_command(Path("my fork.jsonl"), fork.tools, asks=True)
    words = shlex.split(printed)
    assert words == ["agentkit", "resume", "my fork.jsonl", "YOUR PROMPT"]
    with MessagesServer([Reply(text="another second answer")]) as server:
        result = agentkit(
            *words[1:3], "two, again", "--base-url", server.base_url, cwd=tmp_path, ANTHROPIC_API_KEY="x"
        )
    assert (result.returncode, result.stdout) == (0, "another second answer\n")
    went = DebugReplay.open(tmp_path / "my fork.jsonl")
    texts = [item.text for item in went.state_after(len(went)).transcript]
    assert texts == ["one", "first answer", "two, again", "another second answer"]


def test_a_fork_is_refused_where_there_is_none(folder: Path, tmp_path: Path) -> None:
    steps = DebugReplay.open(folder / "steps.jsonl", "fix-1")
    replay = DebugReplay.open(folder / "run.jsonl")
    place = tmp_path / "fork.jsonl"
    with pytest.raises(ConfigurationError, match="a step log holds no conversation"):
        write_fork(steps, place)
    with pytest.raises(ConfigurationError, match="nothing has happened here yet"):
        write_fork(replay, place)
    replay.seek(5)
    with pytest.raises(ConfigurationError, match="was edited"):
        write_fork(replay.edit(0, agent_name="x"), place)
    place.touch()
    with pytest.raises(LogError, match="there is such a file already"):
        write_fork(replay, place)
    assert place.read_bytes() == b""


@pytest.mark.parametrize(
    ("tools", "asks", "told"),
    [
        ((), True, "agentkit resume f.jsonl 'YOUR PROMPT'"),
        (("read_file", "edit_file"), False, "agentkit resume f.jsonl --allow-write"),
        (("run_command",), False, "agentkit resume f.jsonl --allow-command"),
        (("read_file", "add_up"), True, "agentkit resume f.jsonl 'YOUR PROMPT' --agent MODULE:NAME"),
    ],
    ids=["none", "write", "command", "own"],
)
def test_the_command_has_the_options_for_the_tools(tools: tuple[str, ...], asks: bool, told: str) -> None:
    assert resume_command(Path("f.jsonl"), tools, asks=asks) == told


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
