"""The agent of the README: a tool, three observers, a log."""

from pathlib import Path

from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, Usage, tool
from agentkit_reporting import JsonlReporter, StdoutReporter, UsageReporter


@tool
def read_file(path: str) -> str:
    """Read a text file."""
    return Path(path).read_text(encoding="utf-8")


model = ScriptedModel(  # or AnthropicModel("claude-sonnet-5"), with ANTHROPIC_API_KEY set
    [
        Reply(text="I'll read it. ", calls=(ScriptedCall(name="read_file", input={"path": __file__}),)),
        Reply(text="It is an agent with one tool.", usage=Usage(input_tokens=412, output_tokens=9)),
    ]
)
usage = UsageReporter()
with Agent(
    model, tools=[read_file], observers=[StdoutReporter(), JsonlReporter("logs/run.jsonl"), usage]
) as agent:
    result = agent.run("What is in this file?")
print(result.text, usage.total.usage.total_tokens)
