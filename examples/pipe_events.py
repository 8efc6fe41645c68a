"""Events on standard output, for a terminal elsewhere: `python examples/pipe_events.py | agentkit show -`."""

from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, Usage
from agentkit_reporting import JsonlReporter


def today(zone: str = "UTC") -> str:
    """Tell the date."""
    return f"2026-05-24 {zone}"


model = ScriptedModel(
    [
        Reply(
            text="Let me look. ",
            calls=(ScriptedCall(name="today"),),
            usage=Usage(input_tokens=64, output_tokens=18),
        ),
        Reply(text="It is the 24th of May.", usage=Usage(input_tokens=96, output_tokens=11)),
    ]
)
Agent(model, tools=[today], name="calendar", observers=[JsonlReporter("-")]).run("What day is it?")
