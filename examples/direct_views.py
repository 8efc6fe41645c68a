"""Views told directly, by a loop that only wants records: steps, tools, costs, and metrics of many invocations."""

from agentkit_loop import RunContext
from agentkit_reporting import InvocationMetricsCollector, SessionProfiler, StepLog, ToolRecorder, UsageStore

context = RunContext.start()
run_id = str(context.run_id)
recorder = ToolRecorder("logs/tools.jsonl", allow={"search": ["query"]})
profiler = SessionProfiler("logs/sessions.jsonl", budget=2.0, on_budget=print)
store = UsageStore("logs/usage.jsonl")


@recorder.tool
def search(query: str, token: str) -> list[str]:
    """Search for documents; who asks is nobody's business."""
    return [f"{query}: first", f"{query}: second"][: len(token)]


with context, profiler.session(run_id) as span, StepLog(f"logs/{run_id}.jsonl", run_id=run_id) as log:
    span.record_tokens(1200, 340, cost=0.0087)
    log.record_llm_call(
        model="claude-sonnet-5-5", input_tokens=1200, output_tokens=340, stop_reason="tool_use"
    )
    found = search("Q3 revenue", token="t0p-s3cret")
    log.record_tool_call(tool="search", input={"query": "Q3 revenue"}, output=found, duration_ms=240)
    store.record(run_id, model="claude-sonnet-5-5", input_tokens=1200, output_tokens=340, cost="0.0087")
    print(
        f"{log.summarize().total_steps} steps, {span.total_cost_usd} USD, {store.cost_for_run(run_id)} in the store"
    )

(call,) = recorder.records()
print(call.args, call.status, call.result_preview)
with InvocationMetricsCollector("metrics") as collector:
    for number, tier in enumerate(("small", "large"), 1):
        collector.record(
            {
                "invocation_id": f"inv-{number}",
                "agent": "planner",
                "phase": 1,
                "task_id": "t-7",
                "duration_ms": 1500.0,
                "tokens": 1540,
                "cost": 0.0087,
                "exit_code": number - 2,
                "success": number == 2,
                "attempt": number,
                "output_parsed": number == 2,
                "tier": tier,
                "timestamp": f"2026-05-24T18:40:0{number}Z",
                "error_class": "overloaded" if number == 1 else None,
            }
        )
    figures = collector.compute_aggregate()
    print(figures.infra_retries, "infrastructure retry,", figures.escalation_count, "escalation,", end=" ")
    print("peak", figures.peak_parallel_invocations, "costs by phase", figures.as_json()["cost_by_phase"])
