"""The observers of a configuration: which there are, in which order they are told, and how each is made.

The log comes first, so that a line is out before anybody else may fail; then the records, then what is kept in memory
or shown, and the event bus last, behind which whoever subscribed runs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.observers import Observer
from agentkit_reporting.configuration.checks import RECORDS, is_traced
from agentkit_reporting.configuration.keys import SUBSCRIBER_KINDS
from agentkit_reporting.configuration.registry import OBSERVERS, SUBSCRIBERS
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.configuration.shared_values import new_content_redactor, new_redactor, rotation_of
from agentkit_reporting.configuration.subscribers import made_subscriber, without_content
from agentkit_reporting.configuration.validation import subscriber_kind
from agentkit_reporting.toml_source import Keys
from agentkit_reporting.tracing.otlp_endpoint import endpoint_of, shown_endpoint

__all__ = [
    "BUS",
    "Planned",
    "named_subscribers",
    "new_dispatcher",
    "new_subscriber",
    "planned_names",
    "planned_observers",
]

_ROTATED = ("log", "tools", "traces", "decisions", "steps")
_SYNCED = ("log", "decisions", "steps")
_SCRUBBED = ("log", "tools", "traces", "decisions", "steps")
_WITHHOLDS = ("log", "tools", "decisions", "steps")
_REPORTERS = {
    "usage": "UsageReporter",
    "transcript": "TranscriptReporter",
    "logging": "LoggingReporter",
    "prometheus": "PrometheusMetrics",
    "stdout": "StdoutReporter",
}
_SHOWS_ALL = ("usage", "transcript", "prometheus", "stdout")  # to this process and the person at its terminal
STORE = "usage_store"
"""What the observer of `storage.usage` is called, since `usage` is the reporter's."""
BUS, ALERTS, TRACING = "event_bus", "alerts", "tracing"


@attrs.frozen
class Planned:
    """An observer that is to be made. kind: its class. detail: for people, in a few words. keys: where it stands.

    is_scrubbed: whether it is given events without their secrets, since it does not take them out itself. withholds:
    whether it takes out itself what is not to be told.
    """

    name: str
    kind: str
    detail: str
    keys: Keys
    make: Callable[[], Observer]
    is_scrubbed: bool = False
    withholds: bool = False


def planned_names(settings: Settings) -> list[str]:
    """Return the names of the observers, in order."""
    return [planned.name for planned in planned_observers(settings, {})]


def planned_observers(settings: Settings, subscribers: Mapping[str, Callable[..., object]]) -> list[Planned]:
    """Return what is to be made, in the order in which it is told. subscribers: of the bus, once they are made."""
    found = [_record(name, settings) for name in RECORDS if settings[f"storage.{name}"] is not False]
    found += [_reporter(name, settings) for name in _REPORTERS if settings.is_on(f"reporters.{name}")]
    for name, value in settings.table("reporters").items():
        if name not in _REPORTERS and value is not False:
            given = value if isinstance(value, dict) else {}
            found.append(_registered(name, given, ("reporters", name)))
    if is_traced(settings):
        found.append(_traced(settings))
    bus = functools.cache(lambda: new_dispatcher(settings, subscribers))
    has_bus = settings.has_table(BUS)
    if settings["alerts.rules"]:
        place = settings.place("alerts.rules")
        found.append(
            Planned(
                ALERTS,
                "AlertReporter",
                str(place),
                (ALERTS, "rules"),
                lambda: new_alerts(place, settings, bus() if has_bus else None),
                withholds=True,  # its alerts say nothing but numbers and names
            )
        )
    if has_bus:
        topics = settings.table(f"{BUS}.subscribers")
        detail = ", ".join(
            f"{topic} to {', '.join(names)}" for topic, names in topics.items() if _is_texts(names)
        )
        is_scrubbed = any(not _masks_itself(name, settings) for name in named_subscribers(settings))
        found.append(Planned(BUS, "EventDispatcher", detail, (BUS,), bus, is_scrubbed=is_scrubbed))
    return found


def _is_texts(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


# --- records


def _record(name: str, settings: Settings) -> Planned:
    place = _place(name, settings)
    kind = RECORDS[name][1]
    return Planned(
        STORE if name == "usage" else name,
        kind,
        f"{place}/" if _is_directory(name, settings) else str(place),
        ("storage", name),
        lambda: _kept(name, kind, place, settings),
        withholds=name in _WITHHOLDS,
    )


def _is_directory(name: str, settings: Settings) -> bool:
    return name == "metrics" or (name == "log" and settings["storage.per"] is not None)


def _place(name: str, settings: Settings) -> Path:
    """Return the file of a kind of records, or its directory."""
    directory = settings.place("storage.directory")
    value = settings[f"storage.{name}"]
    if value is True:
        if name == "log" and settings["storage.per"] is not None:
            return directory
        value = RECORDS[name][0]
    return directory / str(value)


def _kept(name: str, kind: str, place: Path, settings: Settings) -> Observer:
    import agentkit_reporting  # noqa: PLC0415 - its names are loaded when they are asked for

    given: dict[str, Any] = {"remote": settings["storage.remote"]}
    if name in _ROTATED:
        given["rotation"] = rotation_of(settings)
    if name in _SYNCED:
        given |= settings.given("storage", "fsync", "fsync_interval_ms")
    if name in _WITHHOLDS:  # it is also called directly, so what it may tell is its own concern
        given["redact"] = new_content_redactor(settings) or new_redactor(settings)
    elif name in _SCRUBBED:
        given["redact"] = new_redactor(settings)
    if name == "log":
        given |= settings.given("storage", "deltas", "per")
    elif name == "tools":
        given["allow"] = settings["redaction.keep_arguments"]
    observer: Observer = getattr(agentkit_reporting, kind)(place, **given)
    return observer


# --- reporters


def _reporter(name: str, settings: Settings) -> Planned:
    given = settings.given(f"reporters.{name}")
    detail = ", ".join(f"{key} {value}" for key, value in given.items())
    return Planned(
        name,
        _REPORTERS[name],
        detail,
        ("reporters", name),
        lambda: _reporting(name, given, settings),
        is_scrubbed=name not in _SHOWS_ALL,
    )


def _reporting(name: str, given: dict[str, Any], settings: Settings) -> Observer:
    import agentkit_reporting  # noqa: PLC0415 - as above

    if name == "logging" and (levels := settings.table("reporters.logging.levels")):
        given = {**given, "levels": _levels(levels)}
    if name == "prometheus":
        given = {key: value for key, value in given.items() if key == "max_label_values"}
    observer: Observer = getattr(agentkit_reporting, _REPORTERS[name])(**given)
    return observer


def _levels(levels: Mapping[str, str]) -> dict[type, int | None]:
    import logging  # noqa: PLC0415 - for its names of levels

    from agentkit_loop.events import EVENT_TYPES  # noqa: PLC0415 - as above

    numbers = logging.getLevelNamesMapping()
    return {EVENT_TYPES[event]: numbers.get(level.upper()) for event, level in levels.items()}


def _registered(name: str, given: Mapping[str, Any], keys: Keys) -> Planned:
    def make() -> Observer:
        factory = OBSERVERS.factory(name)
        assert factory is not None  # noqa: S101 - its name was looked for
        observer: Observer = factory(given)
        return observer

    return Planned(name, "registered", ", ".join(given), keys, make, is_scrubbed=True)


# --- spans and metrics


def _traced(settings: Settings) -> Planned:
    given = settings.given(TRACING, "service_name", "profile")
    detail = ", ".join([_sent_to(settings), *(f"{key} {value}" for key, value in given.items())])
    # It masks what it tells of what was said, and tells none of it where that is not allowed.
    return Planned(TRACING, "TracingReporter", detail, (TRACING,), lambda: _tracing(settings), withholds=True)


def _sent_to(settings: Settings) -> str:
    """Return where spans are sent, without credentials, and who says so where the file does not."""
    endpoint, named = settings[f"{TRACING}.endpoint"], settings[f"{TRACING}.endpoint_env"]
    origin = ""
    if endpoint is None and named is not None:
        endpoint, origin = settings.environ.get(named, ""), named
    elif endpoint is None:
        names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        origin = next((name for name in names if os.environ.get(name)), "the default")
    try:
        shown = shown_endpoint(endpoint_of("traces", endpoint))
    except ConfigurationError:  # which the check tells
        return origin
    if origin == named:  # an endpoint that is secret is named so: its path may be, too
        shown = "/".join(shown.split("/")[:3])
    return f"{shown} ({origin})" if origin else shown


def _tracing(settings: Settings) -> Observer:
    from agentkit_reporting.tracing.reporter import TracingReporter  # noqa: PLC0415 - for who names it

    given = settings.given(TRACING, "endpoint", "service_name", "content", "profile", "metrics")
    if settings["redaction.content"] != "full":
        given["content"] = False
    if settings[f"{TRACING}.endpoint_env"] is not None:
        given["endpoint"] = settings.environ[settings[f"{TRACING}.endpoint_env"]]
    variables = settings.table(f"{TRACING}.headers_env")
    headers = {name: settings.environ[variable].strip() for name, variable in variables.items()}
    return TracingReporter.over_otlp(**given, headers=headers, redact=new_redactor(settings))


# --- the event bus


def new_dispatcher(settings: Settings, subscribers: Mapping[str, Callable[..., object]]) -> Any:
    """Return the event bus, to which each subscriber is subscribed as often as it is named."""
    from agentkit_reporting.records.dispatcher import EventDispatcher  # noqa: PLC0415 - for who names it

    dispatcher = EventDispatcher(**settings.given(BUS))
    withheld = new_content_redactor(settings)
    alerts = {f"{settings['alerts.topic']}.{state}" for state in ("firing", "resolved")}
    handlers = dict(subscribers)
    if withheld is not None:
        handlers = {name: without_content(each, withheld, alerts) for name, each in handlers.items()}
    for topic, names in settings.table(f"{BUS}.subscribers").items():
        for name in names:
            dispatcher.subscribe(topic, handlers[name])
    return dispatcher


def _masks_itself(name: str, settings: Settings) -> bool:
    """Whether a subscriber is one of ours, which tell no secret."""
    return subscriber_kind(name, settings.table("subscribers").get(name, {})) in SUBSCRIBER_KINDS


def new_alerts(rules: Path, settings: Settings, dispatcher: Any) -> Observer:
    """Return what raises alerts: to the standard logging, and to the event bus where there is one."""
    from agentkit_reporting.alerts.alert import log_alert  # noqa: PLC0415 - for who names it
    from agentkit_reporting.alerts.reporter import AlertReporter  # noqa: PLC0415 - the same

    return AlertReporter(
        rules,
        on_alert=log_alert,
        dispatcher=dispatcher,
        topic=settings["alerts.topic"],
        redact=new_redactor(settings),
    )


def named_subscribers(settings: Settings) -> dict[str, Keys]:
    """Return the names of those that are subscribed to anything, with where they are configured or else named."""
    found: dict[str, Keys] = {}
    tables = settings.table("subscribers")
    for topic, names in settings.table(f"{BUS}.subscribers").items():
        for number, name in enumerate(names if _is_texts(names) else ()):
            place = ("subscribers", name) if name in tables else (BUS, "subscribers", topic, number)
            found.setdefault(name, place)
    return found


def new_subscriber(name: str, settings: Settings) -> Callable[..., object]:
    """Return a subscriber; raises ConfigurationError, and what a factory of the host's raises."""
    table = settings.table("subscribers").get(name, {})
    kind = subscriber_kind(name, table)
    given = {key: value for key, value in table.items() if key != "kind"}
    if kind in SUBSCRIBER_KINDS:
        return made_subscriber(kind, given, settings.environ, lambda: new_redactor(settings))
    factory = SUBSCRIBERS.factory(kind)
    assert factory is not None  # noqa: S101 - its name was looked for
    handler: Callable[..., object] = factory(given)
    return handler
