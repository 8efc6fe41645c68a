"""Which calls a person allowed beforehand with patterns, and which patterns are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.call_patterns import is_literal
from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_reach import Reach
from agentkit_loop.previews import MAX_LINE_CHARS, MAX_LINES, preview
from agentkit_reporting.cli.allowed_calls import AllowedCalls, usable_patterns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("src/.git/hooks", "src/App (new)", ".git/hooks", "docs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "src" / "way").symlink_to(tmp_path / ".git")
    (tmp_path / "src" / "other").symlink_to(tmp_path / "docs")
    (tmp_path / "src" / "outside").symlink_to("/tmp")  # noqa: S108 - nothing is written there
    (tmp_path / "alias").symlink_to(tmp_path / "src")
    (tmp_path / "src" / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


def is_allowed(folder: Path, pattern: str, name: str, **arguments: str) -> bool:
    reach = Reach(folder)
    call = ToolCallPart(id="call-1", name=name, input={**arguments})
    found = AllowedCalls(reach, [pattern]).pattern_for(call, preview(name, arguments, reach))
    assert found in (None, pattern)
    return found is not None


@pytest.mark.parametrize("path", ["src/a.py", "./src/a.py", "src//deep/er/a.py", "src/App (new)/page;$x"])
def test_a_pattern_allows_the_files_below_its_directory(folder: Path, path: str) -> None:
    assert is_allowed(folder, "write_file(src/*)", "write_file", path=path, content="x")
    assert is_allowed(folder, "write_*", "write_file", path=path, content="x")
    assert not is_allowed(folder, "edit_file(src/*)", "write_file", path=path, content="x")
    assert not is_allowed(folder, "write_file(docs/*)", "write_file", path=path, content="x")


@pytest.mark.parametrize(
    "path",
    [
        "src/../.git/hooks/x",
        "src/../docs/x",
        "src/way/hooks/x",
        "src/other/x",
        "src/outside/x",
        "alias/x",
        "src",
        "src/",
        "/src/x",
        "~/src/x",
        "src/.env",
        "src/x\0",
        "docs/x",
        "",
    ],
)
def test_a_pattern_of_paths_is_not_fooled(folder: Path, path: str) -> None:
    assert not is_allowed(folder, "write_file(src/*)", "write_file", path=path, content="x")


@pytest.mark.parametrize(
    "pattern", ["*", "write_file", "write_file(*)", "write_file(?*)", "write_file(*[a-z])"]
)
@pytest.mark.parametrize(
    "path", [".git/hooks/x", "src/.git/hooks/x", ".GIT/config", ".g\u200cit/config", "src/.hg/hgrc", ".git"]
)
def test_no_pattern_with_a_wildcard_allows_a_change_of_version_control(
    folder: Path, pattern: str, path: str
) -> None:
    assert not is_allowed(folder, pattern, "write_file", path=path, content="x")
    assert is_allowed(folder, pattern, "write_file", path="src/.gitignore", content="x")


def test_a_file_of_version_control_is_allowed_by_its_name(folder: Path) -> None:
    assert is_allowed(folder, "write_file(.git/hooks/x)", "write_file", path=".git/hooks/x", content="x")


@pytest.mark.parametrize("content", ["x\n" * (MAX_LINES + 1), "x" * (MAX_LINE_CHARS + 1)])
def test_no_pattern_with_a_wildcard_allows_what_is_not_shown_whole(folder: Path, content: str) -> None:
    assert not is_allowed(folder, "write_file(src/*)", "write_file", path="src/a", content=content)
    assert is_allowed(folder, "write_file(src/a)", "write_file", path="src/a", content=content)


def test_no_pattern_with_a_wildcard_replaces_what_cannot_be_shown(folder: Path) -> None:
    assert not is_allowed(folder, "write_file(src/*)", "write_file", path="src/binary", content="x")
    assert is_allowed(folder, "write_file(src/binary)", "write_file", path="src/binary", content="x")


@pytest.mark.parametrize(
    ("pattern", "command", "allowed"),
    [
        ("run_command(git diff*)", "git diff --stat", True),
        ("run_command(git diff*)", "git status", False),
        ("run_command(git diff*)", "git diff; rm -rf .", False),
        ("run_command(git diff*)", "git diff $(id)", False),
        ("run_command(git diff*)", "git diff\nid", False),
        ("run_command(git diff*)", "git diff > x", False),
        ("run_command(ls [*].py)", "ls *.py", True),
        ("run_command(ls [*].py)", "ls a.py", False),
        ("run_command(a; b)", "a; b", True),
        ("run_command", "anything | at all", True),
        ("write_file", "ls", False),
    ],
)
def test_a_pattern_of_commands_allows_what_it_says(
    folder: Path, pattern: str, command: str, allowed: bool
) -> None:
    assert is_allowed(folder, pattern, "run_command", command=command) is allowed


def test_of_a_tool_of_somebody_elses_a_pattern_knows_the_only_argument(folder: Path) -> None:
    assert is_allowed(folder, "fetch(https://a.example/*)", "fetch", url="https://a.example/b")
    assert not is_allowed(folder, "fetch(https://a.example/*)", "fetch", url="https://a.example/b", body="x")
    assert is_allowed(folder, "fetch", "fetch", url="https://a.example/b", body="x")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(command=TEXTS, other=TEXTS)
def test_the_literal_pattern_of_a_command_is_for_it_alone(command: str, other: str) -> None:
    reach = Reach(os.curdir)
    calls = AllowedCalls(reach)
    call = ToolCallPart(id="c", name="run_command", input={"command": command})
    pattern = calls.literal_pattern(call)
    assert is_literal(pattern)
    assert calls.is_allowed_by(pattern, call, preview("run_command", call.input, reach))
    if other != command:
        call = ToolCallPart(id="c", name="run_command", input={"command": other})
        assert not calls.is_allowed_by(pattern, call, preview("run_command", call.input, reach))


NAMES = ("write_file", "edit_file", "run_command")


@pytest.mark.parametrize("path", ["./src/*", "src//*", "src/./*", "src/", "src/../a", "/src/*", "~/x"])
def test_a_pattern_whose_path_no_call_can_have_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="because its path can be no file's; give one from the root"):
        usable_patterns([f"write_file({path})"], NAMES)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "pattern '' refused; give text such as 'read_*' or 'run(git *)'"),
        ("run_command(git", "pattern 'run_command(git' refused; close its bracket, as in 'run(git *)'"),
        (
            "runcommand(ls)",
            (
                "--yes 'runcommand(ls)' refused because no tool of that name asks; "
                "give one of write_file, edit_file, run_command"
            ),
        ),
        (
            "run_command()",
            "--yes 'run_command()' refused because nothing is in it; give 'run_command' for all",
        ),
        (
            "write_file(../x)",
            (
                "--yes 'write_file(../x)' refused because its path can be no file's; "
                "give one from the root downwards, such as 'write_file(src/*)'"
            ),
        ),
    ],
)
def test_a_pattern_that_allows_nothing_is_refused_in_one_sentence(pattern: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        usable_patterns([pattern], NAMES)
    assert str(caught.value) == said


def test_patterns_without_a_tool_that_asks_name_the_options() -> None:
    with pytest.raises(ConfigurationError, match="give --allow-write or --allow-command with it"):
        usable_patterns(["write_file"], ())
    assert usable_patterns(["*", "write_*(a)"], NAMES) == ("*", "write_*(a)")
