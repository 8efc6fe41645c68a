"""What is in reach of the tools that read files: nothing outside of their root, by whatever way."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_reach import Reach
from agentkit_loop.file_viewing import file_tools
from tests.loop.file_samples import UNREACHABLE, Tools, make_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.fixture
def tools(root: Path) -> Tools:
    return Tools(root)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "names nothing; give '.' for the root"),
        ("../outside/secret.txt", "goes up with '..'"),
        ("src/../notes.txt", "goes up with '..'"),
        ("/etc/passwd", "is absolute; give one from the root"),
        ("~/secret", "begins with '~'"),
        ("a\0b", "holds a NUL"),
        ("x" * 5_000, "is too long"),
        ("x" * 1_000, "under the root; list_files shows what is there"),
        ("missing.txt", "no 'missing.txt' under the root"),
        ("notes.txt/x", "leads through something that is no directory"),
    ],
)
def test_a_path_that_leads_nowhere_in_reach_is_one_sentence(
    root: Path, tools: Tools, path: str, said: str
) -> None:
    for name, more in (("read_file", {}), ("list_files", {}), ("search_files", {"query": "x"})):
        sentence = tools.refusal(name, path=path, **more)
        assert said in sentence
        assert "\n" not in sentence
        assert len(sentence) < 400
        assert str(root.parent) not in sentence


def test_a_directory_is_no_file(tools: Tools) -> None:
    told = "'src' is a directory; list_files shows what is in it"
    assert tools.refusal("read_file", path="src") == told
    assert "is a directory" in tools.refusal("read_file", path=".")


def test_links_inside_are_read_and_links_that_lead_out_are_not(root: Path, tools: Tools) -> None:
    (root / "inside").symlink_to("src/main.py")
    (root / "sources").symlink_to(root / "src")
    (root / "file").symlink_to("../outside/secret.txt")
    (root / "directory").symlink_to(root.parent / "outside")
    (root / "twice").symlink_to("directory/secret.txt")
    (root / "absent").symlink_to("../outside/nothing-here")
    (root / "broken").symlink_to("nothing-here")
    (root / "loop").symlink_to("loop")
    assert tools.read("inside")[1:] == tools.read("sources/main.py")[1:] == ["print('Hello')"]
    assert tools.ls("sources")[1:] == ["src/deep/util.py", "src/main.py"]
    for path in ("file", "directory/secret.txt", "twice", "directory", "absent", "directory/nothing"):
        for name, more in (("read_file", {}), ("list_files", {}), ("search_files", {"query": "nobody"})):
            sentence = tools.refusal(name, path=path, **more)
            assert sentence == f"'{path}' is a link that leads out of the root"
    assert "no 'broken' under the root" in tools.refusal("read_file", path="broken")
    assert "leads nowhere" in tools.refusal("read_file", path="loop")
    assert tools.search("nobody")[0].startswith("[no lines found")
    listed = tools.ls()
    assert "secret" not in "\n".join(listed)
    assert {
        "inside (a link to src/main.py)",
        "sources (a link to src)",
        "file (a link out of reach)",
        "directory (a link out of reach)",
        "broken (a link that leads nowhere)",
        "loop (a link that leads nowhere)",
    } < set(listed)


def test_a_link_that_takes_a_places_name_after_it_was_resolved_is_not_followed(root: Path) -> None:
    reach = Reach(root)
    (root / "src").rename(root / "old")
    (root / "src").symlink_to("../outside")
    (root / "link.txt").symlink_to("../outside/secret.txt")
    for parts in (("src", "secret.txt"), ("link.txt",)):  # as `resolve` gave them when these were no links
        with pytest.raises(OSError, match=r"no directory|nowhere"), reach.open(parts, "x") as file:
            pytest.fail(f"opened: {file.read()!r}")


def test_what_is_no_regular_file_is_never_opened(root: Path, tools: Tools) -> None:
    os.mkfifo(root / "pipe")
    (root / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))  # an absolute one may be too long for a socket
        assert tools.refusal("read_file", path="pipe") == "'pipe' is a FIFO; only regular files are read"
        assert "is a socket" in tools.refusal("search_files", query="x", path="socket")
        assert "leads out" in tools.refusal("read_file", path="null")
        assert {"pipe (a FIFO)", "socket (a socket)"} < set(tools.ls())
        assert tools.search("hello")[1:] == ["src/deep/util.py:1: def hello(): ..."]


def test_a_device_in_reach_is_not_opened() -> None:
    assert Tools(Path("/dev")).refusal("read_file", path="zero") == (
        "'zero' is a device; only regular files are read"
    )


def test_what_is_hidden_is_neither_listed_nor_searched_nor_read_by_any_name(root: Path) -> None:
    logs, single = root / "logs", root / "one.jsonl"
    tools = Tools(root, logs, single)  # neither is there yet
    logs.mkdir()
    (logs / "run.jsonl").write_text("hello")
    single.write_text("hello")
    (root / "way").symlink_to("logs/run.jsonl")
    (root / "src" / "up").symlink_to("../logs")
    os.link(single, root / "other-name")
    listed = "\n".join(tools.ls())
    assert "run.jsonl" not in listed
    assert "one.jsonl" not in listed
    assert "other-name" not in listed
    assert "way (a link out of reach)" in listed
    assert tools.search("hello")[1:] == ["src/deep/util.py:1: def hello(): ..."]
    for path in ("logs", "logs/run.jsonl", "one.jsonl", "way", "src/up", "src/up/run.jsonl", "other-name"):
        for name, more in (("read_file", {}), ("list_files", {}), ("search_files", {"query": "hello"})):
            assert tools.refusal(name, path=path, **more).endswith("is out of reach; look at other files")


def test_what_is_hidden_by_a_link_is_hidden_itself(root: Path) -> None:
    (root / "link").symlink_to("src/deep")
    assert Tools(root, root / "link").ls()[1:] == ["link (a link out of reach)", "notes.txt", "src/main.py"]


def test_a_root_that_is_a_link_is_as_good_as_its_target(root: Path) -> None:
    (root.parent / "way").symlink_to("root")
    tools = Tools(root.parent / "way")
    (root / "self").symlink_to(root / "notes.txt")
    assert tools.read("self")[1:] == ["one", "two", "three"]


def test_a_root_that_cannot_work_is_refused(root: Path) -> None:
    for place in (root / "notes.txt", root / "missing"):
        with pytest.raises(ConfigurationError, match="is no directory; give one that exists"):
            file_tools(place)
    with pytest.raises(ConfigurationError, match="hidden from it"):
        file_tools(root / "src", hidden=[root])


@given(path=st.text(max_size=20) | st.text(alphabet="./~l\\ \0x*", max_size=12))
def test_no_path_reads_what_is_outside(path: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        outside, inside = Path(place, "x"), Path(place, "x", "root")
        inside.mkdir(parents=True)
        (outside / "x").write_text(UNREACHABLE)
        (inside / "l").symlink_to("..")
        (inside / "x").write_text("x")
        tools = Tools(inside)
        for name, more in (("read_file", {}), ("list_files", {}), ("search_files", {"query": "nobody"})):
            try:
                given_back = tools.call(name, path=path, **more)
            except (OSError, ValueError) as error:
                given_back = str(error)
            assert UNREACHABLE not in given_back
            assert place not in given_back.replace(path, "")


@given(pattern=st.text(max_size=12) | st.text(alphabet="*?[]!-/.ab\\", max_size=12))
def test_no_pattern_breaks_a_walk(pattern: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "a").touch()
        tools = Tools(Path(place))
        try:
            listed = tools.ls(pattern=pattern)[1:]
        except ValueError as error:
            assert "pattern" in str(error)  # noqa: PT017 - most patterns raise nothing
        else:
            assert listed in ([], ["a"])
