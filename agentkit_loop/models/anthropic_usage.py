"""The Messages API's usage objects: how reports of one request fold, and what they say in our words.

`input_tokens` leaves out what the cache read and wrote, so the three input counts are disjoint as they come.
`message_delta` tells cumulative counts: they replace, and what it leaves out (the split of the cache writes,
the service tier) stands as `message_start` told it.

`iterations` lists every sampling of a request. The top level sums those of the model whose answer it is, and
leaves out, so that they are counted on top here:

- `compaction`: the summary that the server wrote (the SDK's docstring of `BetaUsage.iterations`);
- `advisor_message`: another model that was asked for advice, billed at its own prices (the provider's page
  on the advisor tool: "advisor tokens are not rolled into the top-level totals");
- a `message` of another model than the one that answered, where it said something before it declined (the
  provider's page on refusals and fallback: the top level describes "only the attempt that produced the
  returned message", "every attempt that produced output … is billed separately"). One that declined before any
  output is most often not billed, and not counted.

All other entries, `fallback_message` and those of kinds to come too, are taken to be in the top level. `raw`
keeps the list, for prices by model.
"""

from __future__ import annotations

from typing import Any

from agentkit_loop.pricing import answering_model
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON

MAX_TOKENS = 2**53
"""A number above it is no count: no request has as many tokens, and many readers of JSON would round it."""

_APART = frozenset({"compaction", "advisor_message"})


def merge_usage(known: dict[str, JSON], report: object) -> dict[str, JSON]:
    """Return what is known after one more report; something that is no object changes nothing."""
    if not isinstance(report, dict):
        return known
    return {**known, **{key: value for key, value in report.items() if value is not None}}


def read_usage(raw: dict[str, JSON]) -> Usage:
    """Return the counts; one that is absent, negative, huge or not a whole number is unknown."""
    parts = [raw, *iterations_on_top(raw)] if "iterations" in raw else [raw]
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


def iterations_on_top(raw: dict[str, JSON]) -> list[dict[str, JSON]]:
    """Return the entries of `iterations` whose tokens the top level leaves out; see the module's docstring."""
    steps = _iterations(raw)
    answer = answering_model(steps)
    return [
        step
        for step in steps
        if _kind(step) in _APART
        or (_kind(step) == "message" and step.get("model") != answer and _count(step.get("output_tokens")))
    ]


def fallback_model(raw: dict[str, JSON]) -> str | None:
    """Return the model that answered in place of the one asked for, None where it did not come to that."""
    for step in reversed(_iterations(raw)) if "iterations" in raw else ():
        if step.get("type") == "fallback_message":
            model = step.get("model")
            return model if isinstance(model, str) and model else None
    return None


def _iterations(raw: dict[str, JSON]) -> list[dict[str, Any]]:
    steps = raw.get("iterations")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _kind(step: dict[str, Any]) -> str:
    kind = step.get("type")
    return kind if isinstance(kind, str) else ""  # a server may write anything there


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    # `type`, because True is an int too.
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _total(parts: list[dict[str, JSON]], key: str) -> int | None:
    if len(parts) == 1:  # as most often: a third of the cost of a sum
        return _count(parts[0].get(key))
    known = [count for part in parts if (count := _count(part.get(key))) is not None]
    return sum(known) if known else None
