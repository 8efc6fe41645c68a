"""Several views of one stream: each observer sees every event, and none can hurt another."""

from agentkit_loop import Agent, AgentEvent, LoopObserver, Reply, ScriptedCall, ScriptedModel, Usage
from agentkit_reporting import TranscriptReporter, UsageReporter


class Fanout(LoopObserver):
    """One observer made of several; hands on flush and close."""

    def __init__(self, *observers: LoopObserver) -> None:
        self.observers = observers

    def handle_event(self, event: AgentEvent) -> None:
        """Give the event to each."""
        for observer in self.observers:
            if not observer.wants or isinstance(event, observer.wants):
                observer.handle_event(event)

    def flush(self) -> None:
        """Flush each."""
        for observer in self.observers:
            observer.flush()

    def close(self) -> None:
        """Close each."""
        for observer in self.observers:
            observer.close()


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


usage, transcript, kinds = UsageReporter(), TranscriptReporter(), list[str]()
call = ScriptedCall(name="multiply", input={"a": 6, "b": 7})
model = ScriptedModel(
    [
        Reply(calls=(call,), usage=Usage(input_tokens=80, output_tokens=12)),
        Reply(text="It is 42.", usage=Usage(input_tokens=110, output_tokens=5)),
    ]
)
Agent(
    model,
    tools=[multiply],
    observers=[Fanout(usage, transcript), lambda event: kinds.append(event.type)],
).run("What is 6 times 7?")
print(transcript.text())
print(f"{usage.total.usage.total_tokens} tokens, {len(set(kinds))} kinds of events")
