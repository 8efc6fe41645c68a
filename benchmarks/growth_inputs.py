"""What a delta of a tool's input costs in a long input over a short one: ours, and the SDK's `messages.stream()`.

The answers come from a transport in this process, in chunks as a socket gives them, made before. Ours is the whole
exchange with log, usage and transcript: the long input is parsed, given to its tool, told, kept and sent back. The
SDK's helper parses all that it has so far with each delta.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agentkit_loop import Agent, AnthropicModel, tool
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter
from benchmarks.growing import Load, grown, require
from benchmarks.latency import KEY
from benchmarks.measure import Row
from benchmarks.references import MAX_TOKENS
from benchmarks.session import MODEL, PROMPT, Event, encode, ending, opening, text_delta

if TYPE_CHECKING:
    import anthropic
    import httpx2

DELTA_TEXT = ' = "page"\n   '
"""Of code, as agents write it, whose JSON has escapes; 15,000 of them make 200 KB."""

CHUNK_BYTES = 65_536
_STOP: Event = {"type": "content_block_stop", "index": 0}


def input_rows(ours: tuple[int, ...], sdk: tuple[int, ...], rounds: int) -> list[Row]:
    """Return the rows. ours, sdk: how many deltas the inputs have, the small one first."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mine = [_load(deltas, _our_exchange(deltas, folder, stack), max(ours)) for deltas in ours]
        theirs = [_load(deltas, _streamed(deltas, stack), deltas) for deltas in sdk]
        return [
            *grown("delta of a tool input", mine, rounds),
            *grown("messages.stream(), a tool input", theirs, rounds, bound=None),
        ]


def _load(deltas: int, play: Callable[[], int], largest: int) -> Load:
    lengths: list[int] = []
    return Load(
        name=f"{len(text_of(deltas)) / 1000:g} KB",
        pieces=deltas,
        play=lambda: lengths.append(play()),
        check=lambda: require(lengths[-1], len(text_of(deltas)), "the length of a tool input"),
        times=max(1, min(5, largest // deltas)),
    )


def text_of(deltas: int) -> str:
    """Return the text of an input of so many deltas."""
    return DELTA_TEXT * deltas


def _our_exchange(deltas: int, folder: Path, stack: contextlib.ExitStack) -> Callable[[], int]:
    client = stack.enter_context(served(deltas))
    lengths: list[int] = []

    @tool
    def save(text: str) -> str:
        """Save a text.

        Args:
            text: all of it.
        """
        lengths.append(len(text))
        return "saved"

    def play() -> int:
        log = folder / "session.jsonl"
        log.unlink(missing_ok=True)
        observers = [JsonlReporter(log), UsageReporter(), TranscriptReporter()]
        with Agent(AnthropicModel(MODEL, client=client), tools=[save], observers=observers) as agent:
            require(agent.run(PROMPT).text, "done", "the answer after a tool input")
        return lengths.pop()

    return play


def _streamed(deltas: int, stack: contextlib.ExitStack) -> Callable[[], int]:
    client = stack.enter_context(served(deltas))

    def play() -> int:
        with client.messages.stream(
            model=MODEL, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": PROMPT}]
        ) as stream:
            for _ in stream:
                pass
            call = stream.get_final_message().content[1]
        text = call.input["text"] if call.type == "tool_use" else ""
        return len(str(text))

    return play


@contextlib.contextmanager
def served(deltas: int) -> Iterator[anthropic.Anthropic]:
    """Open a client whose requests are answered by a call with so many deltas of input, and then by `done`."""
    import anthropic  # noqa: PLC0415 - takes seconds, and the other benchmarks need it not
    import httpx2  # noqa: PLC0415 - the same

    call, done = b"".join(map(encode, _call(deltas))), b"".join(map(encode, _done()))
    head = {"content-type": "text/event-stream; charset=utf-8", "request-id": "req_benchmark"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = done if b'"tool_result"' in request.read() else call
        chunks = (body[place : place + CHUNK_BYTES] for place in range(0, len(body), CHUNK_BYTES))
        return httpx2.Response(200, headers=head, content=chunks)

    transport = httpx2.MockTransport(answer)
    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(api_key=KEY, http_client=http, max_retries=0) as client,
    ):
        yield client


def _call(deltas: int) -> Iterator[Event]:
    yield from opening(0)
    yield _STOP
    call = {"type": "tool_use", "id": f"toolu_{0:024}", "name": "save", "input": {}}
    yield {"type": "content_block_start", "index": 1, "content_block": call}
    for piece in ('{"text": "', *[json.dumps(DELTA_TEXT)[1:-1]] * deltas, '"}'):
        yield {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": piece},
        }
    yield {**_STOP, "index": 1}
    yield from ending(0, "tool_use", output_tokens=deltas)


def _done() -> Iterator[Event]:
    yield from [*opening(1), text_delta("done"), _STOP, *ending(1, "end_turn", output_tokens=1)]
