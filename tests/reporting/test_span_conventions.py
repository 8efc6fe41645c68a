"""The table of attributes, row by row, held against a second list that was written down from the documents alone."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import FINISH_REASONS
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.attribute import OWN, Attribute
from agentkit_reporting.tracing.conventions import (
    ATTRIBUTES,
    OPT_IN_VARIABLE,
    ProfileName,
    chosen_profile,
    finish_reason_told,
    profile_of,
)
from agentkit_reporting.tracing.spans import AttributeValue

A, C, T = "invoke_agent", "chat", "execute_tool"
REQUIRED, CONDITION, WANTED, OPT_IN = "required", "conditionally_required", "recommended", "opt_in"

DOCUMENT: dict[str, tuple[str, str, set[str]]] = {
    "error.type": (CONDITION, "string", {A, C, T}),
    "gen_ai.agent.description": (CONDITION, "string", {A}),
    "gen_ai.agent.id": (CONDITION, "string", {A}),
    "gen_ai.agent.name": (CONDITION, "string", {A}),
    "gen_ai.agent.version": (CONDITION, "string", {A}),
    "gen_ai.conversation.compacted": (WANTED, "boolean", {C}),
    "gen_ai.conversation.id": (CONDITION, "string", {A, C}),
    "gen_ai.input.messages": (OPT_IN, "json", {A, C}),
    "gen_ai.operation.name": (REQUIRED, "string", {A, C, T}),
    "gen_ai.output.messages": (OPT_IN, "json", {A, C}),
    "gen_ai.output.type": (CONDITION, "string", {A, C}),
    "gen_ai.provider.name": (REQUIRED, "string", {A, C}),
    "gen_ai.request.choice.count": (CONDITION, "int", {A, C}),
    "gen_ai.request.frequency_penalty": (WANTED, "double", {A, C}),
    "gen_ai.request.max_tokens": (WANTED, "int", {A, C}),
    "gen_ai.request.model": (CONDITION, "string", {A, C}),
    "gen_ai.request.presence_penalty": (WANTED, "double", {A, C}),
    "gen_ai.request.reasoning.level": (WANTED, "string", {C}),
    "gen_ai.request.seed": (CONDITION, "int", {A, C}),
    "gen_ai.request.stop_sequences": (WANTED, "string[]", {A, C}),
    "gen_ai.request.stream": (CONDITION, "boolean", {C}),
    "gen_ai.request.temperature": (WANTED, "double", {A, C}),
    "gen_ai.request.top_k": (CONDITION, "int", {C}),
    "gen_ai.request.top_p": (WANTED, "double", {A, C}),
    "gen_ai.response.finish_reasons": (WANTED, "string[]", {A, C}),
    "gen_ai.response.id": (WANTED, "string", {C}),
    "gen_ai.response.model": (WANTED, "string", {C}),
    "gen_ai.response.time_to_first_chunk": (WANTED, "double", {C}),
    "gen_ai.system_instructions": (OPT_IN, "json", {A, C}),
    "gen_ai.tool.call.arguments": (OPT_IN, "json", {T}),
    "gen_ai.tool.call.id": (WANTED, "string", {T}),
    "gen_ai.tool.call.result": (OPT_IN, "any", {T}),
    "gen_ai.tool.definitions": (OPT_IN, "json", {A, C}),
    "gen_ai.tool.description": (WANTED, "string", {T}),
    "gen_ai.tool.name": (REQUIRED, "string", {T}),
    "gen_ai.tool.type": (WANTED, "string", {T}),
    "gen_ai.usage.cache_creation.input_tokens": (WANTED, "int", {A, C}),
    "gen_ai.usage.cache_read.input_tokens": (WANTED, "int", {A, C}),
    "gen_ai.usage.cache_write.input_tokens": (WANTED, "int", {C}),
    "gen_ai.usage.input_tokens": (WANTED, "int", {A, C}),
    "gen_ai.usage.output_tokens": (WANTED, "int", {A, C}),
    "gen_ai.usage.reasoning.output_tokens": (WANTED, "int", {C}),
}
"""Requirement level, type and spans of each name, from the documents (1.41.1, and what came after the move)."""

OF_1_36 = {
    "error.type", "gen_ai.agent.description", "gen_ai.agent.id", "gen_ai.agent.name", "gen_ai.conversation.id",
    "gen_ai.operation.name", "gen_ai.output.type", "gen_ai.request.choice.count",
    "gen_ai.request.frequency_penalty", "gen_ai.request.max_tokens", "gen_ai.request.model",
    "gen_ai.request.presence_penalty", "gen_ai.request.seed", "gen_ai.request.stop_sequences",
    "gen_ai.request.temperature", "gen_ai.request.top_k", "gen_ai.request.top_p",
    "gen_ai.response.finish_reasons", "gen_ai.response.id", "gen_ai.response.model", "gen_ai.system",
    "gen_ai.tool.call.id", "gen_ai.tool.description", "gen_ai.tool.name", "gen_ai.tool.type",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
}  # fmt: skip

OF_OPENINFERENCE = {
    "agent.name", "error.type", "input.mime_type", "input.value", "llm.cost.total", "llm.finish_reason",
    "llm.invocation_parameters", "llm.model_name", "llm.provider", "llm.response.model_name", "llm.system",
    "llm.token_count.completion", "llm.token_count.completion_details.reasoning", "llm.token_count.prompt",
    "llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_write",
    "llm.token_count.total", "openinference.span.kind", "output.mime_type", "output.value", "session.id",
    "tool.description", "tool.id", "tool.name", "tool.parameters",
}  # fmt: skip

VALUES: dict[str, AttributeValue] = {
    "string": "word",
    "int": 3,
    "double": 0.5,
    "boolean": True,
    "string[]": ("one", "two"),
    "json": '[{"type":"text"}]',
    "any": "rainy",
}

ROWS = [pytest.param(row, id=row.key) for row in ATTRIBUTES]
PROFILES = get_args(ProfileName)


def value_of(row: Attribute) -> AttributeValue:
    return "chat" if row.key == "operation" else VALUES[row.kind]


def test_every_key_has_one_row() -> None:
    keys = [row.key for row in ATTRIBUTES]
    assert len(set(keys)) == len(keys)


def test_every_name_of_the_document_has_a_row() -> None:
    told = {name for row in ATTRIBUTES for name in row.names_under("genai") if not name.startswith(OWN)}
    assert told == set(DOCUMENT)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_of_its_names_what_the_document_says(row: Attribute) -> None:
    for name in row.names_under("genai"):
        if name.startswith(OWN):
            assert (row.level, row.source) == ("own", "agentkit")
            continue
        level, kind, operations = DOCUMENT[name]
        assert (row.level, row.kind) == (level, kind)
        assert set(row.operations) <= operations


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_old_names_only_where_version_1_36_had_them(row: Attribute) -> None:
    assert {name for name in row.names_under("genai-1.36") if not name.startswith(OWN)} <= OF_1_36


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_told_under_its_names_in_its_type(row: Attribute) -> None:
    for profile in PROFILES:
        told = profile_of(profile).named({row.key: value_of(row)})
        single = ("genai", "openinference") if profile == "all" else (profile,)
        names = {name for each in single for name in row.names_under(each)}
        assert names <= set(told)
        for name in names:
            if name.startswith("gen_ai.") and not (name.endswith("top_k") and profile == "genai-1.36"):
                assert type(told[name]) is type(value_of(row))


UNDER_EACH = {"gen_ai.operation.name", "gen_ai.conversation.id"}


def test_each_profile_names_the_operation_and_the_conversation_as_the_conventions_do() -> None:
    for profile in PROFILES:
        told = profile_of(profile).named({"operation": "chat", "conversation": "ses_1"})
        assert {name: told[name] for name in UNDER_EACH} == {
            "gen_ai.operation.name": "chat",
            "gen_ai.conversation.id": "ses_1",
        }


@pytest.mark.parametrize("row", ROWS)
def test_under_openinference_a_row_has_names_of_its_specification(row: Attribute) -> None:
    told = profile_of("openinference").named({row.key: value_of(row)})
    strange = {name for name in told if not name.startswith((OWN, "llm.input_messages.", "llm.tools."))}
    assert {
        name for name in strange if not name.startswith("llm.output_messages.")
    } <= OF_OPENINFERENCE | UNDER_EACH


@pytest.mark.parametrize("row", ROWS)
def test_under_all_a_row_tells_what_both_tell(row: Attribute) -> None:
    told = {row.key: value_of(row)}
    both = {**profile_of("genai").named(told), **profile_of("openinference").named(told)}
    assert profile_of("all").named(told) == both


@pytest.mark.parametrize("row", ROWS)
def test_our_own_names_are_the_same_under_every_profile(row: Attribute) -> None:
    own = [{name for name in row.names_under(profile) if name.startswith(OWN)} for profile in PROFILES[:3]]
    assert own[0] == own[1] == own[2]


def test_what_is_none_is_left_out() -> None:
    assert profile_of("all").named({row.key: None for row in ATTRIBUTES}) == {}


def test_a_key_without_a_row_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        profile_of().named({"no such thing": 1})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400, float("nan"), float("inf")])
def test_a_number_that_no_receiver_takes_is_left_out(value: float) -> None:
    assert profile_of().named({"usage.input": value}) == {}


@settings(deadline=None, max_examples=20)
@given(st.text(min_size=1, max_size=20).map(lambda text: text * 1_025))
def test_a_text_that_is_no_content_is_bounded(text: str) -> None:
    told = profile_of().named({"request.model": text, "finish_reasons": (text,) * 100})
    assert len(str(told["gen_ai.request.model"])) == 1_024
    reasons: Any = told["gen_ai.response.finish_reasons"]
    assert len(reasons) == 64
    assert all(len(reason) == 1_024 for reason in reasons)


def test_content_is_never_cut_by_the_table() -> None:
    text = json.dumps([{"type": "text", "content": "x" * 5_000}])
    assert profile_of().named({"input.messages": text}) == {"gen_ai.input.messages": text}


# --- finish reasons


@pytest.mark.parametrize("reason", FINISH_REASONS)
def test_every_finish_reason_of_ours_has_a_word_of_the_conventions(reason: str) -> None:
    assert finish_reason_told(reason) in {"stop", "length", "content_filter", "tool_call", "error"}


def test_our_own_finish_reason_stands_beside_the_conventions_word_where_that_is_another() -> None:
    told = profile_of().named({"finish_reasons": ("max_tokens",)})
    assert told == {"gen_ai.response.finish_reasons": ("length",), "agentkit.finish_reason": "max_tokens"}
    assert profile_of().named({"finish_reasons": ("tool_call",)}) == {
        "gen_ai.response.finish_reasons": ("tool_call",)
    }


def test_a_providers_own_finish_reason_stays() -> None:
    told = profile_of().named({"finish_reasons": ("model_gave_up",)})
    assert told == {"gen_ai.response.finish_reasons": ("model_gave_up",)}


# --- profiles


def test_a_profile_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"profile 'otel' refused .*; use one of genai, genai-1.36"):
        profile_of("otel")


def test_what_is_written_to_a_cache_has_its_newest_name_and_the_one_that_receivers_read() -> None:
    assert profile_of().named({"usage.cache_write": 7}) == {
        "gen_ai.usage.cache_write.input_tokens": 7,
        "gen_ai.usage.cache_creation.input_tokens": 7,
    }


def test_version_1_36_calls_the_provider_system() -> None:
    assert profile_of("genai-1.36").named({"provider": "x_ai"}) == {"gen_ai.system": "xai"}


@pytest.mark.parametrize(
    ("given", "opted", "expected"),
    [
        (None, "", "genai"),
        (None, "gen_ai_latest_experimental", "genai"),
        ("genai-1.36", "", "genai-1.36"),
        ("genai-1.36", "http/dup, gen_ai_latest_experimental", "genai"),
        ("genai-1.36", "http,database", "genai-1.36"),
        ("openinference", "gen_ai_latest_experimental", "openinference"),
        ("all", "gen_ai_latest_experimental", "all"),
    ],
)
def test_the_opt_in_variable_turns_old_names_into_the_newest(
    given: str | None, opted: str, expected: str
) -> None:
    assert chosen_profile(given, {OPT_IN_VARIABLE: opted}).name == expected


def test_without_the_opt_in_variable_nothing_changes() -> None:
    assert chosen_profile("genai-1.36", {}).name == "genai-1.36"


# --- OpenInference

MESSAGES = [
    {"role": "user", "parts": [{"type": "text", "content": "weather?"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"place": "Paris"}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]},
]


def test_openinference_has_a_kind_for_each_operation() -> None:
    kinds = [profile_of("openinference").named({"operation": name}) for name in (A, C, T)]
    assert [kind["openinference.span.kind"] for kind in kinds] == ["AGENT", "LLM", "TOOL"]


def test_openinference_has_the_sum_of_tokens() -> None:
    told = profile_of("openinference").named({"usage.input": 3, "usage.output": 4})
    assert told["llm.token_count.total"] == 7
    assert "llm.token_count.total" not in profile_of("openinference").named({"usage.output": 4})
    most = {"usage.input": 2**63 - 1, "usage.output": 1}  # a sum that no receiver takes
    assert "llm.token_count.total" not in profile_of("openinference").named(most)


def test_openinference_has_messages_field_by_field_behind_the_system_prompt() -> None:
    system = json.dumps([{"type": "text", "content": "Be brief."}])
    told = profile_of("openinference").named({"input.messages": json.dumps(MESSAGES), "system": system})
    flat = {name: value for name, value in told.items() if name.startswith("llm.")}
    base = "llm.input_messages"
    assert flat == {
        f"{base}.0.message.role": "system",
        f"{base}.0.message.content": "Be brief.",
        f"{base}.1.message.role": "user",
        f"{base}.1.message.content": "weather?",
        f"{base}.2.message.role": "assistant",
        f"{base}.2.message.tool_calls.0.tool_call.id": "c1",
        f"{base}.2.message.tool_calls.0.tool_call.function.name": "look",
        f"{base}.2.message.tool_calls.0.tool_call.function.arguments": '{"place":"Paris"}',
        f"{base}.3.message.role": "tool",
        f"{base}.3.message.tool_call_id": "c1",
        f"{base}.3.message.content": "rainy",
    }


OF_OTHER_SPANS = ("run.", "tool.", "retry.", "approval.", "auth.", "compaction.", "budget.", "warning.")
OF_EVENTS = ("observer.", "progress.", "custom.", "tools.")


def test_flattened_content_leaves_room_among_the_128_attributes_that_the_sdk_keeps() -> None:
    many = json.dumps(MESSAGES * 200)
    whole: dict[str, AttributeValue] = {
        row.key: value_of(row)
        for row in ATTRIBUTES
        if C in row.operations and not row.key.startswith((*OF_OTHER_SPANS, *OF_EVENTS))
    }
    whole |= {
        "agent.name": "fixer",  # on each span of a run, as these are
        "run.id": "r",
        "finish_reasons": ("completed",),
        "system": json.dumps([{"type": "text", "content": "Be brief."}]),
        "input.messages": many,
        "output.messages": many,
        "tool.definitions": json.dumps([{"type": "function", "name": f"t{n}"} for n in range(200)]),
    }
    told = profile_of("all").named(whole)
    assert len(told) <= 128
    newest = [
        name for name in told if name.startswith("llm.input_messages") and name.endswith("tool_call_id")
    ]
    assert told[newest[-1]] == "c1"


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=40) | st.sampled_from(["[]", "[1]", "{}", '[{"parts":[3]}]', '[{"parts":{}}]']))
def test_no_text_in_the_place_of_messages_breaks_the_flattening(text: str) -> None:
    content = ("input.messages", "output.messages", "agent.input", "agent.output", "tool.result", "system")
    told = profile_of("all").named(dict.fromkeys((*content, "tool.definitions", "tool.arguments"), text))
    assert told["gen_ai.input.messages"] == text


@pytest.mark.parametrize(("result", "kind"), [("rainy", "text/plain"), ('{"a":1}', "application/json")])
def test_openinference_says_what_a_result_is(result: str, kind: str) -> None:
    told = profile_of("openinference").named({"tool.result": result})
    assert told == {"output.value": result, "output.mime_type": kind}
