"""Reading logs: where they may be, how they may be broken, and what is said about it."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.stamping import stamp
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import MAX_KEPT_BAD, read_events
from tests.strategies import event_lists

MOMENT = dt.datetime(2026, 5, 24, 18, 40, 0, 123456, tzinfo=dt.UTC)


def note(seq: int, data: Any = None) -> AgentEvent:
    event = CustomEvent(name="note", data=data)
    stamp(event, "s", "r", None, seq, MOMENT)
    return event


def record(seq: int, data: Any = None) -> bytes:
    return encode_event(note(seq, data))


def lines(*seqs: int) -> bytes:
    return b"".join(record(seq) + b"\n" for seq in seqs)


def seqs(source: Any, **options: Any) -> list[int]:
    return [event.seq for event in read_events(source, **options)]


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Trickle(io.RawIOBase):
    """A stream that gives its bytes in the pieces that it was given."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        del size
        return self._pieces.pop(0) if self._pieces else b""


# --- sources


def test_a_file_gives_its_events_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1, 2, 3))
    assert list(read_events(tmp_path / "a.jsonl")) == [note(1), note(2), note(3)]
    assert seqs(str(tmp_path / "a.jsonl")) == [1, 2, 3]


def test_a_directory_gives_all_its_logs_sorted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(lines(2))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(1)))
    (tmp_path / "c.txt").write_bytes(b"not a log")
    (tmp_path / "d.jsonl").mkdir()
    assert seqs(tmp_path) == [1, 2]


def test_a_pattern_gives_the_files_that_match_sorted(tmp_path: Path) -> None:
    for name in ("run-2.jsonl", "run-1.jsonl", "other.jsonl"):
        (tmp_path / name).write_bytes(lines(int(name[4]) if name[4].isdigit() else 9))
    (tmp_path / "run-3.jsonl").mkdir()
    assert seqs(str(tmp_path / "run-*.jsonl")) == [1, 2]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "run[1].jsonl").write_bytes(lines(1))
    assert seqs(str(tmp_path / "run[1].jsonl")) == [1]


def test_several_sources_are_read_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1))
    (tmp_path / "b.jsonl").write_bytes(lines(2))
    mixed = [tmp_path / "b.jsonl", io.BytesIO(lines(7)), str(tmp_path / "a.*")]
    assert seqs(mixed) == [2, 7, 1]


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_an_open_file_is_read_from_where_it_stands_and_stays_open(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1, 2, 3))
    with (tmp_path / "a.jsonl").open(mode, encoding=None if "b" in mode else "utf-8") as file:
        file.readline()
        assert seqs(file) == [2, 3]
        assert not file.closed


def test_a_text_file_that_was_not_read_from_may_hold_broken_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1) + b"\xff\n" + lines(2))
    with (tmp_path / "a.jsonl").open(encoding="utf-8") as file:
        reader = read_events(file)
        assert [event.seq for event in reader] == [1, 2]
    assert reader.bad_count == 1


def test_a_text_file_that_cannot_be_decoded_further_ends_with_one_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1) + lines(2) * 100 + b"\xff\n" * 9_000)
    with (tmp_path / "a.jsonl").open(encoding="utf-8") as file:
        file.readline()
        reader = read_events(file)
        assert {event.seq for event in reader} == {2}
    assert "the rest cannot be read" in reader.bad[-1].reason


def test_text_in_memory_is_read() -> None:
    assert list(read_events(io.StringIO(record(1, "\u2028€").decode()))) == [note(1, "\u2028€")]


def test_a_dash_is_standard_input() -> None:
    program = "from agentkit_reporting.log.read import read_events\nfor e in read_events('-'): print(e.seq)"
    result = subprocess.run(
        [sys.executable, "-c", program], input=lines(4, 5), capture_output=True, check=True
    )
    assert result.stdout.split() == [b"4", b"5"]


def test_a_pipe_is_read_as_it_is_fed() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source:  # noqa: PTH123 - a descriptor has no path
        events = iter(read_events(source))
        for seq in (1, 2, 3):
            os.write(writing, lines(seq))
            assert next(events).seq == seq  # would wait for ever if it wanted a full block
        os.close(writing)
        assert next(events, None) is None


def test_a_named_pipe_is_a_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "live.jsonl")
    feeder = threading.Thread(target=lambda: (tmp_path / "live.jsonl").write_bytes(lines(1, 2)))
    feeder.start()
    assert seqs(tmp_path / "live.jsonl") == [1, 2]
    feeder.join()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda here: here / "missing.jsonl", "no such file"),
        (lambda here: here, "the directory holds no"),
        (lambda here: str(here / "*.jsonl"), "no file matches"),
        (lambda _: "", "names no file"),
        (lambda _: "a\0b", "names no file"),
        (lambda _: [], "no log was given"),
        (lambda here: here / ("x" * 300), "name too long"),
    ],
)
def test_what_is_no_log_is_refused_at_once(tmp_path: Path, make: Any, sentence: str) -> None:
    with pytest.raises(LogError, match=f"(?i){sentence}") as refusal:
        read_events(make(tmp_path))
    assert "\n" not in str(refusal.value)
    assert refusal.value.line is None


@pytest.mark.parametrize("source", [3, b"a.jsonl", None])
def test_what_can_be_no_log_is_the_callers_mistake(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="refused because it is no log"):
        read_events(source)


def test_a_closed_or_unreadable_stream_is_refused(tmp_path: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(LogError, match="closed or not for reading"):
        read_events(closed)
    with (tmp_path / "a").open("wb") as file, pytest.raises(LogError, match="closed or not for reading"):
        read_events(file)


def test_a_file_that_vanishes_before_its_turn_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1))
    reader = read_events(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(LogError, match="no such file"):
        next(reader)


# --- lines


@given(event_lists(), st.data())
def test_any_split_of_the_bytes_gives_the_same_events(events: list[AgentEvent], data: st.DataObject) -> None:
    whole = b"".join(encode_event(event) + b"\n" for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    reader = read_events(Trickle(*filter(None, pieces)), strict=True)
    assert list(reader) == events
    assert reader.bad_count == 0


def test_one_byte_at_a_time_is_enough() -> None:
    whole = b"\xef\xbb\xbf" + lines(1, 2) + b"torn\n" + lines(3)
    reader = read_events(Trickle(*(whole[i : i + 1] for i in range(len(whole)))))
    assert [event.seq for event in reader] == [1, 2, 3]
    assert [bad.line for bad in reader.bad] == [3]


def test_blank_lines_carriage_returns_and_a_byte_order_mark_are_ignored() -> None:
    text = b"\xef\xbb\xbf" + record(1) + b"\r\n\n \t\r\n" + record(2)
    assert seqs(io.BytesIO(text), strict=True) == [1, 2]


def test_separators_inside_a_text_do_not_end_a_line() -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"
    assert list(read_events(io.BytesIO(record(1, text) + b"\n"), strict=True)) == [note(1, text)]


def test_an_empty_log_has_no_events(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.jsonl.gz").touch()
    assert seqs(tmp_path, strict=True) == []


# --- bad lines


def test_bad_lines_are_skipped_and_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(1) + b"nonsense\n\n" + lines(2) + b'{"v":1}\n' + lines(3) + record(4)[:-9])
    reader = read_events(path)
    assert [event.seq for event in reader] == [1, 2, 3]
    assert reader.bad_count == 3
    assert [(bad.path, bad.line) for bad in reader.bad] == [(str(path), 2), (str(path), 5), (str(path), 7)]
    assert "malformed" in reader.bad[0].reason
    assert "missing required field" in reader.bad[1].reason
    assert "truncated" in reader.bad[2].reason


def test_strict_reading_raises_at_the_first_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(1) + b"nonsense\n" + lines(2))
    reader = read_events(path, strict=True)
    assert next(reader).seq == 1
    with pytest.raises(LogError, match="malformed") as refusal:
        next(reader)
    assert (refusal.value.path, refusal.value.line) == (str(path), 2)


def test_the_last_record_counts_without_its_newline() -> None:
    assert seqs(io.BytesIO(lines(1) + record(2)), strict=True) == [1, 2]


@given(st.integers(1, len(record(1)) - 1))
def test_a_whole_record_glued_behind_a_torn_one_is_found(cut: int) -> None:
    reader = read_events(io.BytesIO(record(1)[:cut] + record(2) + b"\n" + lines(3)))
    assert [event.seq for event in reader] == [2, 3]
    assert [bad.line for bad in reader.bad] == [1]
    assert "1 whole found on the same line" in reader.bad[0].reason


def test_every_whole_record_of_a_line_is_found_in_order() -> None:
    torn = record(9)[:-5]
    reader = read_events(io.BytesIO(record(1) + record(2) + torn + torn + record(3) + b"\n"))
    assert [event.seq for event in reader] == [1, 2, 3]
    assert reader.bad_count == 1


def test_records_that_only_lost_the_newline_between_them_lose_nothing() -> None:
    assert seqs(io.BytesIO(record(1) + record(2) + b"\n"), strict=True) == [1, 2]


def test_a_record_quoted_inside_a_torn_one_is_not_taken_for_an_event() -> None:
    inner = {"v": 1, "seq": 5, "text": record(6).decode()}
    torn = record(1, [inner, record(7).decode()])[:-3]
    reader = read_events(io.BytesIO(torn + b"\n"))
    assert list(reader) == []
    assert reader.bad_count == 1


def test_a_torn_record_with_many_beginnings_inside_costs_little() -> None:
    reader = read_events(io.BytesIO(b'{"v":1,"seq":1,"payload":' * 40_000 + b"\n" + lines(1)))
    assert [event.seq for event in reader] == [1]
    assert reader.bad_count == 1


def test_a_line_that_is_too_long_is_bad_and_never_held() -> None:
    def blocks() -> Iterator[bytes]:
        yield lines(1)
        for _ in range(1_000):
            yield b"x" * 1_000
        yield b"\n" + lines(2)
        yield b"y" * 5_000

    reader = read_events(Trickle(*blocks()), max_line_bytes=2_000)
    assert [event.seq for event in reader] == [1, 2]
    assert [(bad.line, bad.reason) for bad in reader.bad] == [
        (2, "longer than 2,000 bytes"),
        (4, "longer than 2,000 bytes"),
    ]


def test_a_line_of_the_longest_length_is_read() -> None:
    length = len(record(1))
    assert seqs(io.BytesIO(lines(1, 2)), max_line_bytes=length) == [1, 2]
    assert seqs(io.BytesIO(lines(1, 2)), max_line_bytes=length - 1) == []


def test_a_long_line_of_many_blocks_is_read() -> None:
    text = "long " * 400_000
    assert list(read_events(io.BytesIO(record(1, text) + b"\n" + lines(2)), strict=True)) == [
        note(1, text),
        note(2),
    ]


def test_many_bad_lines_are_counted_and_the_first_are_kept() -> None:
    reader = read_events(io.BytesIO(b"x\n" * 5_000))
    assert list(reader) == []
    assert reader.bad_count == 5_000
    assert [bad.line for bad in reader.bad] == list(range(1, MAX_KEPT_BAD + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end(junk: bytes) -> None:
    reader = read_events(io.BytesIO(lines(1) + junk + b"\n" + lines(2)))
    found = [event.seq for event in reader]
    assert (found[0], found[-1]) == (1, 2)
    assert all(bad.reason.isprintable() for bad in reader.bad)


# --- packed files, versions, closing


def test_a_gzip_file_of_several_members_is_one_log(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(1)) + gzip.compress(lines(2)))
    assert seqs(tmp_path / "a.jsonl.gz", strict=True) == [1, 2]


def test_of_a_gzip_file_that_ends_early_the_readable_part_is_read(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(record(seq, os.urandom(40).hex()) + b"\n" for seq in range(1, 3_001)))
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    reader = read_events(tmp_path / "a.jsonl.gz")
    found = [event.seq for event in reader]
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 1_000
    assert [(bad.line, "the rest cannot be read" in bad.reason) for bad in reader.bad] == [
        (len(found) + 1, True)
    ]


@pytest.mark.parametrize("content", [b"plain text\n", b"\x1f\x8b\x08\x00garbage that is no deflate stream"])
def test_what_is_no_gzip_file_is_one_bad_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(lines(1))
    reader = read_events(tmp_path)
    assert [event.seq for event in reader] == [1]
    assert [bad.line for bad in reader.bad] == [1]


def test_a_newer_log_is_read_and_the_reader_says_so() -> None:
    newer = record(2).replace(b'{"v":1', b'{"v":3')
    reader = read_events(io.BytesIO(lines(1) + newer + b"\n" + newer.replace(b":3", b":2", 1) + b"\n"))
    assert reader.newer_version is None
    assert list(reader) == [note(1), note(2), note(2)]
    assert reader.newer_version == 3
    assert reader.bad_count == 0


def test_lines_that_another_program_formatted_are_no_newer_version() -> None:
    loose = record(1).replace(b'":', b'": ')
    reader = read_events(io.BytesIO(loose + b"\n"))
    assert list(reader) == [note(1)]
    assert reader.newer_version is None


def test_a_reader_is_read_once_and_may_be_left_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1, 2, 3))
    with read_events(tmp_path / "a.jsonl") as reader:
        assert next(reader) == note(1)
        assert next(iter(reader)) == note(2)
    assert list(reader) == []
    reader.close()


def test_every_file_is_closed_when_its_events_were_read(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.jsonl").write_bytes(lines(1, 2))
    before = open_descriptors()
    with read_events(tmp_path) as reader:
        for _ in reader:
            assert open_descriptors() <= before + 1
    assert open_descriptors() == before


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_file_that_only_the_reader_holds_stays_open_while_it_is_read(*, packed: bool) -> None:
    content = b"".join(encode_event(note(number)) + b"\n" for number in range(1, 9))

    def opened() -> io.TextIOWrapper:  # closes what is below it when nobody holds it
        if packed:
            return io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(content))))
        return io.TextIOWrapper(io.BytesIO(content))

    assert len(list(read_events(opened()))) == 8


class InPieces(io.BytesIO):
    """Gives as much at once as a pipe may."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self._most = most

    def read1(self, size: int | None = -1, /) -> bytes:
        del size
        return self.read(self._most)


def test_a_pipe_that_is_packed_is_unpacked() -> None:
    content = b"".join(encode_event(note(number)) + b"\n" for number in range(1, 2_000))
    for size in (1, 7, 2**20):
        packed = gzip.compress(content[: 2_000 if size == 1 else None])
        reader = read_events(InPieces(packed, size))
        assert len(list(reader)) >= 10
        assert reader.bad_count == (1 if size == 1 else 0)  # where the content was cut
    torn = read_events(io.BytesIO(gzip.compress(content)[:-9]))
    list(torn)
    assert "the packed file ends early" in torn.bad[-1].reason


@pytest.mark.parametrize("options", [{"poll_ms": "1"}, {"max_line_bytes": "1"}, {"max_unpacked_bytes": None}])
def test_an_option_of_another_type_is_refused_in_a_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}="):
        read_events("logs", follow=True, **options)


def test_a_line_that_is_given_as_a_path_is_refused_in_short() -> None:
    line = encode_event(note(1, "x" * 1_000)).decode()
    with pytest.raises(LogError, match="this is a line of a log and no path") as refused:
        read_events([line])
    assert len(str(refused.value)) < 300
