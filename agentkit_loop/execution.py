"""Running a tool's body and making one report of whatever it does."""

from __future__ import annotations

from typing import Any

from agentkit_loop.clock import Clock
from agentkit_loop.signals import ToolReturned
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, ainvoke, bound_output, invoke
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, to_json


def run_body(
    tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON], clock: Clock
) -> ToolReturned:
    """Run the body on this thread and report what came of it; never raises."""
    started = clock.monotonic()
    try:
        output = invoke(tool, arguments, context)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is reported, the fatal to be raised again
        return _failed(context, error, _elapsed(clock, started), tool)
    return _returned(context, output, _elapsed(clock, started), tool)


async def arun_body(
    tool: Tool[..., Any],
    context: ToolContext,
    arguments: dict[str, JSON],
    clock: Clock,
) -> ToolReturned:
    """Run an async body on this event loop and report what came of it; never raises."""
    started = clock.monotonic()
    try:
        output = await ainvoke(tool, arguments, context)
    except BaseException as error:  # noqa: BLE001 - as above; a cancelled body is an error result too
        return _failed(context, error, _elapsed(clock, started), tool)
    return _returned(context, output, _elapsed(clock, started), tool)


def _returned(context: ToolContext, output: object, duration_ms: float, tool: Tool[..., Any]) -> ToolReturned:
    return ToolReturned(
        call_id=context.call_id,
        attempt=context.attempt,
        output=bound_output(to_json(output), tool.max_output_chars),
        duration_ms=duration_ms,
    )


def _failed(
    context: ToolContext, error: BaseException, duration_ms: float, tool: Tool[..., Any]
) -> ToolReturned:
    import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only errors ask for it

    info = ErrorInfo.of(error)
    # The model gets the message; the frames go to the event only.
    text = info.message if info.message == info.type else f"{info.type}: {info.message}"
    fatal = not isinstance(error, (Exception, asyncio.CancelledError))
    return ToolReturned(
        call_id=context.call_id,
        attempt=context.attempt,
        output=bound_output(text, tool.max_output_chars),
        duration_ms=duration_ms,
        is_error=True,
        error=info,
        fatal=error if fatal else None,
    )


def _elapsed(clock: Clock, started: float) -> float:
    return max(0.0, round((clock.monotonic() - started) * 1e3, 3))
