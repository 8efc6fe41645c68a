"""The real adapter over a real socket, without key or network: a local server stands in for the API."""

import datetime as dt

from agentkit_loop import Agent, AnthropicModel, PriceBook, Usage
from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall
from agentkit_reporting import CostLedger

SERVED = [
    Reply(
        calls=(ScriptedCall(name="today"),),
        usage=Usage(input_tokens=12, cache_write_input_tokens=2_000, output_tokens=40),
    ),
    Reply(
        text="It is Friday.",
        usage=Usage(input_tokens=60, cached_input_tokens=2_000, output_tokens=6),
    ),
]


def today() -> str:
    """Tell the day of the week."""
    return dt.date(2026, 11, 20).strftime("%A")


ledger = CostLedger()
with (
    MessagesServer(SERVED) as server,
    AnthropicModel(
        "claude-sonnet-5-5",
        base_url=server.base_url,  # left out: the real API, with ANTHROPIC_API_KEY
        api_key="sk-any",
        cache="5m",  # the default: what is sent again every turn costs a tenth
        thinking={"type": "adaptive"},  # any parameter of the API
    ) as model,
):
    agent = Agent(model, tools=[today], system="Be brief.", prices=PriceBook(), observers=[ledger])
    result = agent.run("What day is it?")

print(result.text, f"${result.cost}")
for group in ledger.groups(["session", "turn"]):
    print(group.key[1], *(f"{name} {part.amount}" for name, part in group.components["USD"].items()))
