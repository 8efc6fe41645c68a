"""configure(): a file and a few environment variables become the observers of an agent.

with configure() as telemetry, Agent(model, tools=tools, **telemetry.agent_settings()) as agent:
    agent.run("Fix the bug")
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import AgentKitError
from agentkit_loop.limits import Limits
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.usage import error_text
from agentkit_reporting.configuration.checks import check_together
from agentkit_reporting.configuration.environment import DISABLED
from agentkit_reporting.configuration.faults import FaultList, name_of
from agentkit_reporting.configuration.finding import find_file
from agentkit_reporting.configuration.observers import (
    BUS,
    Planned,
    named_subscribers,
    new_subscriber,
    planned_names,
    planned_observers,
)
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.configuration.shared_values import new_content_redactor, new_redactor
from agentkit_reporting.configuration.validation import check_keys, subscriber_kind
from agentkit_reporting.redaction.content_marks import Content
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.reporter import RedactingReporter
from agentkit_reporting.toml_source import Keys

if TYPE_CHECKING:
    from agentkit_loop.price_book import PriceBook
    from agentkit_reporting.records.dispatcher import EventDispatcher

__all__ = ["Configured", "checked_settings", "configure"]

logger = logging.getLogger(__name__)

_said: set[str] = set()  # what is said once a process


class Configured:
    """What a configuration made. Made by `configure`; leaving its `with` closes what is in it.

    settings: every value that holds, with where it came from. is_disabled: whether reporting is switched off: then
    there are no observers, and limits, prices and policies hold as ever. observers: for an Agent or EventEmitter, in
    the order in which they are told. names: theirs, in that order. subscribers: of the event bus, by name. dispatcher:
    the event bus, None without `[event_bus]`. failure_policy, limits, prices: for an Agent; None where nothing says so.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_disabled: bool = settings["disabled"]
        self.content: Content = settings["redaction.content"]
        self.failure_policy = FailurePolicy(settings["policies.failure_policy"])
        given = settings.given("limits")
        self.limits: Limits | None = Limits(**given) if given else None
        self.prices: PriceBook | None = _price_book(settings)
        self.observers: tuple[Observer | Registration, ...] = ()
        self.names: tuple[str, ...] = ()
        self.subscribers: dict[str, Callable[..., object]] = {}
        self._by_name: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Configured {', '.join(self.names) or 'without observers'}>"

    @property
    def dispatcher(self) -> EventDispatcher | None:
        """The event bus."""
        return self._by_name.get(BUS)

    def __getitem__(self, name: str) -> Any:
        """Return an observer by its name, without what is around it; raises KeyError."""
        return self._by_name[name]

    def agent_settings(self) -> dict[str, Any]:
        """Return keyword arguments for `Agent(model, **…)`: those that the configuration says something of."""
        found: dict[str, Any] = {"observers": self.observers, "failure_policy": self.failure_policy}
        if self.limits is not None:
            found["limits"] = self.limits
        if self.prices is not None:
            found["prices"] = self.prices
        return found

    def close(self) -> None:
        """Flush and close what was made, as `Agent.close` does; twice is harmless."""
        EventEmitter(self.observers, policy=self.failure_policy).close()
        for handler in self.subscribers.values():
            close = getattr(handler, "close", None)
            if callable(close):
                close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- making

    def build(self, faults: FaultList) -> None:
        """Make every observer, and note what cannot be made; nothing serves and no file is there before all are."""
        for name, keys in named_subscribers(self.settings).items():
            made = _made(functools.partial(new_subscriber, name, self.settings), keys, faults)
            if made is not None:
                self.subscribers[name] = made
        observers, names = [], []
        for planned in planned_observers(self.settings, self.subscribers):
            if planned.name == BUS and faults.has_any(("subscribers",), (BUS,)):
                continue
            made = _made(planned.make, planned.keys, faults)
            if made is not None:
                self._by_name[planned.name] = made
                observers.append(self._registered(planned, self._scrubbed(planned, made)))
                names.append(planned.name)
        self.observers, self.names = tuple(observers), tuple(names)
        self._serve(faults)

    def _scrubbed(self, planned: Planned, made: Observer) -> Observer:
        """Return an observer that is given no more than the configuration allows."""
        scrubber: Redactor | bool | None = None
        if not planned.withholds:
            scrubber = new_content_redactor(self.settings)
        if scrubber is None and planned.is_scrubbed:
            scrubber = new_redactor(self.settings)
        return RedactingReporter(made, scrubber) if isinstance(scrubber, Redactor) else made

    def _registered(self, planned: Planned, observer: Observer) -> Observer | Registration:
        settings = self.settings
        said = settings.table("policies.observers").get(planned.name, {})
        policy = said.get("policy")
        disable_after = said.get("disable_after", settings["policies.disable_after"])
        if policy is None and disable_after is None:
            return observer
        return Registration(
            observer,
            policy=None if policy is None else FailurePolicy(policy),
            disable_after=disable_after,
        )

    def _serve(self, faults: FaultList) -> None:
        """Open the endpoints that have a port, if all else went well."""
        settings = self.settings
        served = [(("reporters", "prometheus"), self._by_name.get("prometheus"))]
        served += [(("subscribers", name), handler) for name, handler in self.subscribers.items()]
        for keys, metrics in served:
            table = settings.table(".".join(keys[:1])).get(keys[1], {})
            port = table.get("port") if isinstance(table, dict) else None
            is_ours = keys[0] == "reporters" or subscriber_kind(keys[1], table) == "prometheus"
            if port is None or metrics is None or not is_ours or faults.has_any(()):
                continue
            try:
                metrics.serve(port, **({"address": table["address"]} if "address" in table else {}))
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                place = (*keys, "port")
                faults.add(place, f"{name_of(place)}={port} refused because of: {reason}; give another")


def _made(make: Callable[[], Any], keys: Keys, faults: FaultList) -> Any:
    """Return what is made, None with a fault where it cannot be."""
    try:
        return make()
    except AgentKitError as error:
        faults.add(keys, f"{name_of(keys)}: {error}")
    except Exception as error:  # noqa: BLE001 - a factory of the host's may raise anything
        faults.add(keys, f"{name_of(keys)} could not be made: {type(error).__name__}: {error_text(error)}")
    return None


def configure(
    path: str | os.PathLike[str] | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    content: Content | None = None,
    disabled: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configured:
    """Return the observers, policies, limits and prices that a configuration names.

    path: the file; else that of AGENTKIT_CONFIG, ./agentkit.toml, or the nearest pyproject.toml with `[tool.agentkit]`,
    from here up; without any the defaults hold: one event log in `agentkit-logs`. directory, content, disabled: win
    over AGENTKIT_LOG_DIR, AGENTKIT_CONTENT and AGENTKIT_DISABLED, which win over the file. environ: in place of
    `os.environ`.

    Every fault is told at once, with its line, in InvalidConfigurationError, a ConfigurationError; before that nothing
    is made. `agentkit config --template` prints all keys.
    """
    arguments = {"storage.directory": directory, "redaction.content": content, "disabled": disabled}
    settings, faults = checked_settings(path, arguments, environ)
    faults.raise_all()
    configured = Configured(settings)
    if configured.is_disabled:
        _say_once(settings)
        return configured
    configured.build(faults)
    try:
        faults.raise_all()
    except BaseException:
        configured.close()
        raise
    return configured


def checked_settings(
    path: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> tuple[Settings, FaultList]:
    """Return what holds, and all that is wrong with it; raises ConfigurationError for a file that cannot be read."""
    known = os.environ if environ is None else environ
    file = find_file(path, known)
    faults = FaultList(*((None,) if file is None else (file.source, file.prefix)))
    if file is not None and file.is_no_table:
        faults.add(
            (), f"{name_of(file.prefix)} refused because it is no table; write [{name_of(file.prefix)}]"
        )
    elif file is not None:
        check_keys(file.values, faults)
    settings = Settings(file, known, arguments, faults)
    check_together(settings, planned_names(settings), faults)
    return settings, faults


def _price_book(settings: Settings) -> PriceBook | None:
    if settings["prices.own"] is None:
        return None
    from agentkit_loop.price_book import PriceBook  # noqa: PLC0415 - only where prices are named

    return PriceBook(settings.place("prices.own"))


def _say_once(settings: Settings) -> None:
    origin = settings.setting("disabled").origin
    if origin not in _said:
        _said.add(origin)
        by = f"{DISABLED} is set" if origin == DISABLED else f"{origin} says so"
        logger.warning("no observers are made and no log is written, since %s", by)
