"""Following a log: what comes is read, once and in order, across rotation, packing, removal and new files.

Nothing here waits: see `followed_logs`.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.clock import Clock
from agentkit_loop.errors import LogError
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel, VirtualClock
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.follow import MAX_OPEN_LOGS
from agentkit_reporting.log.packing import packing_of
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segment_path
from agentkit_reporting.log.upkeep import Retention, Upkeep
from agentkit_reporting.log.write import LogWriter
from tests.reporting.followed_logs import Script, Step, appending, followed, following
from tests.reporting.numbered_lines import LENGTH, MEMORY, lines, record, seqs


def writing(writer: LogWriter, *numbers: int, session: str = "s") -> None:
    for number in numbers:
        writer.write(record(number, session))


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


# --- one log


def test_what_comes_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1, 2))
    half = record(4)
    steps = [
        appending(path, lines(3)),
        appending(path, half[:50]),
        appending(path, half[50:]),
        appending(path, b"\n" + lines(5)),
    ]
    assert followed(path, *steps) == [1, 2, 3, 4, 5]


def test_a_reader_looks_more_often_than_ten_times_a_second_and_only_when_there_is_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))
    clock = Script(appending(path, lines(2)), lambda: None)
    clock.reader = read_events(path, follow=True, clock=clock)
    assert [event.seq for event in clock.reader] == [1, 2]
    assert clock.slept == [0.05] * 3


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    reader = following(path, path.parent.mkdir, appending(path, lines(1)))
    assert reader.paths == ()
    assert [event.seq for event in reader] == [1]


def test_a_log_that_is_removed_and_made_again_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))
    assert followed(path, path.unlink, appending(path, lines(2)), appending(path, lines(3))) == [1, 2, 3]


def test_a_log_that_was_cut_to_nothing_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1, 2))
    assert followed(path, lambda: os.truncate(path, 0), appending(path, lines(3))) == [1, 2, 3]


def test_bad_lines_are_counted_with_their_place_and_strict_raises(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))
    reader = following(path, appending(path, b"junk\n" + lines(2)), strict=False)
    assert [event.seq for event in reader] == [1, 2]
    assert [(bad.path, bad.line) for bad in reader.bad] == [(str(path), 2)]
    with pytest.raises(LogError, match=r"run\.jsonl:2"):
        followed(path)


def test_a_stream_is_read_to_its_end_and_ends_the_following(tmp_path: Path) -> None:
    reader = read_events(io.BytesIO(lines(1, 2)), follow=True)
    assert [event.seq for event in reader] == [1, 2]
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress(lines(1)))
    assert seqs(tmp_path / "old.jsonl.gz") == [1]
    assert followed(
        [io.BytesIO(lines(1)), tmp_path / "a.jsonl"], appending(tmp_path / "a.jsonl", lines(2))
    ) == [
        1,
        2,
    ]


def test_every_file_is_closed_at_the_end(tmp_path: Path) -> None:
    before = open_descriptors()
    for number in range(5):
        (tmp_path / f"{number}.jsonl").write_bytes(lines(1))
    assert followed(tmp_path) == [1] * 5
    reader = read_events(tmp_path, follow=True)
    next(reader)
    reader.close()
    assert list(reader) == []
    assert open_descriptors() == before


def test_another_thread_can_end_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1))
    reader = read_events(tmp_path / "a.jsonl", follow=True)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(event.seq for event in reader))
    thread.start()
    reader.close()
    thread.join()
    assert found in ([], [1])


# --- rotation


def test_rotation_packing_and_removal_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, rotation=Rotation(max_bytes=2 * LENGTH, keep=2))

    def write(*numbers: int) -> Step:
        return lambda: writing(writer, *numbers)

    steps = [write(1), write(2, 3), write(4, 5), write(6), write(7, 8), writer.close]
    assert followed(path, *steps) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert seqs(path) == [3, 4, 5, 6, 7, 8]


def test_a_segment_that_was_packed_between_two_looks_is_read_on_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(1))

    def rotate_twice() -> None:
        for number in (1, 2):
            appending(path, lines(2 * number))()
            path.rename(segment_path(path, number))
            appending(path, lines(2 * number + 1))()
        Upkeep(path, packing_of("gzip", wanted_by="test"), Retention(), Clock()).do()

    assert followed(path, rotate_twice) == [1, 2, 3, 4, 5]


def test_a_late_line_of_a_writer_that_holds_the_old_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    clock = VirtualClock()
    slow = LogWriter(path, clock=clock)
    quick = LogWriter(path, clock=clock, rotation=Rotation(max_bytes=2 * LENGTH))

    def move_on() -> None:
        clock.advance(2)
        slow.write(record(3))

    steps: list[Step] = [
        lambda: slow.write(record(1)),
        lambda: writing(quick, *range(1, 7), session="q"),
        lambda: slow.write(record(2)),
        move_on,
        slow.close,
        quick.close,
    ]
    by_session: dict[str, list[int]] = {"s": [], "q": []}
    for event in following(path, *steps):
        by_session[event.session_id].append(event.seq)
    assert by_session == {"s": [1, 2, 3], "q": [1, 2, 3, 4, 5, 6]}


def test_segments_removed_before_they_could_be_read_are_told(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, rotation=Rotation(max_bytes=LENGTH, keep=1))

    def write_all() -> None:
        for number in range(2, 7):
            writer.write(record(number))
        writer.close()

    reader = following(path, lambda: writer.write(record(1)), write_all, strict=False)
    found = [event.seq for event in reader]
    assert found == [1, 5, 6]
    assert [Path(bad.path).name for bad in reader.bad] == [f"run.00000{number}.jsonl" for number in (2, 3, 4)]


OPERATIONS = st.sampled_from(["quick", "quick", "slow", "slow", "other", "look", "look", "pack", "later"])


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=60), st.booleans())
def test_whatever_is_written_rotated_and_packed_between_the_looks_each_line_is_read_once_in_order(
    operations: list[str], look_first: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        path = Path(place, "run.jsonl")
        clock = VirtualClock()
        small = Rotation(max_bytes=3 * LENGTH)
        options: dict[str, Any] = {"clock": clock, "fsync": "never"}
        writers = {
            "quick": LogWriter(path, rotation=small, **options),
            "other": LogWriter(path, rotation=small, **options),
            "slow": LogWriter(path, **options),
        }
        upkeep = Upkeep(path, packing_of("gzip", wanted_by="test"), Retention(), clock)
        counts = dict.fromkeys(writers, 0)

        def do(batch: list[str]) -> None:
            for operation in batch:
                if operation in writers:
                    counts[operation] += 1
                    writing(writers[operation], counts[operation], session=operation)
                elif operation == "pack":
                    upkeep.do()
                else:
                    clock.advance(0.7)

        def close() -> None:
            for writer in writers.values():
                writer.close()

        steps: list[Step] = []
        batch: list[str] = []
        for operation in [*operations, "look"]:
            if operation == "look":
                steps.append(functools.partial(do, batch))
                batch = []
            else:
                batch.append(operation)
        steps.append(close)
        if not look_first:
            path.touch()
        last = dict.fromkeys(writers, 0)
        for event in following(place, *steps):
            assert event.seq == last[event.session_id] + 1
            last[event.session_id] = event.seq
        assert last == counts


# --- several logs


def test_files_that_appear_later_in_a_directory_or_pattern_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1))

    def steps() -> list[Step]:
        return [
            appending(tmp_path / "b.jsonl", lines(2)),
            appending(tmp_path / "a.jsonl", lines(3)),
            appending(tmp_path / "c.txt", b"no log"),
            appending(tmp_path / "b.jsonl", lines(4)),
        ]

    assert followed(tmp_path, *steps()) == [1, 2, 3, 4]
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).unlink()
    assert followed(f"{tmp_path}/*.jsonl", *steps()) == [2, 3, 4]


def test_an_empty_directory_and_a_pattern_without_match_are_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.jsonl"
    for source in (tmp_path / "sub", f"{tmp_path}/*/a.*"):
        path.parent.mkdir()
        assert followed(source, appending(path, lines(1))) == [1]
        shutil.rmtree(path.parent)


def test_segments_that_appear_under_a_pattern_are_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for pattern in ("*.jsonl*", "run.*", "*"):
        writer = LogWriter(path, rotation=Rotation(max_bytes=LENGTH))

        def write(number: int, writer: LogWriter = writer) -> Step:
            return lambda: writer.write(record(number))

        steps = [write(1), write(2), write(3), writer.close]
        assert followed(f"{tmp_path}/{pattern}", *steps) == [1, 2, 3]
        for each in tmp_path.iterdir():
            each.unlink()


def test_a_log_that_somebody_packs_when_it_is_over_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1))

    def pack() -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
        (tmp_path / "a.jsonl").unlink()

    assert followed(tmp_path, pack, lambda: None) == [1]


def test_more_logs_than_may_be_open_are_followed(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:03}.jsonl" for number in range(MAX_OPEN_LOGS + 20)]
    for path in paths:
        path.write_bytes(lines(1))
    before = open_descriptors()
    counts: list[int] = []
    last = paths[-1]

    def rotate() -> None:
        counts.append(open_descriptors() - before)
        appending(last, lines(3))()
        last.rename(segment_path(last, 1))
        appending(last, lines(4))()

    def rotate_and_pack() -> None:
        appending(last, lines(5))()
        last.rename(segment_path(last, 2))
        Upkeep(last, packing_of("gzip", wanted_by="test"), Retention(), Clock()).do()
        appending(last, lines(6))()

    steps = [lambda: None, appending(last, lines(2)), rotate, rotate_and_pack, lambda: None]
    found = followed(tmp_path, *steps)
    assert found[: len(paths)] == [1] * len(paths)
    assert found[len(paths) :] == [2, 3, 4, 5, 6]
    assert counts[0] <= MAX_OPEN_LOGS + 1


# --- the end of a run


def test_the_following_ends_with_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def run() -> None:
        child = Agent(ScriptedModel(["child's"]), name="helper").as_tool(description="helps")
        replies = [Reply(calls=(ScriptedCall(name="helper", input={"prompt": "help"}),)), Reply(text="done")]
        with Agent(ScriptedModel(replies), tools=[child], observers=[JsonlReporter(path)]) as agent:
            agent.run("hi")

    reader = following(path, run, until_run_end=True)
    assert [event.type for event in reader][-1] == "run_finished"
    assert reader.bad_count == 0


def test_a_log_whose_last_run_is_over_is_read_and_left_and_one_that_broke_off_is_waited_for(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    for _ in range(2):
        with Agent(ScriptedModel(["hello"]), observers=[JsonlReporter(path)]) as agent:
            agent.run("hi")
    whole = path.read_bytes()
    first = whole[: whole.index(b"run_finished")].rpartition(b"\n")[0] + b"\n"
    clock = Script()
    assert len(list(read_events(path, follow=True, until_run_end=True, clock=clock))) > 10
    second = whole[whole.index(b"run_finished") :].partition(b"\n")[2]
    path.write_bytes(first + second)  # the first run never ends
    assert len(list(read_events(path, follow=True, until_run_end=True, clock=clock))) > 10
    assert clock.slept == []
    path.write_bytes(first)
    ended: list[str] = []
    steps: list[Step] = [lambda: ended.append("waited"), appending(path, whole[len(first) :])]
    assert [event.type for event in following(path, *steps, until_run_end=True)][-1] == "run_finished"
    assert ended == ["waited"]
