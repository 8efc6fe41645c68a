"""A custom observer: counts tool calls. `wants` makes the other events cost nothing."""

from agentkit_loop import (
    Agent,
    AgentEvent,
    LoopObserver,
    Reply,
    ScriptedCall,
    ScriptedModel,
    ToolCallRequested,
)


class ToolCallCounter(LoopObserver):
    """Counts the calls that models ask for."""

    wants = (ToolCallRequested,)

    def __init__(self) -> None:
        self.count = 0

    def handle_event(self, event: AgentEvent) -> None:
        """Count one call."""
        self.count += 1


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


counter = ToolCallCounter()
calls = tuple(ScriptedCall(name="add", input={"a": n, "b": n}) for n in range(3))
Agent(ScriptedModel([Reply(calls=calls), "done"]), tools=[add], observers=[counter]).run("Add some numbers.")
print(f"{counter.count} tool calls")
