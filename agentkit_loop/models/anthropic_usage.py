"""The Messages API's usage objects: how reports of one request fold, and what they say in our words.

`input_tokens` leaves out what the cache read and wrote, so the three input counts are disjoint as they come.
`message_delta` tells cumulative counts: they replace, and what it leaves out (the split of the cache writes,
the service tier) stands as `message_start` told it. Tokens of a compaction are in `iterations` alone.
"""

from __future__ import annotations

from typing import Any

from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON


def merge_usage(known: dict[str, JSON], report: object) -> dict[str, JSON]:
    """Return what is known after one more report; something that is no object changes nothing."""
    if not isinstance(report, dict):
        return known
    return {**known, **{key: value for key, value in report.items() if value is not None}}


def read_usage(raw: dict[str, JSON]) -> Usage:
    """Return the counts; one that is absent, negative or not a number is unknown."""
    # The top level leaves a compaction's tokens out; they are billed like the rest.
    parts = [raw, *_compactions(raw.get("iterations"))]
    return Usage(
        input_tokens=_total(parts, "input_tokens"),
        cached_input_tokens=_total(parts, "cache_read_input_tokens"),
        cache_write_input_tokens=_total(parts, "cache_creation_input_tokens"),
        cache_write_1h_input_tokens=_total(
            [_object(part.get("cache_creation")) for part in parts], "ephemeral_1h_input_tokens"
        ),
        output_tokens=_total(parts, "output_tokens"),
        reasoning_tokens=_total(
            [_object(part.get("output_tokens_details")) for part in parts], "thinking_tokens"
        ),
        raw=raw or None,
    )


def _compactions(iterations: object) -> list[dict[str, JSON]]:
    if not isinstance(iterations, list):
        return []
    return [step for step in iterations if isinstance(step, dict) and step.get("type") == "compaction"]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _total(parts: list[dict[str, JSON]], key: str) -> int | None:
    counts = [part.get(key) for part in parts]
    known = [count for count in counts if type(count) is int and count >= 0]
    return sum(known) if known else None
