"""JsonlReporter: what it writes where, shared by sessions and threads, and what it does when it cannot."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import AnyDelta, AppendBytes, AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, ContentDelta, CustomEvent
from agentkit_loop.observers import FailurePolicy
from agentkit_reporting.jsonl import MAX_OPEN_SESSIONS, JsonlReporter
from agentkit_reporting.log.read import read_events
from tests.reporting.numbered_lines import note
from tests.strategies import event_lists, events, texts

RUN = [sys.executable, "-c"]


def descriptors() -> list[int]:
    return [int(each.name) for each in Path("/dev/fd").iterdir()]


def is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:  # of the listing itself
        return False


def tell(emitter: EventEmitter, *numbers: int) -> None:
    for number in numbers:
        emitter.emit(CustomEvent(name="note", data=number))


def numbers(path: Any) -> list[Any]:
    return [event.data for event in read_events(path, strict=True) if isinstance(event, CustomEvent)]


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


# --- what is written


@given(event_lists())
def test_n_events_give_n_lines_that_read_back_equal(told: list[AgentEvent]) -> None:
    stream = io.BytesIO()
    reporter = JsonlReporter(stream, redact=False)  # which withholds pieces of what is base64 or no JSON
    for event in told:
        reporter.handle_event(event)
    lines = stream.getvalue().splitlines(keepends=True)
    assert len(lines) == len(told)
    assert all(line.endswith(b"\n") and json.loads(line)["v"] == 1 for line in lines)
    assert list(read_events(io.BytesIO(stream.getvalue()), strict=True)) == told


def test_each_event_is_in_the_file_before_the_next_observer_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    seen: list[int] = []
    with EventEmitter([JsonlReporter(path), lambda _: seen.append(len(numbers(path)))]) as emitter:
        tell(emitter, 1, 2, 3)
    assert seen == [1, 2, 3]


def test_previews_are_left_out_when_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    kept: list[AnyDelta] = [BeginPart("p", "text"), CommitPart("p", TextPart(text="ab"))]
    with EventEmitter([JsonlReporter(path, deltas="none")]) as emitter:
        for delta in (kept[0], AppendText("p", "a"), AppendBytes("p", b"b"), kept[1]):
            emitter.tell_delta("request-1", delta)
        tell(emitter, 1)
    told = list(read_events(path))
    assert [event.delta for event in told[:2]] == kept  # type: ignore[attr-defined] # these are deltas
    assert [event.seq for event in told] == [1, 4, 5]


def test_an_event_that_was_not_told_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "a.jsonl")
    with pytest.raises(ConfigurationError, match="not told yet"):
        reporter.handle_event(CustomEvent(name="note"))
    assert list(tmp_path.iterdir()) == []


# --- where it goes


def test_a_dash_is_standard_output() -> None:
    program = (
        "from agentkit_loop.emitter import EventEmitter\n"
        "from agentkit_loop.events import CustomEvent\n"
        "from agentkit_reporting.jsonl import JsonlReporter\n"
        "with EventEmitter([JsonlReporter('-')]) as emitter:\n"
        "    print('before'); emitter.emit(CustomEvent(name='ä')); print('after')\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([*RUN, program], capture_output=True, check=True, env=environment)
    before, line, after = result.stdout.splitlines()
    assert (before, json.loads(line)["payload"]["name"], after) == (b"before", "ä", b"after")


def test_a_text_stream_gets_whole_lines() -> None:
    stream = io.StringIO()
    with EventEmitter([JsonlReporter(stream)]) as emitter:
        tell(emitter, 1, 2)
    assert numbers(io.StringIO(stream.getvalue())) == [1, 2]


def test_the_reporter_says_where_its_log_is(tmp_path: Path) -> None:
    one, many = JsonlReporter(tmp_path / "a.jsonl"), JsonlReporter(tmp_path, per="session")
    assert one.path == one.path_of("s") == tmp_path / "a.jsonl"
    assert (many.path, many.path_of("s")) == (tmp_path, tmp_path / "s.jsonl")
    assert JsonlReporter(io.BytesIO()).path is None


def test_each_session_has_its_own_file(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "logs", per="session")
    first = EventEmitter([reporter], session_id="ses_1")
    second = EventEmitter([reporter], session_id="ses_2")
    tell(first, 1)
    tell(second, 2)
    tell(first, 3)
    reporter.close()
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["ses_1.jsonl", "ses_2.jsonl"]
    assert numbers(tmp_path / "logs" / "ses_1.jsonl") == [1, 3]
    assert numbers(tmp_path / "logs" / "ses_2.jsonl") == [2]


def test_very_many_sessions_hold_few_files_open(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path, per="session", fsync="never")
    before = open_descriptors()
    for round_number in range(2):
        for session in range(MAX_OPEN_SESSIONS + 20):
            tell(EventEmitter([reporter], session_id=f"s{session}"), round_number)
    assert open_descriptors() <= before + MAX_OPEN_SESSIONS
    assert all(numbers(path) == [0, 1] for path in tmp_path.iterdir())
    reporter.close()
    assert open_descriptors() == before


def test_what_goes_wrong_with_one_sessions_file_keeps_no_other(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path, per="session")

    def tell_all(seq: int) -> None:
        for session in ("a", "b", "c"):
            reporter.handle_event(note(seq, session))

    tell_all(1)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).unlink()
    before = len(descriptors())
    with pytest.raises(LogError, match=r"a\.jsonl: log was removed while it was written"):
        reporter.flush()
    assert len(descriptors()) == before - 2
    tell_all(2)
    assert [event.session_id for event in read_events(tmp_path)] == ["a", "b", "c", "c"]
    (held,) = [each for each in descriptors() if is_open_at(each, tmp_path / "b.jsonl")]
    os.close(held)
    with pytest.raises(LogError, match=r"b\.jsonl: .*was closed by other code"):
        reporter.close()
    assert len(descriptors()) == before - 3


@given(st.lists(texts(), unique=True, max_size=4))
def test_a_session_id_never_chooses_another_place(tmp_path_factory: Any, ids: list[str]) -> None:
    directory = tmp_path_factory.getbasetemp() / "logs"
    reporter = JsonlReporter(directory, per="session")
    paths = [reporter.path_of(session_id) for session_id in ids]
    assert len(set(paths)) == len(ids)
    for path in paths:
        assert path is not None
        assert path.parent == directory
        assert path.name.isascii()
        assert path.name.isprintable()
        assert not path.name.startswith(".")
        assert len(path.name) < 200


@pytest.mark.parametrize(
    "session_id", ["../../etc/cron.d/x", "/abs", "..", ".", "", "a\0b", "x" * 5000, "a\ud800"]
)
def test_a_hostile_session_id_becomes_a_plain_file_in_the_directory(tmp_path: Path, session_id: str) -> None:
    reporter = JsonlReporter(tmp_path / "logs", per="session")
    path = reporter.path_of(session_id)
    assert path is not None
    assert path.parent == tmp_path / "logs"
    path.parent.mkdir()
    path.touch()
    assert path.stat().st_size == 0


# --- what is refused


@pytest.mark.parametrize("options", [{"deltas": "some"}, {"per": "run"}, {"fsync": "often"}])
def test_a_wrong_option_is_refused_at_once(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="refused because"):
        JsonlReporter(tmp_path / "a", **options)
    with pytest.raises(ConfigurationError, match="refused because"):
        JsonlReporter(tmp_path, **({"per": "session"} | options))


def test_a_target_that_cannot_work_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match='per="session"'):
        JsonlReporter(tmp_path)
    with pytest.raises(LogError, match="it is a file"):
        JsonlReporter(tmp_path / "file", per="session")
    with pytest.raises(LogError, match="no open stream"):
        JsonlReporter(None)
    with pytest.raises(ConfigurationError, match="no path"):
        JsonlReporter(io.BytesIO(), per="session")


# --- the end, threads, trouble


@pytest.mark.parametrize("per", [None, "session"])
def test_closing_twice_is_harmless_and_an_event_after_it_is_refused(tmp_path: Path, per: Any) -> None:
    reporter = JsonlReporter(tmp_path if per else tmp_path / "a.jsonl", per=per)
    emitter = EventEmitter([reporter], policy=FailurePolicy.ACCUMULATE)
    tell(emitter, 1)
    reporter.flush()
    reporter.close()
    reporter.close()
    reporter.flush()
    tell(emitter, 2)
    (failure,) = emitter.take_errors()
    assert "closed; make a new one" in str(failure.error)
    assert numbers(tmp_path) == [1]


def test_a_failure_is_the_emitters_and_the_next_lines_are_whole(tmp_path: Path) -> None:
    class Moody(io.BytesIO):
        fails = False

        def write(self, line: Any) -> int:
            if self.fails:
                raise OSError(28, "No space left on device")
            return super().write(line)

    stream, told = Moody(), list[AgentEvent]()
    emitter = EventEmitter([JsonlReporter(stream), told.append], policy=FailurePolicy.ACCUMULATE)
    tell(emitter, 1)
    stream.fails = True
    tell(emitter, 2)
    stream.fails = False
    tell(emitter, 3)
    (failure,) = emitter.take_errors()
    assert (failure.event_seq, "no space left" in str(failure.error)) == (2, True)
    assert [event.type for event in told] == [
        "custom_event",
        "custom_event",
        "observer_failed",
        "custom_event",
    ]
    assert numbers(io.BytesIO(stream.getvalue())) == [1, 3]
    assert tmp_path.exists()


def test_threads_with_sessions_of_their_own_share_a_reporter(tmp_path: Path) -> None:
    with_one_file = JsonlReporter(tmp_path / "all.jsonl")
    with_many = JsonlReporter(tmp_path / "each", per="session")

    def run(name: str) -> None:
        tell(EventEmitter([with_one_file, with_many], session_id=name), *range(50))

    threads = [threading.Thread(target=run, args=(f"s{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for reporter in (with_one_file, with_many):
        reporter.close()
    assert sorted(numbers(tmp_path / "all.jsonl")) == sorted(list(range(50)) * 8)
    assert all(numbers(path) == list(range(50)) for path in (tmp_path / "each").iterdir())


def test_a_closed_pipe_ends_neither_the_run_nor_the_exit_badly() -> None:
    program = """
import sys
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.events import CustomEvent
from agentkit_reporting.jsonl import JsonlReporter
sys.stdin.readline()
emitter = EventEmitter([JsonlReporter("-")], policy=FailurePolicy.IGNORE)
for number in range(1000):
    emitter.emit(CustomEvent(name="note", data="x" * 200))
emitter.close()
sys.stderr.write(f"{emitter.stats()[0].failed} failed")
"""
    child = subprocess.Popen(
        [*RUN, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, told = child.communicate(b"go\n", timeout=30)
    assert (child.returncode, told) == (0, b"1000 failed")


def test_importing_the_reporter_brings_no_heavy_module() -> None:
    program = (
        "import sys, agentkit_reporting.jsonl, agentkit_reporting.log.read, agentkit_reporting.schema\n"
        "print([name for name in ('rich', 'anthropic', 'genai_prices', 'gzip') if name in sys.modules])"
    )
    result = subprocess.run([*RUN, program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@given(events())
def test_a_session_file_holds_the_event_whatever_its_session_is_called(event: AgentEvent) -> None:
    path = JsonlReporter("logs", per="session").path_of(event.session_id)
    assert path is not None
    assert path.suffix == ".jsonl"


# --- its account


def test_its_account_says_whether_everything_was_written(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "run.jsonl")
    emitter = EventEmitter([reporter], policy=FailurePolicy.IGNORE)
    tell(emitter, 1, 2)
    assert str(reporter.account()) == "complete: 2 of 2"
    emitter.emit(CustomEvent(name="note", data={"key": "sk-ant-" + "a1B2" * 12}))
    assert (reporter.account().redacted, reporter.account().is_complete) == (1, True)
    reporter.close()
    tell(emitter, 3)
    assert str(reporter.account()) == "incomplete: 3 of 4 (1 failed)"


@pytest.mark.parametrize("deltas", ["all", "none"])
def test_previews_left_out_by_choice_are_not_missed(deltas: Any) -> None:
    reporter = JsonlReporter(io.BytesIO(), deltas=deltas)
    emitter = EventEmitter([reporter])
    emitter.emit(ContentDelta(request_id="r", delta=AppendText("p", "a piece")))
    tell(emitter, 1)
    assert str(reporter.account()) == ("complete: 2 of 2" if deltas == "all" else "complete: 1 of 1")


def test_a_forked_child_counts_its_own_events(tmp_path: Path) -> None:
    script = """
import os, sys
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import CustomEvent
from agentkit_reporting import JsonlReporter
reporter = JsonlReporter(sys.argv[1])
emitter = EventEmitter([reporter])
emitter.emit(CustomEvent(name="note", data=1))
if (child := os.fork()) == 0:
    print("child", reporter.account(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", reporter.account())
"""
    told = subprocess.run(
        [*RUN, script, str(tmp_path / "a.jsonl")], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == ["child complete: 0 of 0", "parent complete: 1 of 1"]
