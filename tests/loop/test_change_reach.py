"""What is in reach of the tools that change files: nothing outside of their root, by whatever way."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_changes import carry_out, edited, written
from agentkit_loop.file_reach import Reach
from agentkit_loop.file_writing import change_tools
from tests.loop.change_samples import Changes, unchanged
from tests.loop.file_samples import UNREACHABLE, make_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.fixture
def changes(root: Path) -> Changes:
    return Changes(root)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "names nothing"),
        (".", "is a directory"),
        ("src", "is a directory"),
        ("../outside/x", "goes up with '..'"),
        ("/etc/x", "is absolute"),
        ("~/x", "begins with '~'"),
        ("a\0b", "holds a NUL"),
        ("x" * 5_000, "is too long"),
        ("notes.txt/x", "leads through something that is no directory"),
    ],
)
def test_a_path_that_is_no_file_in_reach_is_one_sentence(
    root: Path, changes: Changes, path: str, said: str
) -> None:
    with unchanged(root.parent):
        for sentence in changes.refusals(path):
            assert said in sentence
            assert "\n" not in sentence
            assert len(sentence) < 400
            assert str(root.parent) not in sentence


def test_links_inside_are_followed_and_links_that_lead_out_are_not(root: Path, changes: Changes) -> None:
    (root / "inside").symlink_to("src/main.py")
    (root / "sources").symlink_to(root / "src")
    (root / "coming").symlink_to("src/later/new.py")
    (root / "file").symlink_to("../outside/secret.txt")
    (root / "directory").symlink_to(root.parent / "outside")
    (root / "absent").symlink_to("../outside/nothing-here")
    (root / "loop").symlink_to("loop")
    with unchanged(root.parent):
        for path in ("file", "directory/secret.txt", "directory/new.txt", "directory/new/x", "absent"):
            assert changes.refusals(path) == {f"'{path}' is a link that leads out of the root"}
        for path in ("loop", "loop/x"):
            assert len(changes.refusals(path)) == 1
    changes.write("inside", "1\n")
    changes.write("sources/other.py", "2\n")
    changes.write("coming", "3\n")
    assert (root / "inside").is_symlink()
    assert [(root / "src" / name).read_text() for name in ("main.py", "other.py", "later/new.py")] == [
        "1\n",
        "2\n",
        "3\n",
    ]


def test_a_link_that_takes_a_places_name_after_it_was_resolved_is_not_followed(root: Path) -> None:
    reach, outside = Reach(root), root.parent / "outside"
    in_directory = written(reach, "src/secret.txt", "new")
    below_new = written(reach, "coming/secret.txt", "new")
    as_file = edited(reach, "notes.txt", "one", "1")
    (root / "src").rename(root / "old")
    (root / "src").symlink_to("../outside")
    (root / "coming").symlink_to("../outside")
    (root / "notes.txt").unlink()
    (root / "notes.txt").symlink_to("../outside/secret.txt")
    with unchanged(root.parent):
        for change in (in_directory, below_new, as_file):
            with pytest.raises(OSError, match=r"no directory|leads nowhere"):
                carry_out(reach, change)
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def test_what_is_no_regular_file_is_not_replaced(root: Path, changes: Changes) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))  # an absolute one may be too long for a socket
        with unchanged(root):
            assert changes.refusals("pipe") == {"'pipe' is a FIFO; only regular files are read"}
            assert changes.refusals("socket") == {"'socket' is a socket; only regular files are read"}
    reach = Reach(root)
    change = written(reach, "later", "x")
    os.mkfifo(root / "later")
    with unchanged(root), pytest.raises(PermissionError, match="is a FIFO"):
        carry_out(reach, change)


def test_what_is_hidden_is_neither_made_nor_changed_by_any_name(root: Path) -> None:
    logs, single = root / "logs", root / "one.jsonl"
    changes = Changes(root, logs, single)
    (root / "coming").symlink_to("logs")
    names = ["logs", "logs/run.jsonl", "logs/deep/run.jsonl", "one.jsonl", "coming/run.jsonl"]
    with unchanged(root):  # neither is there yet
        for path in names:
            assert changes.refusals(path) == {f"'{path}' is out of reach; look at other files"}
    logs.mkdir()
    (logs / "run.jsonl").write_text("one")
    single.write_text("one")
    os.link(single, root / "other-name")
    with unchanged(root):
        for path in (*names, "other-name"):
            assert changes.refusals(path) == {f"'{path}' is out of reach; look at other files"}


def test_what_may_hold_secrets_is_neither_made_nor_changed(root: Path) -> None:
    (root / ".env").write_text("one")
    (root / "way").symlink_to(".env")
    (root / "x.pem").symlink_to("notes.txt")
    names = (".env", "way", "x.pem", "new/.env.local", "id_rsa", ".ssh/authorized_keys")
    with unchanged(root):
        for path in names:
            assert Changes(root).refusals(path) == {
                f"'{path}' is kept out because it may hold secrets; look at other files"
            }
    changes = Changes(root, secrets=True)
    assert changes.edit("way") == "edited 'way' (+1 -1)"
    for path in names:
        changes.write(path)
        assert (root / path).read_text() == "new\n"


def test_a_root_that_cannot_work_is_refused(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no directory; give one that exists"):
        change_tools(root / "missing")
    with pytest.raises(ConfigurationError, match="hidden from it"):
        change_tools(root / "src", hidden=[root])


@given(path=st.text(max_size=20) | st.text(alphabet="./~l\\ \0x", max_size=12))
def test_no_path_changes_what_is_outside(path: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        outside, inside = Path(place, "x"), Path(place, "x", "root")
        inside.mkdir(parents=True)
        (outside / "x").write_text(UNREACHABLE)
        (inside / "l").symlink_to("..")
        with contextlib.suppress(OSError, ValueError):
            Changes(inside).write(path, "")
        assert [entry.name for entry in outside.parent.iterdir()] == ["x"]
        assert {entry.name for entry in outside.iterdir()} == {"x", "root"}
        assert (outside / "x").read_text() == UNREACHABLE
