"""Control points: a call that a person has to allow, a run that is left open, and its resume from the log."""

from agentkit_loop import (
    Agent,
    ApprovalRequest,
    Finished,
    Limits,
    Permissions,
    Reply,
    ScriptedCall,
    ScriptedModel,
    ToolResultPart,
    tool,
)
from agentkit_reporting import JsonlReporter, read_events

LOT = 100  # dollars


@tool(approval=lambda given: f"{given['amount']} is a lot" if given["amount"] > LOT else False)
def pay(to: str, amount: int) -> str:
    """Pay someone, in dollars."""
    return f"paid {amount} to {to}"


def clerk(*replies: Reply | str) -> Agent:
    """Make the agent; the log goes on from run to run."""
    return Agent(
        ScriptedModel(list(replies)),
        tools=[pay],
        permissions=Permissions(deny=["pay(mallory)"], default="allow"),
        limits=Limits(max_turns=20),  # also max_tokens, max_cost_usd, max_seconds
        observers=[JsonlReporter("logs/clerk.jsonl")],
    )


calls = tuple(ScriptedCall(name="pay", input={"to": to, "amount": amount}) for to, amount in [
    ("ann", 20), ("bob", 900), ("mallory", 1)
])  # fmt: skip
with clerk(Reply(text="I'll pay them.", calls=calls)) as agent:
    result = agent.run("Pay the bills.")
waiting = [step for step in result.pending if isinstance(step, ApprovalRequest)]
print(result.status, "·", *(f"{step.summary} · {step.reason}" for step in waiting))

# Days later, in another process: the log is the agent.
with clerk("All bills are settled.") as agent, agent.resume(read_events("logs/clerk.jsonl")) as driver:
    for step in driver:
        if isinstance(step, ApprovalRequest):
            step.approve(by="carol", edited_input={"to": "bob", "amount": 90})
        elif isinstance(step, Finished):
            parts = [part for item in step.result.items for part in item.parts]
            print(*(part.output for part in parts if isinstance(part, ToolResultPart)), sep="\n")
            print(step.result.text)
