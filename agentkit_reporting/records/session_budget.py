"""A budget of a session, and who is told once that it is nearly, or wholly, used up."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError

__all__ = ["BudgetNotice", "SessionBudget", "budget_of"]

DEFAULT_WARN_SHARE = 0.8
"""The share of a budget from which on it is told that it is nearly used up."""

Amount: TypeAlias = Decimal | float | str


def _amount(value: Any) -> Decimal | None:
    if value is None:
        return None
    try:
        amount = Decimal(str(value)) if isinstance(value, (int, float, str, Decimal)) else None
    except InvalidOperation:
        amount = None
    if amount is None or isinstance(value, bool) or not amount.is_finite() or amount <= 0:
        raise ConfigurationError(f"usd={value!r} refused; give an amount above 0, or None")
    return amount


def _tokens(budget: Any, field: Any, value: Any) -> None:
    del budget, field
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
        raise ConfigurationError(f"tokens={value!r} refused; give an int above 0, or None")


def _share(budget: Any, field: Any, value: Any) -> None:
    del budget, field
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ConfigurationError(f"warn_share={value!r} refused; give a share between 0 and 1")


@attrs.frozen(kw_only=True)
class SessionBudget:
    """What a session may use, over all its runs. usd: cost. tokens: input and output of all kinds.

    warn_share: the part of it at which a first notice is given. Raises ConfigurationError.
    """

    usd: Decimal | None = attrs.field(default=None, converter=_amount)
    tokens: int | None = attrs.field(default=None, validator=_tokens)
    warn_share: float = attrs.field(default=DEFAULT_WARN_SHARE, validator=_share)

    def __attrs_post_init__(self) -> None:
        if self.usd is None and self.tokens is None:
            raise ConfigurationError("budget refused because it bounds nothing; give usd= or tokens=")

    def notices(
        self, session_id: str, run_id: str, cost: Decimal, tokens: int
    ) -> list[tuple[tuple[str, bool], BudgetNotice]]:
        """Return what has to be told of a session that used so much, each by the name of what is told once."""
        found = []
        for limit, used, allowed in (("usd", cost, self.usd), ("tokens", tokens, self.tokens)):
            if allowed is None:
                continue
            for is_reached, share in ((False, Decimal(str(self.warn_share))), (True, Decimal(1))):
                if used >= allowed * share:
                    notice = BudgetNotice(
                        session_id=session_id,
                        run_id=run_id,
                        limit="usd" if limit == "usd" else "tokens",
                        used=used,
                        allowed=allowed,
                        is_reached=is_reached,
                    )
                    found.append(((limit, is_reached), notice))
        return found


@attrs.frozen(kw_only=True)
class BudgetNotice:
    """A session has used much of a budget. is_reached: all of it or more; else its `warn_share`.

    limit: which one. used, allowed: an amount in USD, or a count of tokens.
    """

    session_id: str
    run_id: str
    limit: Literal["usd", "tokens"]
    used: Decimal | int
    allowed: Decimal | int
    is_reached: bool

    @property
    def share(self) -> float:
        """The part of the budget that is used; above 1 where it is more."""
        return float(self.used / self.allowed) if self.allowed else math.inf


def budget_of(given: SessionBudget | Amount | None) -> SessionBudget | None:
    """Return the budget that is meant: one, an amount in USD, or None. Raises ConfigurationError."""
    if given is None or isinstance(given, SessionBudget):
        return given
    return SessionBudget(usd=given)
