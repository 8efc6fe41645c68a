"""Who can be named in a configuration: what is registered here, and what installed packages offer as entry points.

A name is never a path to import: a file that somebody else may write chooses only among what the program, or whoever
installed its packages, has put there.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.observers import Observer
from agentkit_loop.usage import error_text

__all__ = [
    "OBSERVERS",
    "SUBSCRIBERS",
    "ObserverFactory",
    "Registry",
    "SubscriberFactory",
    "register_observer",
    "register_subscriber",
]

SubscriberFactory: TypeAlias = Callable[[Mapping[str, Any]], Callable[..., object]]
"""Takes the settings of `[subscribers.NAME]`, without `kind`; returns a topic's handler."""

ObserverFactory: TypeAlias = Callable[[Mapping[str, Any]], Observer]
"""Takes the settings of `[reporters.NAME]`; returns an observer."""


class Registry:
    """Factories by name. group: of the entry points that count beside them, loaded only when they are named.

    built_in: `module:function` of this package by name, imported only then.
    """

    def __init__(self, group: str, built_in: Mapping[str, str] | None = None) -> None:
        self.group = group
        self._built_in = dict(built_in or {})
        self._registered: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self._lock = threading.Lock()

    def register(self, name: str, factory: Callable[[Mapping[str, Any]], Any]) -> None:
        """Have a name stand for what a factory makes; a name that is registered gets the new one."""
        if not str(name).strip() or not callable(factory):
            raise ConfigurationError(f"{name!r} refused; give a name and a function that takes settings")
        with self._lock:
            self._registered[name] = factory

    def names(self) -> list[str]:
        """Return every name there is; loads nothing."""
        return sorted({*self._registered, *self._built_in, *self._entry_points()})

    def factory(self, name: str) -> Callable[[Mapping[str, Any]], Any] | None:
        """Return the factory of a name, None where there is none; raises ConfigurationError for one that breaks."""
        with self._lock:
            if name in self._registered:
                return self._registered[name]
        if name in self._built_in:
            module, _, function = self._built_in[name].partition(":")
            found: Callable[[Mapping[str, Any]], Any] = getattr(importlib.import_module(module), function)
            return found
        point = self._entry_points().get(name)
        if point is None:
            return None
        try:
            loaded = point.load()
        except Exception as error:  # somebody else's module may raise anything
            raise ConfigurationError(
                f"{name!r} refused because its entry point {point.value!r} does not load: "
                f"{type(error).__name__}: {error_text(error)}; mend or uninstall its package"
            ) from error
        if not callable(loaded):
            raise ConfigurationError(
                f"{name!r} refused because its entry point {point.value!r} is no function; mend its package"
            )
        factory: Callable[[Mapping[str, Any]], Any] = loaded
        return factory

    def _entry_points(self) -> dict[str, Any]:
        import importlib.metadata  # noqa: PLC0415 - brings email and zipfile, for named subscribers only

        return {point.name: point for point in importlib.metadata.entry_points(group=self.group)}


SUBSCRIBERS = Registry("agentkit.subscribers")
OBSERVERS = Registry("agentkit.observers")


def register_subscriber(name: str, factory: SubscriberFactory) -> None:
    """Have a name in `[event_bus.subscribers]` stand for a handler of the host's own.

    factory: takes the settings of `[subscribers.NAME]` (empty without that table), returns the handler; it raises
    ConfigurationError for settings that it refuses. Names of built-in kinds stay theirs. Installed packages do the same
    by an entry point in the group `agentkit.subscribers`.
    """
    SUBSCRIBERS.register(name, factory)


def register_observer(name: str, factory: ObserverFactory) -> None:
    """Have a name in `[reporters]` stand for an observer of the host's own; see `register_subscriber`.

    The group of entry points is `agentkit.observers`.
    """
    OBSERVERS.register(name, factory)
