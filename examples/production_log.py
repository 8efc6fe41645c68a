"""A log for production: rotated, without secrets; a slow sink that holds nobody up; and an account of both."""

from agentkit_loop import Agent, FailurePolicy, Registration, Reply, ScriptedModel
from agentkit_reporting import (
    ChannelReporter,
    CompositeReporter,
    JsonlReporter,
    LoggingReporter,
    RedactingReporter,
    Rotation,
    TranscriptReporter,
    read_events,
)

log = JsonlReporter(  # written before the loop acts on it; secrets are masked unless redact=False
    "logs/agent.jsonl", rotation=Rotation(max_bytes=50_000_000, at_midnight=True, keep=30)
)
behind: list[str] = []  # stands for a sink that is slow: a socket, a database
slow = ChannelReporter.threaded(
    lambda event: behind.append(event.type), maxsize=10_000, overflow="drop_deltas"
)
others = CompositeReporter(Registration(slow, policy=FailurePolicy.IGNORE), LoggingReporter())
model = ScriptedModel([Reply(text="Your key sk-ant-api03-" + "x7Q2mB9k" * 6 + " is in my context.")])
with Agent(model, observers=[log, RedactingReporter(others, ["secrets", "email"])]) as agent:
    agent.run("Do you see a key?")

print(slow.close(timeout_s=5), "·", slow.account(), "·", log.account())
transcript = TranscriptReporter()
for event in read_events("logs/agent.jsonl"):  # with all its segments
    transcript.handle_event(event)
print(transcript.text())
