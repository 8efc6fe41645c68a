"""What happened in a run: watched by a rule, recorded on the wire, gone through step by step, and compared."""

from agentkit_loop import Agent, AnthropicModel, Usage
from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall
from agentkit_reporting import (
    Alert,
    AlertReporter,
    AlertRule,
    DebugReplay,
    JsonlReporter,
    WireCapture,
    diff_runs,
    read_events,
    read_records,
)


def look_up(order: str) -> str:
    """Look up an order."""
    return {"A-17": "a lamp, sent on Monday"}.get(order, "no such order")


def tell(alert: Alert) -> None:
    """Page somebody; here, print."""
    print(alert.state, "·", alert.message)


rules = [AlertRule("tool_calls", ">", 1, name="asks twice", per="run")]  # or a TOML file
alerts = AlertReporter(rules, on_alert=tell)
for day, orders in (("monday", ["A-17"]), ("tuesday", ["17", "A-17"])):
    calls = [ScriptedCall(name="look_up", input={"order": order}) for order in orders]
    replies = [Reply(calls=(call,), usage=Usage(input_tokens=300, output_tokens=20)) for call in calls]
    with (
        MessagesServer([*replies, Reply(text="Your lamp was sent on Monday.")]) as server,
        WireCapture(f"logs/{day}.wire.jsonl") as wire,  # no credential is ever in it
        AnthropicModel(
            "claude-sonnet-5-5", base_url=server.base_url, api_key="sk-any", middleware=[wire.middleware()]
        ) as model,
        Agent(model, tools=[look_up], observers=[JsonlReporter(f"logs/{day}.jsonl"), alerts]) as agent,
    ):
        agent.run("Where is my lamp?")

parted = diff_runs(read_events("logs/monday.jsonl"), read_events("logs/tuesday.jsonl")).call_divergence
if parted is not None:
    print(f"monday {parted.before}, tuesday {parted.after}")
replay = DebugReplay.open("logs/tuesday.jsonl")
found = replay.search("no such order")[0]
replay.seek(found + 1)  # where that step is over
print(f"{replay[found].title}; {replay.state().totals.usage.total_tokens} tokens by then")
sent = [record["request_id"] for record in read_records("logs/tuesday.wire.jsonl", type="wire_request")]
print("on the wire:", *sent)
