"""Reading in blocks gives what reading line by line gives; only some kinds, and all that is told beside them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import EVENT_TYPES, AgentEvent, ContentDelta, RunStarted, UnknownEvent, UsageUpdated
from agentkit_reporting import UsageReporter, decode_event, encode_event, read_events
from agentkit_reporting.cli.report_json import as_json
from agentkit_reporting.cli.report_tables import as_markdown, as_text
from agentkit_reporting.codec import DecodeError
from agentkit_reporting.log.blocks import BETWEEN, LINES, Line, decode_block, event_of
from agentkit_reporting.log.lines import salvaged
from agentkit_reporting.records.report import RunReport
from agentkit_reporting.terminal import json_text
from benchmarks.reading_log import write_log
from tests.cli.report_samples import write_pipeline
from tests.cli.sample_logs import write_broken, write_fixed
from tests.strategies import events

_MANY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

HANDWRITTEN = (
    b"",
    b"   ",
    b"{}",
    b"null",
    b"[1, 2]",
    b"\xef\xbb\xbf",
    b'{"v":1,"seq":1}',
    b'{"metric":1}}',
    (
        b'{"v":1,"seq":3,"ts":"2026-02-30T10:00:00.5Z","type":"turn_started","session_id":"s","run_id":"r","turn_id":null,'
        b'"payload":{"index":1}}'
    ),
    (
        b'{"v":1,"seq":3,"ts":"2026-02-03T10:00:00.5+02:00","type":"turn_started","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"index":1}}'
    ),
    (
        b'{"v":1,"seq":4,"ts":"2026-02-03T10:00:00.5-02:00","type":"usage_updated","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"request_id":"q","model":"m","usage":{}}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"turn_started","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"index":"1"}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"turn_started","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"index":1,"newer":true}}'
    ),
    (
        b'{"v":2,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"turn_started","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"index":1}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"turn_started","type":"from_later","session_id":"s",'
        b'"run_id":"r","turn_id":null,"payload":{"index":1}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"from_later","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"index":1}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"content_delta","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"request_id":"q","delta":{"type":"append_text","part_id":"0","chunk":"\\ud800"}}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"custom_event","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"name":"n","data":1e999}}'
    ),
    (
        b'{"v":1,"seq":5,"ts":"2026-02-03T10:00:00.5Z","type":"custom_event","session_id":"s","run_id":"r",'
        b'"turn_id":null,"payload":{"name":"n","data":"\xff"}}'
    ),
)


@attrs.define
class Told:
    """What a reading gave: events with their lines, bad lines, and the bytes that were told of them."""

    events: list[tuple[int, AgentEvent]] = attrs.field(factory=list)
    bad: list[tuple[int, str]] = attrs.field(factory=list)
    bad_bytes: list[tuple[int, bytes]] = attrs.field(factory=list)


def line_by_line(content: bytes) -> Told:
    """Read a log as its format says: each line by itself."""
    told = Told()
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            told.events.append((number, decode_event(line)))
        except DecodeError as error:
            told.bad_bytes.append((number, line))
            found = salvaged(line, error.reason, lambda reason, at=number: told.bad.append((at, reason)))  # type: ignore[misc] # a default
            told.events += [(number, event) for event in found]
    return told


def in_blocks(path: Path, wants: tuple[type[AgentEvent], ...] | None = None) -> Told:
    """Read it as users do."""
    told = Told()
    reader = read_events(path, wants=wants)
    reader.on_bad_line = lambda _, line, content: told.bad_bytes.append((line, content))
    told.events = [(reader.line, event) for event in reader]
    told.bad = [(each.line, each.reason) for each in reader.bad]
    return told


def sample_logs(folder: Path) -> list[bytes]:
    """Return what logs hold: of agents, of a pipeline with retries, broken ones, one of the benchmark."""
    for name, write in (("broken", write_broken), ("fixed", write_fixed), ("pipeline", write_pipeline)):
        write(folder / f"{name}.jsonl")
    write_log(folder / "many.jsonl", 300)
    return [each.read_bytes() for each in sorted(folder.glob("*.jsonl"))]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the sample logs, made once."""
    return sample_logs(tmp_path_factory.mktemp("samples"))


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """Return a log of events of all kinds that somebody cut, joined, wrote anew or wrote into."""
    told = draw(st.lists(events(), min_size=1, max_size=12))
    lines = [encode_event(event) for event in told]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        line = lines[place]
        at = draw(st.integers(0, len(line)))
        ways = (
            lambda line, at: [line[:at]],
            lambda line, at: [line[at:]],
            lambda line, at: [line[:at], line[at:]],
            lambda line, at: [line[:at] + line[at + 1 :]],
            lambda line, at: [
                line[:at] + draw(st.sampled_from((b'"', b"}", b"{", b"\\", b"\xff", b" ", b"0"))) + line[at:]
            ],
            lambda line, _: [line + b"\r"],
            lambda line, _: [line + line],
            lambda line, _: (
                [json.dumps(json.loads(line), sort_keys=True).encode()] if _whole(line) else [line]
            ),
            lambda line, _: (
                json.dumps(json.loads(line), indent=1).encode().split(b"\n") if _whole(line) else [line]
            ),
            lambda line, _: [line, draw(st.sampled_from(HANDWRITTEN))],
            lambda line, at: [_flipped(line, at, draw(st.integers(0, 7)))],
            lambda line, _: [line.replace(b",", draw(st.sampled_from((b", ", b" ,\t", b"\n"))), 1)],
            lambda line, _: [line.replace(b":", b" : ")],
            lambda line, _: [line + draw(st.sampled_from((b",", b" ", b"\t"))) + line],
            lambda line, _: [re.sub(rb"[a-z]", lambda found: b"\\u%04x" % found[0][0], line, count=40)],
            lambda line, _: [line.replace(b'"type":"', b'"type":"newer_')],
        )
        lines[place : place + 1] = draw(st.sampled_from(ways))(line, at)
    return b"\n".join(lines) + draw(st.sampled_from((b"", b"\n", b"\n\n")))


def _flipped(line: bytes, at: int, bit: int) -> bytes:
    if at == len(line):
        return line
    return line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]


def _whole(line: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(line), dict)
    return False


@_MANY
@given(content=damaged_lines())
def test_a_damaged_log_is_read_as_line_by_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    assert in_blocks(path) == line_by_line(content)


@_MANY
@given(content=damaged_lines(), names=st.sets(st.sampled_from(sorted(EVENT_TYPES))))
def test_wanted_events_are_those_of_all(content: bytes, names: set[str], tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    kinds = tuple(EVENT_TYPES[name] for name in names)
    everything = line_by_line(content)
    told = in_blocks(path, kinds)
    wanted = [each for each in everything.events if isinstance(each[1], kinds)]
    assert told == attrs.evolve(everything, events=wanted)


@_MANY
@given(content=damaged_lines())
def test_lines_in_blocks_are_those_of_all_events(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    everything = line_by_line(content)
    bad: list[tuple[int, bytes]] = []
    reader = read_events(path)
    reader.on_bad_line = lambda _, line, content: bad.append((line, content))
    lines = [line for block in reader.blocks() for line in block]
    assert bad == everything.bad_bytes
    assert [(each.line, each.reason) for each in reader.bad] == everything.bad
    assert len(lines) == len(everything.events)
    for line, (_, event) in zip(lines, everything.events, strict=True):
        assert (line.seq, line.timestamp) == (event.seq, event.timestamp)
        assert (line.session_id, line.run_id, line.turn_id) == (
            event.session_id,
            event.run_id,
            event.turn_id,
        )
        if isinstance(event, UnknownEvent):
            assert type(line) is Line
        else:
            assert type(line) is LINES[type(event)]
            assert event_of(line) == event


@pytest.mark.parametrize("line", HANDWRITTEN)
def test_what_somebody_wrote_by_hand_is_read_as_line_by_line(
    line: bytes, samples: list[bytes], tmp_path: Path
) -> None:
    for content in samples:
        lines = content.split(b"\n")
        written = b"\n".join([*lines[:7], line, *lines[7:]])
        path = tmp_path / "log.jsonl"
        path.write_bytes(written)
        assert in_blocks(path) == line_by_line(written)


def test_a_block_whose_objects_are_as_many_as_its_lines_but_not_one_on_each_is_not_taken() -> None:
    line = HANDWRITTEN[10]
    spread = line.replace(b',"payload"', b',\n"payload"')
    assert decode_block(BETWEEN.join([line, line, line]), 2) is not None
    assert decode_block(BETWEEN.join([line, *spread.split(b"\n"), line + line]), 3) is None
    assert decode_block(BETWEEN.join([line, b"", line]), 2) is None


@pytest.mark.parametrize("most", [150, 700, 5_000])
def test_lines_that_are_too_long_keep_the_numbers_of_the_others(most: int, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, 400)
    lines = path.read_bytes().split(b"\n")
    reader = read_events(path, max_line_bytes=most)
    found = [(reader.line, event) for event in reader]
    short = [(number, line) for number, line in enumerate(lines, 1) if line and len(line) <= most]
    assert found == [(number, decode_event(line)) for number, line in short]
    assert [each.line for each in reader.bad] == [
        number for number, line in enumerate(lines, 1) if len(line) > most
    ]


def told_by(report: RunReport) -> Iterator[str]:
    """Yield all that a report says."""
    yield json_text(as_json(report, ()))
    yield as_text(report, ())
    yield as_markdown(report, ())
    yield from (json_text(as_json(report, (by,))) for by in ("run", "agent", "phase", "day"))


def reports_of(path: Path) -> tuple[RunReport, RunReport]:
    """Return a report of all events, and one of those that it wants."""
    full, narrow = RunReport(), RunReport()
    for event in read_events(path):
        full.take(event)
    for lines in read_events(path).blocks():
        narrow.take_lines(lines)
    return full, narrow


@_MANY
@given(data=st.data())
def test_a_report_of_a_cut_log_is_the_same_from_its_lines(
    data: st.DataObject, samples: list[bytes], tmp_path: Path
) -> None:
    content = data.draw(st.sampled_from(samples))
    first = data.draw(st.integers(0, len(content)))
    last = data.draw(st.integers(first, len(content)))
    path = tmp_path / "log.jsonl"
    path.write_bytes(content[first:last])
    full, narrow = reports_of(path)
    assert narrow.events == full.events
    assert list(told_by(narrow)) == list(told_by(full))


@_MANY
@given(content=damaged_lines())
def test_a_report_of_any_events_is_the_same_from_their_lines(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    full, narrow = reports_of(path)
    assert narrow.events == full.events
    assert list(told_by(narrow)) == list(told_by(full))


def test_totals_of_usage_need_only_what_they_want(samples: list[bytes], tmp_path: Path) -> None:
    for content in samples:
        path = tmp_path / "log.jsonl"
        path.write_bytes(content)
        full, narrow = UsageReporter(), UsageReporter()
        for event in read_events(path):
            full.handle_event(event)
        for event in read_events(path, wants=UsageReporter.wants):
            narrow.handle_event(event)
        assert narrow == full


def test_wanting_nothing_still_tells_what_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(HANDWRITTEN[9] + b"\nno event\n")
    reader = read_events(path, wants=())
    assert list(reader) == []
    assert [each.line for each in reader.bad] == [2]
    assert reader.with_events == {str(path)}
    with pytest.raises(LogError):
        list(read_events(path, wants=(), strict=True))


def test_waiting_for_the_end_of_runs_needs_all_events(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs all events"):
        read_events(tmp_path, wants=(RunStarted,), follow=True, until_run_end=True)


def test_kinds_in_another_zone_come_in_utc(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([HANDWRITTEN[10]] * 3))
    found = list(read_events(path, wants=(UsageUpdated, ContentDelta)))
    assert [event.timestamp.tzinfo for event in found] == [dt.UTC] * 3
