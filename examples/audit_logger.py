"""A custom observer: writes a line for every tool call, its result, and every approval that is asked for."""

import json
import sys
from typing import TextIO

from agentkit_loop import (
    Agent,
    AgentEvent,
    ApprovalRequired,
    LoopObserver,
    Reply,
    ScriptedCall,
    ScriptedModel,
    ToolCallRequested,
    ToolResultReceived,
)


class AuditLogger(LoopObserver):
    """Writes what the agent did to a stream, one line a fact; values as JSON, so that a line stays a line."""

    wants = (ToolCallRequested, ToolResultReceived, ApprovalRequired)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def handle_event(self, event: AgentEvent) -> None:
        """Write one line."""
        match event:
            case ToolCallRequested(call=call):
                self._write("TOOL_CALL", name=call.name, input=call.input)
            case ToolResultReceived(name=name, is_error=is_error):
                self._write("TOOL_RESULT", name=name, is_error=is_error)
            case ApprovalRequired(summary=summary, reason=reason):
                self._write("APPROVAL_REQUIRED", summary=summary, reason=reason)
            case _:
                pass

    def _write(self, kind: str, **fields: object) -> None:
        self._stream.write(f"{kind} {json.dumps(fields)}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}"


reply = Reply(calls=(ScriptedCall(name="greet", input={"name": "Ann\nTOOL_CALL forged"}),))
Agent(ScriptedModel([reply, "done"]), tools=[greet], observers=[AuditLogger(sys.stdout)]).run("Greet Ann.")
