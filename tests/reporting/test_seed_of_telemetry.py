"""Seed 000's agent, ported line by line: four systems told directly by a loop that knows nothing of events."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import anthropic
import pytest

from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    AuditLedger,
    EventDispatcher,
    Rotation,
    SessionProfiler,
    SessionSummary,
    ToolRecorder,
)

TOOLS: list[Any] = [
    {
        "name": "search_web",
        "description": "Search the web",
        "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}},
    }
]
LOOK = Reply(
    calls=(ScriptedCall(name="search_web", input={"query": "Q3 revenue of ann@example.com"}),),
    usage=Usage(input_tokens=1200, output_tokens=340),
)
DONE = Reply(text="Revenue grew.", usage=Usage(input_tokens=1600, output_tokens=180))


class Seed:
    """The seed's components, and its agent."""

    def __init__(self, logs: Path, server: MessagesServer) -> None:
        self.printed: list[str] = []
        self.tool_recorder = ToolRecorder(store_path=logs / "tools.jsonl", redact=["email"])
        self.profiler = SessionProfiler(on_close=self.complete)
        self.dispatcher = EventDispatcher(async_dispatch=True, stamp=True)
        self.ledger = AuditLedger(logs / "decisions.jsonl", rotation=Rotation(max_bytes=100_000_000, keep=10))
        self.search_web = self.tool_recorder.instrument("search_web", self._search_web)
        self.base_url = server.base_url
        self.session_id = ""

    def complete(self, summary: SessionSummary) -> None:
        self.printed.append(
            f"[Profiler] Session {summary.session_id} complete. Cost: ${summary.total_cost_usd:.4f}"
        )

    async def _search_web(self, query: str) -> str:
        return f"Results for {query}"

    async def run_agent(self, user_input: str) -> str:
        session_id = self.session_id = str(uuid.uuid4())
        span = self.profiler.start_session(session_id)
        messages: list[Any] = [{"role": "user", "content": user_input}]
        client = anthropic.AsyncAnthropic(base_url=self.base_url, api_key="any", max_retries=0)
        step = 0
        total_cost = 0.0
        try:
            while True:
                response = await client.messages.create(
                    model="claude-sonnet-4-6", max_tokens=4096, tools=TOOLS, messages=messages
                )
                # Record tokens and cost
                usage = response.usage
                cost = (usage.input_tokens * 0.003 + usage.output_tokens * 0.015) / 1000
                total_cost += cost
                span.record_tokens(usage.input_tokens, usage.output_tokens, cost)
                # Audit reasoning
                self.ledger.log(
                    session_id,
                    {
                        "step": step,
                        "type": "reasoning",
                        "detail": "Model generated response",
                        "metadata": {"stop_reason": response.stop_reason},
                    },
                )
                if response.stop_reason != "tool_use":
                    self.ledger.log(
                        session_id, {"step": step, "type": "final_response", "detail": "Agent completed task"}
                    )
                    self.dispatcher.emit(
                        "agent.session_complete",
                        {"session_id": session_id, "cost": total_cost, "steps": step},
                    )
                    return next((block.text for block in response.content if block.type == "text"), "")
                tool_results: list[Any] = []
                for block in response.content:
                    if block.type == "tool_use":
                        # Audit decision
                        self.ledger.log(
                            session_id,
                            {
                                "step": step,
                                "type": "tool_selection",
                                "detail": f"Selected {block.name}",
                                "metadata": {"args": block.input},
                            },
                        )
                        # Emit event
                        self.dispatcher.emit(
                            "agent.tool_invoked",
                            {"session_id": session_id, "tool": block.name, "args": block.input},
                        )
                        # Execute tool
                        result = await self.search_web(str(block.input["query"]))
                        tool_results.append(
                            {"type": "tool_result", "tool_use_id": block.id, "content": result}
                        )
                messages.append(
                    {"role": "assistant", "content": response.content}
                )  # the seed pushes the content alone
                messages.append({"role": "user", "content": tool_results})
                step += 1
        finally:
            span.close()
            await client.close()


def test_the_four_systems_told_line_by_line_keep_what_the_seed_documents(tmp_path: Path) -> None:
    published: list[tuple[str, dict[str, Any]]] = []
    with MessagesServer([LOOK, DONE]) as server:
        seed = Seed(tmp_path / "logs", server)
        seed.dispatcher.subscribe("agent.*", lambda payload: published.append((payload.topic, dict(payload))))
        assert asyncio.run(seed.run_agent("How was Q3?")) == "Revenue grew."
    assert seed.dispatcher.close() is True
    for system in (seed.tool_recorder, seed.profiler, seed.ledger):
        system.close()
    session_id = seed.session_id
    # Pillar 1: all arguments by name, masked before they are stored
    (line,) = (tmp_path / "logs" / "tools.jsonl").read_text().splitlines()
    stored = json.loads(line)
    assert stored["tool_name"] == "search_web"
    assert stored["status"] == "ok"
    assert stored["args"].keys() == {"query"}
    assert stored["session_id"] == session_id
    assert stored["result_preview"].startswith("Results for Q3 revenue of ")
    assert stored["latency_ms"] >= 0
    assert stored["timestamp"].endswith("Z")
    assert "ann@example.com" not in line
    # Pillar 2: sums over the calls of the session
    (summary,) = seed.profiler.records
    assert (summary.session_id, summary.total_input_tokens, summary.total_output_tokens) == (
        session_id,
        2800,
        520,
    )
    assert str(summary.total_cost_usd) == "0.0162"
    assert seed.printed == [f"[Profiler] Session {session_id} complete. Cost: $0.0162"]
    # Pillar 3: events off the loop's thread, in order, with session and time
    assert [topic for topic, _ in published] == ["agent.tool_invoked", "agent.session_complete"]
    assert all(payload["session_id"] == session_id and payload["timestamp"] for _, payload in published)
    assert (published[1][1]["cost"], published[1][1]["steps"]) == (pytest.approx(0.0162), 1)
    # Pillar 4: the trace of the session, and where its reasons come from
    trace = seed.ledger.get_trace(session_id)
    assert [(entry.step, entry.type, entry.detail) for entry in trace] == [
        (0, "reasoning", "Model generated response"),
        (0, "tool_selection", "Selected search_web"),
        (1, "reasoning", "Model generated response"),
        (1, "final_response", "Agent completed task"),
    ]
    assert {entry.basis for entry in trace} == {"inferred"}
    assert len((tmp_path / "logs" / "decisions.jsonl").read_text().splitlines()) == 4


def test_an_exception_that_leaves_the_seeds_loop_loses_nothing_of_what_was_told(tmp_path: Path) -> None:
    overloaded = Reply(fail=ScriptedFailure())
    with MessagesServer([LOOK, overloaded]) as server:
        seed = Seed(tmp_path, server)
        with pytest.raises(anthropic.APIStatusError):
            asyncio.run(seed.run_agent("How was Q3?"))
    for system in (seed.dispatcher, seed.tool_recorder, seed.profiler, seed.ledger):
        system.close()
    (summary,) = seed.profiler.records
    assert (summary.calls, summary.total_input_tokens) == (1, 1200)
    assert len(seed.tool_recorder.records()) == 1
    assert len(AuditLedger.read(tmp_path / "decisions.jsonl").get_trace(seed.session_id)) == 2
