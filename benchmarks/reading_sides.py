"""Both sides of the report, each in a process of its own: `python -m benchmarks.reading_sides report|duckdb LOG`.

Prints the figures as JSON, and on stderr what the process took: CPU seconds of all its threads, from its start, and the
most memory that it held. The question is what `agentkit report` prints of a log: runs by outcome, their durations,
tokens and cost by agent and phase, requests by model, calls by tool, what was retried for, how many ran at once.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["QUESTION", "main"]

_ENDS: Final = "('run_finished', 'run_failed', 'run_cancelled')"
_SHARES: Final = "[0.5, 0.95, 0.99]"
_USAGE: Final = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")
_COLUMNS: Final = f"""{{
    seq: 'BIGINT', ts: 'TIMESTAMP', type: 'VARCHAR', session_id: 'VARCHAR', run_id: 'VARCHAR',
    payload: 'STRUCT(
        request_id VARCHAR, model VARCHAR, agent_name VARCHAR, name VARCHAR, error_class VARCHAR, is_error BOOLEAN,
        duration_ms DOUBLE, metadata STRUCT(phase VARCHAR),
        usage STRUCT({", ".join(f"{name} BIGINT" for name in _USAGE)}), cost STRUCT(amount DECIMAL(18, 9)))'
}}"""

QUESTION: Final = f"""
WITH events AS MATERIALIZED (
    SELECT * FROM read_json($log, columns={_COLUMNS}, format='newline_delimited', ignore_errors=true)
    WHERE type IN ('run_started', 'model_request_started', 'usage_updated', 'model_request_finished',
        'model_request_failed', 'model_request_retrying', 'tool_result_received', {_ENDS[1:-1]})
), requests AS (
    SELECT session_id, run_id, payload.request_id AS id, any_value(payload.model) AS model,
        any_value(payload.error_class) AS error_class,
        bool_or(type = 'model_request_failed') AS failed,
        bool_or(type = 'model_request_retrying') AS retried,
        max(payload.duration_ms) FILTER (type = 'model_request_finished') AS ms,
        arg_max(payload.usage, seq) FILTER (type = 'usage_updated') AS usage,
        arg_max(payload.cost.amount, seq) FILTER (type = 'usage_updated') AS cost
    FROM events WHERE payload.request_id IS NOT NULL GROUP BY ALL
), by_model AS (
    SELECT model AS key, count(*) AS calls, count(*) FILTER (failed) AS failed,
        count(*) FILTER (retried) AS retried, quantile_cont(ms, {_SHARES}) AS ms,
        {", ".join(f"sum(usage.{name})::BIGINT AS {name}" for name in _USAGE)}, sum(cost)::VARCHAR AS cost
    FROM requests GROUP BY ALL
), by_tool AS (
    SELECT payload.name AS key, count(*) AS calls, count(*) FILTER (payload.is_error) AS failed,
        quantile_cont(payload.duration_ms, {_SHARES}) AS ms
    FROM events WHERE type = 'tool_result_received' GROUP BY ALL
), spent AS (
    SELECT session_id, run_id, sum(cost) AS cost, sum({" + ".join(f"usage.{name}" for name in _USAGE)}) AS tokens
    FROM requests GROUP BY ALL
), runs AS (
    SELECT session_id, run_id, any_value(payload.agent_name) AS agent,
        any_value(payload.metadata.phase) AS phase, min(ts) FILTER (type = 'run_started') AS began,
        any_value(type) FILTER (type IN {_ENDS}) AS how,
        max(payload.duration_ms) FILTER (type IN {_ENDS}) AS ms
    FROM events WHERE type = 'run_started' OR type IN {_ENDS} GROUP BY ALL
), told AS (SELECT * FROM runs JOIN spent USING (session_id, run_id)
), by_group AS (
    SELECT agent, phase, count(*) AS runs, count(*) FILTER (how = 'run_failed') AS failed,
        count(*) FILTER (how = 'run_cancelled') AS cancelled, quantile_cont(ms, {_SHARES}) AS ms,
        sum(tokens)::BIGINT AS tokens, sum(cost)::VARCHAR AS cost
    FROM told GROUP BY GROUPING SETS ((agent), (phase), ())
), steps AS (
    SELECT began AS ts, 1 AS step FROM runs
    UNION ALL SELECT began + to_microseconds((ms * 1000)::BIGINT), -1 FROM runs
), parallel AS (
    SELECT sum(step) OVER (ORDER BY ts, step ROWS UNBOUNDED PRECEDING) AS runs FROM steps
), retried AS (SELECT error_class AS key, count(*) AS requests FROM requests WHERE retried GROUP BY ALL)
SELECT
    (SELECT list(by_model ORDER BY key) FROM by_model),
    (SELECT list(by_tool ORDER BY key) FROM by_tool),
    (SELECT list(by_group ORDER BY agent, phase) FROM by_group),
    (SELECT list(retried ORDER BY key) FROM retried),
    (SELECT max(runs)::BIGINT FROM parallel)
"""  # noqa: S608 - of our own names only
"""What an engineer would ask of a log in SQL, to be told what the report tells."""


def main(side: str, log: str) -> None:
    """Print the figures, and what they took."""
    if side == "duckdb":
        print(json.dumps(_asked_of_duckdb(log)))
    else:
        from agentkit_reporting.cli import main as agentkit  # noqa: PLC0415 - one side does not load the other

        try:
            agentkit(["report", "--json", log])
        except SystemExit as exit_:
            if exit_.code:
                raise
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": _peak_mb()}), file=sys.stderr)


def _asked_of_duckdb(log: str) -> dict[str, Any]:
    import duckdb  # noqa: PLC0415 - one side does not load the other

    found = duckdb.connect().execute(QUESTION, {"log": log}).fetchall()
    return dict(zip(("models", "tools", "groups", "retried", "parallel"), found[0], strict=True))


def _peak_mb() -> float:
    """Return the most memory held, of this program alone: `ru_maxrss` counts what was there before it as well."""
    status = Path("/proc/self/status")
    if status.exists():
        told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if told is not None:
            return int(told[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 if sys.platform != "darwin" else 2**20)


if __name__ == "__main__":
    main(*sys.argv[1:])
