"""How a person at a terminal is asked about a call, and what each answer does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.content import ToolCallPart
from agentkit_loop.file_reach import Reach
from agentkit_loop.permissions import Approve, Deny
from agentkit_loop.previews import MAX_LINE_CHARS, MAX_LINES, preview
from agentkit_loop.steps import ApprovalRequest
from agentkit_reporting.cli.approvals import TerminalApprover, login_name
from tests.cli.questions import COLUMNS, PATIENCE_S, ROWS, Terminal

READY = "[y]es, [n]o, [a]ll like this (for this run), [?] "
NOT_ALL_SHOWN = "[s]how all, [n]o, [?] "
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def request(name: str, why: str | None = None, **arguments: Any) -> ApprovalRequest:
    return ApprovalRequest(
        approval_id="approval-1",
        call=ToolCallPart(id="call-1", name=name, input=arguments),
        summary="not looked at",
        reason=why,
        session_id="ses_1",
        answer=lambda _: None,
    )


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Person:
    """Somebody at a terminal who is asked by an approver for a folder."""

    def __init__(self, terminal: Terminal, folder: Path, pool: ThreadPoolExecutor, **options: Any) -> None:
        self.terminal = terminal
        self._pool = pool
        self._approver = TerminalApprover(
            Reach(folder), terminal=terminal.path, **{"colour": False, **options}
        )

    def is_asked(self, name: str, **arguments: Any) -> Future[Approve | Deny | None]:
        return self._pool.submit(self._approver, request(name, **arguments))

    def answers(self, *keys: str, name: str, ready: str = READY, **arguments: Any) -> Approve | Deny | None:
        """Be asked, type these lines when the question stands there, and return what comes of it."""
        answer = self.is_asked(name, **arguments)
        for typed in keys:
            self.terminal.wait_for(ready)
            self.terminal.type(typed)
        return answer.result(timeout=PATIENCE_S)


@pytest.fixture
def person(terminal: Terminal, tmp_path: Path, elsewhere: ThreadPoolExecutor) -> Person:
    return Person(terminal, tmp_path, elsewhere)


# --- answers


@pytest.mark.parametrize("typed", ["l\n", " Later\n"])
def test_a_question_may_be_left_open_where_a_resume_can_ask_it_again(
    terminal: Terminal, tmp_path: Path, elsewhere: ThreadPoolExecutor, typed: str
) -> None:
    person = Person(terminal, tmp_path, elsewhere, may_leave=True)
    ready = READY.replace("[n]o", "[n]o, [l]ater")
    assert person.answers("?\n", typed, name="run_command", command="ls", ready=ready) is None
    assert "agentkit resume asks again" in terminal.text


def test_without_a_log_there_is_no_later(person: Person) -> None:
    assert person.answers("l\n", "?\n", "n\n", name="run_command", command="ls") == Deny(by=login_name())
    assert "not understood" in person.terminal.text
    assert "resume" not in person.terminal.text


@pytest.mark.parametrize("typed", ["y\n", "Y\n", " yes \n"])
def test_a_yes_approves_in_the_name_of_who_is_logged_in(person: Person, typed: str) -> None:
    answer = person.answers(typed, name="run_command", command="ls")
    assert answer == Approve(by=login_name())
    assert login_name()


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("n\n", None),
        ("NO\n", None),
        ("n because it is Friday\n", "because it is Friday"),
        ("no, not now\n", "not now"),
    ],
)
def test_a_no_denies_with_the_reason_that_was_typed(person: Person, typed: str, reason: str | None) -> None:
    assert person.answers(typed, name="run_command", command="ls") == Deny(reason=reason, by=login_name())


def test_the_end_of_input_is_a_no_also_behind_a_y(person: Person) -> None:
    assert person.answers("\x04", name="run_command", command="ls") == Deny(by=login_name())
    assert person.answers("y\x04\x04", name="run_command", command="ls") == Deny(by=login_name())


def test_the_end_of_input_says_that_it_is_a_no(person: Person) -> None:
    person.answers("\x04", name="run_command", command="ls")
    person.terminal.wait_for("\r\n  the input ended, which is taken as a no\r\n")


@pytest.mark.parametrize(
    "typed", ["\n", "yy\n", "y please do\n", "ja\n", "\x1b[A\n", "naïve\n", "\x1b]0;x\x07y\n"]
)
def test_what_is_no_answer_is_asked_again(person: Person, typed: str) -> None:
    answer = person.answers(typed, "n\n", name="run_command", command="ls")
    assert answer == Deny(by=login_name())
    assert "not understood" in person.terminal.text


def test_control_characters_in_a_reason_are_made_visible(person: Person) -> None:
    answer = person.answers("n a\x1b[2Jb\n", name="run_command", command="ls")
    assert answer == Deny(reason="a\\x1b[2Jb", by=login_name())


def test_what_was_typed_before_the_question_answers_nothing(person: Person) -> None:
    person.terminal.type("y\ny\ny")
    assert person.answers("n\n", name="run_command", command="rm -rf .") == Deny(by=login_name())


def test_what_was_typed_behind_an_answer_answers_no_further_question(person: Person) -> None:
    assert person.answers("y\ny\n", name="run_command", command="ls") == Approve(by=login_name())
    assert person.answers("n\n", name="run_command", command="rm -rf .") == Deny(by=login_name())
    assert person.answers("?\ny\n", "n\n", name="run_command", command="rm -rf .") == Deny(by=login_name())


def test_the_letters_are_explained(person: Person) -> None:
    person.answers("?\n", "n\n", name="run_command", command="ls")
    assert "  n, n WHY   no; the model is told why, and goes on\n" in person.terminal.text


# --- what is shown


def test_a_change_is_shown_as_a_diff(person: Person, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\nthree\n")
    person.answers("y\n", name="edit_file", path="a.py", old="two", new="2")
    assert person.terminal.text.removesuffix("y\n") == (
        "  edit a.py (+1 -1)\n"
        "  │ --- a.py\n"
        "  │ +++ a.py\n"
        "  │ @@ -1,3 +1,3 @@\n"
        "  │  one\n"
        "  │ -two\n"
        "  │ +2\n"
        "  │  three\n"
        f"  {READY}"
    )


def test_spaces_at_the_end_of_a_line_are_part_of_the_diff(person: Person, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x \n")
    person.answers("y\n", name="write_file", path="a", content="x\n")
    assert "  │ -x \n  │ +x\n" in person.terminal.text


def test_a_command_is_shown_whole_with_its_directory(person: Person, tmp_path: Path) -> None:
    person.answers("y\n", name="run_command", command="cd src\nrm x")
    assert "  │ $ cd src\n  │ > rm x\n" in person.terminal.text
    shown = person.terminal.text.replace("\n  ┆ ", "")
    assert f"  │ in {tmp_path}\n" in shown


def test_an_empty_file_is_shown_with_its_whole_path(person: Person) -> None:
    path = f"{'deep/' * 40}x"
    person.answers("y\n", name="write_file", path=path, content="")
    shown = person.terminal.text.replace("\n  ┆ ", "")
    assert f"  │ +++ {path}\n  │ (an empty file)\n" in shown


def test_colour_is_there_where_it_is_on_and_nowhere_else(
    terminal: Terminal, tmp_path: Path, elsewhere: ThreadPoolExecutor
) -> None:
    person = Person(terminal, tmp_path, elsewhere, colour=True)
    answer = person.is_asked("write_file", path="a", content="x\n")
    terminal.wait_for("[?]")
    terminal.type("y\n")
    assert answer.result(timeout=PATIENCE_S) == Approve(by=login_name())
    assert "\x1b[32m+x\x1b[0m\n" in terminal.text
    plain = ANSI.sub("", terminal.text)
    assert "\x1b" not in plain
    assert "  │ +x\n" in plain


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u2066\x9b\x08\r\u200d"


def test_nothing_that_is_shown_controls_the_terminal_or_passes_for_a_line_of_ours(
    person: Person, tmp_path: Path
) -> None:
    (tmp_path / "old").write_text(f"before {HOSTILE}\n")
    asked: list[tuple[str, dict[str, str]]] = [
        ("run_command", {"command": f"echo {HOSTILE}\n\n  [y]es, [n]o\r"}),
        ("write_file", {"path": f"new{HOSTILE}", "content": f"{HOSTILE}\n  [y]es\x85  [n]o\u2028\n"}),
        ("edit_file", {"path": "old", "old": HOSTILE, "new": f"{HOSTILE}{HOSTILE}"}),
        ("write_file", {"path": "wide", "content": f"{' ' * (COLUMNS - 5)}  [y]es, [n]o [y]es\n"}),
    ]
    for name, arguments in asked:
        assert person.answers("n\n", name=name, **arguments) == Deny(by=login_name())
    text = person.terminal.text
    assert all(line.isprintable() for line in text.split("\n"))
    ours = [line for line in text.split("\n") if not line.startswith(("  │ ", "  ┆ "))]
    questions = [line.removesuffix("n") for line in ours if line.startswith("  [y]es")]
    assert questions == [f"  {READY}"] * len(asked)
    assert all(len(line) <= COLUMNS for line in text.split("\n"))


def test_what_does_not_fit_is_approved_after_it_was_shown_and_not_before(person: Person) -> None:
    content = "".join(f"line {number}\n" for number in range(200))
    answer = person.is_asked("write_file", path="long.txt", content=content)
    for typed in ("y\n", "a\n", "a *\n", "s\n"):
        person.terminal.wait_for(NOT_ALL_SHOWN)
        assert not answer.done()
        assert "line 199" not in person.terminal.text
        assert person.terminal.text.count("\n") < ROWS + 8
        person.terminal.type(typed)
    person.terminal.wait_for(READY)
    text = person.terminal.text
    assert "187 more lines; s shows all\n" in text
    assert text.count("not all of it was shown yet; s shows it") == 3
    assert all(f"  │ +line {number}\n" in text for number in range(200))
    person.terminal.type("y\n")
    assert answer.result(timeout=PATIENCE_S) == Approve(by=login_name())


@pytest.mark.parametrize(
    "content",
    ["".join(f"{number}\n" for number in range(MAX_LINES + 500)), f"{'x' * MAX_LINE_CHARS}, and 10 more"],
    ids=["lines", "characters"],
)
@pytest.mark.parametrize("earlier", [None, b"text\n", b"\xff\xfe\x00"], ids=["new", "text", "bytes"])
def test_what_a_preview_leaves_out_is_shown_on_demand(
    person: Person, tmp_path: Path, content: str, earlier: bytes | None
) -> None:
    if earlier is not None:
        (tmp_path / "a").write_bytes(earlier)
    assert not preview("write_file", {"path": "a", "content": content}, Reach(tmp_path)).is_whole
    answer = person.is_asked("write_file", path="a", content=content)
    person.terminal.wait_for(NOT_ALL_SHOWN)
    person.terminal.type("s\n")
    person.terminal.wait_for(READY)
    shown = person.terminal.text.rpartition("s shows all")[2].replace("\n  ┆ ", "")
    for line in content.split("\n"):
        assert f"  │ +{line}".rstrip("+") in shown
    assert "more lines" not in shown
    person.terminal.type("y\n")
    assert answer.result(timeout=PATIENCE_S) == Approve(by=login_name())


def test_a_file_that_changed_while_it_was_looked_at_is_shown_again(person: Person, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    answer = person.is_asked("write_file", path="a", content="two\n")
    person.terminal.wait_for(READY)
    (tmp_path / "a").write_text("of somebody else\n")
    person.terminal.type("y\n")
    person.terminal.wait_for("the files have changed meanwhile")
    person.terminal.wait_for("-of somebody else\r\n")
    person.terminal.wait_for(READY)
    person.terminal.type("n\n")
    assert answer.result(timeout=PATIENCE_S) == Deny(by=login_name())


def test_a_change_that_became_impossible_meanwhile_is_told_in_full(person: Person, tmp_path: Path) -> None:
    path = f"{'deep/' * 20}a"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("one\n")
    answer = person.is_asked("edit_file", path=path, old="one", new="two")
    person.terminal.wait_for(READY)
    (tmp_path / path).write_text("of somebody else\n")
    person.terminal.type("y\n")
    reason = f"no match for old in '{path}'; read the file and give its text exactly, with all spaces"
    assert answer.result(timeout=PATIENCE_S) == Deny(reason=reason)
    person.terminal.wait_for("the files have changed meanwhile; it is not done, because:\r\n")
    person.terminal.wait_for("with all spaces\r\n")
    assert reason in person.terminal.text.replace("\n  ┆ ", "")


def test_why_a_call_is_asked_about_is_not_cut(person: Person) -> None:
    why = "it would pay more than is usual, " * 9 + "and to a stranger\x1b[2J"
    answer = person.is_asked("pay", why=why, amount=9)
    person.terminal.wait_for(READY)
    assert f"  │ {why}".replace("\x1b", "\\x1b") in person.terminal.text.replace("\n  ┆ ", "")
    person.terminal.type("n\n")
    assert answer.result(timeout=PATIENCE_S) == Deny(by=login_name())


def test_a_call_that_its_tool_would_refuse_is_denied_in_the_tools_words(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "a").write_text("x")
    approver = TerminalApprover(Reach(tmp_path), allowed=["*"], terminal="/nowhere")
    refused = {
        "../a": "path '../a' goes up with '..'; give one from the root downwards",
        "out/passwd": "'out/passwd' is a link that leads out of the root",
        ".env": "'.env' is kept out because it may hold secrets; look at other files",
    }
    for path, reason in refused.items():
        assert approver(request("write_file", path=path, content="")) == Deny(reason=reason)
    answer = approver(request("edit_file", path="a", old="y", new="z"))
    assert isinstance(answer, Deny)
    assert (answer.reason or "").startswith("no match for old in 'a'")


# --- all like this


def test_all_like_this_is_this_command_alone(person: Person) -> None:
    first = person.answers("a\n", name="run_command", command="ls *.[ch]?; pwd")
    assert isinstance(first, Approve)
    again = person.is_asked("run_command", command="ls *.[ch]?; pwd").result(timeout=PATIENCE_S)
    assert again == Approve(reason="allowed by 'run_command(ls [*].[[]ch][?]; pwd)'", by=login_name())
    for other in ("ls x.ch!; pwd", "ls *.[ch]?; pwd; rm -rf .", "ls"):
        assert person.answers("n\n", name="run_command", command=other) == Deny(by=login_name())


def test_all_like_this_is_the_file_that_a_path_leads_to(person: Person, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert isinstance(person.answers("a\n", name="write_file", path="./src//a", content="1"), Approve)
    again = person.is_asked("write_file", path="src/a", content="2").result(timeout=PATIENCE_S)
    assert again == Approve(reason="allowed by 'write_file(src/a)'", by=login_name())
    (tmp_path / "src" / "a").write_text("1")
    assert person.answers("n\n", name="write_file", path="src/b", content="") == Deny(by=login_name())
    assert person.answers("n\n", name="edit_file", path="src/a", old="1", new="") == Deny(by=login_name())


def test_a_pattern_behind_the_a_is_for_more_and_has_to_fit_this_call(person: Person) -> None:
    answer = person.answers("a hg *\n", "a git *\n", name="run_command", command="git status")
    assert answer == Approve(reason="and from now on 'run_command(git *)'", by=login_name())
    assert "run_command(hg *) does not allow this call" in person.terminal.text
    assert isinstance(person.is_asked("run_command", command="git diff").result(timeout=PATIENCE_S), Approve)
    assert person.answers("n\n", name="run_command", command="git diff; id") == Deny(by=login_name())


# --- no terminal


@pytest.mark.parametrize(
    ("name", "arguments", "option"),
    [
        ("run_command", {"command": "git status"}, "--yes 'run_command(git status)'"),
        ("run_command", {"command": "ls *"}, "--yes 'run_command(ls [*])'"),
        ("run_command", {"command": "echo 'a'"}, "--yes 'run_command(echo '\"'\"'a'\"'\"')'"),
        ("write_file", {"path": "./a b", "content": ""}, "--yes 'write_file(a b)'"),
        ("run_command", {"command": "a\nb"}, "--yes with a pattern for it"),
        ("run_command", {"command": "x" * 200}, "--yes with a pattern for it"),
    ],
)
def test_without_a_terminal_a_call_is_denied_with_the_option_that_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: dict[str, str], option: str
) -> None:
    approver = TerminalApprover(Reach(tmp_path), terminal=str(tmp_path / "none"))
    answer = approver(request(name, **arguments))
    assert answer == Deny(reason=f"denied because there is no terminal to ask on; {option} allows it")
    said = capsys.readouterr().err
    assert said.startswith("agentkit: denied because there is no terminal to ask on: ")
    assert said.endswith(f"; {option} allows it\n")


def test_without_a_terminal_a_call_may_be_left_open(tmp_path: Path) -> None:
    reach, nowhere = Reach(tmp_path), str(tmp_path / "none")
    approver = TerminalApprover(reach, allowed=["run_command(ls)"], leave_open=True, terminal=nowhere)
    assert approver(request("run_command", command="pwd")) is None
    assert isinstance(approver(request("run_command", command="ls")), Approve)


def test_a_terminal_that_goes_away_denies(tmp_path: Path, elsewhere: ThreadPoolExecutor) -> None:
    with Terminal() as terminal:
        person = Person(terminal, tmp_path, elsewhere)
        answer = person.is_asked("run_command", command="ls")
        terminal.wait_for(READY)
    assert isinstance(answer.result(timeout=PATIENCE_S), Deny)
