"""The session that the loop's benchmark plays: the answers as bytes, and what a loop must make of them.

It imitates a coding agent at work: each turn streams some text and, but for the last, one call of a tool.
The shape of the events is that of the Messages API, the sizes are those of its streams: 3 to 20 characters
a delta, a call's input in a few pieces.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs

Event: TypeAlias = dict[str, Any]
"""An event of the Messages API, as its JSON."""

MODEL = "claude-sonnet-5"
SYSTEM = "You are a careful engineer. Read before you change anything, and say what you found. " * 6
PROMPT = "Find out why the nightly export loses its last page, and tell me what to change."
INPUT_PIECES = 6
"""Deltas of a call's input, at most."""

_WORDS = tuple(
    "the export reads each page in turn and the last one is closed before its rows are written because "  # noqa: SIM905 - prose is easier to read
    "we flush only when the buffer is full so I will look at `writer.py` next to see who calls it and "
    "whether, as the comment says, a caller that gives up early may end the loop".split()
)
_RARE = ("caf\u00e9 ", "\u2013 ", "caller\u2019s ")
"""One delta in forty holds text that is not ASCII, as in English prose of models that like dashes."""


@attrs.frozen(kw_only=True)
class Session:
    """A session as it is served. answers: per turn its events, encoded. inputs: of the calls, one a turn.

    text: of the last answer. deltas: pieces of text and input, over all turns.
    """

    answers: tuple[tuple[bytes, ...], ...]
    inputs: tuple[dict[str, Any], ...]
    text: str
    deltas: int


def make_session(turns: int, deltas: int) -> Session:
    """Make a session of so many turns, with so many deltas in each; the same one every time.

    Every turn but the last ends in a call, so there is one call less than turns.
    """
    chance = random.Random(20)  # noqa: S311 - for likely sizes, not for secrets
    answers, inputs, text = [], [], ""
    for turn in range(turns):
        call = None
        if turn < turns - 1:
            first = chance.randrange(1, 400)
            call = {"path": f"src/export/step_{turn}/writer.py", "first": first, "last": first + 12}
            inputs.append(call)
        pieces = _pieces(json.dumps(call), min(INPUT_PIECES, deltas - 1)) if call else []
        words = [_delta_text(chance) for _ in range(deltas - len(pieces))]
        answers.append(tuple(encode(event) for event in _answer(turn, words, pieces)))
        text = "".join(words)
    return Session(answers=tuple(answers), inputs=tuple(inputs), text=text, deltas=turns * deltas)


def read_lines(path: str, first: int, last: int) -> str:
    """Read lines of a file, with their numbers.

    Args:
        path: the file, relative to the root of the project.
        first: number of the first line.
        last: number of the last line.

    """
    return "\n".join(f"{number:>5}  # {path}: rows.append(page[{number}])" for number in range(first, last))


def encode(event: Event) -> bytes:
    """Return an event as the API writes it."""
    told = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {told}\n\n".encode()


def opening(turn: int) -> list[Event]:
    """Return the events before the first delta of a turn."""
    usage = {
        "input_tokens": 30 + turn,
        "cache_creation_input_tokens": 400,
        "cache_read_input_tokens": 900 * turn,
        "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 2,
        "service_tier": "standard",
    }
    message: Event = {
        "id": f"msg_{turn:024}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]


def text_delta(text: str) -> Event:
    """Return the event of a piece of text in the first block."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def ending(turn: int, reason: str, *, output_tokens: int) -> list[Event]:
    """Return the events after the last block of a turn."""
    usage = {
        "input_tokens": 30 + turn,
        "cache_creation_input_tokens": 400,
        "cache_read_input_tokens": 900 * turn,
        "output_tokens": output_tokens,
    }
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def _answer(turn: int, words: list[str], pieces: list[str]) -> Iterator[Event]:
    yield from opening(turn)
    yield from (text_delta(word) for word in words)
    yield {"type": "content_block_stop", "index": 0}
    if pieces:
        call = {"type": "tool_use", "id": f"toolu_{turn:024}", "name": read_lines.__name__, "input": {}}
        yield {"type": "content_block_start", "index": 1, "content_block": call}
        for piece in pieces:
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": 1, "delta": delta}
        yield {"type": "content_block_stop", "index": 1}
    count = len(words) + len(pieces)
    yield from ending(turn, "tool_use" if pieces else "end_turn", output_tokens=count)


def _delta_text(chance: random.Random) -> str:
    """Return 3 to 20 characters of text: a few words, and the space that joins them to the next."""
    size = chance.randint(3, 20)
    text = chance.choice(_RARE) if chance.random() < 1 / 40 else ""
    while len(text) < size:
        text += chance.choice(_WORDS) + " "
    return text[:size]


def _pieces(text: str, count: int) -> list[str]:
    """Cut a text into so many pieces, none of them empty."""
    size = -(-len(text) // count)
    return [text[place : place + size] for place in range(0, len(text), size)]
