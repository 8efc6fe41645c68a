"""Where a request to the Messages API is marked for the provider's prompt cache.

An agent sends everything again with every turn; what the cache knows costs a tenth of it to read, and a
quarter more to write once (twice the price for an hour). Hence the default is to mark. Rules of the API (the
provider's page on prompt caching):

- the prefix is read in the order tools, system, messages; at most four blocks are marked;
- a marked block is looked up, and the 20 block positions up to it. A round of many calls is longer than that,
  so not only the end of the request is marked but also the end of the last one, where the cache was written;
- thinking and empty texts cannot be marked; a marker for an hour stands before all those for five minutes.

What a host has marked itself stays and counts. Nothing else in the body changes, and no block of the
transcript is touched: a marked block is a copy, and so is the message that it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from agentkit_loop.models.anthropic_wire import MARK, Block, may_hold_mark

CacheLife: TypeAlias = Literal["5m", "1h"]
"""How long the provider keeps a prefix that nobody reads; each reading starts the time anew."""

MAX_MARKS = 4

_MARKABLE = frozenset(
    {
        "compaction",
        "container_upload",
        "document",
        "image",
        "mcp_tool_use",
        "search_result",
        "server_tool_use",
        "text",
        "tool_result",
        "tool_use",
    }
)
"""Blocks that the SDK's types give a marker, beside the results of the provider's tools. A block of a kind
that nobody knows might be refused with one."""

_Place: TypeAlias = tuple[list[Block], int]


def mark_for_cache(body: dict[str, Any], life: CacheLife, *, are_messages_plain: bool = False) -> None:
    """Mark the body's blocks; its lists of tools, system texts and messages must be its own, their members need not.

    are_messages_plain: whether it is known that no host has marked anything in the messages. Where it has not marked
    tools and system either, no block is looked at but those that are marked.
    """
    wanted = _wanted(body)
    known = (body.get("tools", []), body.get("system", []))
    if are_messages_plain and not any(may_hold_mark(block) for blocks in known for block in blocks):
        for blocks, index in wanted:
            blocks[index] = _marked(blocks[index], is_long=life == "1h")
        return
    starts: dict[int, int] = {}  # of each list of blocks: how many blocks the API reads before it
    hosts: list[tuple[int, bool]] = []  # where a host has marked, and whether for an hour
    count = 0
    for blocks in (*known, *(message["content"] for message in body["messages"])):
        starts[id(blocks)] = count
        for order, block in enumerate(blocks, start=count):
            if may_hold_mark(block):
                hosts.extend((order, _is_long(mark)) for mark in _marks(block))
        count += len(blocks)
    first_short = min((order for order, is_long in hosts if not is_long), default=count)
    last_long = max((order for order, is_long in hosts if is_long), default=-1)
    room = MAX_MARKS - len(hosts)
    for blocks, index in wanted:
        order = starts[id(blocks)] + index
        is_long = life == "1h" and order < first_short
        if room <= 0 or MARK in blocks[index] or (order < last_long and not is_long):
            continue
        blocks[index] = _marked(blocks[index], is_long=is_long)
        room -= 1


def _marked(block: Block, *, is_long: bool) -> Block:
    return {**block, MARK: {"type": "ephemeral", "ttl": "1h"} if is_long else {"type": "ephemeral"}}


def _wanted(body: dict[str, Any]) -> list[_Place]:
    """Return what is to be marked, what saves most first: the later ends of a conversation, then its start."""
    messages = body["messages"]
    ends = [_own(messages, len(messages) - 1)]
    for index in range(len(messages) - 1, 0, -1):
        if messages[index]["role"] == "assistant":
            ends.append(_own(messages, index - 1))
            break
    wanted = [_last(blocks, _is_markable) for blocks in (*ends, body.get("system", []))]
    wanted.append(_last(body.get("tools", []), _is_markable_tool))
    return [place for place in wanted if place is not None]


def _own(messages: list[dict[str, Any]], index: int) -> list[Block]:
    """Return the blocks of a message, which other requests may share until now."""
    message = messages[index]
    blocks = [*message["content"]]
    messages[index] = {**message, "content": blocks}
    return blocks


def _last(blocks: list[Block], takes_mark: Callable[[Block], bool]) -> _Place | None:
    for index in reversed(range(len(blocks))):
        if takes_mark(blocks[index]):
            return blocks, index
    return None


def _is_markable(block: Block) -> bool:
    kind = block.get("type")
    if kind == "text":
        return bool(block.get("text"))
    return kind in _MARKABLE or (isinstance(kind, str) and kind.endswith("_tool_result"))


def _is_markable_tool(tool: Block) -> bool:
    # One that is loaded when it is searched for is not in the prefix, and refused with a marker.
    return not (tool.get("defer_loading") or (tool.get("default_config") or {}).get("defer_loading"))


def _marks(block: Block) -> list[object]:
    """Return the markers of a block and of the blocks in it (a result's content, a document's source)."""
    marks = [block[MARK]] if MARK in block and block[MARK] is not None else []
    source = block.get("source")
    for inner in (block.get("content"), source.get("content") if isinstance(source, dict) else None):
        if isinstance(inner, list):
            marks += [mark for piece in inner if isinstance(piece, dict) for mark in _marks(piece)]
    return marks


def _is_long(mark: object) -> bool:
    return isinstance(mark, dict) and mark.get("ttl") == "1h"
