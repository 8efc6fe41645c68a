"""Batches in the log: the same bytes as one by one, no secret, and no line lost where a write is cut or refused."""

from __future__ import annotations

import datetime as dt
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.batches import DeltaBatch
from agentkit_loop.clock import Clock
from agentkit_loop.content import AppendText, BeginPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted
from agentkit_loop.stamping import make_delta
from agentkit_loop.testing import VirtualClock
from agentkit_reporting import JsonlReporter, Redactor, Rotation, read_events
from agentkit_reporting.batch_lines import encode_batch
from agentkit_reporting.codec import encode_event
from agentkit_reporting.redaction.content_marks import ContentRedactor
from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.redactor import MOST_SESSIONS
from tests.strategies import UTC_TIMES, texts

KEY = "sk-ant-api03-" + "Zq3_x9" * 16
START = dt.datetime(2026, 5, 24, 12, 0, 0, 7, tzinfo=dt.UTC)


def batch_of(*chunks: str, seq: int = 2, session_id: str = "s", timestamp: dt.datetime = START) -> DeltaBatch:
    return DeltaBatch(
        session_id, "r", "turn-1", seq, timestamp, request_id="req-1", part_id="0", chunks=list(chunks)
    )


def begin(session_id: str = "s", kind: Any = "text") -> ContentDelta:
    return make_delta("req-1", BeginPart("0", kind), session_id, "r", "turn-1", 1, START)


def shown(path: Path, part_id: str = "0") -> list[str]:
    """Return the pieces of a part in a log, which is sound."""
    return [
        event.delta.chunk
        for event in read_events(path, strict=True)
        if isinstance(event, ContentDelta)
        and isinstance(event.delta, AppendText)
        and event.delta.part_id == part_id
    ]


@given(
    st.lists(texts(), min_size=1, max_size=5),
    st.tuples(texts(), texts(), st.none() | texts(), texts(), texts()),
    st.integers(1, 2**62),
    UTC_TIMES | st.just(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
)
def test_the_lines_of_a_batch_are_those_of_its_events(
    chunks: list[str], ids: tuple[str, str, str | None, str, str], seq: int, timestamp: dt.datetime
) -> None:
    session_id, run_id, turn_id, request_id, part_id = ids
    batch = DeltaBatch(
        session_id, run_id, turn_id, seq, timestamp, request_id=request_id, part_id=part_id, chunks=chunks
    )
    assert encode_batch(batch) == b"".join(encode_event(event) + b"\n" for event in batch.events())
    assert batch.last_seq == batch.events()[-1].seq


PIECES = st.lists(
    st.sampled_from(("plain ", "\u00e9", "pass", "word=", "hunter2hunter2", "sk-", KEY[:9], KEY[9:], "\n"))
)


@given(
    batches=st.lists(PIECES.filter(bool), max_size=6),
    kind=st.sampled_from(("text", "tool_call", "media")),
    redact=st.booleans(),
)
def test_a_log_of_batches_shows_what_one_of_events_may(
    batches: list[list[str]], kind: Any, redact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    together, alone = folder / "together.jsonl", folder / "alone.jsonl"
    one, other = JsonlReporter(together, redact=redact), JsonlReporter(alone, redact=redact)
    seq = 2
    for reporter in (one, other):
        reporter.handle_event(begin(kind=kind))
    for chunks in batches:
        batch = batch_of(*chunks, seq=seq)
        seq = batch.last_seq + 1
        assert one.handle_batch(batch) == []
        for event in batch.events():
            other.handle_event(event)
    whole = "".join(chunk for chunks in batches for chunk in chunks)
    if not redact:
        assert together.read_bytes() == alone.read_bytes()
    else:
        told = "".join(shown(together))
        assert KEY not in told
        if kind == "text":
            assert Redactor().text(whole).startswith(told)
            assert told.startswith("".join(shown(alone)))
        else:
            assert shown(together) == shown(alone)
    assert [event.seq for event in read_events(together, strict=True)] == list(range(1, seq))
    assert one.account().received == seq - 1
    assert one.close()
    assert other.close()


OWN = (
    OwnPattern("ticket", r"TICKET-\d{4}", longest=11, begins="T"),
    OwnPattern("ahead", r"Kept(?=end)", longest=7),
    OwnPattern("line", r"(?m)^x=.*$", longest=20),
    OwnPattern("negative", r"ab(?!c)\w", longest=4),
)
CHOICES: tuple[dict[str, Any], ...] = (
    {"rules": ("secrets", "personal")},
    {"rules": ("secrets", "personal"), "mode": "pseudonym", "key": b"k" * 32},
    {"rules": OWN},
    {"rules": ("secrets", *OWN), "mode": "pseudonym", "key": b"k" * 32},
    {"rules": ("secrets",), "keep_arguments": ["path"]},
)
ODD_PIECES = st.sampled_from(
    (
        *("plain ", "pass", "word=", "hunter2hunter2", KEY[:9], KEY[9:], KEY, "\n", "x=", "", " " * 150),
        *("TICK", "ET-12", "34", "ab", "c", "Kept", "end"),
        *("ann.smith@", "example.com", "4111 1111 ", "1111 1111"),
    )
)


@given(
    batches=st.lists(
        st.tuples(st.sampled_from("01"), st.lists(ODD_PIECES, min_size=1, max_size=6)), max_size=8
    ),
    choice=st.sampled_from(CHOICES),
)
def test_parts_in_turn_show_nothing_that_any_rule_hides(
    batches: list[tuple[str, list[str]]], choice: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    logs = [folder / "together.jsonl", folder / "alone.jsonl"]
    one, other = (JsonlReporter(log, redact=Redactor(**choice)) for log in logs)
    for reporter in (one, other):
        for seq, part_id in ((1, "0"), (2, "1")):
            event = make_delta("q", BeginPart(part_id, "text"), "s", "r", "turn-1", seq, START)
            reporter.handle_event(event)
    seq = 3
    for part_id, chunks in batches:
        batch = DeltaBatch("s", "r", "turn-1", seq, START, request_id="q", part_id=part_id, chunks=chunks)
        seq = batch.last_seq + 1
        assert one.handle_batch(batch) == []
        for event in batch.events():
            other.handle_event(event)
    assert one.close()
    assert other.close()
    for part_id in "01":
        whole = Redactor(**choice).text("".join("".join(each) for of, each in batches if of == part_id))
        together, alone = ("".join(shown(log, part_id)) for log in logs)
        assert whole.startswith(together) or together == alone


def test_a_secret_that_begins_in_one_batch_and_ends_in_the_next_is_masked(tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    with_log = JsonlReporter(log)
    with_log.handle_event(begin())
    with_log.handle_batch(batch_of("my key: ", KEY[:20]))
    with_log.handle_batch(batch_of(KEY[20:], " is it", seq=4))
    assert "".join(shown(log)).startswith("my key: ")
    assert KEY[20:] not in "".join(shown(log))
    assert with_log.account().redacted > 0


class Own(Redactor):
    """A redactor with a rule that no pattern can say."""

    def event(self, event: AgentEvent) -> AgentEvent:
        told = super().event(event)
        if isinstance(told, ContentDelta) and isinstance(told.delta, AppendText):
            return attrs.evolve(told, delta=AppendText(told.delta.part_id, told.delta.chunk.swapcase()))
        return told


@pytest.mark.parametrize(
    ("redactor", "pieces"),
    [
        (ContentRedactor("off"), ["", ""]),
        (ContentRedactor("metadata"), ["", ""]),
        (ContentRedactor("off", rules=None), ["", ""]),
        (Own(), ["A DIARY", " SAYS"]),
    ],
)
def test_a_redactor_with_a_look_of_its_own_is_not_passed_by(
    redactor: Redactor, pieces: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "s.jsonl"
    reporter = JsonlReporter(log, redact=redactor)
    reporter.handle_event(begin())
    assert reporter.handle_batch(batch_of("a diary", " says")) == []
    assert shown(log) == pieces


def test_a_session_that_is_forgotten_while_its_pieces_are_written_fails_none() -> None:
    redactor = Redactor()
    redactor.event(begin())
    assert redactor.passes("s", "0", "my key: ")
    for number in range(MOST_SESSIONS):
        redactor.event(begin(f"other {number}"))
    redactor.pass_on("s", "0", "my key: ")
    assert not redactor.passes("s", "0", KEY)
    told = redactor.event(batch_of(KEY).events()[0])
    assert isinstance(told, ContentDelta)
    assert told.delta == AppendText("0", "")


class Failing(Clock):
    """A clock that raises something when it is asked for the second time from now."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.error: BaseException | None = None

    def monotonic(self) -> float:
        self.asked += 1
        if self.error is not None and self.asked == 2:
            raise self.error
        return super().monotonic()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no time")])
def test_pieces_whose_write_was_interrupted_are_a_secrets_beginning_all_the_same(
    error: BaseException, tmp_path: Path
) -> None:
    log, clock = tmp_path / "s.jsonl", Failing()
    reporter = JsonlReporter(log, clock=clock, fsync_interval_ms=1e-6)
    reporter.handle_event(begin())
    clock.asked, clock.error = 0, error
    with pytest.raises(type(error)):  # once its lines are written
        reporter.handle_batch(batch_of("it is: p", "ass"))
    clock.error = None
    reporter.handle_batch(batch_of("word=hunter2", "hunter2", seq=4))
    assert "hunter2" not in "".join(shown(log))
    assert [event.seq for event in read_events(log, strict=True)] == [1, 2, 3, 4, 5]


def test_previews_are_left_out_and_a_stream_gets_each_line(tmp_path: Path) -> None:
    log, stream = tmp_path / "s.jsonl", io.BytesIO()
    without = JsonlReporter(log, deltas="none")
    assert without.handle_batch(batch_of("a", "b")) == []
    assert (log.exists(), without.account().received) == (False, 0)
    to_stream = JsonlReporter(stream)
    to_stream.handle_batch(batch_of("a", "b"))
    assert stream.getvalue().count(b"\n") == 2


def test_each_session_has_its_own_file(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path, per="session", redact=False)
    for session_id in ("a", "b"):
        for seq in (2, 4):
            reporter.handle_batch(batch_of(session_id, "x", session_id=session_id, seq=seq))
    assert shown(reporter.path_of("a") or tmp_path) == ["a", "x"] * 2
    assert shown(reporter.path_of("b") or tmp_path) == ["b", "x"] * 2
    assert reporter.close()


def test_a_batch_that_a_segment_has_no_room_for_goes_on_in_the_next(tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    reporter = JsonlReporter(log, rotation=Rotation(max_bytes=2_000, compress=None), redact=False)
    chunks = [f"piece {number}" for number in range(40)]
    for start in range(0, 40, 10):
        reporter.handle_batch(batch_of(*chunks[start : start + 10], seq=2 + start))
    assert reporter.close()
    assert shown(log) == chunks
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.glob("*.jsonl*"))
    assert len(list(tmp_path.glob("s*.jsonl*"))) > 3


def test_every_write_is_forced_where_each_is_to_be(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "s.jsonl", fsync="always", redact=False)
    reporter.handle_event(begin())
    reporter.handle_batch(batch_of("a", "b"))
    assert shown(tmp_path / "s.jsonl") == ["a", "b"]
    assert reporter.account().delivered == 3


def test_what_other_code_opened_under_the_logs_number_gets_no_line(tmp_path: Path) -> None:
    log, other = tmp_path / "s.jsonl", tmp_path / "other.txt"
    reporter = JsonlReporter(log, redact=False)
    reporter.handle_event(begin())
    reporter.handle_batch(batch_of("a", "b"))
    (number,) = (
        int(each.name)
        for each in Path("/dev/fd").iterdir()
        if each.exists() and os.path.samestat(each.stat(), log.stat())
    )
    os.close(number)
    stranger = os.open(other, os.O_WRONLY | os.O_CREAT)
    os.dup2(stranger, number)
    reporter.handle_batch(batch_of("c", "d", seq=4))
    os.close(number)
    os.close(stranger)
    assert shown(log) == ["a", "b", "c", "d"]
    assert other.read_bytes() == b""


def test_a_batch_that_a_limit_cuts_loses_no_line_that_there_is_room_for(tmp_path: Path) -> None:
    program = """
import resource, sys
from agentkit_reporting import JsonlReporter
from tests.reporting.test_batch_lines import batch_of, begin
reporter = JsonlReporter(sys.argv[1], redact=False)
reporter.handle_event(begin())
size = 450 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
failures = reporter.handle_batch(batch_of("a", "b", "c", "d"))
print([event.seq for event, _ in failures], {str(error) for _, error in failures})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for event, _ in failures:
    reporter.handle_event(event)
told = reporter.account()
print(told.received, told.delivered, told.failed)
"""
    for cut in range(0, 240, 23):
        log = tmp_path / f"{cut}.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", program, str(log), str(cut)], capture_output=True, text=True, check=True
        )
        failed, counts = done.stdout.splitlines()
        numbers = [int(number) for number in failed.split("]")[0].strip("[").split(",") if number]
        assert numbers
        assert "file too large" in failed
        assert counts == f"{5 + len(numbers)} 5 {len(numbers)}"
        bad: list[int] = []
        reader = read_events(log)
        reader.on_bad_line = lambda _path, number, _line, bad=bad: bad.append(number)
        assert sorted(event.seq for event in reader) == [1, 2, 3, 4, 5]
        assert len(bad) <= 1  # the one that was cut


class Zoneless(Clock):
    """A clock whose times have no zone."""

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1)  # noqa: DTZ001 - that is the fault


def test_a_clock_without_a_zone_fails_each_event() -> None:
    reporter = JsonlReporter(io.BytesIO(), redact=False)
    failures = reporter.handle_batch(batch_of("a", "b", timestamp=Zoneless().now()))
    assert [(event.seq, type(error)) for event, error in failures] == [
        (2, ConfigurationError),
        (3, ConfigurationError),
    ]
    assert reporter.account().failed == 2


def test_an_emitter_writes_batches_and_events_in_order(tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    reporter = JsonlReporter(log)
    emitter = EventEmitter([reporter], session_id="s", clock=VirtualClock())
    emitter.emit(RunStarted(agent_name="a", model="m", system=None, tools=(), parameters={}, items=()))
    emitter.emit_delta("req-1", BeginPart("0", "text"))
    emitter.tell_batch("req-1", "0", ["a", "b"])
    emitter.emit_delta("req-1", AppendText("0", "c"))
    emitter.tell_batch("req-1", "0", ["d", "e"])
    told: list[AgentEvent] = list(read_events(log, strict=True))
    assert [event.seq for event in told] == [1, 2, 3, 4, 5, 6, 7]
    assert shown(log) == ["a", "b", "c", "d", "e"]
