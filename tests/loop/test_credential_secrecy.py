"""BEHAVIOUR 31: whatever a tool does with a credential, nobody else hears of it."""

from __future__ import annotations

import copy
import gc
import io
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.credentials import Credential, Credentials, NeedsAuth
from agentkit_loop.events import (
    CustomEvent,
    RunCancelled,
    ToolExecutionProgress,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.stdout import StdoutReporter
from tests.loop.hosts import Opened, Run, asking, both, call
from tests.loop.test_credentials import GIVEN, asked, fetch


class ShowingError(Exception):
    """Shows its attributes."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token = token

    def __str__(self) -> str:
        return f"token {self.token} refused"


class RudeExit(SystemExit):
    """Ends the program with a token in its text."""

    def __init__(self, token: str) -> None:
        super().__init__(3)
        self.token = token

    def __str__(self) -> str:
        return f"exit with {self.token}"


@tool(max_output_chars=60)
def leak(context: ToolContext, how: str) -> Any:
    """Show the credential in one way or another."""
    credential = context.credential("web")
    if credential is None:
        raise NeedsAuth("web")
    secret = credential.reveal()
    context.progress(f"with {secret} now")
    context.emit(f"using {secret}", {"token": secret, secret: [secret, {"deep": f"x{secret}y"}]})
    if how == "error":
        raise ShowingError(secret)
    if how == "chained":
        error = ShowingError(secret)
        error.add_note(f"note on {secret}")
        raise SystemExit(f"gone with {secret}") from error
    if how == "exit":
        raise RudeExit(secret)
    if how == "interrupt":
        raise KeyboardInterrupt(secret, {"token": secret}, secret.encode())
    if how == "cut":
        return "x" * 27 + secret + "y" * 200
    if how == "cut json":
        return {"padding": "x" * 12, "token": secret, "more": "y" * 200}
    if how == "key":
        raise KeyError(secret)
    if how == "json":
        return json.dumps({"token": secret})
    if how == "bytes":
        return secret.encode()
    if how == "object":
        return credential
    return [secret, {secret: f"Bearer {secret}"}, f"{credential} {credential!r}"]


class Kept(logging.Handler):
    """Keeps what is logged, formatted, tracebacks included."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record)


def shown(text: str) -> bool:
    """Whether the text shows the credential, or more than a piece of it."""
    escaped = GIVEN.encode("unicode_escape").decode()
    pieces = [GIVEN[at : at + 6] for at in range(len(GIVEN) - 5)]
    return any(piece in text for piece in (*pieces, escaped, repr(GIVEN)[1:-1], "s3cret"))


@both
@pytest.mark.parametrize(
    "how",
    ["result", "error", "chained", "exit", "interrupt", "cut", "cut json", "bytes", "object", "key", "json"],
)
def test_no_event_log_line_terminal_line_or_traceback_shows_a_credential(
    opened: Opened, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    screen = io.StringIO()
    kept = Kept()
    logging.getLogger().addHandler(kept)
    log = tmp_path / "log.jsonl"

    def failing(event: Any) -> None:
        if isinstance(event, (ToolResultReceived, CustomEvent)):
            raise ValueError(f"cannot take {event!r}")  # noqa: TRY004 - any error will do

    run = Run(
        [asking(call("leak", how=how)), "done"],
        tools=[leak],
        observers=[JsonlReporter(log), StdoutReporter(screen), failing],
    )
    raised = ""
    steps: list[Any] = []
    try:
        with opened(run, "go") as host:
            steps.append(asked(host))
            steps[0].resolve(GIVEN)
            steps.append(host.finish())
    except (SystemExit, KeyboardInterrupt) as error:
        raised = "".join(traceback.format_exception(error)) + repr(error) + str(getattr(error, "code", ""))
        raised += repr(vars(error)) + repr(error.args)
    finally:
        logging.getLogger().removeHandler(kept)
    written = {
        "events": "".join(encode_event(event).decode() for event in run.recorder.events),
        "reprs": repr(run.recorder.events),
        "log": log.read_text(),
        "screen": screen.getvalue(),
        "logging": kept.text + caplog.text,
        "raised": raised,
        "steps": repr(steps),
        "requests": repr(run.model.requests),
        "transcript": run.view.markdown("session"),
    }
    assert [name for name, text in written.items() if shown(text)] == []
    if how in {"chained", "exit", "interrupt"}:
        assert raised
        assert isinstance(run.recorder.events[-1], RunCancelled)
        assert run.of(TurnFinished)[0].finish_reason == "cancelled"
    else:
        assert run.of(ToolResultReceived)
    assert "***" in written["events"]
    assert len(run.of(ToolExecutionProgress)) == 1
    assert run.faults == []


@both
def test_nothing_that_can_be_reached_shows_a_credential(opened: Opened) -> None:
    run = Run([asking(call("fetch")), "done"], tools=[fetch])
    with opened(run, "go") as host:
        step = asked(host)
        step.resolve(GIVEN)
        host.finish()
        found = list(reachable([host.driver, step]))
    assert len(found) > 100
    assert [type(thing) for thing in found if not isinstance(thing, str) and shown(safe_repr(thing))] == []


def reachable(roots: list[Any]) -> list[Any]:
    """Return what the roots refer to, of this project's objects and plain containers."""
    seen: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        module = type(thing).__module__
        if not (module.startswith("agentkit") or module in {"builtins", "collections"}):
            continue
        if type(thing).__name__ in {"module", "function", "frame", "builtin_function_or_method"}:
            continue
        seen[id(thing)] = thing
        waiting.extend(gc.get_referents(thing))
    return list(seen.values())


def safe_repr(thing: Any) -> str:
    return "" if thing is globals() else repr(thing)


# --- the holder


def test_a_credential_is_masked_wherever_it_is_shown_and_is_not_copied() -> None:
    credential = Credential("web", GIVEN)
    for text in (repr(credential), str(credential), f"{credential}", f"{[credential]}"):
        assert not shown(text)
    assert credential.reveal() == GIVEN
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied or stored"):
            way(credential)


def test_longer_credentials_are_masked_before_those_that_they_hold() -> None:
    held = Credentials()
    held.put("a", "abcd")
    held.put("b", "abcdef")
    held.put("b", "replaced")
    assert held.masked_text("abcdef abcd replaced") == "*** *** ***"
    assert held.masked({"abcdef": ["abcd"], "n": 1}) == {"***": ["***"], "n": 1}
    assert repr(held) == "<credentials of 2 providers>"


def test_a_text_too_short_to_be_searched_for_is_left_alone() -> None:
    held = Credentials()
    held.put("a", "abc")
    assert held.masked_text("abc") == "abc"
    assert held.get("a") is not None
