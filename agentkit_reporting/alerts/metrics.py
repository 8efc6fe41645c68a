"""What a rule can be about: the one table of metrics, from which the help and all refusals are made.

A metric looks at one kind of sample (samples.py) and says what each is worth to it; `kind` says what becomes of many.
A percentile is as `percentiles.py` defines it. What is unknown (a count that nobody told, a request without a price,
a body that did not run) is no sample of a metric that needs it, and never zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import attrs

from agentkit_reporting.alerts.samples import (
    Approval,
    Call,
    Compaction,
    EndedRun,
    Exchange,
    ObserverFailure,
    Request,
    Retry,
    Sample,
    Spending,
    Turn,
    UnendedRun,
)
from agentkit_reporting.alerts.units import USD, Unit

__all__ = ["DIMENSIONS", "METRICS", "Kind", "Metric", "Worth", "metric_lines"]

Kind: TypeAlias = Literal["percentile", "highest", "count", "total", "share"]

Worth: TypeAlias = Any
"""What a sample is worth to a metric: a number; of a share (part, whole); None where it is no sample of it."""

DIMENSIONS = ("session", "run", "turn", "agent", "tool", "model", "call", "request")
"""What a rule can be judged by."""

_MOST_TOKENS = 10**15  # a log may say more, and means nothing by it

_OF_RUN = ("session", "run", "agent")
_OF_TURN = ("session", "run", "turn", "agent")
_PER: dict[type[Sample], tuple[str, ...]] = {
    Call: (*_OF_TURN, "tool", "call"),
    Request: (*_OF_TURN, "model", "request"),
    Spending: (*_OF_TURN, "model", "request"),
    Retry: (*_OF_TURN, "model"),
    Turn: _OF_RUN,
    Exchange: _OF_RUN,
    EndedRun: _OF_RUN,
    Approval: (*_OF_TURN, "tool", "call"),
    Compaction: _OF_RUN,
    ObserverFailure: _OF_RUN,
    UnendedRun: _OF_RUN,
}
_FILTERS = ("tool", "model", "agent")


@attrs.frozen(kw_only=True)
class Metric:
    """Something that is measured.

    meaning: a phrase. unit: of its values and thresholds. of: the samples it looks at. worth: what one is worth, given
    the currency that is asked for. percent: of a percentile. by_class: whether `error_class` says which errors count.
    family: what the same percentiles and the longest are of, for the help. at_end: whether it is known only as nothing
    comes any more.
    """

    name: str
    meaning: str
    unit: Unit
    of: type[Sample]
    kind: Kind
    worth: Callable[[Any, str], Worth]
    percent: float = 0
    by_class: bool = False
    family: str = ""
    at_end: bool = False

    @property
    def per(self) -> tuple[str, ...]:
        """The dimensions that it can be judged by."""
        return _PER[self.of]

    @property
    def filters(self) -> tuple[str, ...]:
        """The keys of a rule that choose among its samples."""
        found = tuple(name for name in _FILTERS if name in self.per)
        return (*found, "error_class") if self.by_class else found

    @property
    def grows(self) -> bool:
        """Whether it only grows as long as no window slides."""
        return self.kind in ("count", "total")


def _metrics() -> Iterator[Metric]:
    yield from _of_tools()
    yield from _of_requests()
    yield from _of_spending()
    yield from _of_runs()


def _ranked(
    stem: str, of_what: str, of: type[Sample], worth: Callable[[Any, str], Worth], highest: str = ""
) -> Iterator[Metric]:
    for percent, told in ((50, "median"), (95, "95th percentile"), (99, "99th percentile")):
        yield Metric(
            name=f"{stem}_p{percent}",
            meaning=f"{told} of {of_what}",
            unit="ms",
            of=of,
            kind="percentile",
            worth=worth,
            percent=percent,
            family=of_what,
        )
    yield Metric(
        name=highest or f"{stem}_max",
        meaning=f"longest of {of_what}",
        unit="ms",
        of=of,
        kind="highest",
        worth=worth,
        family=of_what,
    )


def _count(
    name: str, meaning: str, of: type[Sample], worth: Callable[[Any], bool], *, by_class: bool = False
) -> Metric:
    return Metric(
        name=name,
        meaning=meaning,
        unit="count",
        of=of,
        kind="count",
        worth=lambda sample, _: int(worth(sample)),
        by_class=by_class,
    )


def _share(
    name: str, meaning: str, of: type[Sample], worth: Callable[[Any], Worth], *, by_class: bool = False
) -> Metric:
    return Metric(
        name=name,
        meaning=meaning,
        unit="share",
        of=of,
        kind="share",
        worth=lambda sample, _: worth(sample),
        by_class=by_class,
    )


def _of_tools() -> Iterator[Metric]:
    yield from _ranked(
        "tool_latency", "how long bodies of tools took", Call, lambda call, _: call.duration_ms
    )
    yield _count("tool_calls", "calls that have a result", Call, lambda _: True)
    yield _count("tool_errors", "calls whose result is an error", Call, lambda call: call.failed)
    yield _share("tool_error_rate", "share of such calls", Call, lambda call: (int(call.failed), 1))
    yield _count("tool_denials", "calls that were denied", Call, lambda call: call.denied)
    yield Metric(
        name="approvals_waiting_ms",
        meaning="longest wait for an answer",
        unit="ms",
        of=Approval,
        kind="highest",
        worth=lambda approval, _: approval.wait_ms,
    )


def _of_requests() -> Iterator[Metric]:
    yield from _ranked(
        "model_latency", "how long answered requests took", Request, lambda each, _: each.duration_ms
    )
    yield from _ranked(
        "first_token", "the time to the first content", Request, lambda each, _: each.first_content_ms
    )
    yield _count("requests", "requests that have ended", Request, lambda _: True)
    yield _count("request_errors", "requests that failed", Request, lambda each: each.failed, by_class=True)
    yield _share(
        "request_error_rate",
        "share of requests that failed",
        Request,
        lambda each: (int(each.failed), 1),
        by_class=True,
    )
    yield _count("retries", "requests that are made again", Retry, lambda _: True)


def _of_spending() -> Iterator[Metric]:
    yield Metric(
        name="cost",
        meaning="what requests cost, in one currency",
        unit="money",
        of=Spending,
        kind="total",
        worth=lambda spent, currency: (
            spent.cost.amount if spent.cost is not None and spent.cost.currency == currency else None
        ),
    )
    for name, meaning, field in (
        ("tokens", "all tokens", "total_tokens"),
        ("total_input_tokens", "input: fresh, cached and written", "total_input_tokens"),
        ("input_tokens", "fresh input", "input_tokens"),
        ("cached_input_tokens", "input read from the cache", "cached_input_tokens"),
        ("cache_write_input_tokens", "input written to the cache", "cache_write_input_tokens"),
        ("output_tokens", "output", "output_tokens"),
        ("reasoning_tokens", "output that is reasoning", "reasoning_tokens"),
    ):
        yield Metric(
            name=name, meaning=meaning, unit="tokens", of=Spending, kind="total", worth=_tokens(field)
        )
    yield _share("cache_hit_rate", "share of input that the cache gave", Spending, _cached)
    yield _count("unpriced", "requests without a known price", Spending, lambda spent: spent.cost is None)


def _of_runs() -> Iterator[Metric]:
    yield _count("turns", "turns", Turn, lambda _: True)
    for name, reason in (
        ("limit_finishes", "limit"),
        ("max_tokens_finishes", "max_tokens"),
        ("refusals", "refusal"),
    ):
        yield _count(name, f"exchanges that ended by {reason}", Exchange, _ended_by(reason))
    yield from _ranked(
        "run_duration", "how long runs took", EndedRun, lambda run, _: run.duration_ms, highest="run_duration"
    )
    yield _count("runs", "runs that have ended", EndedRun, lambda _: True)
    yield _count("runs_failed", "runs that failed, or ended undone", EndedRun, lambda run: run.failed)
    yield attrs.evolve(
        _count("runs_open", "runs without an end, at the end", UnendedRun, lambda _: True),
        at_end=True,
    )
    yield _share(
        "failure_rate",
        "share of such, cancelled ones aside",
        EndedRun,
        lambda run: None if run.cancelled else (int(run.failed), 1),
    )
    yield _count("compactions", "transcripts shortened", Compaction, lambda each: not each.failed)
    yield _count("compaction_failures", "transcripts that could not be", Compaction, lambda each: each.failed)
    yield _count("observer_failures", "failures of observers told", ObserverFailure, lambda _: True)


def _ended_by(reason: str) -> Callable[[Any], bool]:
    return lambda exchange: bool(exchange.finish_reason == reason)


def _tokens(field: str) -> Callable[[Any, str], Worth]:
    def worth(spent: Spending, currency: str) -> int | None:
        del currency
        count: int | None = getattr(spent.usage, field)
        return count if count is None or 0 <= count <= _MOST_TOKENS else None

    return worth


def _cached(spent: Spending) -> Worth:
    cached = _tokens("cached_input_tokens")(spent, USD)
    whole = _tokens("total_input_tokens")(spent, USD)
    return (cached, whole) if cached is not None and whole else None


METRICS: dict[str, Metric] = {metric.name: metric for metric in _metrics()}
"""Every metric by its name."""


def metric_lines() -> Iterator[tuple[str, Unit, str]]:
    """Yield name, unit and meaning of each metric for the help, the percentiles of one thing together."""
    for family, members in itertools.groupby(
        METRICS.values(), key=lambda metric: metric.family or metric.name
    ):
        first, *rest = members
        stem = first.name.removesuffix("_p50")
        ends = [each.name.removeprefix(stem) for each in rest]
        names = " ".join([stem, "_p50", *filter(None, ends)] if "" in ends else [first.name, *ends])
        yield names, first.unit, family if rest else first.meaning
