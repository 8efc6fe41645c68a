"""What the reporter is given to write to: encodings, closed pipes, broken streams."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_reporting.stdout import StdoutReporter
from tests.reporting.written_sessions import (
    Script,
    two_turns,
)


def test_an_encoding_without_the_glyphs_gets_plain_ones_and_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    script = Script("ses_0001", StdoutReporter(stream, colour=False).handle_event)
    script.start(prompt="naïve")
    script.turn(1)
    script.request()
    script.say("part-1", "snow ☃")
    lines = raw.getvalue().decode("ascii").split("\n")
    assert lines[0] == "* fixer - claude-sonnet-5 - ses_0001"
    assert lines[2:5:2] == ["> na\\xefve", "snow \\u2603"]


def test_a_closed_stream_stops_the_printing_quietly() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    script = Script("s", reporter.handle_event)
    script.start()
    stream.close()
    script.turn(1)
    script.finish()
    reporter.close()
    assert reporter.stopped


def test_a_closed_pipe_stops_the_printing_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    raw = os.fdopen(writing, "wb", buffering=0)
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    reporter = StdoutReporter(stream)
    two_turns(reporter.handle_event)
    reporter.close()
    assert reporter.stopped
    stream.detach()
    raw.close()


def test_other_errors_of_the_stream_are_raised() -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    reporter = StdoutReporter(Full(), colour=False)
    with pytest.raises(OSError, match="No space"):
        reporter.handle_event(Warning(code="w", message="m"))


def test_standard_output_is_looked_up_when_it_is_first_needed(capsys: pytest.CaptureFixture[str]) -> None:
    made_early = StdoutReporter(colour=False)
    made_early.handle_event(Warning(code="w", message="careful"))
    assert capsys.readouterr().out == "  ! careful · w\n"


def test_too_narrow_a_width_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="width=5 is too narrow"):
        StdoutReporter(width=5)


def test_importing_and_making_a_reporter_imports_no_rich() -> None:
    program = (
        "import io, sys; from agentkit_reporting.stdout import StdoutReporter; "
        "StdoutReporter(io.StringIO()); print('rich' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
