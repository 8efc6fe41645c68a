"""Tokens and cost: per request, turn, model, session and in total.

Usage rides on `UsageUpdated` alone: a later one of the same session and request replaces the earlier one,
requests are added up, and the sums of `TurnFinished` and `Run*` are never added. A count that nobody told
is unknown (None), not zero; each currency is a total of its own.
"""

from __future__ import annotations

import operator
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar

import attrs
import msgspec

from agentkit_loop.events import AgentEvent, ModelRequestFailed, ModelRequestFinished, UsageUpdated
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_loop.records import FrozenRecord, Record
from agentkit_loop.usage import EXACT_SUMS, Usage, can_be_added
from agentkit_reporting.terminal import aligned, one_line

_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_tokens",
)

_counts_of = operator.attrgetter(*_COUNTS)
_ZERO = Decimal(0)


_LARGE = Decimal(10) ** 12  # beyond this an amount is written with an exponent, not with all its digits
_SMALL = Decimal("0.0001")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class UsageTotals(FrozenRecord):
    """A sum over requests, as it was when it was asked for.

    usage: tokens; None where no request told the count. costs: amount by ISO 4217 currency. requests: how
    many reported usage. unpriced_requests: those of them without a cost. provisional_requests: those whose
    last report was not the provider's last word (open, failed or cancelled); they count as they stand.
    """

    usage: Usage = attrs.field(factory=Usage)
    costs: dict[str, Decimal] = attrs.field(factory=dict)
    requests: int = 0
    unpriced_requests: int = 0
    provisional_requests: int = 0

    def __add__(self, other: UsageTotals) -> UsageTotals:
        """Add the totals of other requests."""
        costs = dict(self.costs)
        for currency, amount in other.costs.items():
            costs[currency] = EXACT_SUMS.add(costs.get(currency, Decimal(0)), amount)
        return UsageTotals(
            usage=self.usage + other.usage,
            costs=costs,
            requests=self.requests + other.requests,
            unpriced_requests=self.unpriced_requests + other.unpriced_requests,
            provisional_requests=self.provisional_requests + other.provisional_requests,
        )


class RequestUsage(
    msgspec.Struct, frozen=True, kw_only=True, gc=False
):  # one is made for each report: a fifth of attrs
    """What one request used, by its latest report.

    seq: of the report; of reports that are read out of order the highest counts. usage: without the provider's
    own object. amount, currency: its cost, None where it has no price. final: whether that was the provider's
    last word.
    """

    seq: int
    session_id: str
    run_id: str
    request_id: str
    turn_id: str | None
    model: str
    usage: Usage
    amount: Decimal | None
    currency: str | None
    final: bool


class UsageReporter(Locked, LoopObserver):
    """Adds up every token kind and cost; may be shared by sessions and threads.

    keep_requests: keep each finished request for `request()` and `by_turn`, about 600 bytes each, 600 MB a
    million. False forgets them: memory then grows with sessions and models only, and `request()` and
    `by_turn` know the requests that are not finished.

    Equal when the same was accumulated. Everything returned is a copy that no later event changes.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (UsageUpdated, ModelRequestFinished, ModelRequestFailed)

    def __init__(self, *, keep_requests: bool = True) -> None:
        super().__init__()
        self._keep = keep_requests
        # By session, by run, by request: a process that was taken for dead may use the numbers of its resume.
        self._requests: dict[str, dict[str, dict[str, RequestUsage]]] = {}
        self._sessions: defaultdict[str, _Sum] = defaultdict(_Sum)
        self._models: defaultdict[str, _Sum] = defaultdict(_Sum)

    def handle_event(self, event: AgentEvent) -> None:
        """Take a report, or the end of a request."""
        if isinstance(event, UsageUpdated):
            request = _request(event)
            with self._lock:
                self._replace(request)
        elif not self._keep and isinstance(event, (ModelRequestFinished, ModelRequestFailed)):
            with self._lock:
                self._forget(event.session_id, event.run_id, event.request_id)

    @property
    def total(self) -> UsageTotals:
        """The sum over all requests."""
        return sum(self.by_model.values(), UsageTotals())

    @property
    def by_session(self) -> dict[str, UsageTotals]:
        """A sum for each session; that of a sub-agent's session is its own."""
        with self._lock:
            return {session_id: spent.totals() for session_id, spent in self._sessions.items()}

    @property
    def by_model(self) -> dict[str, UsageTotals]:
        """A sum for each model that was billed."""
        with self._lock:
            return {model: spent.totals() for model, spent in self._models.items()}

    @property
    def by_turn(self) -> dict[tuple[str, str | None], UsageTotals]:
        """A sum for each `(session_id, turn_id)`, over the requests that are kept."""
        turns: defaultdict[tuple[str, str | None], _Sum] = defaultdict(_Sum)
        for request in self.requests():
            turns[request.session_id, request.turn_id].apply(_Change(None, request))
        return {turn: spent.totals() for turn, spent in turns.items()}

    def request(self, session_id: str, request_id: str) -> RequestUsage | None:
        """Return what one request used; None where it reported nothing or is not kept.

        Where two runs told of one id, since a process was taken for dead, it is the one with the higher seq.
        """
        with self._lock:
            runs = self._requests.get(session_id, {}).values()
            found = [requests[request_id] for requests in runs if request_id in requests]
        return max(found, key=operator.attrgetter("seq"), default=None)

    def requests(self) -> Iterator[RequestUsage]:
        """Iterate over the requests that are kept, as they are now."""
        with self._lock:
            kept = [
                request
                for runs in self._requests.values()
                for requests in runs.values()
                for request in requests.values()
            ]
        return iter(kept)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UsageReporter):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment] # it changes, as a list does

    def render(self) -> str:
        """Return a table for people, one line for each model; `?` is unknown. Ends without a newline."""
        rows = [(one_line(model, 24, "~"), totals) for model, totals in self.by_model.items()]
        if len(rows) != 1:
            rows.append(("total", self.total))
        cells = [_HEAD, *(_row(name, totals) for name, totals in rows)]
        return aligned(cells)

    def _replace(self, request: RequestUsage) -> None:
        runs = self._requests.setdefault(request.session_id, {})
        requests = runs.setdefault(request.run_id, {})
        earlier = requests.get(request.request_id)
        if earlier is not None and earlier.seq > request.seq:
            return
        requests[request.request_id] = request
        if earlier is not None and earlier.model != request.model:  # it is billed to another model after all
            self._apply(earlier, _Change(earlier, None))
            if self._models[earlier.model].requests == 0:
                del self._models[earlier.model]
            earlier = None
        self._apply(request, _Change(earlier, request))
        if request.final and not self._keep:
            self._forget(request.session_id, request.run_id, request.request_id)

    def _apply(self, request: RequestUsage, change: _Change) -> None:
        self._sessions[request.session_id].apply(change)
        self._models[request.model].apply(change)

    def _forget(self, session_id: str, run_id: str, request_id: str) -> None:
        runs = self._requests.get(session_id, {})
        requests = runs.get(run_id, {})
        requests.pop(request_id, None)
        if not requests:
            runs.pop(run_id, None)
        if not runs:
            self._requests.pop(session_id, None)

    def _state(self) -> tuple[object, ...]:
        with self._lock:
            return (
                {
                    (session_id, run_id): dict(requests)
                    for session_id, runs in self._requests.items()
                    for run_id, requests in runs.items()
                },
                {session_id: spent.totals() for session_id, spent in self._sessions.items()},
                {model: spent.totals() for model, spent in self._models.items()},
            )


class _Change:
    """What a sum has to add when `before` gives way to `after`; only what differs."""

    __slots__ = ("amounts", "counts", "provisional", "requests", "unpriced")

    def __init__(self, before: RequestUsage | None, after: RequestUsage | None) -> None:
        old, new = before or _NOTHING, after or _NOTHING
        self.requests = (after is not None) - (before is not None)
        self.unpriced = (after is not None and after.amount is None) - (
            before is not None and before.amount is None
        )
        self.provisional = (not new.final) - (not old.final)
        self.counts: list[tuple[int, int, int]] = []  # place in _COUNTS, the difference, how many told it
        for place, (was, is_now) in enumerate(zip(_counts_of(old.usage), _counts_of(new.usage), strict=True)):
            if was != is_now:
                told = (is_now is not None) - (was is not None)
                self.counts.append((place, (is_now or 0) - (was or 0), told))
        self.amounts: list[tuple[str, Decimal, int]] = []  # currency, the difference, how many were priced
        if old.currency is not None and old.amount is not None:
            self.amounts.append((old.currency, EXACT_SUMS.minus(old.amount), -1))
        if new.currency is not None and new.amount is not None:
            self.amounts.append((new.currency, new.amount, 1))


_NOTHING = RequestUsage(
    seq=0,
    session_id="",
    run_id="",
    request_id="",
    turn_id=None,
    model="",
    usage=Usage(),
    amount=None,
    currency=None,
    final=True,
)


@attrs.define(eq=False, repr=False)
class _Sum(Record):
    """A sum that can be changed back: each figure knows how many requests told it."""

    requests: int = 0
    unpriced: int = 0
    provisional: int = 0
    counts: list[int] = attrs.field(factory=lambda: [0] * len(_COUNTS))
    told: list[int] = attrs.field(factory=lambda: [0] * len(_COUNTS))
    amounts: dict[str, tuple[Decimal, int]] = attrs.field(factory=dict)  # with the number of requests

    def apply(self, change: _Change) -> None:
        """Add the differences."""
        self.requests += change.requests
        self.unpriced += change.unpriced
        self.provisional += change.provisional
        for place, difference, told in change.counts:
            self.counts[place] += difference
            self.told[place] += told
        for currency, more, priced in change.amounts:
            amount, known = self.amounts.get(currency, (_ZERO, 0))
            if known + priced:
                self.amounts[currency] = (EXACT_SUMS.add(amount, more), known + priced)
            else:
                del self.amounts[currency]

    def totals(self) -> UsageTotals:
        """Return the sum as it is now."""
        figures = zip(_COUNTS, self.counts, self.told, strict=True)
        known = {name: count for name, count, told in figures if told}
        return UsageTotals(
            usage=msgspec.convert(known, Usage),
            costs={currency: amount for currency, (amount, _) in self.amounts.items()},
            requests=self.requests,
            unpriced_requests=self.unpriced,
            provisional_requests=self.provisional,
        )


def _request(event: UsageUpdated) -> RequestUsage:
    # A decoded log makes every string anew; a million requests share their model and session names.
    usage, cost = event.usage, event.cost
    priced = cost is not None and can_be_added(cost.amount)
    return RequestUsage(
        seq=event.seq,
        session_id=sys.intern(event.session_id),
        run_id=sys.intern(event.run_id),
        request_id=event.request_id,
        turn_id=None if event.turn_id is None else sys.intern(event.turn_id),
        model=sys.intern(event.model),
        usage=usage if usage.raw is None else msgspec.structs.replace(usage, raw=None),
        amount=cost.amount if cost is not None and priced else None,
        currency=sys.intern(cost.currency) if cost is not None and priced else None,
        final=event.final,
    )


# --- for people

_HEAD = ("model", "requests", "input", "cached", "written", "output", "reasoning", "cost")


def _row(name: str, totals: UsageTotals) -> tuple[str, ...]:
    usage = totals.usage
    counts = (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    figures = ("?" if count is None else f"{count:,}" for count in counts)
    return (name, f"{totals.requests:,}", *figures, cost_text(totals) or "?")


def token_texts(usage: Usage) -> tuple[str, ...]:
    """Return the tokens in words, input and output: `("1,234 in (512 cached)", "56 out")`."""
    if usage.total_tokens is None:
        return ("tokens unknown",)
    texts = []
    if usage.total_input_tokens is not None:
        of_these = (("cached", usage.cached_input_tokens), ("written", usage.cache_write_input_tokens))
        texts.append(f"{usage.total_input_tokens:,} in{_among(of_these)}")
    if usage.output_tokens is not None:
        texts.append(f"{usage.output_tokens:,} out{_among((('reasoning', usage.reasoning_tokens),))}")
    return tuple(texts)


def cost_text(totals: UsageTotals) -> str:
    """Return the cost in words: `$0.0123`, `$0.0123 + 1 unpriced`; empty where no request reported."""
    if not totals.requests:
        return ""
    if not totals.costs:
        return "cost unknown"
    texts = [_amount_text(amount, currency) for currency, amount in totals.costs.items()]
    if totals.unpriced_requests:
        texts.append(f"{totals.unpriced_requests:,} unpriced")
    return " + ".join(texts)


def _among(kinds: tuple[tuple[str, int | None], ...]) -> str:
    known = ", ".join(f"{count:,} {kind}" for kind, count in kinds if count)
    return f" ({known})" if known else ""


def _amount_text(amount: Decimal, currency: str) -> str:
    if abs(amount) >= _LARGE:
        figure = f"{amount:.3e}"
    elif abs(amount) >= 1 or not amount:
        figure = f"{amount:,.2f}"
    elif abs(amount) >= _SMALL:
        figure = f"{amount:.4f}"
    else:
        figure = f"{amount:.1e}"
    return f"${figure}" if currency == "USD" else f"{figure} {one_line(currency, 8, '~')}"
