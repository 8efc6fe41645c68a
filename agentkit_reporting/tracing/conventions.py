"""The attributes of spans, in one table: what we tell, and how it is called under each profile.

| profile | names |
|---|---|
| `genai` (default) | the GenAI conventions, newest names, and both names of what is written to a cache |
| `genai-1.36` | version 1.36.0, the last before the transition plan (`gen_ai.system`); no content in attributes |
| `openinference` | OpenInference: span kinds, `llm.*`, `session.id`, flattened messages (openinference.py) |
| `all` | `genai` and `openinference` together |

Sources of the rows: `1.41.1` is the last numbered release with them (open-telemetry/semantic-conventions, docs/gen-ai);
`genai` the repository that they moved to (open-telemetry/semantic-conventions-genai, November 2026), which has no
release yet. Names that begin with `agentkit.` are ours and the same under each profile;
`gen_ai.operation.name` and `gen_ai.conversation.id` stand under each as well, for who looks for spans of agents.
`server.address` and `server.port` are left out: no event says where a request went.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import Usage
from agentkit_reporting.tracing import openinference as oi
from agentkit_reporting.tracing.attribute import (
    OPERATIONS,
    Attribute,
    Level,
    Operation,
    Shape,
    Told,
    ValueKind,
)
from agentkit_reporting.tracing.own_attributes import OWN_ATTRIBUTES
from agentkit_reporting.tracing.spans import LARGEST_INTEGER, SMALLEST_INTEGER, AttributeValue

__all__ = [
    "ATTRIBUTES",
    "CONVENTIONS_VERSION",
    "OPT_IN_VARIABLE",
    "Attribute",
    "Profile",
    "ProfileName",
    "chosen_profile",
    "finish_reason_told",
    "profile_of",
]

CONVENTIONS_VERSION: Final = "1.41.1"
"""Version of the semantic conventions that the names of the profile `genai` follow: the newest with a number."""

OPT_IN_VARIABLE: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"

ProfileName: TypeAlias = Literal["genai", "genai-1.36", "openinference", "all"]

_LATEST, _OLD, _BOTH = "genai", "genai-1.36", {"all": ("genai", "openinference")}
_OPT_IN_VALUE = "gen_ai_latest_experimental"

_AGENT: tuple[Operation, ...] = ("invoke_agent",)
_CHAT: tuple[Operation, ...] = ("chat",)
_TOOL: tuple[Operation, ...] = ("execute_tool",)
_MODEL = (*_AGENT, *_CHAT)

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "completed": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_call": "tool_call",
    "max_tokens": "length",
    "context_window_exceeded": "length",
    "refusal": "content_filter",
    "cancelled": "error",
    "limit": "error",
    "error": "error",
}
"""The conventions' words, as their output messages have them; an answer that was cut off from outside is an `error`."""

_MOST_CHARACTERS, _MOST_TEXTS = 1_024, 64  # of an attribute that is not content, and of an array
_USAGE = ("usage.input", "usage.output", "usage.cache_read", "usage.cache_write", "usage.reasoning")
_WHOLE = ("json", "any")  # content, which is bounded already, and not to be cut again


def finish_reason_told(reason: str) -> str:
    """Return the conventions' word for one of our finish reasons; a provider's own word stays."""
    return _FINISH_REASONS.get(reason, reason)


def _finish_reasons(reasons: AttributeValue) -> AttributeValue:
    return tuple(map(finish_reason_told, reasons)) if isinstance(reasons, tuple) else reasons


def _first_finish_reason(reasons: AttributeValue) -> AttributeValue | None:
    told = _finish_reasons(reasons)
    return (told[0] if told else None) if isinstance(told, tuple) else told


def _own_finish_reason(reasons: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    first = reasons[0] if isinstance(reasons, tuple) and reasons else None
    return {} if first is None or first == finish_reason_told(first) else {"agentkit.finish_reason": first}


def _old_system(provider: AttributeValue) -> AttributeValue:
    return "xai" if provider == "x_ai" else provider


def _as_double(value: AttributeValue) -> AttributeValue:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _row(
    key: str,
    level: Level,
    operations: tuple[Operation, ...],
    name: str | tuple[str, ...] = (),
    *,
    kind: ValueKind = "string",
    source: str = "1.41.1",
    old: str | None = None,
    is_old: bool = False,
    openinference: str | tuple[str, ...] = (),
    converts: Mapping[str, Callable[[AttributeValue], AttributeValue | None]] | None = None,
    shape: Shape | None = None,
) -> Attribute:
    """Return a row. is_old: whether version 1.36.0 had the name; old: its name there, where it was another."""
    names = (name,) if isinstance(name, str) else name
    told = (old,) if old is not None else names if is_old else ()
    in_openinference = (openinference,) if isinstance(openinference, str) else openinference
    return Attribute(
        key,
        {"genai": names, "genai-1.36": told, "openinference": in_openinference},
        level,
        operations,
        kind,
        source,
        converts or {},
        {} if shape is None else {"openinference": shape},
    )


def _parameter(
    name: str, kind: ValueKind, level: Level = "recommended", operations: tuple[Operation, ...] = _MODEL
) -> Attribute:
    return _row(f"request.{name}", level, operations, f"gen_ai.request.{name}", kind=kind, is_old=True)


ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    _row(
        "operation", "required", OPERATIONS, "gen_ai.operation.name", is_old=True,
        openinference="openinference.span.kind", converts={"openinference": oi.span_kind},
        shape=oi.operation_name,
    ),
    _row(
        "provider", "required", _MODEL, "gen_ai.provider.name", old="gen_ai.system",
        converts={"genai-1.36": _old_system}, shape=oi.provider_and_system,
    ),
    _row("error", "conditionally_required", OPERATIONS, "error.type", is_old=True, openinference="error.type"),
    _row(
        "conversation", "conditionally_required", _MODEL, "gen_ai.conversation.id", is_old=True,
        openinference=("session.id", "gen_ai.conversation.id"),
    ),
    _row(
        "agent.name", "conditionally_required", _AGENT, "gen_ai.agent.name", is_old=True, openinference="agent.name"
    ),
    _row("agent.id", "conditionally_required", _AGENT, "gen_ai.agent.id", is_old=True),
    _row("agent.version", "conditionally_required", _AGENT, "gen_ai.agent.version"),
    _row("agent.description", "conditionally_required", _AGENT, "gen_ai.agent.description", is_old=True),
    _row(
        "request.model", "conditionally_required", _MODEL, "gen_ai.request.model", is_old=True,
        openinference="llm.model_name",
    ),
    _row("output.type", "conditionally_required", _MODEL, "gen_ai.output.type", is_old=True),
    _parameter("choice.count", "int", "conditionally_required"),
    _parameter("seed", "int", "conditionally_required"),
    _row("request.stream", "conditionally_required", _CHAT, "gen_ai.request.stream", kind="boolean"),
    _row(
        # An integer since the conventions moved; a double before.
        "request.top_k", "conditionally_required", _CHAT, "gen_ai.request.top_k", kind="int", source="genai",
        is_old=True, converts={"genai-1.36": _as_double},
    ),
    _parameter("max_tokens", "int"),
    _parameter("temperature", "double"),
    _parameter("top_p", "double"),
    _parameter("frequency_penalty", "double"),
    _parameter("presence_penalty", "double"),
    _parameter("stop_sequences", "string[]"),
    _row("request.reasoning_level", "recommended", _CHAT, "gen_ai.request.reasoning.level", source="genai"),
    _row(
        "request.parameters", "own", _MODEL, kind="json", source="openinference",
        openinference="llm.invocation_parameters",
    ),
    _row("response.id", "recommended", _CHAT, "gen_ai.response.id", is_old=True),
    _row(
        "response.model", "recommended", _CHAT, "gen_ai.response.model", is_old=True,
        openinference="llm.response.model_name",
    ),
    Attribute(
        "finish_reasons",
        {
            "genai": ("gen_ai.response.finish_reasons",),
            "genai-1.36": ("gen_ai.response.finish_reasons",),
            "openinference": ("llm.finish_reason",),
        },
        "recommended",
        _MODEL,
        "string[]",
        "genai",
        {"genai": _finish_reasons, "genai-1.36": _finish_reasons, "openinference": _first_finish_reason},
        dict.fromkeys(("genai", "genai-1.36", "openinference"), _own_finish_reason),
    ),
    _row(
        "time_to_first_chunk", "recommended", _CHAT, "gen_ai.response.time_to_first_chunk", kind="double"
    ),
    _row("compacted", "recommended", _CHAT, "gen_ai.conversation.compacted", kind="boolean", source="genai"),
    # The invoke_agent span may have usage as well; here it stands on the leaves alone, so that a sum counts it once.
    _row(
        "usage.input", "recommended", _CHAT, "gen_ai.usage.input_tokens", kind="int", is_old=True,
        openinference="llm.token_count.prompt",
    ),
    _row(
        "usage.output", "recommended", _CHAT, "gen_ai.usage.output_tokens", kind="int", is_old=True,
        openinference="llm.token_count.completion", shape=oi.total_tokens,
    ),
    _row(
        "usage.cache_read", "recommended", _CHAT, "gen_ai.usage.cache_read.input_tokens", kind="int",
        openinference="llm.token_count.prompt_details.cache_read",
    ),
    _row(
        # Renamed when the conventions moved: receivers read the one or the other.
        "usage.cache_write", "recommended", _CHAT,
        ("gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"),
        kind="int", source="genai", openinference="llm.token_count.prompt_details.cache_write",
    ),
    _row(
        "usage.reasoning", "recommended", _CHAT, "gen_ai.usage.reasoning.output_tokens", kind="int",
        openinference="llm.token_count.completion_details.reasoning",
    ),
    _row("tool.name", "required", _TOOL, "gen_ai.tool.name", is_old=True, openinference="tool.name"),
    _row("tool.call_id", "recommended", _TOOL, "gen_ai.tool.call.id", is_old=True, openinference="tool.id"),
    _row("tool.type", "recommended", _TOOL, "gen_ai.tool.type", is_old=True),
    _row(
        "tool.description", "recommended", _TOOL, "gen_ai.tool.description", is_old=True,
        openinference="tool.description",
    ),
    # Content: off by default (content.py).
    _row(
        "input.messages", "opt_in", _CHAT, "gen_ai.input.messages", kind="json", shape=oi.flat_input
    ),
    _row("output.messages", "opt_in", _CHAT, "gen_ai.output.messages", kind="json", shape=oi.flat_output),
    _row("agent.input", "opt_in", _AGENT, "gen_ai.input.messages", kind="json", shape=oi.agent_input),
    _row("agent.output", "opt_in", _AGENT, "gen_ai.output.messages", kind="json", shape=oi.agent_output),
    _row("system", "opt_in", _MODEL, "gen_ai.system_instructions", kind="json"),
    _row(
        "tool.definitions", "opt_in", _MODEL, "gen_ai.tool.definitions", kind="json", shape=oi.flat_definitions
    ),
    _row("tool.arguments", "opt_in", _TOOL, "gen_ai.tool.call.arguments", kind="json", shape=oi.tool_input),
    _row("tool.result", "opt_in", _TOOL, "gen_ai.tool.call.result", kind="any", shape=oi.tool_output),
    # What the conventions have no name for.
    Attribute("content.truncated", {"genai": ("agentkit.content.truncated",)}, kind="boolean"),
    Attribute("content.left_out", {"genai": ("agentkit.content.messages_left_out",)}, operations=_CHAT, kind="int"),
    Attribute(
        "cost",
        {
            "genai": ("agentkit.cost.amount",),
            "openinference": ("agentkit.cost.amount", "llm.cost.total"),
        },
        operations=_CHAT,
        kind="double",
    ),
    Attribute("unfinished", {"genai": ("agentkit.unfinished",)}, kind="boolean"),
    *(Attribute(key, {"genai": (name,)}, kind=kind) for key, (name, kind) in OWN_ATTRIBUTES.items()),
)  # fmt: skip


class Profile:
    """The names of one profile; see the module."""

    def __init__(self, name: ProfileName) -> None:
        self.name: ProfileName = name
        under = _BOTH.get(name, (name,))
        self._rows = {each.key: (_naming(each, under), each.kind in _WHOLE) for each in ATTRIBUTES}
        self._plain = {
            key: names[0]
            for key, ((names, converted, shapes), is_whole) in self._rows.items()
            if len(names) == 1 and not (converted or shapes or is_whole)
        }
        usage = [self._rows[key][0] for key in _USAGE]
        self._usage_names = (
            None
            if any(converted or shapes for _, converted, shapes in usage)
            else [(name, place) for place, (names, *_) in enumerate(usage) for name in names]
        )

    def __repr__(self) -> str:
        return f"<Profile {self.name}>"

    def names_of(self, key: str) -> tuple[str, ...]:
        """Return the names under which a key's value stands as it is."""
        return self._rows[key][0][0]

    def name_usage(self, usage: Usage, found: dict[str, AttributeValue]) -> None:
        """Add what a request used, as `named` does; the input counts include the cached ones.

        With each request a third of what its span tells: so without the table's way, where a profile only has names.
        """
        counts = (
            usage.total_input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.cache_write_input_tokens,
            usage.reasoning_tokens,
        )
        if self._usage_names is None:
            self.named(dict(zip(_USAGE, counts, strict=True)), found)
            return
        for name, place in self._usage_names:
            count = counts[place]
            if count is not None and SMALLEST_INTEGER <= count <= LARGEST_INTEGER:
                found[name] = count

    def named(self, told: Told, found: dict[str, AttributeValue] | None = None) -> dict[str, AttributeValue]:
        """Return what is told under this profile's names. found: to which it is added.

        What is None is left out, and so is a number that no receiver could take; a text that is no content is cut
        at 1,024 characters. Raises KeyError for a key that no row has.
        """
        found = {} if found is None else found
        plain = self._plain
        for key, value in told.items():
            if value is None:
                continue
            name = plain.get(key)
            if name is not None:  # most of what is told
                kind = type(value)
                if (
                    SMALLEST_INTEGER <= value <= LARGEST_INTEGER  # type: ignore[operator] # a number
                    if kind is int
                    else len(value) <= _MOST_CHARACTERS  # type: ignore[arg-type] # a text
                    if kind is str
                    else kind is bool or (kind is float and math.isfinite(value))  # type: ignore[arg-type] # the same
                ):
                    found[name] = value
                    continue
            (names, converted, shapes), is_whole = self._rows[key]
            bounded = value if is_whole else _bounded(value)
            if bounded is None:
                continue
            for name in names:
                found[name] = bounded
            for name, convert in converted:
                changed = convert(bounded)
                if changed is not None:
                    found[name] = changed
            for shape in shapes:
                found.update(shape(bounded, told))
        return found


def profile_of(name: str = "genai") -> Profile:
    """Return a profile by its name; raises ConfigurationError for one that there is not."""
    if name not in get_args(ProfileName):
        choices = ", ".join(get_args(ProfileName))
        raise ConfigurationError(f"profile {name!r} refused because it is none; use one of {choices}")
    profile: Any = name
    return Profile(profile)


def chosen_profile(name: str | None, environ: Mapping[str, str]) -> Profile:
    """Return the profile that is meant; raises ConfigurationError for one that there is not.

    The newest names are the default here, since nothing has told others before. `OTEL_SEMCONV_STABILITY_OPT_IN`, a
    list with commas, is for programs that stayed with 1.36: with `gen_ai_latest_experimental` in it who runs such a
    program gets the newest names and none of the old, whatever the program chose. Its words for other conventions
    mean nothing here, and none of them asks for old names.
    """
    profile = profile_of(name or _LATEST)
    opted = {word.strip() for word in environ.get(OPT_IN_VARIABLE, "").split(",")}
    return profile_of(_LATEST) if profile.name == _OLD and _OPT_IN_VALUE in opted else profile


_Naming: TypeAlias = tuple[
    tuple[str, ...],
    tuple[tuple[str, Callable[[AttributeValue], AttributeValue | None]], ...],
    tuple[Shape, ...],
]


def _naming(row: Attribute, under: tuple[str, ...]) -> _Naming:
    """Return the names that take a row's value as it is, those that take it converted, and what else is made of it."""
    plain: dict[str, None] = {}
    converted: dict[str, Callable[[AttributeValue], AttributeValue | None]] = {}
    for profile in under:
        convert = row.converts.get(profile)
        for name in row.names_under(profile):
            if convert is None:
                plain[name] = None
            else:
                converted[name] = convert
    shapes = dict.fromkeys(row.shapes[profile] for profile in under if profile in row.shapes)
    return tuple(plain), tuple(converted.items()), tuple(shapes)


def _bounded(value: AttributeValue) -> AttributeValue | None:
    """Return a value that every receiver takes: an integer has 64 bits there, and a log may say anything."""
    if isinstance(value, str):
        return value if len(value) <= _MOST_CHARACTERS else value[: _MOST_CHARACTERS - 1] + "…"
    if isinstance(value, tuple):
        return tuple(text[:_MOST_CHARACTERS] for text in value[:_MOST_TEXTS])
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if SMALLEST_INTEGER <= value <= LARGEST_INTEGER else None
    return value if math.isfinite(value) else None
