"""What no single key can be wrong in: keys together, names that must be there, the environment, what is installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import EVENT_TYPES
from agentkit_loop.limits import Limits
from agentkit_reporting.configuration.faults import FaultList, name_of, shown
from agentkit_reporting.configuration.keys import SUBSCRIBER_KINDS
from agentkit_reporting.configuration.registry import SUBSCRIBERS
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.configuration.shared_values import new_redactor, own_pattern, rotation_of
from agentkit_reporting.configuration.subscribers import POSTING
from agentkit_reporting.configuration.validation import subscriber_kind
from agentkit_reporting.log.objects import checked_url
from agentkit_reporting.records.patterns import check_topic, parse_pattern
from agentkit_reporting.records.webhook_templates import WebhookTemplate
from agentkit_reporting.redaction.rule_set import RULE_GROUPS, RULE_NAMES
from agentkit_reporting.toml_source import Keys, nearest
from agentkit_reporting.tracing.otlp_endpoint import DEFAULT_ENDPOINT, checked_headers, endpoint_of

__all__ = ["RECORDS", "check_together", "is_traced", "warnings_of"]

RECORDS: dict[str, tuple[str, str]] = {
    "log": ("run.jsonl", "JsonlReporter"),
    "tools": ("tools.jsonl", "ToolRecorder"),
    "traces": ("traces.jsonl", "SessionProfiler"),
    "decisions": ("decisions.jsonl", "AuditLedger"),
    "steps": ("steps.jsonl", "StepLog"),
    "usage": ("usage.jsonl", "UsageStore"),
    "metrics": ("metrics", "InvocationMetricsCollector"),
}
"""The kinds of records by their keys in `[storage]`: the usual file or directory, and who keeps them."""

_LEAST_WIDTH = 20
_NEEDED = {"webhook": "url_env", "slack": "url_env", "pagerduty": "routing_key_env"}


def check_together(settings: Settings, names: Sequence[str], faults: FaultList) -> None:
    """Note what does not go together. names: of the observers that would be made.

    What needs the environment is not looked at where all is switched off.
    """
    _check_storage(settings, faults)
    _check_redaction(settings, faults)
    _check_bus(settings, faults)
    for name, table in settings.table("subscribers").items():
        if isinstance(table, dict) and not faults.has_any(("subscribers", name)):
            _check_subscriber(name, table, settings, faults)
    if is_traced(settings):
        _check_tracing(settings, faults)
    _check_names(settings, names, faults)
    if not faults.has_any(("limits",)):
        _try(lambda: Limits(**settings.given("limits")), ("limits",), faults)
    prices = settings.setting("prices.own")
    if prices.value is not None and not faults.has_any(("prices",)):
        from agentkit_loop.price_list import read_price_list  # noqa: PLC0415 - only where there is one

        _try(lambda: read_price_list(settings.place("prices.own")), ("prices", "own"), faults)
    if settings.has_table("alerts") and not faults.has_any(("alerts",)):
        _check_alerts(settings, faults)


def is_traced(settings: Settings) -> bool:
    """Whether runs are sent as spans."""
    return settings.has_table("tracing") and settings["tracing.enabled"]


def warnings_of(settings: Settings) -> list[str]:
    """Return what works, and hardly does what was meant. settings: without a fault."""
    told = settings.setting("redaction.content")
    if (
        settings["disabled"]
        or not is_traced(settings)
        or not settings["tracing.content"]
        or told.value == "full"
    ):
        return []
    place = settings.setting("tracing.content").origin
    what = f"{place}: tracing.content=true tells nothing because redaction.content is {told.value!r} ({told.origin})"
    return [f'{what}; say "full" there, or leave tracing.content out']


def _check_tracing(settings: Settings, faults: FaultList) -> None:
    endpoint, keys = settings["tracing.endpoint"], ("tracing", "endpoint")
    if endpoint is not None and not faults.has_any(keys):
        if "@" in endpoint.partition("://")[2].partition("/")[0]:
            what = "tracing.endpoint refused because a secret does not belong into a file"
            faults.add(keys, f"{what}; put it into an environment variable, and name that as endpoint_env")
        if settings["tracing.endpoint_env"] is not None:
            faults.add(keys, "tracing.endpoint refused beside tracing.endpoint_env; give one of them")
        _try(lambda: endpoint_of("traces", endpoint), keys, faults)
    named = settings["tracing.endpoint_env"]
    if named is None and endpoint is None and not settings["disabled"]:
        _try(lambda: endpoint_of("traces"), ("tracing",), faults)
    if named is not None and endpoint is None and not settings["disabled"]:
        keys = ("tracing", "endpoint_env")
        _check_variable(keys, named, settings.environ, faults)
        if not faults.has_any(keys):
            _check_address(keys, named, settings.environ, faults)
    for header, variable in settings.table("tracing.headers_env").items():
        place = ("tracing", "headers_env", header)
        _try(lambda header=header: checked_headers({header: ""}), place, faults)  # type: ignore[misc] # as above
        if not settings["disabled"] and not faults.has_any(place):
            _check_variable(place, variable, settings.environ, faults)
    if _is_missing("opentelemetry.exporter.otlp.proto.http"):
        what = "tracing refused because opentelemetry-exporter-otlp-proto-http is not installed"
        faults.add(("tracing",), f"{what}; install agentkit-loop[otel]")


def _check_address(keys: Keys, variable: str, environ: Mapping[str, str], faults: FaultList) -> None:
    """Note a variable that holds no address; what it holds instead may be a secret, and is not shown."""
    try:
        endpoint_of("traces", environ[variable])
    except ConfigurationError:
        what = (
            f"{name_of(keys)} refused because {variable} holds no http(s) address that spans can be sent to"
        )
        faults.add(keys, f"{what}; set it to one such as {DEFAULT_ENDPOINT!r}")


def _check_alerts(settings: Settings, faults: FaultList) -> None:
    """Read the rules; each that is wrong is a fault, with its own file and line."""
    if settings["alerts.rules"] is None:
        faults.add(("alerts",), 'alerts refused without rules; name their file, as in rules = "alerts.toml"')
        return
    if "topic" in settings.table("alerts") and not settings.has_table("event_bus"):
        what = "alerts.topic refused because there is no event bus to tell"
        faults.add(("alerts", "topic"), f"{what}; add [event_bus], or leave it out")
    from agentkit_reporting.alerts.rules_file import AlertRulesError, read_alert_rules  # noqa: PLC0415 - where named

    if settings["disabled"]:
        return  # what is switched off stops no agent because a file of it is not there
    try:
        read_alert_rules(settings.place("alerts.rules"))
    except AlertRulesError as error:
        for number, problem in enumerate(error.problems):
            faults.add(("alerts", "rules", number), f"alerts.rules: {problem}")
    except ConfigurationError as error:
        faults.add(("alerts", "rules"), f"alerts.rules: {error}")
    _try(lambda: check_topic(settings["alerts.topic"]), ("alerts", "topic"), faults)


def _try(make: Callable[[], object], keys: Keys, faults: FaultList) -> None:
    """Note what making something raises as a fault of a key."""
    try:
        make()
    except ConfigurationError as error:
        faults.add(keys, f"{name_of(keys)}: {error}")


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # what it is a part of is not there
        return True


def _check_storage(settings: Settings, faults: FaultList) -> None:
    if not faults.has_any(("storage", "rotation")):
        _try(lambda: rotation_of(settings), ("storage", "rotation"), faults)
        if settings["storage.rotation.compress"] == "zstd" and _is_missing("zstandard"):
            what = "storage.rotation.compress='zstd' refused because zstandard is not installed"
            faults.add(("storage", "rotation", "compress"), f"{what}; install agentkit-loop[zstd]")
    if settings["storage.remote"] is not None:
        _try(lambda: checked_url(settings["storage.remote"]), ("storage", "remote"), faults)
    places: dict[str, str] = {}
    for name in RECORDS:
        value = settings[f"storage.{name}"]
        if value is False or (name == "log" and settings["storage.per"] is not None):
            continue
        place = os.path.normpath(RECORDS[name][0] if value is True else value)
        if place in places:
            what = f"storage.{name} refused because storage.{places[place]} has the same file"
            faults.add(("storage", name), f"{what}; give each its own")
        places.setdefault(place, name)


def _check_redaction(settings: Settings, faults: FaultList) -> None:
    if faults.has_any(("redaction",)):
        return
    known = (*RULE_GROUPS, *RULE_NAMES)
    for number, rule in enumerate(settings["redaction.rules"]):
        if rule not in known:
            keys = ("redaction", "rules", number)
            faults.add(
                keys,
                f"{name_of(keys)}={shown(rule)} refused because there is no such rule; {nearest(rule, known)}",
            )
    for name, said in settings.table("redaction.patterns").items():
        _try(lambda name=name, said=said: own_pattern(name, said), ("redaction", "patterns", name), faults)  # type: ignore[misc] # a lambda's defaults have no types
    if settings["redaction.rules"] == [] and not settings.table("redaction.patterns"):
        what = "redaction.rules=[] refused because nothing would be masked"
        faults.add(("redaction", "rules"), f"{what}; name some, or say enabled = false")
    elif not faults.has_any(("redaction",)) and not settings["disabled"]:
        _try(lambda: new_redactor(settings), ("redaction",), faults)


def _check_bus(settings: Settings, faults: FaultList) -> None:
    for topic, names in settings.table("event_bus.subscribers").items():
        keys: Keys = ("event_bus", "subscribers", topic)
        if faults.has_any(keys) or not isinstance(names, list):
            continue
        _try(lambda topic=topic: parse_pattern(topic), keys, faults)  # type: ignore[misc] # as above
        for number, name in enumerate(names):
            _check_named(name, (*keys, number), settings, faults)


def _check_named(name: str, keys: Keys, settings: Settings, faults: FaultList) -> None:
    """Note a subscriber that nobody is, or that has no settings and needs some."""
    tables = settings.table("subscribers")
    if name in tables:
        return
    if name in _NEEDED:
        told = f"{name_of(keys)}={name!r} refused because its settings are missing"
        faults.add(keys, f"{told}; add [subscribers.{name}] with {_NEEDED[name]}")
    elif name in SUBSCRIBER_KINDS:
        _check_extra(name, keys, faults)
    elif name not in (names := SUBSCRIBERS.names()):
        told = f"{name_of(keys)}={shown(name)} refused because nobody is called so"
        faults.add(keys, f"{told}; {nearest(name, (*tables, *SUBSCRIBER_KINDS, *names))}")


def _check_subscriber(name: str, table: dict[str, Any], settings: Settings, faults: FaultList) -> None:
    keys, kind = ("subscribers", name), subscriber_kind(name, table)
    if kind not in SUBSCRIBER_KINDS:
        return
    _check_extra(kind, keys, faults)
    needed = _NEEDED.get(kind)
    if needed is not None and needed not in table:
        example = next(key.example for key in SUBSCRIBER_KINDS[kind] if key.name == needed)
        what = f"{name_of(keys)} refused because it has no {needed}"
        faults.add(
            keys, f"{what}; name an environment variable, as in {needed} = {example!r}".replace("'", '"')
        )
    for key in SUBSCRIBER_KINDS[kind]:
        if key.name.endswith("_env") and key.name in table and not settings["disabled"]:
            _check_variable((*keys, key.name), table[key.name], settings.environ, faults)
    if "template" in table:
        _try(lambda: WebhookTemplate(table["template"]), (*keys, "template"), faults)


def _check_variable(keys: Keys, variable: str, environ: Mapping[str, str], faults: FaultList) -> None:
    if not environ.get(variable, "").strip():
        what = f"{name_of(keys)} refused because {variable} is not set in the environment"
        faults.add(keys, f"{what}; set it, or name another")


def _check_extra(kind: str, keys: Keys, faults: FaultList) -> None:
    module, extra = ("tenacity", "webhook") if kind in POSTING else ("prometheus_client", "prometheus")
    if kind in (*POSTING, "prometheus") and _is_missing(module):
        what = f"{name_of(keys)} refused because {module.replace('_', '-')} is not installed"
        faults.add(keys, f"{what}; install agentkit-loop[{extra}]")


def _check_names(settings: Settings, names: Sequence[str], faults: FaultList) -> None:
    """Note what `[reporters]` and `[policies]` say of observers and events that are not there."""
    for event in settings.table("reporters.logging.levels"):
        keys: Keys = ("reporters", "logging", "levels", event)
        if event not in EVENT_TYPES:
            told = f"{name_of(keys)} refused because no event is called so"
            faults.add(keys, f"{told}; {nearest(event, EVENT_TYPES)}")
    if (width := settings["reporters.stdout.width"]) is not None and width < _LEAST_WIDTH:
        keys = ("reporters", "stdout", "width")
        faults.add(keys, f"{name_of(keys)}={width} refused; give {_LEAST_WIDTH} columns or more")
    if settings.is_on("reporters.prometheus"):
        _check_extra("prometheus", ("reporters", "prometheus"), faults)
    for name in settings.table("policies.observers"):
        keys = ("policies", "observers", name)
        if name not in names and not faults.has_any(keys):
            told = f"{name_of(keys)} refused because no observer of this configuration is called so"
            faults.add(keys, f"{told}; {nearest(name, names) if names else 'there is none'}")
