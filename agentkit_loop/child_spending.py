"""What the agents behind a session's open calls used, from the events of their own sessions.

A call tells what the agent behind it used when its result is told (`ToolResultReceived.child_usage`). Of a call
that has none yet, only the sessions of those agents know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agentkit_loop.events import UsageUpdated
from agentkit_loop.state import Spent
from agentkit_loop.usage import Usage, child_usage

if TYPE_CHECKING:
    from agentkit_loop.lineage import Chain


def used_behind(calls: Iterable[str], session_id: str, chains: Mapping[str, Chain]) -> dict[str, Usage]:
    """Return what was used behind a session's calls, by call, as `usage.child_usage` tells it.

    Counted are all sessions whose `parent` leads to the call, to any depth; of each request its last
    UsageUpdated, also one that a resume superseded: it was used. A call without such a session has no entry.
    """
    wanted = set(calls)
    below: dict[str, list[str]] = {}
    roots: dict[str, list[str]] = {}
    for name, chain in chains.items() if wanted else ():
        parent = chain.parent
        if parent is None or name == session_id:
            continue
        if parent.session_id != session_id:
            below.setdefault(parent.session_id, []).append(name)
        elif parent.call_id in wanted:
            roots.setdefault(parent.call_id, []).append(name)
    return {call_id: _used(names, below, chains) for call_id, names in roots.items()}


def _used(names: list[str], below: Mapping[str, list[str]], chains: Mapping[str, Chain]) -> Usage:
    """Return the sum over the sessions and all below them; each has one parent, so none is met twice."""
    spent = Spent()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        waiting += below.get(name, ())
        for event in _last_words(chains[name]):
            spent.add(event.usage, event.cost)
    return child_usage(spent.usage, spent.costs)


def _last_words(chain: Chain) -> Iterable[UsageUpdated]:
    """Return the last UsageUpdated of each request: later ones replace earlier ones."""
    last: dict[tuple[str, str], UsageUpdated] = {}
    for event in chain.told():
        if type(event) is UsageUpdated:
            key = (event.run_id, event.request_id)  # two processes may have told one id each
            known = last.get(key)
            if known is None or event.seq >= known.seq:
                last[key] = event
    return last.values()
