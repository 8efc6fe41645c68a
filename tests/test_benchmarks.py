"""What benchmarks compare does the same: sessions are those that were served, spans are equal. Nothing is timed."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit_reporting import read_events
from benchmarks import event_peers, growth, loop, peers, reading, start, tracing
from benchmarks.growing import Load, grown, require
from benchmarks.growth_sessions import Crowd
from benchmarks.growth_turns import Turns
from benchmarks.peer_environments import ENVIRONMENTS, Environment, EnvironmentUnavailableError
from benchmarks.reading_log import write_log
from benchmarks.references import Seen
from benchmarks.server import FRAMINGS
from benchmarks.session import make_session


def test_every_way_plays_a_small_session_rightly_in_every_framing() -> None:
    rows = loop.rows(1, turns=3, deltas=12, pause_s=0.0, requests=2)
    for framing in FRAMINGS:
        compared = [row for row in rows if row.name == f"a delta, {framing}, sync"]
        assert [row.reference for row in compared] == [loop.BARE, loop.OWN]
    assert {row.name for row in rows if row.paired is None} == {
        "first delta to observer, sync",
        "first delta to observer, async",
    }
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)


@pytest.mark.parametrize("wrong", ["inputs", "text", "deltas"])
def test_a_session_that_was_played_wrongly_does_not_count(wrong: str) -> None:
    session = make_session(3, 12)
    right = Seen(list(session.inputs), session.text, session.deltas)
    right.check(session, "a way")
    changed = {"inputs": list(session.inputs[:1]), "text": session.text[:-1], "deltas": session.deltas - 1}
    setattr(right, wrong, changed[wrong])
    with pytest.raises(AssertionError, match="a way: saw"):
        right.check(session, "a way")


def test_a_session_is_of_the_size_asked_for_and_the_same_every_time() -> None:
    session = make_session(20, 200)
    assert session == make_session(20, 200)
    assert len(session.answers) == 20
    assert len(session.inputs) == 19
    assert (
        sum(event.startswith(b"event: content_block_delta") for a in session.answers for event in a) == 4_000
    )


def test_the_spans_that_are_made_by_hand_are_those_of_the_reporter() -> None:
    events = [event for number in range(2) for event in tracing.session(number, 3)]
    told = []
    for made in (tracing.reporter, tracing.by_hand):
        exporter = InMemorySpanExporter()
        handle = made(tracing.provided(SimpleSpanProcessor(exporter)), None)
        for event in events:
            handle(event)
        told.append([facts_of(span) for span in exporter.get_finished_spans()])
    assert told[0] == told[1]
    assert len(told[0]) == 2 * (3 + 2 + 1)


def test_the_sdks_ways_play_a_small_session_rightly_and_frameworks_without_environment_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_folder = tmp_path / "a file"
    no_folder.touch()
    rows = peers.rows(1, turns=3, deltas=12, environments=no_folder)
    assert [row.reference for row in rows] == list(peers.SDK_WAYS)
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" is left out, it has no environment: ")[0] for line in told] == [
        environment.name for environment in ENVIRONMENTS
    ]


@pytest.mark.parametrize("wrong", ["inputs", "text", "deltas"])
def test_a_worker_whose_work_is_wrong_is_refused(wrong: str) -> None:
    session = make_session(3, 12)
    seen = attrs.asdict(Seen(list(session.inputs), session.text, session.deltas))
    with answering("right", seen) as right:
        assert [row.ours for row in peers.compared([right, right], session, 2)] == [
            0.5 / session.deltas * 1e6
        ]
    changed = {"inputs": list(session.inputs[:1]), "text": session.text[:-1], "deltas": session.deltas - 1}
    with (
        answering("right", seen) as right,
        answering("a peer", {**seen, wrong: changed[wrong]}) as peer,
        pytest.raises(AssertionError, match="a peer: saw"),
    ):
        peers.compared([right, peer], session, 2)


def test_a_worker_that_has_ended_says_so() -> None:
    with (
        peers.Worker("a peer", [sys.executable, "-c", ""]) as peer,
        pytest.raises(RuntimeError, match="a peer: the program ended before it had played"),
    ):
        peer.play()


def test_an_environment_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    environment = Environment("a framework", ("a-framework==1", "anthropic==2"))
    with pytest.raises(EnvironmentUnavailableError, match="a file"):
        environment.python(tmp_path / "a file")
    assert environment.version(tmp_path / "a file") == "left out"


def test_only_our_own_program_imports_ours() -> None:
    programs = Path(peers.__file__).parent / "peer_programs"
    frameworks = {program for _, program in peers.FRAMEWORK_WAYS.values()}
    assert {path.stem for path in programs.glob("*.py")} == {
        "__init__",
        "worker",
        "ours",
        *peers.SDK_WAYS.values(),
        *frameworks,
    }
    allowed = {"benchmarks.session", "benchmarks.peer_programs.worker"}
    for program in ("worker", *frameworks):
        imported = imports_of(programs / f"{program}.py")
        assert {name for name in imported if name.startswith(("agentkit", "benchmarks"))} <= allowed
    assert not [name for name in imports_of(programs.parent / "session.py") if name.startswith("agentkit")]


def test_every_way_writes_the_same_events() -> None:
    rows = event_peers.written(1, pieces=20)
    assert [row.reference.split(",")[0] for row in rows] == [
        "structlog + orjson",
        "logging + JSON formatter",
        "loguru",
        "OpenTelemetry span",
    ]


@pytest.mark.parametrize("told", [(1, {"v": 1}), (2, {"v": 2})])
def test_events_that_were_written_wrongly_do_not_count(told: event_peers.Told) -> None:
    way = event_peers.Way("a way", lambda _: None, lambda: told)
    with pytest.raises(AssertionError, match="a way: wrote"):
        event_peers.check([way], 2, {"v": 1})


def answering(name: str, seen: dict[str, object]) -> peers.Worker:
    """Return a worker that says the same each time."""
    line = json.dumps({"cpu_s": 0.5, "seen": seen})
    return peers.Worker(
        name, [sys.executable, "-c", f"import sys\nfor _ in sys.stdin: print({line!r}, flush=True)"]
    )


def imports_of(path: Path) -> Sequence[str]:
    """Return the modules that a file imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


def test_a_report_has_the_figures_that_duckdb_has(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    log = tmp_path / "sessions.jsonl"
    write_log(log, 5_000)
    report, asked = (reading.run_side(side, log)[0] for side in ("report", "duckdb"))
    reading.check_alike(report, asked)
    asked["models"][0]["failed"] += 1
    with pytest.raises(AssertionError, match=r"failed: [0-9]+ is [0-9]+ in the other"):
        reading.check_alike(report, asked)


def test_reading_compares_a_small_log_in_every_row() -> None:
    pytest.importorskip("duckdb")
    rows = reading.rows(1, events=1_000)
    assert [row.bound for row in rows] == [1.5, 1.6, 1.5, 0.34]
    assert [row.unit for row in rows] == ["µs", "µs", "µs", "MB"]
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)


def test_a_log_to_read_is_the_same_every_time_and_mostly_deltas(tmp_path: Path) -> None:
    counts = [write_log(tmp_path / name, 3_000) for name in ("one", "two")]
    content = (tmp_path / "one").read_bytes()
    assert counts == [content.count(b"\n")] * 2
    assert content == (tmp_path / "two").read_bytes()
    assert 0.6 < content.count(b'"type":"content_delta"') / counts[0] < 0.75
    assert {event.type for event in read_events(tmp_path / "one")} >= {
        "model_request_retrying",
        "run_finished",
    }


def facts_of(span: ReadableSpan) -> tuple[object, ...]:
    """Return what a span tells, but its ids, and its start: by hand that is the event's."""
    parent = span.parent is not None
    return (
        span.name,
        span.kind,
        parent,
        span.end_time,
        dict(span.attributes or {}),
        span.events,
        span.status.status_code,
    )


TINY = growth.Sizes(
    turns=Turns(early=2, late=5, around=2, deltas=8),
    inputs=(3, 6),
    sdk_inputs=(3, 6),
    items=(4, 8),
    pending=(3, 6),
    log_bytes=(20_000, 60_000),
    crowd=Crowd(at_once=(1, 2, 4), deltas=8, lines=8),
    idle=(1, 3),
    events=(50, 200),
)


def test_every_row_of_growth_does_its_work_rightly_at_tiny_sizes() -> None:
    rows = growth.rows(1, TINY)
    assert [row.name for row in rows] == [
        "turn 5: more than turn 2",
        "turn 5: more than turn 2",
        "turn 5, scripted model",
        "turn 5, history sent",
        "turn 5, bare SDK",
        "turn 5, both",
        "delta of a tool input, 0.078 KB",
        "messages.stream(), a tool input, 0.078 KB",
        "item of a conversation, 8 items",
        "item of a rebuilt transcript, 8 items",
        "event of a buffer, 6 pending",
        "event of a channel, 6 pending",
        "event of a log, read_events, 0.06 MB",
        "delta, sessions on threads, 2 at once",
        "delta, sessions on threads, 4 at once",
        "delta, sessions on asyncio, 2 at once",
        "delta, sessions on asyncio, 4 at once",
        "delta, bare SDK on threads, 4 at once",
        "os.write of a line on threads, 4 at once",
        "an idle session, of 3",
        "process after 200 events",
    ]
    assert [row.unit for row in rows[-2:]] == ["kB", "kB"]
    assert {row.name for row in rows if row.bound is None} == {
        "turn 5, history sent",
        "turn 5, bare SDK",
        "turn 5, both",
        "messages.stream(), a tool input, 0.078 KB",
        "delta, bare SDK on threads, 4 at once",
        "os.write of a line on threads, 4 at once",
        "an idle session, of 3",
    }


def test_growth_is_what_a_piece_costs_in_the_large_over_the_small() -> None:
    played: list[str] = []

    def load(name: str, pieces: int, times: int) -> Load:
        return Load(
            name=name, pieces=pieces, play=lambda: played.append(name), check=lambda: None, times=times
        )

    rows = grown("piece", [load("small", 1, 3), load("middle", 2, 2), load("large", 6, 1)], 1)
    assert played == ["small", "small", "small", "middle", "middle", "large"] * 2  # the first does not count
    assert [(row.name, row.reference) for row in rows] == [
        ("piece, middle", "the same, small"),
        ("piece, large", "the same, small"),
    ]
    assert rows[0].theirs == rows[1].theirs


def test_work_that_was_done_wrongly_does_not_count() -> None:
    load = Load(name="small", pieces=1, play=lambda: None, check=lambda: require(3, 4, "items of a work"))
    with pytest.raises(AssertionError, match="items of a work: 3, not 4"):
        grown("piece", [load], 1)


def test_starts_are_of_what_they_say_they_are() -> None:
    assert [(row.name, row.theirs, row.unit, row.bound) for row in start.rows(1)] == [
        ("import agentkit_loop, agentkit_reporting", 150.0, "ms", 1.0),
        ("agentkit show --help", 200.0, "ms", 1.0),
        ("Agent, model, log, totals imported", 150.0, "ms", 1.0),
        ("agentkit show LOG, one answer", 200.0, "ms", 1.0),
    ]
