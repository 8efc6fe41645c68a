"""A loop of one's own that tells the same events through EventEmitter, and so gets the same views and log."""

from agentkit_loop import (
    CommitPart,
    ContentDelta,
    EventEmitter,
    InputAccepted,
    Item,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFinished,
    RunStarted,
    TextPart,
    TurnFinished,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from agentkit_loop.content import BeginPart
from agentkit_reporting import StdoutReporter, TranscriptReporter


def call_some_model(prompt: str) -> tuple[str, Usage]:
    """Stand in for whatever client you use."""
    return f"You said: {prompt}", Usage(input_tokens=7, output_tokens=5)


transcript = TranscriptReporter()
with EventEmitter([StdoutReporter(), transcript]) as emitter:
    emitter.emit(RunStarted(agent_name="by hand", model="some-model"))
    prompt = Item(kind="user", parts=(TextPart(text="hello"),), id="item-1")
    emitter.emit(InputAccepted(items=(prompt,)))
    emitter.turn_id = "turn-1"
    emitter.emit(TurnStarted(index=1))
    emitter.emit(
        ModelRequestStarted(
            request_id="request-1", attempt=1, purpose="turn", model="some-model", message_count=1, digests={}
        )
    )
    text, usage = call_some_model(prompt.text)
    emitter.emit(ContentDelta(request_id="request-1", delta=BeginPart("0", "text")))
    emitter.emit(ContentDelta(request_id="request-1", delta=CommitPart("0", TextPart(text=text))))
    emitter.emit(UsageUpdated(request_id="request-1", model="some-model", usage=usage, final=True))
    emitter.emit(ModelRequestFinished(request_id="request-1", finish_reason="completed"))
    emitter.emit(TurnFinished(finish_reason="completed", usage=usage, item_count=2))
    emitter.turn_id = None
    emitter.emit(RunFinished(outcome="completed", usage=usage))
print(transcript.text())
