"""Limits of a session and its runs, checked before each request (DESIGN section 4, "Limits").

`used >= allowed` is over. A limit that is 80 % used is told once. Tokens are `total_tokens` of all requests of
the session, over resumes, those of sub-agents included; costs the same, in US dollars. A sub-agent looks at the
limits of the sessions above it as well, before each of its requests (purse.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import BudgetExceeded, BudgetWarning
from agentkit_loop.records import FrozenRecord
from agentkit_loop.state import LoopState, Spent
from agentkit_loop.values import JSON

CURRENCY = "USD"
WARNED_AT = Decimal("0.8")
"""The share of a limit at which it is told that it is nearly used up."""


def _amount(value: object) -> Decimal | None:
    """Return a cost limit exactly as it was written: 0.1 is a tenth, not its binary neighbour."""
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Decimal(str(value))
    raise ConfigurationError(
        f"max_cost_usd={value!r} refused; give a Decimal, int or float of dollars above 0, or None"
    )


_SOON_S = 1e-6
"""A limit is above 0; a child that starts at the very end of its parent's time ends at once."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Limits(FrozenRecord):
    """What a session may use; None is no limit.

    max_turns: model answers of one exchange. max_tokens: of the session, all kinds. max_cost_usd: of the
    session. max_seconds: of one run, a deadline that also cuts streams and tools. unpriced: "allow" lets a
    model without a known price pass under a cost limit; it counts as free then.
    """

    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost_usd: Decimal | None = attrs.field(default=None, converter=_amount)
    max_seconds: float | None = None
    unpriced: Literal["refuse", "allow"] = "refuse"

    def __attrs_post_init__(self) -> None:
        for name in ("max_turns", "max_tokens"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigurationError(f"{name}={value!r} refused; give a number of at least 1, or None")
        cost = self.max_cost_usd
        seconds: Any = self.max_seconds
        if cost is not None and not (cost.is_finite() and cost > 0):
            raise ConfigurationError(f"max_cost_usd={cost!r} refused; give dollars above 0, or None")
        if seconds is not None and not (
            type(seconds) in (int, float) and math.isfinite(seconds) and seconds > 0
        ):
            raise ConfigurationError(f"max_seconds={seconds!r} refused; give seconds above 0, or None")
        if self.unpriced not in ("refuse", "allow"):
            raise ConfigurationError(f"unpriced={self.unpriced!r} refused; give 'refuse' or 'allow'")

    def out_of_time(self, seconds: float) -> BudgetExceeded | None:
        """Return the end of a run's time, None before it."""
        if self.max_seconds is None or seconds < self.max_seconds:
            return None
        return BudgetExceeded(limit="max_seconds", used=float(seconds), allowed=float(self.max_seconds))

    def left(self, *, seconds: float) -> Limits:
        """Return what holds for an agent behind a call by itself; tokens and cost it spends from one purse."""
        whole = self.max_seconds
        return attrs.evolve(
            self,
            max_tokens=None,
            max_cost_usd=None,
            max_seconds=None if whole is None else max(_SOON_S, whole - seconds),
        )


class Above(msgspec.Struct, frozen=True):
    """Limits of a session above a sub-agent. spent: what is used of them. warned: of which ones was told below."""

    limits: Limits
    spent: Spent
    warned: frozenset[str] = frozenset()


def limit_event(
    limits: Limits | None,
    state: LoopState,
    *,
    turns: int,
    seconds: float,
    spent: Spent,
    above: Iterable[Above] = (),
) -> BudgetWarning | BudgetExceeded | None:
    """Return what is to be told of limits before a request, None for nothing.

    turns: answered turns of the exchange. seconds: since the run began. spent: of the session, with what the
    agents behind its calls use. above: limits of the sessions above a sub-agent.
    """
    own = [] if limits is None else [*_of_session(limits, turns, seconds), *_of_purse(limits, spent)]
    known = [(use, state.warned) for use in own]
    for one in above:
        known += [(use, state.warned | one.warned) for use in _of_purse(one.limits, one.spent)]
    for (name, amount, allowed), _ in known:
        if amount >= allowed:
            return BudgetExceeded(limit=name, used=_told(name, amount), allowed=_told(name, allowed))
    for (name, amount, allowed), warned in known:
        if amount >= allowed * WARNED_AT and name not in warned:
            return BudgetWarning(limit=name, used=_told(name, amount), allowed=_told(name, allowed))
    return None


_Use: TypeAlias = tuple[str, Decimal, Decimal]  # the limit's name, what is used, what is allowed


def _of_session(limits: Limits, turns: int, seconds: float) -> list[_Use]:
    uses = (("max_turns", turns, limits.max_turns), ("max_seconds", seconds, limits.max_seconds))
    return [
        (name, Decimal(str(used)), Decimal(str(allowed)))
        for name, used, allowed in uses
        if allowed is not None
    ]


def _of_purse(limits: Limits, spent: Spent) -> list[_Use]:
    uses: list[_Use] = []
    if limits.max_tokens is not None:
        uses.append(("max_tokens", Decimal(spent.usage.total_tokens or 0), Decimal(limits.max_tokens)))
    if limits.max_cost_usd is not None:
        uses.append(("max_cost_usd", spent.costs.get(CURRENCY, Decimal(0)), limits.max_cost_usd))
    return uses


def _told(name: str, value: Decimal) -> JSON:
    """Return a figure as events tell it: amounts as text, counts as numbers."""
    if name == "max_cost_usd":
        return str(value)
    return float(value) if name == "max_seconds" else int(value)


def tighter(one: Limits | None, other: Limits | None) -> Limits | None:
    """Return limits that hold both."""
    if one is None or other is None:
        return one or other

    found: dict[str, Any] = {}
    for name in ("max_turns", "max_tokens", "max_cost_usd", "max_seconds"):
        known = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        found[name] = min(known, default=None)
    return attrs.evolve(one, **found)
