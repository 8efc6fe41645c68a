"""What a report keeps of a run that has not ended, and what such a run cost so far."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import attrs

from agentkit_reporting.records.ended_runs import OpenRun
from agentkit_reporting.records.report_figures import Key, Money
from agentkit_reporting.records.request_report import Report

__all__ = ["RunSoFar", "cost_of_run", "cost_so_far"]


@attrs.define
class RunSoFar:
    """What is known of a run that has not ended: its dimensions, which model each request asked for, and which ended.

    work: the same run in the fold; None where that does not see it. error_class: of the last request that failed.
    """

    run: str
    begun: dt.datetime
    agent: str = ""
    phase: str = ""
    asked: dict[str, str] = attrs.field(factory=dict)
    settled: set[str] = attrs.field(factory=set)
    error_class: str = "other"
    work: OpenRun | None = None

    @property
    def day(self) -> str:
        """When it began, UTC."""
        return self.begun.astimezone(dt.UTC).date().isoformat()

    def requests(self) -> Collection[str]:
        """Return the ids of the requests, those whose beginning is in no log behind the others."""
        if self.settled <= self.asked.keys():  # as most often
            return self.asked
        return {**self.asked, **dict.fromkeys(sorted(self.settled))}

    def key(self, by: Sequence[str], name: str) -> Key:
        """Return the key of its row in a table, of its requests to a model, its calls of a tool, or itself."""
        return tuple(name if each in ("model", "tool") else str(getattr(self, each)) for each in by)


def cost_so_far(reports: Mapping[str, Report], run: RunSoFar) -> Money:
    """Return what a run cost that has not ended."""
    money = Money()
    money.bill(reports.values())
    return cost_of_run(money, len(run.requests()), len(reports))


def cost_of_run(money: Money, requests: int, told: int) -> Money:
    """Return what a run cost, of what its requests did. told: how many of them told their usage.

    unknown: 1 where a request that told its usage has no cost, or none told any.
    """
    money.unknown = min(1, money.unknown + (requests > 0 and not told))
    if told:
        money.least += requests - told
    return money
