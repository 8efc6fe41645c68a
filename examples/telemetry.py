"""Four views of a loop that somebody else wrote: its tools, its cost, its events and its decisions, on one stream."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import anthropic

from agentkit_loop import EventEmitter, Usage
from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall
from agentkit_reporting import (
    AuditLedger,
    EventDispatcher,
    JsonlReporter,
    SessionProfiler,
    ToolRecorder,
    check_log,
)

TOOLS: list[Any] = [
    {
        "name": "search_web",
        "description": "Search the web",
        "input_schema": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        },
    }
]
logs = Path(mkdtemp())
log = JsonlReporter(logs / "run.jsonl")
tools = ToolRecorder(logs / "tools.jsonl")
costs = SessionProfiler(on_close=lambda s: print(f"session: ${s.total_cost_usd} in {s.calls} calls"))
dispatcher = EventDispatcher(async_dispatch=True)
ledger = AuditLedger(logs / "decisions.jsonl")


@dispatcher.on("agent.tool_invoked")
def count_tools(payload: dict[str, Any]) -> None:
    """Be told of each call, on the dispatcher's thread."""
    print("tool:", payload["tool"], payload["args"])


def search_web(query: str) -> str:
    """Search the web."""
    return f"Results for {query}"


def run_agent(client: anthropic.Anthropic, question: str) -> str:
    """Answer a question; the loop is yours, and tells what it does."""
    messages: list[Any] = [{"role": "user", "content": question}]
    with (
        EventEmitter([log, tools, costs, dispatcher, ledger]) as emitter,
        emitter.run(agent_name="searcher", model="claude-sonnet-5-5", tools=TOOLS) as run,
    ):
        while True:
            with run.model_call(messages=messages) as call:
                response = client.messages.create(
                    model="claude-sonnet-5-5", max_tokens=4096, tools=TOOLS, messages=messages
                )
                call.record(response)
            results = []
            for block in response.content:
                if block.type == "tool_use":
                    with run.tool_call(block) as body:
                        found = body.result(search_web(str(block.input["query"])))
                    results.append({"type": "tool_result", "tool_use_id": block.id, "content": found})
            messages.append({"role": "assistant", "content": response.content})
            if not results:
                return "".join(block.text for block in response.content if block.type == "text")
            messages.append({"role": "user", "content": results})


look = Reply(
    reasoning="I do not know the figures.",
    calls=(ScriptedCall(name="search_web", input={"query": "Q3 revenue"}),),
    usage=Usage(input_tokens=1200, output_tokens=340),
)
done = Reply(text="Revenue grew.", usage=Usage(input_tokens=1600, output_tokens=180))
with (
    MessagesServer([look, done]) as server,  # in place of the provider
    anthropic.Anthropic(base_url=server.base_url, api_key="any", max_retries=0) as client,
):
    print(run_agent(client, "How was Q3?"))
dispatcher.close()
(tool,) = tools.records()
print(f"{tool.tool_name}({tool.args}) {tool.status}: {tool.result_preview}")
(session_id,) = ledger.session_ids
for entry in ledger.get_trace(session_id):
    print(f"step {entry.step}: {entry.type} ({entry.basis}): {entry.detail}")
print(check_log(logs / "run.jsonl"))
