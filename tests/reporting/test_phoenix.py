"""What a real backend shows of our spans: `pytest -m phoenix`, see tests/phoenix_server.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_reporting import UsageReporter, read_events
from tests.cli.test_command_line import agentkit
from tests.phoenix_server import PhoenixServer

pytestmark = pytest.mark.phoenix

LIVE = """
import sys
from agentkit_loop import Agent, ScriptedModel, tool
from agentkit_loop.models.scripted import Reply, ScriptedCall
from agentkit_loop.usage import Usage
from agentkit_reporting import JsonlReporter, TracingReporter

USAGE = Usage(input_tokens=100, cached_input_tokens=1000, cache_write_input_tokens=20, output_tokens=30)

@tool
def look(name: str) -> str:
    "Look something up."
    return f"found {name}"

researcher = Agent(
    ScriptedModel([Reply(calls=(ScriptedCall(name="look", input={"name": "tea"}),), usage=USAGE),
                   Reply(text="tea is warm", usage=USAGE)]),
    tools=[look], name="researcher",
)
with Agent(
    ScriptedModel([Reply(calls=(ScriptedCall(name="researcher", input={"prompt": "ask about tea"}),), usage=USAGE),
                   Reply(text="Tea is warm.", usage=USAGE)]),
    tools=[researcher.as_tool(description="Finds things out.")], name="editor", system="Be brief.",
    observers=[TracingReporter.over_otlp(sys.argv[1], content=True), JsonlReporter(sys.argv[2])],
) as agent:
    print(agent.run("How is tea?").text)
"""


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoenixServer]:
    with PhoenixServer(tmp_path_factory.mktemp("phoenix")) as server:
        yield server


def of_project(name: str) -> str:
    return f"openinference.project.name={name}"


def shape(spans: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    ordered = sorted(spans, key=lambda span: (span["start_time"], span["name"]))
    return [
        (span["span_kind"], span["name"], names[span["parent_id"]] if span["parent_id"] else None)
        for span in ordered
    ]


def summed(spans: list[dict[str, Any]], name: str) -> int:
    return sum(span["attributes"].get(name, 0) for span in spans)


def said_by(spans: list[dict[str, Any]], side: str) -> str:
    """Return the messages of all requests as the backend flattened them."""
    return json.dumps(
        [
            value
            for span in spans
            for name, value in span["attributes"].items()
            if span["span_kind"] == "LLM" and name.startswith(f"llm.{side}_messages")
        ]
    )


def test_a_demo_run_that_is_exported_opens_as_an_agents_run(tmp_path: Path, phoenix: PhoenixServer) -> None:
    assert agentkit("demo", "--folder", "demo", cwd=tmp_path).returncode == 0
    logs = tmp_path / "demo" / "logs"
    for _ in range(2):  # the second time gives the same spans again
        sent = agentkit(
            "export",
            "otlp",
            str(logs),
            "--content",
            "--endpoint",
            phoenix.endpoint,
            cwd=tmp_path,
            OTEL_RESOURCE_ATTRIBUTES=of_project("demo"),
        )
        assert sent.returncode == 0, sent.stderr

    usage = UsageReporter()
    for event in read_events(logs):
        usage.handle_event(event)
    spans = phoenix.spans("demo", 10)
    assert len(spans) == 10
    tree = shape(spans)
    assert tree[0] == ("AGENT", "invoke_agent analyst", None)
    assert {(kind, above) for kind, _, above in tree[1:]} == {
        ("LLM", "invoke_agent analyst"),
        ("TOOL", "invoke_agent analyst"),
    }
    total = usage.total.usage
    assert summed(spans, "llm.token_count.prompt") == total.total_input_tokens
    assert summed(spans, "llm.token_count.completion") == total.output_tokens
    assert summed(spans, "llm.token_count.prompt_details.cache_read") == total.cached_input_tokens
    (session,) = phoenix.sessions("demo")
    assert session["session_id"] == next(iter(read_events(logs))).session_id
    assert session["token_count_total"] == total.total_tokens
    assert "Which region sold more" in said_by(spans, "input")
    assert "sold more" in said_by(spans, "output")


def test_a_live_run_with_a_sub_agent_is_one_tree(tmp_path: Path, phoenix: PhoenixServer) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LIVE, phoenix.endpoint, "run.jsonl"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={"OTEL_RESOURCE_ATTRIBUTES": of_project("live"), "PYTHONPATH": ":".join(sys.path)},
    )
    assert told.stdout == "Tea is warm.\n"
    spans = phoenix.spans("live", 8)
    assert shape(spans) == [
        ("AGENT", "invoke_agent editor", None),
        ("LLM", "chat scripted", "invoke_agent editor"),
        ("TOOL", "execute_tool researcher", "invoke_agent editor"),
        ("AGENT", "invoke_agent researcher", "execute_tool researcher"),
        ("LLM", "chat scripted", "invoke_agent researcher"),
        ("TOOL", "execute_tool look", "invoke_agent researcher"),
        ("LLM", "chat scripted", "invoke_agent researcher"),
        ("LLM", "chat scripted", "invoke_agent editor"),
    ]
    assert summed(spans, "llm.token_count.prompt") == 4 * 1120
    assert summed(spans, "llm.token_count.prompt_details.cache_write") == 4 * 20
    assert summed(spans, "llm.token_count.completion") == 4 * 30
    for text in ("Be brief.", "How is tea?", "found tea", "tea is warm"):
        assert text in said_by(spans, "input")
    assert "Tea is warm." in said_by(spans, "output")
    (looked,) = (span for span in spans if span["name"] == "execute_tool look")
    assert looked["attributes"]["tool.parameters.name"] == "tea"
    assert looked["attributes"]["output.value"] == "found tea"
    # A trace has one session there, that of the span which came first: the first request of the agent above.
    (session,) = phoenix.sessions("live")
    assert session["session_id"] == next(iter(read_events(tmp_path / "run.jsonl"))).session_id
    assert session["token_count_total"] == 4 * 1150
