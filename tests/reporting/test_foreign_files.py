"""A file that holds something else: nothing is appended to it, and what reads it says so in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentkit_loop.errors import LogError
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.store import RecordStore, read_records
from tests.reporting.adapters import quiet
from tests.reporting.numbered_lines import note

FOREIGN = {
    "notes": b"buy milk\nand bread\n",
    "notes_with_a_blank_line": b"buy milk\n\nand bread\n",
    "one_word": b"milk",
    "binary": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "utf16": "milk\n".encode("utf-16"),
    "pretty_json": b'{\n  "name": "x"\n}\n',
    "json_list": b'[{"v":1,"seq":1}]\n',
    "brace": b"buy milk\n{\n",
    "program": b"#!/usr/bin/env python\nprint({})\n",
    "late_line": b"notes\n" * 20_000 + b'{"v":1,"seq":1}\n',
}
OURS = {
    "empty": b"",
    "nothing_but_zeros": bytes(5_000),
    "blank_lines": b"\n\n",
    "torn": b'{"v',
    "one_byte": b"{",
    "torn_and_closed": b'{"v":1,"se\n' + encode_event(note(1)) + b"\n",
    "the_end_of_a_line": b'end of a line"}}\n' + encode_event(note(1)) + b"\n",
    "byte_order_mark": b"\xef\xbb\xbf" + encode_event(note(1)) + b"\n",
    "newer": b'{"v":7,"what":1}\n',
    "a_long_first_line": encode_event(note(1, data="x" * 200_000)) + b"\n",
    "written_anew": json.dumps(json.loads(encode_event(note(1))), sort_keys=True).encode() + b"\n",
}


@pytest.mark.parametrize("rotation", [None, Rotation(max_bytes=100)], ids=["one_file", "rotating"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_holds_something_else_is_refused_at_once_and_stays_as_it_is(
    kind: str, rotation: Rotation | None, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(LogError) as caught:
        JsonlReporter(path, rotation=rotation)
    assert str(caught.value) == (
        f"{path}: log refused because the file holds something else than events; give another path"
    )
    if kind != "late_line":
        with pytest.raises(LogError, match="something else than records; give another path"):
            RecordStore(path, header={"type": "header"}, rotation=rotation)
    assert path.read_bytes() == FOREIGN[kind]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", OURS)
def test_a_log_is_gone_on_with_whatever_became_of_its_beginning(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(OURS[kind])
    before = list(read_events(path))
    reporter = JsonlReporter(path)
    reporter.handle_event(note(2))
    assert reporter.close()
    assert [each.seq for each in read_events(path)] == [*(each.seq for each in before), 2]
    path.write_bytes(OURS[kind])
    with RecordStore(path) as store:
        store.append({"a": 1})
    assert list(read_records(path))[-1] == {"a": 1}


def test_of_the_files_of_sessions_only_the_one_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(FOREIGN["notes"])
    reporter = JsonlReporter(tmp_path, per="session")
    with pytest.raises(LogError, match="something else than events"):
        reporter.handle_event(note(1, "a"))
    reporter.handle_event(note(1, "b"))
    with quiet():
        assert not reporter.close()
    assert (tmp_path / "a.jsonl").read_bytes() == FOREIGN["notes"]
    assert [each.session_id for each in read_events(tmp_path / "b.jsonl")] == ["b"]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    JsonlReporter(tmp_path / "pipe").close()
