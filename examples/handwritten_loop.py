"""A loop of one's own that tells its runs through EventEmitter, and so gets the same views and the same log."""

from typing import Any

from agentkit_loop import EventEmitter
from agentkit_reporting import StdoutReporter, TranscriptReporter, UsageReporter


def weather(city: str) -> str:
    """Say the weather of a city."""
    return f"rain in {city}"


def ask_model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Stand in for `client.messages.create(…)`: the SDK's Message, or a dict of its shape."""
    usage = {"input_tokens": 20 * len(messages), "output_tokens": 5}
    if len(messages) == 1:
        call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Kiel"}}
        return {"content": [call], "stop_reason": "tool_use", "usage": usage}
    said = messages[-1]["content"][0]["content"]
    return {
        "content": [{"type": "text", "text": f"It is {said}."}],
        "stop_reason": "end_turn",
        "usage": usage,
    }


transcript, used = TranscriptReporter(), UsageReporter()
messages: list[dict[str, Any]] = [{"role": "user", "content": "How is the weather in Kiel?"}]
with (
    EventEmitter([StdoutReporter(), transcript, used]) as emitter,
    emitter.run(agent_name="by hand", model="some-model", tools=[weather], prices=None) as run,
):
    while messages[-1]["content"]:
        with run.model_call(messages=messages) as call:
            answer = ask_model(messages)
            call.record(answer)  # a stream: for event in call.stream(client.messages.create(…, stream=True))
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        results = []
        for block in calls:
            with run.tool_call(block) as body:
                found = body.result(weather(**block["input"]))
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": found})
        messages += [
            {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": results},
        ]
print(transcript.text())
print(used.total.usage.total_input_tokens, "tokens sent")
