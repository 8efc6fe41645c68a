"""The log that the benchmark of reading reads: many sessions of an agent at work, the same every time.

About two thirds of its lines are deltas. Requests fail and are made again, tools fail, runs fail and are cancelled, and
every request tells its usage twice, first without a cost. All durations are whole numbers of milliseconds, so
that two readers that add up alike come to the same figures to the last digit.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from agentkit_loop import events as ev
from agentkit_loop.content import AppendText, BeginPart, CommitPart, Item, TextPart, ToolCallPart, ToolSpec
from agentkit_loop.events import AgentEvent
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_reporting import encode_event
from benchmarks.session import PROMPT, SYSTEM

MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-5")
TOOLS = ("read_file", "search", "run_tests", "edit_file", "fetch")
AGENTS = ("builder", "reviewer", "planner")
_BEGIN = dt.datetime(2026, 5, 24, 6, 0, 0, 123456, tzinfo=dt.UTC)
_TURNS = (4, 18)
_DELTAS = (7, 20)
_MOST_REPORTED = 0.07  # of requests that fail before an answer
_ERRORS = ("rate_limited", "overloaded", "connection", "timeout")
_WORDS = (
    "the export ",
    "reads each page ",
    "in turn, ",
    "and the last ",
    "one is closed ",
    "before\n",
    "caf\u00e9 ",
)
_CATALOG = tuple(
    ToolSpec(
        name=name, description=f"Does what {name} does.", input_schema={"type": "object", "properties": {}}
    )
    for name in TOOLS
)


def write_log(path: Path, events: int) -> int:
    """Write whole sessions until there are so many events, and return how many there are."""
    chance = random.Random(20)  # noqa: S311 - for likely sizes, not for secrets
    written, number = 0, 0
    with path.open("wb") as file:
        while written < events:
            number += 1
            lines = [encode_event(event) for event in _stamped(number, chance)]
            file.write(b"\n".join(lines) + b"\n")
            written += len(lines)
    return written


def _stamped(number: int, chance: random.Random) -> Iterator[AgentEvent]:
    """Yield the events of a session as they are told."""
    session_id, run_id = f"ses_{number:026d}", f"run_{number:026d}"
    moment = _BEGIN + dt.timedelta(seconds=37 * number)
    turn_id = None
    for seq, event in enumerate(_session(number, chance), 1):
        if isinstance(event, ev.TurnStarted):
            turn_id = f"turn-{event.index}"
        moment += dt.timedelta(microseconds=chance.randrange(900, 40_000))
        stamp(event, session_id, run_id, turn_id, seq, moment)
        yield event


def _session(number: int, chance: random.Random) -> Iterator[AgentEvent]:
    model = chance.choices(MODELS, (2, 5, 3))[0]
    yield ev.RunStarted(
        agent_name=chance.choice(AGENTS),
        model=model,
        system=SYSTEM,
        tools=_CATALOG,
        metadata={"phase": chance.choice(("plan", "build", "test")), "task_id": f"task-{number % 900}"},
    )
    yield ev.InputAccepted(items=(Item(kind="user", parts=(TextPart(text=PROMPT),), id="item-1"),))
    requests = 0
    turns = chance.randrange(*_TURNS)
    for turn in range(1, turns + 1):
        yield ev.TurnStarted(index=turn)
        attempt = 1
        while True:
            requests += 1
            request_id = f"request-{requests}"
            yield _started(request_id, attempt, model, turn)
            if chance.random() >= _MOST_REPORTED:
                break
            yield from _failed(request_id, attempt + 1, chance)
            attempt += 1
        yield from _answered(request_id, model, turn, turns, chance)
    yield from _end(turns, chance)


def _started(request_id: str, attempt: int, model: str, turn: int) -> AgentEvent:
    digests = {
        name: hashlib.sha256(f"{name}{turn}".encode()).hexdigest()[:32]
        for name in ("tools", "system", "settings", "messages")
    }
    return ev.ModelRequestStarted(
        request_id=request_id,
        attempt=attempt,
        purpose="turn",
        model=model,
        message_count=2 * turn,
        digests=digests,
    )


def _failed(request_id: str, next_attempt: int, chance: random.Random) -> Iterator[AgentEvent]:
    yield ev.ModelRequestFailed(
        request_id=request_id,
        error=ErrorInfo(type="ModelRequestError", message="the server is busy", retryable=True),
        error_class=chance.choice(_ERRORS),
        duration_ms=float(chance.randrange(20, 900)),
    )
    yield ev.ModelRequestRetrying(request_id=request_id, delay_ms=500.0, next_attempt=next_attempt)


def _answered(
    request_id: str, model: str, turn: int, turns: int, chance: random.Random
) -> Iterator[AgentEvent]:
    usage = Usage(
        input_tokens=chance.randrange(20, 2_000),
        cached_input_tokens=chance.randrange(0, 40_000),
        cache_write_input_tokens=chance.randrange(0, 3_000),
        output_tokens=chance.randrange(20, 900),
    )
    yield ev.UsageUpdated(request_id=request_id, model=model, usage=usage)
    yield ev.ContentDelta(request_id=request_id, delta=BeginPart(part_id="0", kind="text"))
    pieces = [chance.choice(_WORDS) for _ in range(chance.randrange(*_DELTAS))]
    for piece in pieces:
        yield ev.ContentDelta(request_id=request_id, delta=AppendText("0", piece))
    text = TextPart(text="".join(pieces))
    yield ev.ContentDelta(request_id=request_id, delta=CommitPart(part_id="0", part=text))
    call = None
    if turn < turns:
        call = ToolCallPart(
            id=f"call_{turn:020d}",
            name=chance.choice(TOOLS),
            input={"path": f"src/export/{turn}.py", "first": turn},
        )
        yield ev.ContentDelta(request_id=request_id, delta=BeginPart(part_id="1", kind="tool_call"))
        yield ev.ContentDelta(request_id=request_id, delta=CommitPart(part_id="1", part=call))
    yield ev.UsageUpdated(request_id=request_id, model=model, usage=usage, cost=_cost(usage), final=True)
    yield ev.ModelRequestFinished(
        request_id=request_id,
        finish_reason="completed" if call is None else "tool_call",
        response_id=f"msg_{turn:024d}",
        response_model=model,
        first_content_ms=float(chance.randrange(200, 900)),
        duration_ms=float(chance.randrange(900, 9_000)),
    )
    if call is not None:
        yield from _called(request_id, call, chance)


def _cost(usage: Usage) -> Cost:
    components = {
        "input": Decimal(usage.input_tokens or 0) * Decimal("0.000003"),
        "cached_input": Decimal(usage.cached_input_tokens or 0) * Decimal("0.0000003"),
        "output": Decimal(usage.output_tokens or 0) * Decimal("0.000015"),
    }
    return Cost(
        amount=sum(components.values(), Decimal(0)),
        currency="USD",
        components=components,
        source="prices 2026-05-01",
        priced_at=_BEGIN,
    )


def _called(request_id: str, call: ToolCallPart, chance: random.Random) -> Iterator[AgentEvent]:
    yield ev.ToolCallRequested(request_id=request_id, call=call)
    yield ev.ToolExecutionStarted(call_id=call.id, name=call.name, attempt=1, edited=False)
    yield ev.ToolResultReceived(
        call_id=call.id,
        name=call.name,
        output="def rows(self):\n    return self.page\n" * chance.randrange(1, 30),
        is_error=chance.random() < 0.06,  # noqa: PLR2004 - one in sixteen
        duration_ms=float(chance.randrange(1, 4_000)),
    )


def _end(turns: int, chance: random.Random) -> Iterator[AgentEvent]:
    how = chance.choices(("completed", "failed", "cancelled"), (90, 7, 3))[0]
    duration_ms = float(chance.randrange(5_000, 90_000))
    if how == "failed":
        error = ErrorInfo(type="ModelRequestError", message="the server is busy")
        yield ev.TurnFinished(
            finish_reason="error", usage=Usage(), item_count=2 * turns, duration_ms=duration_ms
        )
        yield ev.RunFailed(error=error, usage=Usage(), duration_ms=duration_ms)
    elif how == "cancelled":
        yield ev.CancelRequested(reason="Ctrl-C", by="host")
        yield ev.TurnFinished(
            finish_reason="cancelled", usage=Usage(), item_count=2 * turns, duration_ms=duration_ms
        )
        yield ev.RunCancelled(reason="KeyboardInterrupt", usage=Usage(), duration_ms=duration_ms)
    else:
        yield ev.TurnFinished(
            finish_reason="completed", usage=Usage(), item_count=2 * turns, duration_ms=duration_ms
        )
        yield ev.RunFinished(outcome="completed", usage=Usage(), duration_ms=duration_ms)
