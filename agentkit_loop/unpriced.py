"""A cost limit that nothing would ever reach, because nobody knows what the model costs, is refused at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit_loop.driver_settings import DriverSettings
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.limits import CURRENCY, Limits
from agentkit_loop.models.protocol import Model
from agentkit_loop.usage import Usage

if TYPE_CHECKING:
    from agentkit_loop.compaction import Compaction


def refuse_unpriced(settings: DriverSettings, limits: Limits | None) -> None:
    """Raise ConfigurationError where a model of these settings has no price in the limit's currency."""
    if limits is None or limits.max_cost_usd is None or limits.unpriced == "allow":
        return
    one = Usage(input_tokens=1, output_tokens=1)
    compaction, prices = settings.loop.compaction, settings.prices
    models = [settings.model, *([] if compaction is None else _summarising(compaction))]
    for name in dict.fromkeys(model.name for model in models):
        cost = None if prices is None else prices.cost(name, one, settings.clock.now())
        if cost is None or cost.currency != CURRENCY:
            raise ConfigurationError(
                f"max_cost_usd refused because the price of {name!r} in {CURRENCY} is not known; "
                "give prices=, or Limits(unpriced='allow')"
            )


def _summarising(compaction: Compaction) -> list[Model]:
    from agentkit_loop.compaction import SummariseOlder  # noqa: PLC0415 - 3 ms; most agents have none

    older = [each for each in compaction.strategies if isinstance(each, SummariseOlder)]
    return [each.model for each in older if each.model is not None]
