"""What changed between two requests of a session, as far as the prompt cache cares.

The provider reads a request in the order tools, system, messages and takes from its cache what stands before the first
change; what belongs to another model is never taken. Whether something changed is said by the digests of the two
requests; what it was is said by the events between them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import attrs

from agentkit_loop.values import JSON

__all__ = ["LIFE_S", "BreakCause", "Edits", "RunSettings", "SentRequest", "changes"]

LIFE_S = {"5m": 300, "1h": 3_600}
"""How long the provider keeps a prefix that nobody reads, in seconds, by `parameters["cache"]` of a run."""


@attrs.frozen(kw_only=True)
class BreakCause:
    """Why a prefix was not read from the cache.

    what: `model`, `tools`, `system`, `messages`, `settings`, `cache_off`, `expired` (time to live), `missed` (nothing
    changed, and yet less was read: evicted, below the provider's minimum, another machine). by: `compaction`,
    `redaction`, `resume` or `fork`, where one of them made the change, else "". detail: what the log tells of it, ""
    where it tells nothing. item: the number of the first item that changed, from 1, None where it cannot be named.
    """

    what: str
    by: str = ""
    detail: str = ""
    item: int | None = None


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a run tells of its requests. tools: a hash of each by its name, in order."""

    run_id: str
    parameters: Mapping[str, JSON]
    tools: Mapping[str, int]

    @property
    def life(self) -> str | None:
        """How long the cache lives, as the run tells it: `5m`, `1h`, `off`; None where it tells nothing."""
        told = self.parameters.get("cache", "")
        if told is None:
            return "off"
        return told if isinstance(told, str) and told in LIFE_S else None


@attrs.frozen(kw_only=True)
class SentRequest:
    """A request as it was sent. count: of items. fits: whether it sent what the log tells, None if nobody can say."""

    session_id: str
    seq: int
    at: dt.datetime
    model: str
    count: int
    digests: Mapping[str, str]
    fits: bool | None
    settings: RunSettings


@attrs.frozen(kw_only=True)
class Edits:
    """What the events between two requests say of the items; see `SentItems`. fork_holds: of a fork's first request."""

    kept: int | None = None
    edited: str | None = None
    first_masked: int | None = None
    fork_holds: bool | None = None


def changes(before: SentRequest, now: SentRequest, edits: Edits) -> tuple[BreakCause, ...]:
    """Return what changed in the prefix of a request, in the order in which the provider reads it."""
    by = ""
    if before.session_id != now.session_id:
        by = "fork"
    elif before.settings.run_id != now.settings.run_id:
        by = "resume"
    found = []
    if before.model != now.model:
        found.append(BreakCause(what="model", by=by, detail=f"{before.model} -> {now.model}"))
    if _differ(before, now, "tools"):
        detail = _tools(before.settings.tools, now.settings.tools)
        found.append(BreakCause(what="tools", by=by, detail=detail))
    if _differ(before, now, "system"):
        found.append(BreakCause(what="system", by=by))
    settings = _settings(before.settings.parameters, now.settings.parameters)
    if before.settings.life != "off" and now.settings.life == "off":
        found.append(BreakCause(what="cache_off", by=by))
    elif _differ(before, now, "settings") and (settings or before.model == now.model):
        found.append(BreakCause(what="settings", by=by, detail=settings))
    messages = _messages(before, now, edits, by) if _differ(before, now, "messages") else None
    return tuple(found) if messages is None else (*found, messages)


def _differ(before: SentRequest, now: SentRequest, name: str) -> bool:
    """Whether the two tell different digests; a log of another writer may tell none."""
    old, new = before.digests.get(name), now.digests.get(name)
    return old is not None and new is not None and old != new


def _messages(before: SentRequest, now: SentRequest, edits: Edits, by: str) -> BreakCause | None:
    """Return what changed in the messages; None where they only grew.

    A digest of messages is chained, so that it says nothing of how it goes on: that they grew is known since nothing
    but a compaction's plan takes an item away, and the digest made of the log's own items is that of both requests.
    """
    if by == "fork":
        return BreakCause(what="messages", by=by) if edits.fork_holds is False else None
    if edits.kept is not None and edits.kept < before.count:
        edited = f"{edits.edited} item" if edits.edited else ""
        return BreakCause(what="messages", by="compaction", detail=edited, item=edits.kept + 1)
    if before.fits is False and now.fits:
        # What is sent now is what the log tells, and what was sent before is not.
        masked = edits.first_masked
        if masked is not None and masked < before.count:
            return BreakCause(what="messages", by="redaction", item=masked + 1)
        return BreakCause(what="messages", by=by)
    if now.count <= before.count:
        return BreakCause(what="messages", by=by)
    return None


def _tools(before: Mapping[str, int], now: Mapping[str, int]) -> str:
    added = [f"+{name}" for name in now if name not in before]
    removed = [f"-{name}" for name in before if name not in now]
    changed = [f"~{name}" for name in now if name in before and before[name] != now[name]]
    if not (added or removed or changed):
        return "reordered" if [*before] != [*now] else ""
    return " ".join((*added, *removed, *changed))


def _settings(before: Mapping[str, JSON], now: Mapping[str, JSON]) -> str:
    names = {**before, **now}
    return ", ".join(
        name for name in names if (name in before, before.get(name)) != (name in now, now.get(name))
    )
