"""Every key that a configuration may have: validation, the template and what is shown are made of this table.

Names are those of the Python arguments they become: `[storage.rotation]` is `Rotation(…)`, `[limits]` is `Limits(…)`.
In a name `*` stands for one that the host chooses; `subscribers.KIND.…` are the settings of a kind of subscriber.
"""

from __future__ import annotations

from typing import Any

import attrs

from agentkit_reporting.configuration.kinds import (
    AMOUNT,
    AMOUNT_OR_ZERO,
    ANYTHING,
    COUNT,
    COUNT_OR_ZERO,
    FILE,
    FLAG,
    PATTERN,
    PORT,
    RULES_FILE,
    SWITCH,
    TEXT,
    TEXTS,
    VARIABLE,
    Kind,
    choice,
)

__all__ = ["KEYS", "SECTIONS", "SUBSCRIBER_KINDS", "Key", "key_named"]

ON, OFF = True, False
LEVELS = ("debug", "info", "warning", "error", "critical")


@attrs.frozen
class Key:
    """One key. name: with the sections around it. kind: of its value. default: None says that it is left to the class.

    help: what it does, one line of the template. example: for the template, where the default says too little.
    variable: the environment variable that wins over the file. also: what others call it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    example: Any = attrs.field(default=None, kw_only=True)
    variable: str | None = attrs.field(default=None, kw_only=True)
    also: tuple[str, ...] = attrs.field(default=(), kw_only=True)

    @property
    def path(self) -> tuple[str, ...]:
        """The names of its sections and its own."""
        return tuple(self.name.split("."))


SECTIONS: dict[str, str] = {
    "": "Relative paths are looked up from the directory of this file.",
    "storage": "Which records are kept, and where. `true` keeps a kind under its usual name.",
    "storage.rotation": "When the event log, tools, traces, decisions and steps begin a new file. Usage and metrics "
    "stay whole, since sums are made of them.",
    "redaction": "What is masked before anything is written, logged or posted.",
    "redaction.patterns": "Patterns of your own, by the name that masks show.",
    "event_bus": "Topics for subscribers, off the agent's thread where async_dispatch is true.",
    "event_bus.subscribers": "Which subscribers get which topics: `agent.*` is one segment more, `agent.**` any.",
    "subscribers.webhook": "A subscriber's settings; `kind` is left out where the table is called as its kind is.",
    "subscribers.slack": "Beside these, what a webhook takes.",
    "subscribers.pagerduty": "Beside these, what a webhook takes.",
    "subscribers.log": "Tells topics to the standard logging, without what was said.",
    "subscribers.metrics": "Counts topics and runs in memory; ask `configured.subscribers[…].series()`.",
    "subscribers.prometheus": "Counts what it gets, at an endpoint where `port` is given.",
    "policies": "What follows when an observer raises.",
    "policies.observers.*": "The same for one observer, by the name that `agentkit config` shows.",
    "reporters": "Observers that keep no file; `true`, or a table of settings.",
    "reporters.stdout": "Runs, printed for people.",
    "reporters.usage": "Tokens and costs in memory.",
    "reporters.logging": "Events as records of the standard logging, without what was said.",
    "reporters.logging.levels": "By event: a level, or `off`.",
    "reporters.prometheus": "Metrics at an endpoint where `port` is given.",
    "tracing": "Runs as OpenTelemetry spans and metrics, sent over OTLP/HTTP; what is not said here is as the "
    "variables OTEL_… say.",
    "tracing.headers_env": "Headers of its requests.",
    "limits": "What a session may use.",
    "prices": "What requests cost.",
    "alerts": "Rules that watch the runs.",
}
"""What the template says of each section."""

_TOP = (
    Key(
        "disabled",
        FLAG,
        OFF,
        "no observer and no file; limits, prices and policies hold",
        variable="AGENTKIT_DISABLED",
    ),
)
_STORAGE = (
    Key(
        "storage.directory",
        TEXT,
        "agentkit-logs",
        "where the files go",
        variable="AGENTKIT_LOG_DIR",
        also=("dir", "path", "log_dir"),
    ),
    Key(
        "storage.log",
        FILE,
        ON,
        'the event log, run.jsonl; with per = "session" a directory',
        also=("events", "logpath"),
    ),
    Key("storage.tools", FILE, OFF, "calls of tools, tools.jsonl", also=("toolspath",)),
    Key("storage.traces", FILE, OFF, "summaries of sessions, traces.jsonl", also=("tracespath",)),
    Key(
        "storage.decisions",
        FILE,
        OFF,
        "the audit trail, decisions.jsonl",
        also=("decisionspath", "audit"),
    ),
    Key("storage.steps", FILE, OFF, "the step log, steps.jsonl"),
    Key("storage.usage", FILE, OFF, "usage and cost of each request, usage.jsonl"),
    Key("storage.metrics", FILE, OFF, "a directory for invocations.jsonl, one record a run"),
    Key(
        "storage.per", choice("session"), None, "a file of the event log for each session", example="session"
    ),
    Key("storage.deltas", choice("all", "none"), "all", "whether the log has the pieces of streams"),
    Key(
        "storage.fsync",
        choice("never", "interval", "always"),
        "interval",
        "when lines are forced to the disk",
    ),
    Key("storage.fsync_interval_ms", AMOUNT, 1_000.0, "milliseconds between two of these"),
    Key(
        "storage.remote",
        TEXT,
        None,
        "where files are uploaded to; credentials are taken from the environment",
        example="s3://bucket/prefix",
    ),
)
_ROTATION = (
    Key(
        "max_mb",
        AMOUNT,
        None,
        "begin a new file at this size, in units of 1,048,576 bytes",
        example=100,
        also=("maxsizemb",),
    ),
    Key(
        "max_bytes", COUNT, None, "the same in bytes; one of the two", example=104_857_600, also=("max_size",)
    ),
    Key(
        "max_age_s", AMOUNT, None, "begin a new file after so many seconds", example=86_400, also=("max_age",)
    ),
    Key("at_midnight", FLAG, OFF, "begin a new file at midnight UTC"),
    Key("compress", choice("gzip", "zstd", "none"), "gzip", "how finished files are packed"),
    Key("keep", COUNT, None, "finished files that are kept", example=10, also=("max_files", "maxfiles")),
    Key(
        "keep_age_s", AMOUNT, None, "seconds for which they are kept", example=7_776_000, also=("retention",)
    ),
    Key("keep_bytes", COUNT, None, "bytes of them that are kept", example=1_073_741_824),
)
_REDACTION = (
    Key("enabled", FLAG, ON, "false writes secrets as they are"),
    Key(
        "rules",
        TEXTS,
        ["secrets"],
        "rules and groups: personal, email, phone, us_ssn, …; secrets too, unless rules of theirs are named",
    ),
    Key(
        "mode",
        choice("mask", "drop", "pseudonym"),
        "mask",
        "what stands in place; a pseudonym's key is in AGENTKIT_PSEUDONYM_KEY",
    ),
    Key(
        "keep_arguments",
        TEXTS,
        None,
        "show only these arguments of calls, of all others a mask",
        example=["path", "read_file.lines"],
        also=("allow", "allowlist"),
    ),
    Key("fail_closed", FLAG, ON, "false passes on what could not be scrubbed"),
    Key(
        "content",
        choice("full", "metadata", "off"),
        "full",
        "what was said: all of it, kinds and sizes, nothing",
        variable="AGENTKIT_CONTENT",
    ),
    Key("patterns.*", PATTERN, None, "NAME = a regular expression", example="TICKET-[0-9]+"),
)
_EVENT_BUS = (
    Key("async_dispatch", FLAG, OFF, "call subscribers on a thread of their own", also=("asyncdispatch",)),
    Key("max_queue", COUNT, 10_000, "payloads that wait for it"),
    Key(
        "overflow",
        choice("block", "drop_oldest", "drop_newest", "error"),
        "drop_oldest",
        "what happens beyond that",
    ),
    Key("replay", COUNT_OR_ZERO, 100, "payloads kept for late subscribers"),
    Key("stamp", FLAG, OFF, "give payloads without a time one"),
    Key("subscribers.*", TEXTS, None, "TOPIC = names of subscribers", example=["slack"]),
)
_KIND = Key(
    "kind", TEXT, None, "which kind of subscriber, where the table has another name", example="webhook"
)
_POSTING = (
    Key("timeout_s", AMOUNT, 10.0, "for the connection, for what is sent, and for the answer, each"),
    Key("attempts", COUNT, 4, "at most, for each payload"),
    Key("backoff_s", AMOUNT_OR_ZERO, 0.5, "the first pause between two, doubled each time"),
    Key("max_retry_after_s", AMOUNT_OR_ZERO, 60.0, "the longest Retry-After that is honoured"),
    Key("max_queue", COUNT, 1_000, "payloads that wait"),
    Key("overflow", choice("drop_newest", "drop_oldest", "error"), "drop_newest", "what happens beyond that"),
    Key("close_timeout_s", AMOUNT_OR_ZERO, 10.0, "how long closing waits for what is held"),
)
_COUNTING = (Key("max_label_values", COUNT, 100, "models, tools and topics that are told apart"),)
_ENDPOINT = (
    Key("port", PORT, None, "serve http://ADDRESS:PORT/metrics", example=9_464),
    Key("address", TEXT, "127.0.0.1", "who reaches it reads the metrics, without a password"),
    *_COUNTING,
)

SUBSCRIBER_KINDS: dict[str, tuple[Key, ...]] = {
    "webhook": (
        Key(
            "url_env",
            VARIABLE,
            None,
            "the environment variable that has the URL; needed",
            example="AGENTKIT_WEBHOOK_URL",
            also=("url",),
        ),
        Key(
            "token_env",
            VARIABLE,
            None,
            "the one that has the token of `Authorization: Bearer`",
            example="AGENTKIT_WEBHOOK_TOKEN",
            also=("token", "headers"),
        ),
        Key(
            "template",
            ANYTHING,
            None,
            "the body, with ${session_id}, ${topic}, ${payload} and the like",
            example={"text": "${topic}"},
        ),
        *_POSTING,
    ),
    "slack": (
        Key(
            "url_env",
            VARIABLE,
            None,
            "the environment variable that has the URL; needed",
            example="SLACK_WEBHOOK_URL",
            also=("url",),
        ),
        Key("text", TEXT, None, "the message", example="*${topic}* in session ${session_id}${how_it_ended}"),
        *_POSTING,
    ),
    "pagerduty": (
        Key(
            "routing_key_env",
            VARIABLE,
            None,
            "the environment variable that has the key; needed",
            example="PAGERDUTY_ROUTING_KEY",
            also=("routing_key", "token_env", "key"),
        ),
        Key(
            "url_env",
            VARIABLE,
            None,
            "the one that has another URL than PagerDuty's",
            example="PAGERDUTY_URL",
            also=("url",),
        ),
        Key(
            "summary",
            TEXT,
            None,
            "the incident's title",
            example="${topic} in session ${session_id}${how_it_ended}",
        ),
        Key("severity", choice("critical", "error", "warning", "info"), "error", "how bad it is"),
        Key("dedup_key", TEXT, None, "what makes two triggers one incident", example="agentkit:${incident}"),
        *_POSTING,
    ),
    "log": (
        Key("logger", TEXT, "agentkit.topics", "the logger's name"),
        Key("level", choice(*LEVELS), "info", "of its records"),
    ),
    "metrics": _COUNTING,
    "prometheus": _ENDPOINT,
}
"""The settings of each kind of subscriber that is built in."""

_POLICY = choice("ignore", "log", "accumulate", "fail_fast")
_POLICIES = (
    Key("policies.failure_policy", _POLICY, "log", "for all observers", also=("policy",)),
    Key("policies.disable_after", COUNT, None, "failures after which one gets no more events", example=20),
    Key(
        "policies.observers.*.policy",
        _POLICY,
        None,
        "for this one",
        example="fail_fast",
        also=("failure_policy",),
    ),
    Key("policies.observers.*.disable_after", COUNT, None, "for this one", example=5),
)
_REPORTERS = (
    Key("stdout", SWITCH, OFF, "print runs for people", also=("console", "terminal")),
    Key(
        "stdout.colour",
        FLAG,
        None,
        "otherwise as the terminal and NO_COLOR say",
        example=True,
        also=("color",),
    ),
    Key("stdout.width", COUNT, None, "columns that arguments and results are cut to", example=100),
    Key("stdout.show_reasoning", FLAG, ON, "print the model's reasoning"),
    Key("stdout.verbose", FLAG, OFF, "also turns, requests and frames of errors"),
    Key("usage", SWITCH, OFF, "add up tokens and costs"),
    Key("usage.keep_requests", FLAG, ON, "keep each request, some 600 bytes"),
    Key("transcript", SWITCH, OFF, "keep the transcripts in memory"),
    Key("logging", SWITCH, OFF, "tell events to the standard logging"),
    Key("logging.logger", TEXT, "agentkit.events", "the logger's name"),
    Key("logging.levels.*", choice(*LEVELS, "off"), None, "EVENT = a level", example="debug"),
    Key("prometheus", SWITCH, OFF, "count for Prometheus"),
    *(attrs.evolve(key, name=f"prometheus.{key.name}") for key in _ENDPOINT),
)
_TRACING = (
    Key("enabled", FLAG, ON, "false sends nothing"),
    Key(
        "endpoint",
        TEXT,
        None,
        "of a collector or backend; /v1/traces is added",
        example="http://localhost:4318",
        also=("url", "otlp_endpoint"),
    ),
    Key(
        "endpoint_env",
        VARIABLE,
        None,
        "in its place: the environment variable that has it",
        example="OTLP_URL",
    ),
    Key("service_name", TEXT, None, "who is traced", example="my-agent", also=("service", "name")),
    Key("content", FLAG, None, "true tells what was said, where redaction.content is full", example=False),
    Key(
        "profile",
        choice("genai", "genai-1.36", "openinference", "all"),
        "genai",
        "the names of attributes",
        also=("attributes", "conventions"),
    ),
    Key("metrics", FLAG, ON, "false for a backend that takes spans alone"),
    Key(
        "headers_env.*",
        VARIABLE,
        None,
        "HEADER = the environment variable that has its value, such as an API key",
        example="OTLP_AUTHORIZATION",
    ),
)
_LIMITS = (
    Key("max_turns", COUNT, None, "model answers of one exchange", example=50),
    Key("max_tokens", COUNT, None, "tokens of a session, all kinds", example=2_000_000),
    Key("max_cost_usd", AMOUNT, None, "dollars of a session", example=2.5, also=("max_cost", "budget")),
    Key("max_seconds", AMOUNT, None, "seconds of one run", example=600),
    Key("unpriced", choice("refuse", "allow"), "refuse", "a model without a known price under a cost limit"),
)
_REST = (
    Key(
        "prices.own",
        TEXT,
        None,
        "a price list whose prices win",
        example="prices.toml",
        variable="AGENTKIT_PRICES",
        also=("file",),
    ),
    Key(
        "alerts.rules",
        RULES_FILE,
        None,
        "a file of rules; alerts are logged",
        example="alerts.toml",
        also=("file",),
    ),
    Key(
        "alerts.topic", TEXT, "alert", "of the event bus, which is told too: TOPIC.firing and TOPIC.resolved"
    ),
)


def _of(section: str, keys: tuple[Key, ...]) -> tuple[Key, ...]:
    return tuple(attrs.evolve(key, name=f"{section}.{key.name}") for key in keys)


KEYS: tuple[Key, ...] = (
    *_TOP,
    *_STORAGE,
    *_of("storage.rotation", _ROTATION),
    *_of("redaction", _REDACTION),
    *_of("event_bus", _EVENT_BUS),
    *(
        key
        for kind, keys in SUBSCRIBER_KINDS.items()
        for key in _of(f"subscribers.{kind}", (_KIND, *keys) if kind == "webhook" else keys)
    ),
    *_POLICIES,
    *_of("reporters", _REPORTERS),
    *_of("tracing", _TRACING),
    *_of("limits", _LIMITS),
    *_REST,
)
"""All keys, in the order of the template."""

_BY_NAME = {key.name: key for key in KEYS}


def key_named(name: str) -> Key:
    """Return a key by its whole name."""
    return _BY_NAME[name]
