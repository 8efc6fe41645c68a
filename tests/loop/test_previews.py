"""What a person is shown before a call is approved: what it would do, bounded, whatever the call is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.commands import command_tool
from agentkit_loop.file_changes import MAX_TEXT_BYTES
from agentkit_loop.file_reach import Reach
from agentkit_loop.file_writing import change_tools
from agentkit_loop.previews import (
    MAX_CHARS,
    MAX_COMMAND_CHARS,
    MAX_LINE_CHARS,
    MAX_LINES,
    Preview,
    preview,
    summary_of_command,
    summary_of_edit,
    summary_of_write,
)
from tests.loop.file_samples import make_root
from tests.strategies import json_values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


def seen(root: Path, tool_name: str, **arguments: Any) -> Preview:
    return preview(tool_name, arguments, Reach(root, hidden=[root / "logs"]))


# --- files


def test_a_new_file_is_shown_whole(root: Path) -> None:
    assert seen(root, "write_file", path="./src/new.py", content="one\ntwo") == Preview(
        "write src/new.py (new, 2 lines)",
        (
            "--- /dev/null",
            "+++ src/new.py",
            "@@ -0,0 +1,2 @@",
            "+one",
            "+two",
            "\\ No newline at end of file",
        ),
        is_whole=True,
    )
    assert seen(root, "write_file", path="e", content="") == Preview(
        "write e (new, 0 lines)", ("(an empty file)",), is_whole=True
    )


def test_a_file_that_is_there_is_shown_as_a_diff(root: Path) -> None:
    told = ("--- notes.txt", "+++ notes.txt", "@@ -1,3 +1,4 @@", " one", "-two", "+2", "+2.5", " three")
    assert seen(root, "write_file", path="notes.txt", content="one\n2\n2.5\nthree\n") == Preview(
        "write notes.txt (+2 -1)", told, is_whole=True
    )
    assert seen(root, "edit_file", path="notes.txt", old="two", new="2\n2.5") == Preview(
        "edit notes.txt (+2 -1)", told, is_whole=True
    )
    assert seen(root, "write_file", path="notes.txt", content="one\ntwo\nthree\n") == Preview(
        "write notes.txt (+0 -0)", ("(no change)",), is_whole=True
    )


def test_a_change_of_line_ends_is_seen(root: Path) -> None:
    shown = seen(root, "write_file", path="notes.txt", content="one\r\ntwo\nthree\n")
    assert shown.lines[3:5] == ("-one", "+one\r")


def test_what_cannot_be_compared_is_replaced_by_all_that_is_new(root: Path) -> None:
    (root / "picture").write_bytes(b"\xff\0")
    (root / "large").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    for path in ("picture", "large"):
        assert seen(root, "write_file", path=path, content="one\n") == Preview(
            f"write {path} (1 line in place of what is large or no text)",
            ("(what is there now cannot be shown)", "+one"),
            is_whole=True,
        )


def test_of_a_link_it_is_told_where_it_leads(root: Path) -> None:
    (root / "way").symlink_to("src/main.py")
    shown = seen(root, "edit_file", path="way", old="Hello", new="Bye")
    assert shown.summary == "edit way -> src/main.py (+1 -1)"
    assert shown.lines[:2] == ("--- src/main.py", "+++ src/main.py")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../x", "refused: path '../x' goes up with '..'; give one from the root downwards"),
        ("out/x", "refused: 'out/x' is a link that leads out of the root"),
        ("logs/run.jsonl", "refused: 'logs/run.jsonl' is out of reach; look at other files"),
        (".env", "refused: '.env' is kept out because it may hold secrets; look at other files"),
        ("pipe", "refused: 'pipe' is a FIFO; only regular files are read"),
        ("src", "refused: 'src' is a directory; list_files shows what is in it"),
        ("a\0b", "refused: path 'a\\x00b' holds a NUL; give one without"),
    ],
)
def test_a_change_that_would_be_refused_says_so(root: Path, path: str, said: str) -> None:
    os.mkfifo(root / "pipe")
    (root / "out").symlink_to("../outside")
    named = path.replace("\0", "\\x00")
    assert seen(root, "write_file", path=path, content="x") == Preview(
        f"write {named} (1 line): refused", (said,), is_whole=True, refusal=said.removeprefix("refused: ")
    )
    assert seen(root, "edit_file", path=path, old="x", new="").lines == (said,)


def test_an_edit_that_does_not_match_says_so(root: Path) -> None:
    said = "no match for old in 'notes.txt'; read the file and give its text exactly, with all spaces"
    assert seen(root, "edit_file", path="notes.txt", old="four\nfive", new="") == Preview(
        "edit notes.txt (2 lines become 0): refused", (f"refused: {said}",), is_whole=True, refusal=said
    )


@pytest.mark.parametrize(
    ("tool_name", "arguments"),
    [
        ("write_file", {"path": "fixed", "content": "x"}),
        ("edit_file", {"path": "fixed", "old": "one", "new": "1"}),
        ("write_file", {"path": "x" * 300, "content": "x"}),
        ("write_file", {"path": f"deep/{'x' * 300}/a", "content": "x"}),
        ("write_file", {"path": "notes.txt/a", "content": "x"}),
        ("write_file", {"path": "new/", "content": "x"}),
        ("write_file", {"path": "new", "content": "\udc80"}),
        ("edit_file", {"path": "missing", "old": "x", "new": ""}),
        ("edit_file", {"path": "notes.txt", "old": "o", "new": ""}),
        ("run_command", {"command": " \n"}),
        ("run_command", {"command": "echo \0"}),
        ("run_command", {"command": "x" * (MAX_COMMAND_CHARS + 1)}),
    ],
)
def test_a_refusal_is_in_the_words_of_the_tool(root: Path, tool_name: str, arguments: dict[str, str]) -> None:
    (root / "fixed").write_text("one\n")
    (root / "fixed").chmod(0o444)
    (root / "deep").mkdir()
    shown = seen(root, tool_name, **arguments)
    assert shown.summary.endswith(": refused")
    assert shown.lines == (f"refused: {shown.refusal}",)
    tools = {one.name: one for one in (*change_tools(root), command_tool(root))}
    with pytest.raises((OSError, ValueError)) as caught:
        tools[tool_name](**tools[tool_name].bind(dict(arguments)))
    assert str(caught.value) == shown.refusal
    assert not (root / "new").exists()
    assert (root / "fixed").read_text() == "one\n"


def test_a_refusal_is_on_one_line_whatever_the_path_holds(root: Path) -> None:
    (root / "a\nb\x1b").mkdir()
    for path in ("a\nb\x1b", "\u202e/../x", "a\nb\x1b/\u2028\0"):
        refusal = seen(root, "write_file", path=path, content="").refusal
        assert refusal is not None
        assert refusal.isprintable()


def test_what_would_be_done_has_no_refusal(root: Path) -> None:
    (root / "fixed").write_text("one\n")
    for tool_name, arguments in (
        ("write_file", {"path": "new/er/a", "content": "x"}),
        ("write_file", {"path": "fixed", "content": "x"}),
        ("run_command", {"command": "ls"}),
        ("another", {"path": "fixed"}),
    ):
        assert seen(root, tool_name, **arguments).refusal is None


def test_what_is_shown_is_what_is_done(root: Path) -> None:
    write, edit = change_tools(root)
    for tool, arguments in (
        (write, {"path": "new/a", "content": "x\n"}),
        (write, {"path": "notes.txt", "content": "one\n"}),
        (edit, {"path": "src/main.py", "old": "Hello", "new": "Hello\n"}),
    ):
        summary = seen(root, tool.name, **arguments).summary
        done = str(tool(**tool.bind(dict(arguments))))
        assert done.partition(" (")[2] == summary.partition(" (")[2]


# --- commands


def test_a_command_is_shown_whole_with_its_directory(root: Path) -> None:
    assert seen(root, "run_command", command="git status") == Preview(
        f"run in {root}: git status", (f"in {root}", "$ git status"), is_whole=True
    )
    shown = seen(root, "run_command", command="cat <<E\n" + "line\r\n" * 3_000 + "E\x1b[2J")
    assert shown.lines[1] == "$ cat <<E"
    assert shown.lines[2:-1] == ("> line\r",) * 3_000
    assert shown.lines[-1] == "> E\x1b[2J"
    assert shown.is_whole


# --- bounds


def test_long_previews_are_cut_and_say_so(root: Path) -> None:
    many = seen(root, "write_file", path="new", content="x\n" * 5_000)
    assert many.lines[-1] == f"… [{5_000 + 3 - MAX_LINES:,} more lines]"
    assert len(many.lines) == MAX_LINES + 1
    long = seen(root, "write_file", path="new", content="y" * 3_000 + "\n")
    assert long.lines[-1] == "+" + "y" * (MAX_LINE_CHARS - 1) + "… [1,001 more characters]"
    much = seen(root, "write_file", path="new", content=("z" * 1_999 + "\n") * 500)
    assert sum(map(len, much.lines)) < MAX_CHARS + 2 * MAX_LINE_CHARS
    assert not many.is_whole
    assert not long.is_whole
    assert not much.is_whole


def test_a_summary_is_one_short_line_without_control_characters() -> None:
    nasty = "a\x1b[2J\n\r\u2028\u202e\x9b" + "x" * 5_000
    for summary in (
        summary_of_write({"path": nasty, "content": nasty}),
        summary_of_edit({"path": nasty, "old": nasty, "new": nasty}),
        summary_of_command({"command": nasty}),
        summary_of_command({"command": [nasty]}),
        preview(nasty, {nasty: nasty}, Reach(".")).summary,
    ):
        assert summary.isprintable()
        assert len(summary) < 800


def test_summaries_of_arguments_look_at_no_file() -> None:
    assert summary_of_write({"path": "no/such/place", "content": "a\nb"}) == "write no/such/place (2 lines)"
    assert summary_of_edit({"path": "x", "old": "a", "new": ""}) == "edit x (1 line becomes 0)"
    assert summary_of_command({"command": "a\nb"}) == "run: a\\nb"
    assert summary_of_write({"path": "x"}) == "write_file({'path': 'x'})"
    assert (
        summary_of_edit({"path": 1, "old": "", "new": ""}) == "edit_file({'path': 1, 'old': '', 'new': ''})"
    )
    assert summary_of_command({}) == "run_command({})"


# --- anything at all


def test_another_tool_is_shown_with_its_arguments(root: Path) -> None:
    assert seen(root, "send_mail", to=["ann"], text="Hello") == Preview(
        "send_mail({'to': ['ann'], 'text': 'Hello'})",
        ("{", '  "to": [', '    "ann"', "  ],", '  "text": "Hello"', "}"),
        is_whole=True,
    )


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["notes.txt", "one", "l/x", ".env", "\ud800", "\0", "x" * 5_000]
)


@given(
    tool_name=st.sampled_from(["write_file", "edit_file", "run_command"]) | st.text(max_size=5),
    arguments=st.fixed_dictionaries(
        {}, optional={name: TEXTS | json_values() for name in ("path", "content", "old", "new", "command")}
    ),
)
def test_no_call_makes_a_preview_raise(tool_name: str, arguments: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "notes.txt").write_text("one\n")
        Path(place, "l").symlink_to("..")
        shown = preview(tool_name, arguments, Reach(place))
        assert shown.summary.isprintable()
        assert shown.lines
        assert [entry.name for entry in sorted(Path(place).iterdir())] == ["l", "notes.txt"]


def test_arguments_that_are_no_object_at_all_are_shown(root: Path) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    wrong: tuple[Any, ...] = (
        None,
        "text",
        3,
        [1],
        {"path": deep},
        {1: 2},
        {"path": object()},
        {"x": float("nan")},
    )
    for arguments in wrong:
        for name in ("write_file", "other"):
            shown = preview(name, arguments, Reach(root))
            assert shown.summary.isprintable()
            assert shown.lines
