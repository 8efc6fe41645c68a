"""Test an agent: what it did, a golden log, and a changed agent against recorded answers. Run it with pytest."""

from collections.abc import Callable

from agentkit_loop import (
    Agent,
    Model,
    Reply,
    RunFinished,
    RunStarted,
    ScriptedCall,
    ScriptedModel,
    ToolCallRequested,
    ToolResultReceived,
    tool,
)
from agentkit_reporting import RecordedEvents, matching


@tool
def refund(order: str, amount: int) -> str:
    """Pay money back."""
    return f"{amount} paid back for {order}"


ANSWERS: list[Reply | str] = [
    Reply(text="I refund it.", calls=(ScriptedCall(name="refund", input={"order": "A-17", "amount": 30}),)),
    "You get 30 back.",
]


def ask(model: Model, events: RecordedEvents, system: str = "You help customers.") -> None:
    Agent(model, tools=[refund], system=system, observers=[events]).run("My lamp of order A-17 is broken.")


def test_a_refund_is_paid_once(agent_events: RecordedEvents) -> None:
    ask(ScriptedModel(ANSWERS), agent_events)
    agent_events.assert_sequence(
        RunStarted, ..., matching(ToolCallRequested, name="refund"), ..., ToolResultReceived, ..., RunFinished
    )
    agent_events.assert_tool_called("refund", amount=30)
    agent_events.assert_count(ToolCallRequested, 1)
    assert agent_events.text == "You get 30 back."


def test_the_run_is_the_golden_one(agent_events: RecordedEvents) -> None:
    ask(ScriptedModel(ANSWERS), agent_events)
    agent_events.assert_golden("refund")  # golden/refund.jsonl, beside this file


def test_another_prompt_with_the_recorded_answers(
    agent_events: RecordedEvents, scripted_from_log: Callable[..., ScriptedModel]
) -> None:
    ask(scripted_from_log("golden/refund.jsonl"), agent_events, system="Be brief.")
    assert agent_events.assert_tool_called("refund", order="A-17").output == "30 paid back for A-17"
