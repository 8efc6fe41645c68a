"""The tools that change files: what they leave behind, and what they say of it."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import ToolResultPart
from agentkit_loop.file_changes import MAX_COUNTED, MAX_TEXT_BYTES, FileChange, carry_out, edited, written
from agentkit_loop.file_reach import Reach
from agentkit_loop.file_writing import change_tools
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from tests.loop.change_samples import Changes, unchanged
from tests.loop.file_samples import make_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.fixture
def changes(root: Path) -> Changes:
    return Changes(root)


# --- writing


def test_a_file_is_created_with_the_directories_that_it_needs(root: Path, changes: Changes) -> None:
    assert changes.write("src/new/deep/a.py", "one\ntwo") == "wrote 'src/new/deep/a.py' (new, 2 lines)"
    assert (root / "src/new/deep/a.py").read_bytes() == b"one\ntwo"
    assert changes.write("./empty", "") == "wrote './empty' (new, 0 lines)"
    assert (root / "empty").read_bytes() == b""


def test_a_file_is_replaced_whole_and_byte_for_byte(root: Path, changes: Changes) -> None:
    assert changes.write("notes.txt", "one\n2\r\nthree\nfour\n") == "wrote 'notes.txt' (+2 -1)"
    assert (root / "notes.txt").read_bytes() == b"one\n2\r\nthree\nfour\n"
    (root / "picture").write_bytes(b"\xff\xfe\0")
    assert (
        changes.write("picture", "ä\u2028\n")
        == "wrote 'picture' (1 line in place of what is large or no text)"
    )
    assert (root / "picture").read_bytes() == "ä\u2028\n".encode()
    (root / "large").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    assert changes.write("large", "x") == "wrote 'large' (1 line in place of what is large or no text)"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o640])
def test_a_file_keeps_its_mode(root: Path, changes: Changes, mode: int) -> None:
    (root / "notes.txt").chmod(mode)
    changes.write("notes.txt", "one\n")
    assert stat.S_IMODE((root / "notes.txt").stat().st_mode) == mode
    changes.edit("notes.txt")
    assert stat.S_IMODE((root / "notes.txt").stat().st_mode) == mode


def test_what_raises_the_rights_of_a_program_is_not_kept(root: Path, changes: Changes) -> None:
    (root / "notes.txt").chmod(0o4755)
    changes.write("notes.txt")
    assert stat.S_IMODE((root / "notes.txt").stat().st_mode) == 0o755


def test_a_new_file_has_the_mode_that_the_system_gives(root: Path, changes: Changes) -> None:
    changes.write("made/by-tool")
    (root / "made/by-hand").touch()
    assert (root / "made/by-tool").stat().st_mode == (root / "made/by-hand").stat().st_mode


def test_who_reads_meanwhile_sees_the_old_file_or_the_new_one(root: Path, changes: Changes) -> None:
    with (root / "notes.txt").open() as opened:
        changes.write("notes.txt")
        assert opened.read() == "one\ntwo\nthree\n"
    assert (root / "notes.txt").read_text() == "new\n"


def test_another_name_of_a_file_keeps_the_old_one(root: Path, changes: Changes) -> None:
    os.link(root / "notes.txt", root.parent / "outside" / "notes.txt")
    changes.write("notes.txt")
    assert (root.parent / "outside" / "notes.txt").read_text() == "one\ntwo\nthree\n"


def test_a_file_that_was_made_read_only_stays_as_it_is(root: Path, changes: Changes) -> None:
    (root / "notes.txt").chmod(0o444)
    with unchanged(root):
        assert changes.refusals("notes.txt") == {"'notes.txt' is read-only; choose another file"}


def test_where_a_file_cannot_be_put_in_place_nothing_is_left_behind(root: Path) -> None:
    reach = Reach(root)
    change = written(reach, "notes.txt", "new")
    (root / "notes.txt").unlink()
    (root / "notes.txt").mkdir()
    with unchanged(root), pytest.raises(IsADirectoryError):
        carry_out(reach, change)
    surrogate = FileChange("x", ("x",), is_new=True, before="", after="\ud800")
    with unchanged(root), pytest.raises(UnicodeEncodeError):
        carry_out(reach, surrogate)


def test_names_that_no_file_can_have_are_told(changes: Changes) -> None:
    with pytest.raises(ValueError, match="holds a name that is too long; give a shorter one"):
        changes.write("x" * 300)
    with pytest.raises(ValueError, match=r"path 'src/' names a directory; give a file's"):
        changes.write("src/")
    with pytest.raises(ValueError, match="content holds a lone surrogate"):
        changes.write("x", "\ud800")
    with pytest.raises(ValueError, match="new holds a lone surrogate"):
        changes.edit("notes.txt", "one", "\ud800")


# --- editing


def test_the_one_match_is_replaced_and_nothing_else(root: Path, changes: Changes) -> None:
    assert changes.edit("notes.txt", "two\n", "2\n2½\n") == "edited 'notes.txt' (+2 -1)"
    assert (root / "notes.txt").read_text() == "one\n2\n2½\nthree\n"
    assert changes.edit("notes.txt", "2½\n", "") == "edited 'notes.txt' (+0 -1)"
    assert (root / "notes.txt").read_text() == "one\n2\nthree\n"


@pytest.mark.parametrize(
    ("text", "old", "said"),
    [
        ("a\n", "b", "no match for old in 'f'; read the file and give its text exactly, with all spaces"),
        (
            "a\na\nb a\n",
            "a",
            "old is in 'f' 3 times (from lines 1, 2, 3); give more of the text around the one",
        ),
        ("\naaa\n", "aa", "old is in 'f' 2 times (from lines 2, 2); give more of the text around the one"),
        ("x\n" * 12, "x", "old is in 'f' 12 times (from lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …); give"),
        ("x" * 999_999, "x", f"old is in 'f' more than {MAX_COUNTED} times (from lines 1, 1,"),
        ("a\n", "", "edit of 'f' refused because old is empty; give the text that is to go as old"),
        ("a\n", "new", "edit of 'f' refused because old and new are the same; give"),
        ("", "a", "no match for old in 'f'"),
    ],
)
def test_any_other_number_of_matches_changes_nothing(
    root: Path, changes: Changes, text: str, old: str, said: str
) -> None:
    (root / "f").write_text(text)
    with unchanged(root), pytest.raises(ValueError, match="old") as caught:
        changes.edit("f", old, "new")
    assert str(caught.value).startswith(said)


def test_a_file_keeps_its_line_ends(root: Path, changes: Changes) -> None:
    file = root / "f"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree")
    changes.edit("f", "one\ntwo\n", "1\n2\n2.5\n")
    assert file.read_bytes() == b"\xef\xbb\xbf1\r\n2\r\n2.5\r\nthree"
    changes.edit("f", "three", "3\n4\r\n")
    assert file.read_bytes() == b"\xef\xbb\xbf1\r\n2\r\n2.5\r\n3\r\n4\r\n"
    file.write_bytes(b"one\ntwo\n")
    changes.edit("f", "one\r\n", "1\r\n")
    assert file.read_bytes() == b"1\ntwo\n"


def test_in_a_file_of_both_line_ends_each_stays_what_it_is(root: Path, changes: Changes) -> None:
    file = root / "f"
    file.write_bytes(b"a\r\nb\r\nc\r\nd\ne\n\r\n")
    changes.edit("f", "d\ne", "D\nE")
    changes.edit("f", "b\nc", "B\nC")
    changes.edit("f", "a", "A\nA")
    assert file.read_bytes() == b"A\r\nA\r\nB\r\nC\r\nD\nE\n\r\n"


@given(
    front=st.text(alphabet="ab\r\n\u2028é", max_size=12),
    old=st.text(alphabet="ab\r\né", min_size=1, max_size=6),
    back=st.text(alphabet="ab\r\n\ufeff", max_size=12),
    new=st.text(max_size=8) | st.text(alphabet="\r\nx", max_size=8),
)
def test_an_edit_changes_its_match_and_not_a_byte_around_it(
    front: str, old: str, back: str, new: str
) -> None:
    text = front + old + back
    with tempfile.TemporaryDirectory() as place:
        Path(place, "f").write_bytes(text.encode())
        reach = Reach(place)
        try:
            change = edited(reach, "f", old, new)
        except ValueError as error:
            assert "old" in str(error)  # noqa: PT017 - what raises nothing is looked at below
            assert old == new or lf(text).count(lf(old)) != 1 or overlaps(lf(text), lf(old))
            assert Path(place, "f").read_bytes() == text.encode()
            return
        carry_out(reach, change)
        after = Path(place, "f").read_bytes().decode()
    assert after == change.after
    begin = lf(text).index(lf(old))
    front_end = end_of(text, lf(text)[:begin])
    back_start = end_of(text, lf(text)[: begin + len(lf(old))])
    assert after.startswith(text[:front_end])
    assert after.endswith(text[back_start:])
    put = after[front_end : len(after) - len(text[back_start:])]
    assert put in (lf(new), lf(new).replace("\n", "\r\n"))
    assert put == lf(new) or "\r\n" in text


def lf(text: str) -> str:
    return text.replace("\r\n", "\n")


def overlaps(text: str, old: str) -> bool:
    return text.find(old, text.find(old) + 1) >= 0


def end_of(text: str, beginning: str) -> int:
    """Return where a beginning of a text ends in it, once its line ends are what they were."""
    place = 0
    for char in beginning:
        place += 2 if char == "\n" and text.startswith("\r\n", place) else 1
    return place


def test_what_is_no_utf_8_or_too_large_is_not_edited(root: Path, changes: Changes) -> None:
    (root / "latin").write_bytes(b"one \xe4")
    (root / "large").write_bytes(b"one" + b"x" * MAX_TEXT_BYTES)
    with (
        unchanged(root),
        pytest.raises(ValueError, match="'latin' is not UTF-8; only UTF-8 files are edited"),
    ):
        changes.edit("latin")
    with unchanged(root), pytest.raises(ValueError, match="'large' has more than 10 MB, too much to edit"):
        changes.edit("large")
    with unchanged(root), pytest.raises(FileNotFoundError, match="no 'missing' under the root"):
        changes.edit("missing")


# --- in a loop


def test_edits_of_one_file_that_come_together_are_all_in_it(root: Path, changes: Changes) -> None:
    count = 16
    (root / "f").write_text("".join(f"<{number}>\n" for number in range(count)))
    ready = threading.Barrier(count)

    def edit(number: int) -> None:
        ready.wait()
        changes.edit("f", f"<{number}>", f"[{number}]")

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (root / "f").read_text() == "".join(f"[{number}]\n" for number in range(count))


def test_an_agent_writes_and_edits(root: Path) -> None:
    model = ScriptedModel(
        [
            Reply(calls=(ScriptedCall(name="write_file", input={"path": "a/b.txt", "content": "one\n"}),)),
            Reply(
                calls=(ScriptedCall(name="edit_file", input={"path": "a/b.txt", "old": "one", "new": "1"}),)
            ),
            Reply(
                calls=(ScriptedCall(name="edit_file", input={"path": "a/b.txt", "old": "one", "new": "1"}),)
            ),
            Reply(text="Done."),
        ]
    )
    result = Agent(model, tools=change_tools(root)).run("Go")
    outputs = [part for item in result.items for part in item.parts if isinstance(part, ToolResultPart)]
    assert [(part.output, part.is_error) for part in outputs] == [
        ("wrote 'a/b.txt' (new, 1 line)", False),
        ("edited 'a/b.txt' (+1 -1)", False),
        (
            "ValueError: no match for old in 'a/b.txt'; read the file and give its text exactly, with all spaces",
            True,
        ),
    ]


def test_the_tools_carry_their_summaries_and_ask_nobody(root: Path) -> None:
    write, edit = change_tools(root)
    assert write.summary is not None
    assert edit.summary is not None
    assert write.summary({"path": "a", "content": "x\n"}) == "write a (1 line)"
    assert edit.summary({"path": "a", "old": "x", "new": "y\nz"}) == "edit a (1 line becomes 2)"
    assert not write.approval
    assert not write.idempotent
