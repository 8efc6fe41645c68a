"""The tools that read files: what they give, and that nothing outside of their root is ever read."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import ToolResultPart
from agentkit_loop.file_reach import MAX_DEPTH, Reach
from agentkit_loop.file_reading import MAX_LINE_CHARS, MAX_MATCHES
from agentkit_loop.file_viewing import DEFAULT_LINES, MAX_LINES, MAX_LISTED, file_tools
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_arguments import ToolInputError
from tests.loop.file_samples import Tools, make_root
from tests.loop.tool_samples import context


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.fixture
def tools(root: Path) -> Tools:
    return Tools(root)


# --- listing


def test_files_are_listed_with_those_of_subdirectories_as_paths_from_the_root(tools: Tools) -> None:
    assert tools.ls() == [
        "[3 files below '.'; not entered: .git, node_modules]",
        "notes.txt",
        "src/deep/util.py",
        "src/main.py",
    ]
    assert tools.ls("src/deep") == ["[1 file below 'src/deep']", "src/deep/util.py"]


def test_a_directory_that_walks_pass_by_is_looked_into_where_it_is_named(tools: Tools) -> None:
    assert tools.ls(".git") == ["[1 file below '.git']", ".git/config"]
    assert tools.search("hello", path="node_modules")[1:] == ["node_modules/x/index.js:1: hello"]


def test_directories_of_one_name_that_are_not_entered_are_told_together(root: Path, tools: Tools) -> None:
    for place in ("src", "src/deep", "."):
        (root / place / "__pycache__").mkdir()
    assert tools.ls()[0] == (
        "[3 files below '.'; not entered: .git, __pycache__ (3 directories), node_modules]"
    )


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["src/deep/util.py", "src/main.py"]),
        ("main.*", ["src/main.py"]),
        ("src/*.py", ["src/main.py"]),
        ("**/*.py", ["src/deep/util.py", "src/main.py"]),
        ("src/**", ["src/deep/util.py", "src/main.py"]),
        ("src/**/deep/**/util.py", ["src/deep/util.py"]),
        ("**", ["notes.txt", "src/deep/util.py", "src/main.py"]),
        ("./notes.txt", ["notes.txt"]),
        ("*/notes.txt", []),
        ("*.PY", []),
    ],
)
def test_a_pattern_chooses_files_by_name_or_by_path(tools: Tools, pattern: str, found: list[str]) -> None:
    assert tools.ls(pattern=pattern)[1:] == found


def test_a_pattern_with_a_slash_goes_from_the_directory_that_is_listed(tools: Tools) -> None:
    assert tools.ls("src", pattern="deep/*")[1:] == ["src/deep/util.py"]
    assert tools.ls(pattern="*.rs")[0].startswith("[no files below '.' that match '*.rs'")
    assert "ask for each alone" in tools.refusal("list_files", pattern="*.{py,js}")


def test_of_very_many_files_the_nearest_are_listed_and_the_others_counted(root: Path, tools: Tools) -> None:
    (root / "src" / "many").mkdir()
    for number in range(MAX_LISTED):
        (root / "src" / "many" / f"{number:04}").touch()
    listed = tools.ls()
    assert listed[0].startswith(f"[{MAX_LISTED:,} of 1,003 files below '.'; for others list a subdirectory")
    assert len(listed) == 1 + MAX_LISTED
    assert {"notes.txt", "src/main.py", "src/many/0000"} < set(listed)
    assert "src/many/0999" not in listed


def test_a_walk_ends_at_its_limit_and_says_so(root: Path) -> None:
    walk = Reach(root).walk(".", limit=5)
    assert [found.parts for found in walk] == [("notes.txt",)]
    assert walk.stopped
    assert not Reach(root).walk(".", limit=500).stopped


def test_a_walk_does_not_go_down_for_ever(root: Path, tools: Tools) -> None:
    deep = root.joinpath(*["d"] * (MAX_DEPTH + 1))
    deep.mkdir(parents=True)
    (deep / "bottom.txt").touch()
    (deep.parent / "above.txt").touch()
    listed = tools.ls(pattern="*.txt")
    assert listed[1:] == ["/".join(["d"] * MAX_DEPTH) + "/above.txt", "notes.txt"]
    assert "not entered: .git, node_modules, d/d/" in listed[0]


def test_names_that_would_break_a_line_are_escaped(root: Path, tools: Tools) -> None:
    (root / "a\nb\x1b.txt").touch()
    (root / os.fsdecode(b"\xff.txt")).touch()
    assert tools.ls(pattern="*.txt")[1:] == ["a\\nb\\x1b.txt", "notes.txt", "\\udcff.txt"]


def test_listing_a_file_says_what_reads_it(tools: Tools) -> None:
    assert tools.refusal("list_files", path="notes.txt") == "'notes.txt' is a file; read_file reads it"


# --- reading


def test_a_file_is_read_behind_a_line_that_says_what_it_is(tools: Tools) -> None:
    assert tools.read("notes.txt") == ["['notes.txt': 3 lines]", "one", "two", "three"]
    assert tools.read("./src//main.py") == ["['./src//main.py': 1 line]", "print('Hello')"]


def test_a_page_says_how_to_go_on(tools: Tools) -> None:
    first = ["['notes.txt': lines 1 to 1 of 3; 2 more lines; ask with start_line=2]", "one"]
    assert tools.read("notes.txt", line_count=1) == first
    last = ["['notes.txt': lines 2 to 3]", "two", "three"]
    assert tools.read("notes.txt", start_line=2) == last
    assert tools.refusal("read_file", path="notes.txt", start_line=4) == (
        "start_line is behind the end of 'notes.txt'; it has 3 lines"
    )


def test_a_page_is_bounded_whatever_is_asked_for(root: Path, tools: Tools) -> None:
    (root / "numbers.txt").write_text("".join(f"{number}\n" for number in range(1, 10_001)))
    assert len(tools.read("numbers.txt")) == 1 + DEFAULT_LINES
    page = tools.read("numbers.txt", start_line=5_000, line_count=10**6)
    assert page[0].startswith(f"['numbers.txt': lines 5,000 to {5_000 + MAX_LINES - 1:,} of 10,000; ")
    assert page[1:] == [str(number) for number in range(5_000, 5_000 + MAX_LINES)]
    (root / "wide.txt").write_text(f"{'x' * 1_000}\n" * 100)
    wide = tools.read("wide.txt")
    assert len("\n".join(wide)) < 52_000
    assert wide[0].endswith(f"; ask with start_line={len(wide)}]")


def test_a_long_line_is_cut_and_the_next_one_is_whole(root: Path, tools: Tools) -> None:
    (root / "min.js").write_text(f"\ufeff{'é🙂' * 1_000_000}\nend\n", encoding="utf-8")
    head, first, second = tools.read("min.js")
    assert head == f"['min.js': 2 lines; 1 line cut after {MAX_LINE_CHARS:,} characters]"
    assert first == "é🙂" * (MAX_LINE_CHARS // 2) + "…"
    assert second == "end"


def test_bytes_that_are_no_text_are_replaced_and_told(root: Path, tools: Tools) -> None:
    (root / "latin.txt").write_bytes(b"caf\xe9\r\nok \xef\xbf\xbd\n")
    head, first, second = tools.read("latin.txt")
    assert head == "['latin.txt': 2 lines; 1 line with bytes that are not UTF-8, shown as \ufffd]"
    assert (first, second) == ("caf\ufffd", "ok \ufffd")


def test_a_binary_file_is_told_with_its_size(root: Path, tools: Tools) -> None:
    (root / "image.png").write_bytes(b"\x89PNG\0" + bytes(1_995))
    assert tools.read("image.png") == ["['image.png' is binary, 2,000 bytes; not shown]"]


def test_an_empty_file_is_told(root: Path, tools: Tools) -> None:
    (root / "empty").touch()
    assert tools.read("empty") == ["['empty' is empty]"]


def test_a_huge_file_costs_no_more_than_its_bound(root: Path, tools: Tools) -> None:
    with (root / "huge.txt").open("wb") as file:
        file.write(b"text\n" * 5_000)
        file.truncate(300 << 20)  # the rest is a hole
    told = "['huge.txt': lines 1 to 2; more lines follow; ask with start_line=3]"
    assert tools.read("huge.txt", line_count=2) == [told, "text", "text"]
    assert "is more than 256 MB into the file" in tools.refusal(
        "read_file", path="huge.txt", start_line=9_000
    )
    assert "stopped after 256 MB" in tools.search("absent")[0]


@given(
    text=st.text(alphabet="ab\n\r\u2028\u0085é", max_size=60),
    size=st.integers(1, 5),
)
def test_pages_one_after_the_other_give_every_line_once(text: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "f").write_bytes(text.encode())
        tools, lines, start = Tools(Path(place)), [], 1
        while True:
            page = tools.call("read_file", path="f", start_line=start, line_count=size)
            head, _, rest = page.partition("\n")
            if head == "['f' is empty]":
                break
            lines += rest.split("\n")
            if "ask with" not in head:
                break
            start = int(head.rpartition("=")[2].removesuffix("]"))
    whole = text.removesuffix("\n").split("\n") if text else []
    assert lines == [line.removesuffix("\r") for line in whole]


# --- searching


def test_lines_are_found_with_file_and_number(tools: Tools) -> None:
    assert tools.search("hello") == [
        "[1 line in 1 file below '.'; not entered: .git, node_modules]",
        "src/deep/util.py:1: def hello(): ...",
    ]
    assert tools.search("HELLO", ignore_case=True)[1:] == [
        "src/main.py:1: print('Hello')",
        "src/deep/util.py:1: def hello(): ...",
    ]
    assert tools.search("t", path="notes.txt")[1:] == ["notes.txt:2: two", "notes.txt:3: three"]
    assert tools.search("hello", pattern="main.py") == [
        "[no lines found below '.' in 'main.py'; not entered: .git, node_modules]"
    ]


def test_a_query_is_literal(root: Path, tools: Tools) -> None:
    (root / "regex.txt").write_text("(a+)+$\n" + "a" * 5_000 + "!\n")
    assert tools.search("(a+)+$")[1:] == ["regex.txt:1: (a+)+$"]
    for query in ("", "two\nlines", "x" * 1_001):
        assert "characters of one line" in tools.refusal("search_files", query=query)


def test_matches_are_found_across_blocks_and_in_lines_longer_than_a_block(root: Path, tools: Tools) -> None:
    block = 1 << 20
    long_line = "x" * (block - 3) + "needle" + "y" * (2 * block) + "needle"
    text = f"first\n{long_line}\nthird needle\n"
    (root / "long.txt").write_text(text + "z\n" * block + "needle at the end")
    found = tools.search("needle", path="long.txt")
    assert found[0] == "[3 lines in 1 file in 'long.txt']"
    assert found[1].startswith("long.txt:2: …x")
    assert len(found[1]) < 230
    assert found[2:] == ["long.txt:3: third needle", f"long.txt:{4 + block}: needle at the end"]


def test_many_matches_are_bounded_by_file_and_in_all(root: Path, tools: Tools) -> None:
    (root / "a.txt").write_text("hit\n" * 1_000)
    found = tools.search("hit")
    assert len(found) == 1 + 50
    assert "more in a.txt; give one as path" in found[0]
    for name in "bcdef":
        (root / f"{name}.txt").write_text("hit\n" * 1_000)
    every = tools.search("hit")
    assert len(every) == 1 + MAX_MATCHES
    assert "there may be more" in every[0]
    assert len(tools.search("hit", path="a.txt")) == 1 + MAX_MATCHES


def test_binary_files_are_left_out_of_a_search_and_counted(root: Path, tools: Tools) -> None:
    (root / "b.bin").write_bytes(b"\0hello")
    assert "1 binary file left out" in tools.search("hello")[0]


@given(
    lines=st.lists(st.text(alphabet="abAB ", max_size=6), max_size=8),
    query=st.text(alphabet="abAB", min_size=1, max_size=2),
    ignore_case=st.booleans(),
)
def test_a_search_finds_the_lines_that_hold_the_text(lines: list[str], query: str, ignore_case: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "f").write_text("\n".join(lines))
        found = Tools(Path(place)).search(query, ignore_case=ignore_case)[1:]

    def holds(line: str) -> bool:
        return query.lower() in line.lower() if ignore_case else query in line

    assert found == [f"f:{number}: {line}" for number, line in enumerate(lines, start=1) if holds(line)]


# --- in a loop


def test_what_the_tools_take_is_told_to_the_model_and_checked(root: Path) -> None:
    tools = {tool.name: tool for tool in file_tools(root)}
    assert list(tools) == ["list_files", "read_file", "search_files"]
    assert all(tool.idempotent and tool.description for tool in tools.values())
    parameters = tools["read_file"].input_schema["properties"]
    assert list(parameters) == ["path", "start_line", "line_count"]
    assert all("description" in parameter for parameter in parameters.values())
    for wrong in ({"path": "x", "start_line": 0}, {"path": "x", "line_count": -1}, {"path": 1}, {}):
        with pytest.raises(ToolInputError):
            tools["read_file"].bind(wrong)


def test_a_cancelled_call_stops_walking_and_reading(root: Path) -> None:
    tools = {tool.name: tool for tool in file_tools(root)}
    cancelled = context()
    cancelled.cancel()
    listed = tools["list_files"](".", None, cancelled)
    assert listed == "[no files below '.']"
    assert tools["search_files"]("hello", context=cancelled) == "[no lines found below '.']"


def run_on_thread(agent: Agent) -> list[ToolResultPart]:
    return results(agent.run("go").items)


def run_on_loop(agent: Agent) -> list[ToolResultPart]:
    return results(asyncio.run(agent.arun("go")).items)


def results(items: Any) -> list[ToolResultPart]:
    return [part for item in items for part in item.parts if isinstance(part, ToolResultPart)]


@pytest.mark.parametrize("run", [run_on_thread, run_on_loop], ids=["sync", "async"])
def test_an_agent_gets_text_for_what_is_in_reach_and_a_sentence_for_what_is_not(
    root: Path, run: Callable[[Agent], list[ToolResultPart]]
) -> None:
    calls = (
        ScriptedCall(name="read_file", input={"path": "notes.txt", "start_line": 3}),
        ScriptedCall(name="read_file", input={"path": "../outside/secret.txt"}),
        ScriptedCall(name="search_files", input={"query": "two"}),
    )
    agent = Agent(ScriptedModel([Reply(calls=calls), "done"]), tools=file_tools(root))
    read, refused, searched = run(agent)
    assert read.output == "['notes.txt': lines 3 to 3]\nthree"
    assert refused.is_error
    assert refused.output == (
        "ValueError: path '../outside/secret.txt' goes up with '..'; give one from the root downwards"
    )
    assert "notes.txt:2: two" in searched.output
