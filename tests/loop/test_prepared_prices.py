"""What prices need before they can be asked is loaded before the first request, and in no request's time."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import ModelRequestFinished, UsageUpdated
from agentkit_loop.price_book import PriceBook
from agentkit_loop.testing import EventRecorder, Reply, ScriptedModel, VirtualClock
from agentkit_loop.usage import Cost, Usage

USED = Usage(input_tokens=3, output_tokens=1)


class SlowPrices:
    """A price list whose tables take two seconds to load."""

    def __init__(self, clock: VirtualClock) -> None:
        self.is_prepared = False
        self.prepared = 0
        self._clock = clock

    def prepare(self) -> None:
        self._clock.sleep(2)
        self.is_prepared = True
        self.prepared += 1

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        del model, usage
        if not self.is_prepared:
            self.prepare()
        return Cost(amount=Decimal(1), currency="USD", components={}, source="slow", priced_at=at)


@pytest.mark.parametrize("drive", ["run", "arun", "by hand"])
def test_loading_prices_is_in_no_requests_time(drive: str) -> None:
    clock, told = VirtualClock(), EventRecorder()
    prices = SlowPrices(clock)
    if drive == "by hand":
        with EventEmitter([told], clock=clock).run(model="m", prices=prices) as run:
            for _ in range(2):
                with run.model_call() as call:
                    call.record({"role": "assistant", "content": [], "usage": {"input_tokens": 3}})
    else:
        model = ScriptedModel([Reply(text="a", usage=USED), Reply(text="b", usage=USED)], clock=clock)
        with Agent(model, observers=[told], clock=clock, prices=prices) as agent:
            for _ in range(2):
                asyncio.run(agent.arun("go")) if drive == "arun" else agent.run("go")
    ends = [event for event in told.events if isinstance(event, ModelRequestFinished)]
    assert [event.duration_ms for event in ends] == [0, 0]
    assert all(event.cost for event in told.events if isinstance(event, UsageUpdated))
    assert prices.prepared == 1


def test_a_price_book_says_whether_its_tables_are_loaded() -> None:
    book = PriceBook()
    assert not book.is_prepared
    book.prepare()
    assert book.is_prepared


def test_a_request_that_is_told_with_its_cost_loads_no_prices() -> None:
    prices = SlowPrices(VirtualClock())
    with EventEmitter().run(model="m", prices=prices) as run:
        run.record_model_call(usage=USED, cost="0.01", duration_ms=5)
    assert prices.prepared == 0
