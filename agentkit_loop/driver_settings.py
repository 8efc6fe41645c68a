"""What both drivers are made with, and the session that one goes on with."""

from __future__ import annotations

import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.family import Family
from agentkit_loop.models.protocol import Model
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.permissions import Approver
from agentkit_loop.pricing import Pricing
from agentkit_loop.settings import LoopSettings
from agentkit_loop.state import LoopState
from agentkit_loop.usage import Usage


class DriverSettings(msgspec.Struct, frozen=True, kw_only=True):
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


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """The session that a driver goes on with.

    state: the fold of its log. trust_approvals: see `Agent.resume`. notes: told as Warnings. child_usage: what
    agents behind its open calls had used, by call.
    """

    state: LoopState
    trust_approvals: bool = False
    notes: tuple[str, ...] = ()
    child_usage: dict[str, Usage] = msgspec.field(default_factory=dict)
