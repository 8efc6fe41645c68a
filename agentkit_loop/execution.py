"""Running a tool's body and making one report of whatever it does."""

from __future__ import annotations

from typing import Any

import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import ObserverError
from agentkit_loop.signals import AuthWanted, ToolReturned
from agentkit_loop.tool_context import ToolContext, TracedCall, running
from agentkit_loop.tools import Tool, ainvoke, bound_output, invoke
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, clean_text, to_json


class ChildOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent behind a tool gives back."""

    output: str
    is_error: bool
    error: ErrorInfo | None


def run_body(
    tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON], clock: Clock
) -> ToolReturned | AuthWanted:
    """Run the body on this thread and report what came of it; never raises."""
    started = clock.monotonic()
    token = running.set(TracedCall.of(context, tool.name))
    try:
        output = invoke(tool, arguments, context)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is reported, the fatal to be raised again
        return _failed(context, error, _elapsed(clock, started), tool)
    finally:
        running.reset(token)
        context.returned()
    return _returned(context, output, _elapsed(clock, started), tool)


async def arun_body(
    tool: Tool[..., Any],
    context: ToolContext,
    arguments: dict[str, JSON],
    clock: Clock,
) -> ToolReturned | AuthWanted:
    """Run an async body on this event loop and report what came of it; never raises."""
    started = clock.monotonic()
    token = running.set(TracedCall.of(context, tool.name))
    try:
        output = await ainvoke(tool, arguments, context)
    except BaseException as error:  # noqa: BLE001 - as above; a cancelled body is an error result too
        return _failed(context, error, _elapsed(clock, started), tool)
    finally:
        running.reset(token)
        context.returned()
    return _returned(context, output, _elapsed(clock, started), tool)


def _returned(context: ToolContext, output: object, duration_ms: float, tool: Tool[..., Any]) -> ToolReturned:
    child = output if isinstance(output, ChildOutcome) else None
    # Masked before it is bounded: a bound may cut a credential in two.
    told = context.masked(to_json(output if child is None else child.output))
    return ToolReturned(
        call_id=context.call_id,
        attempt=context.attempt,
        output=bound_output(told, tool.max_output_chars),
        duration_ms=duration_ms,
        is_error=child is not None and child.is_error,
        error=None if child is None else child.error,
    )


def _failed(
    context: ToolContext, error: BaseException, duration_ms: float, tool: Tool[..., Any]
) -> ToolReturned | AuthWanted:
    import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only errors ask for it

    if isinstance(error, NeedsAuth):
        return AuthWanted(
            call_id=context.call_id,
            attempt=context.attempt,
            provider=clean_text(str(error.provider)),
            scopes=tuple(clean_text(str(scope)) for scope in error.scopes),
            purpose=None if error.purpose is None else clean_text(str(error.purpose)),
        )
    info = ErrorInfo.of(error)
    # The model gets the message; the frames go to the event only.
    text = info.message if info.message == info.type else f"{info.type}: {info.message}"
    # An observer of the whole family may have broken a child's run under FAIL_FAST.
    of_family = tool.is_agent and isinstance(error, ObserverError)
    fatal = of_family or not isinstance(error, (Exception, asyncio.CancelledError))
    return ToolReturned(
        call_id=context.call_id,
        attempt=context.attempt,
        output=bound_output(context.masked(text), tool.max_output_chars),
        duration_ms=duration_ms,
        is_error=True,
        error=info,
        fatal=error if fatal else None,
    )


def _elapsed(clock: Clock, started: float) -> float:
    return max(0.0, round((clock.monotonic() - started) * 1e3, 3))
