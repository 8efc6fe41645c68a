"""The seed's own examples of a step log, line by line, with the output that it documents."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest

from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall
from agentkit_loop.usage import Usage
from agentkit_reporting.records.step_log import StepLog, ToolCallStep

SEED_LLM_KEYS = [
    "run_id", "step", "type", "model", "input_tokens", "output_tokens", "stop_reason", "duration_ms", "ts"
]  # fmt: skip
SEED_TOOL_KEYS = ["run_id", "step", "type", "tool", "input", "output", "error", "duration_ms", "ts"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_in(path: Path) -> list[dict[str, Any]]:
    return [each for each in lines(path) if each["type"] != "header"]


# --- the seed's own examples, line by line


def test_the_seeds_first_example_gives_the_records_and_figures_that_it_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = time.time()
    log = StepLog(path=tmp_path / "logs" / "agent-steps.jsonl", run_id="run-abc123")

    log.record_llm_call(
        model="claude-sonnet-4-6",
        input_tokens=1200,
        output_tokens=340,
        stop_reason="tool_use",
    )

    log.record_tool_call(
        tool="search_documents",
        input={"query": "Q3 revenue"},
        output={"results": ["one", "two"]},
        duration_ms=240,
    )

    log.record_llm_call(
        model="claude-sonnet-4-6",
        input_tokens=1600,
        output_tokens=180,
        stop_reason="end_turn",
    )

    summary = log.summarize()
    print(f"Steps: {summary.total_steps}")  # noqa: T201 - as the seed has it
    print(f"Total tokens: {summary.total_tokens}")  # noqa: T201 - as the seed has it
    print(f"Tool calls: {summary.tool_call_count}")  # noqa: T201 - as the seed has it
    print(f"Duration: {summary.duration_ms}ms")  # noqa: T201 - as the seed has it
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["Steps: 3", "Total tokens: 3320", "Tool calls: 1"]
    assert printed[3].startswith("Duration: ")
    assert (summary.run_id, summary.llm_call_count, summary.error_count) == ("run-abc123", 2, 0)
    assert summary.duration_ms >= 240

    path = tmp_path / "logs" / "agent-steps.jsonl"  # each call appends a line, before the log is closed
    asked, called, answered = steps_in(path)
    assert list(asked)[:9] == list(answered)[:9] == SEED_LLM_KEYS
    assert list(called)[:9] == SEED_TOOL_KEYS
    assert [asked[key] for key in SEED_LLM_KEYS[:8]] == [
        "run-abc123", 1, "llm_call", "claude-sonnet-4-6", 1200, 340, "tool_use", None
    ]  # fmt: skip
    assert [called[key] for key in SEED_TOOL_KEYS[:8]] == [
        "run-abc123", 2, "tool_call", "search_documents", {"query": "Q3 revenue"},
        {"results": ["one", "two"]}, None, 240,
    ]  # fmt: skip
    assert (answered["step"], answered["stop_reason"]) == (3, "end_turn")
    assert before <= asked["ts"] <= called["ts"] <= answered["ts"] <= time.time()
    assert lines(path)[0]["type"] == "header"
    assert log.close()


class ListLogger:
    """Takes structured entries, as structlog's loggers do."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **figures: Any) -> None:
        self.entries.append((event, figures))


def execute_tool(name: str, arguments: dict[str, Any]) -> str:
    if arguments.get("query") == "nothing":
        raise LookupError(f"{name} found nothing")
    return f"Results for {arguments['query']}"


def extract_text(response: Any) -> str:
    return "".join(block.text for block in response.content if block.type == "text")


async def run_agent(task: str, directory: Path, client: anthropic.Anthropic, logger: ListLogger) -> str:
    ctx = SimpleNamespace(run_id="run-1")
    log = StepLog(path=f"{directory}/logs/{ctx.run_id}.jsonl", run_id=str(ctx.run_id))

    messages: list[Any] = [{"role": "user", "content": task}]

    while True:
        response = client.messages.create(
            model="claude-sonnet-4-6", max_tokens=100, messages=messages, tools=[SEARCH]
        )
        log.record_llm_call(
            model=response.model,
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            stop_reason=response.stop_reason,
        )

        if response.stop_reason == "end_turn":
            summary = log.summarize()
            logger.info("run_complete", **summary.__dict__)
            return extract_text(response)

        results: list[Any] = []
        for tool_call in (block for block in response.content if block.type == "tool_use"):
            start = time.monotonic()
            try:
                result = execute_tool(tool_call.name, tool_call.input)
                log.record_tool_call(
                    tool=tool_call.name,
                    input=tool_call.input,
                    output=result,
                    duration_ms=(time.monotonic() - start) * 1000,
                )
            except Exception as e:
                log.record_tool_call(
                    tool=tool_call.name,
                    input=tool_call.input,
                    error=str(e),
                    duration_ms=(time.monotonic() - start) * 1000,
                )
                raise
            results.append({"type": "tool_result", "tool_use_id": tool_call.id, "content": result})
        messages += [{"role": "assistant", "content": response.content}, {"role": "user", "content": results}]


SEARCH: Any = {"name": "search", "description": "", "input_schema": {"type": "object"}}


def replies(*queries: str) -> list[Reply]:
    return [
        *(
            Reply(
                text="Let me look.",
                calls=(ScriptedCall(name="search", input={"query": query}),),
                usage=Usage(input_tokens=10, output_tokens=5),
            )
            for query in queries
        ),
        Reply(text="It is there.", usage=Usage(input_tokens=30, output_tokens=7)),
    ]


def test_the_seeds_agent_logs_its_run_and_the_summary_goes_to_a_logger_as_it_is(tmp_path: Path) -> None:
    logger = ListLogger()
    with (
        MessagesServer(replies("north", "south")) as server,
        anthropic.Anthropic(base_url=server.base_url, api_key="sk-any", max_retries=0) as client,
    ):
        assert asyncio.run(run_agent("Where?", tmp_path, client, logger)) == "It is there."
    found = steps_in(tmp_path / "logs" / "run-1.jsonl")
    assert [each["type"] for each in found] == ["llm_call", "tool_call", "llm_call", "tool_call", "llm_call"]
    assert [each["step"] for each in found] == [1, 2, 3, 4, 5]
    ((event, figures),) = logger.entries
    assert event == "run_complete"
    assert {
        name: figures[name]
        for name in (
            "run_id",
            "total_steps",
            "llm_call_count",
            "tool_call_count",
            "total_tokens",
            "error_count",
        )
    } == {
        "run_id": "run-1",
        "total_steps": 5,
        "llm_call_count": 3,
        "tool_call_count": 2,
        "total_tokens": 67,
        "error_count": 0,
    }
    assert figures["duration_ms"] > 0
    assert json.loads(json.dumps(figures)) == figures


def test_the_seeds_agent_logs_the_error_that_ends_it(tmp_path: Path) -> None:
    with (
        MessagesServer(replies("nothing")) as server,
        anthropic.Anthropic(base_url=server.base_url, api_key="sk-any", max_retries=0) as client,
        pytest.raises(LookupError),
    ):
        asyncio.run(run_agent("Where?", tmp_path, client, ListLogger()))
    read = StepLog.read(tmp_path / "logs" / "run-1.jsonl")
    (failed,) = read.filter(errors=True)
    assert isinstance(failed, ToolCallStep)
    assert (failed.error, failed.output, failed.input) == (
        "search found nothing", None, {"query": "nothing"}
    )  # fmt: skip
    assert read.summarize().error_count == 1
