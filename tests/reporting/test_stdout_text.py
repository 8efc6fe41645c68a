"""Streamed text is printed as it comes, whole, and nothing tears it."""

from __future__ import annotations

import io
import threading

import pytest

from agentkit_loop.content import (
    CommitPart,
    CustomPart,
    MediaPart,
)
from agentkit_loop.events import (
    ContentDelta,
    ModelRequestStarted,
    ObserverFailed,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.usage import ErrorInfo
from agentkit_reporting.stdout import StdoutReporter
from tests.reporting.written_sessions import (
    MODEL,
    Script,
)


def test_a_run_takes_the_stream_from_a_session_whose_run_has_ended() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    first, second = Script("ses_0001", reporter.handle_event), Script("ses_0002", reporter.handle_event)
    first.start()
    first.end()
    failure = ErrorInfo(type="OSError", message="disk full")
    first.tell(ObserverFailed(observer="Log", event_seq=3, error=failure))
    first.turn(2)
    second.start()
    second.request()
    second.begin("part-1")
    second.append("part-1", "live")
    assert stream.getvalue().endswith("\n\nlive")
    assert "[" not in stream.getvalue()


def test_threads_do_not_tear_each_others_lines() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)

    def run(number: int) -> None:
        script = Script(f"ses_{number:04}", reporter.handle_event)
        script.start(prompt=f"prompt {number}")
        for turn in range(1, 20):
            script.turn(turn)
            script.request()
            script.say("part-1", "one ", "whole ", "line\n", "and ", "another")
            script.answer()
        script.end()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line.partition("] ")[2] or line for line in stream.getvalue().split("\n")]
    assert lines.count("one whole line") == lines.count("and another") == 4 * 19
    assert sum(line.startswith("● run completed") for line in lines) == 4


def test_chunks_are_written_and_flushed_as_they_come() -> None:
    flushed: list[str] = []

    class Recorder(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    script = Script("s", StdoutReporter(Recorder(), colour=False).handle_event)
    script.request()
    script.begin("part-1")
    for chunk in ("one ", "two\r", "\nthree"):
        script.append("part-1", chunk)
    assert flushed == ["one ", "one two", "one two\nthree"]


def test_a_part_that_was_never_previewed_is_printed_at_its_commit() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.commit("part-1", "thinking", "reasoning")
    script.commit("part-2", "whole text")
    image = CommitPart("part-3", MediaPart(media_type="image/png", data="QUJD"))
    block = CommitPart("part-4", CustomPart(provider="anthropic", value={"type": "web_search"}))
    script.tell(*(ContentDelta(request_id=script.request_id, delta=delta) for delta in (image, block)))
    assert stream.getvalue() == (
        "∴ thinking\n\nwhole text\n\n"
        "  media · image/png · 4 characters of base64\n"
        '  · anthropic · {"type": "web_search"}\n'
    )


def test_a_preview_that_a_sink_thinned_out_is_followed_by_the_whole() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "one ", "three")
    script.commit("part-1", "one two three")
    assert stream.getvalue() == (
        "one three\n\n  not all of the text above came while it was streamed; the whole:\n\none two three\n"
    )


@pytest.mark.parametrize("pieces", [("one ", "two"), ("one two", " three"), ("one",)])
def test_the_end_that_a_preview_lacks_is_printed_where_the_text_stands(pieces: tuple[str, ...]) -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", *pieces)
    script.commit("part-1", "one two three")
    assert stream.getvalue() == "one two three\n"


def test_a_preview_that_goes_on_otherwise_than_the_whole_is_followed_by_it() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "one 2")
    script.commit("part-1", "one two three")
    assert stream.getvalue().endswith("the whole:\n\none two three\n")


def test_of_interleaved_parts_one_is_printed_as_it_comes_and_the_others_after_it() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1", "reasoning")
    script.begin("part-2")
    script.append("part-1", "think ")
    script.append("part-2", "te")
    script.append("part-1", "hard")
    script.append("part-2", "xt")
    script.commit("part-2", "text")
    script.append("part-1", "er")
    script.commit("part-1", "think harder", "reasoning")
    assert stream.getvalue() == "∴ think harder\n\ntext\n"


def test_a_line_of_the_same_session_does_not_tear_its_text() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "half a ")
    script.tell(Warning(code="w", message="careful"))
    script.append("part-1", "line\nand more")
    script.commit("part-1", "half a line\nand more")
    assert stream.getvalue() == "half a line\n  ! careful · w\nand more\n"


def test_close_completes_a_line_that_a_crash_left_open_and_leaves_the_stream_open() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    script = Script("s", reporter.handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "half\r")
    reporter.close()
    reporter.close()
    assert stream.getvalue() == "half\\x0d\n"
    assert not stream.closed


def test_reasoning_is_left_out_where_it_is_not_wanted() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False, show_reasoning=False).handle_event)
    script.request()
    script.say("part-1", "secret", kind="reasoning")
    script.commit("part-2", "secret", "reasoning")
    script.say("part-3", "public")
    assert stream.getvalue() == "public\n"


def test_the_answer_to_a_compaction_request_is_not_printed() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    started = ModelRequestStarted(
        request_id="request-0", attempt=1, purpose="compaction", model=MODEL, message_count=9, digests={}
    )
    script.tell(started)
    script.say("part-1", "a summary")
    assert stream.getvalue() == ""
