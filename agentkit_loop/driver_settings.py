"""What both drivers are made with, and the session that one goes on with."""

from __future__ import annotations

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.family import Family
from agentkit_loop.models.protocol import Model
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.permissions import Approver
from agentkit_loop.pricing import Pricing
from agentkit_loop.settings import LoopSettings
from agentkit_loop.state import LoopState
from agentkit_loop.usage import Usage


@attrs.frozen(kw_only=True)
class DriverSettings:
    """What both drivers are made with.

    loop: the machine's part. prices: None for no costs. approve: asked first. family: what a sub-agent has of its
    parent.
    """

    loop: LoopSettings
    model: Model
    observers: tuple[Observer | Registration, ...]
    failure_policy: FailurePolicy
    prices: Pricing | None
    clock: Clock
    approve: Approver | None = None
    family: Family | None = None


@attrs.frozen(kw_only=True)
class Resumed:
    """The session that a driver goes on with.

    state: the fold of its log. trust_approvals: see `Agent.resume`. notes: told as Warnings. child_usage: what
    agents behind its open calls had used, by call.
    """

    state: LoopState
    trust_approvals: bool = False
    notes: tuple[str, ...] = ()
    child_usage: dict[str, Usage] = attrs.Factory(dict)
