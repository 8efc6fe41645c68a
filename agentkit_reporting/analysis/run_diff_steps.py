"""From the steps of a step log to an outline; it tells of calls and figures, not of texts, settings and input."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation

from agentkit_loop.models.anthropic_stream import FINISH_REASONS
from agentkit_loop.usage import EXACT_SUMS, Usage, can_be_added
from agentkit_reporting.analysis.run_diff_outline import Content, ModelAnswer, Outline, ToolUse, known_ms
from agentkit_reporting.records.step_records import LlmCallStep, ToolCallStep
from agentkit_reporting.records.step_runs import RunSteps, by_run

__all__ = ["outlines_of_steps"]


def outlines_of_steps(steps: RunSteps) -> dict[str, Outline]:
    """Return the outlines of the runs of a step log, by run id."""
    return {run_id: _outline(run_id, run) for run_id, run in by_run(steps).items()}


def _outline(run_id: str, run: RunSteps) -> Outline:
    outline = Outline(session_id=run_id, is_whole=False)
    for header in run.headers:
        outline.began = outline.began or _time_of(header.ts)
        outline.agent = outline.agent or header.agent_name
    turns: set[str | None] = set()
    for number, step in enumerate(run.steps):
        if isinstance(step, LlmCallStep):
            turns.add(step.turn_id or f"step {number}")
            _answer(outline, step)
        else:
            _call(outline, step)
    outline.counts["runs"] = 1
    outline.counts["turns"] = len(turns)
    outline.duration_ms = known_ms(run.summarize(run_id).duration_ms)
    return outline


def _time_of(ts: float) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(ts, dt.UTC)
    except (OverflowError, OSError, ValueError):  # somebody wrote it into a log
        return None


def _answer(outline: Outline, step: LlmCallStep) -> None:
    outline.counts["requests"] += 1
    outline.counts["retries"] += step.attempt > 1
    outline.models.setdefault(step.model)
    usage = Usage(
        input_tokens=step.input_tokens,
        cached_input_tokens=step.cached_input_tokens,
        cache_write_input_tokens=step.cache_write_input_tokens,
        cache_write_1h_input_tokens=step.cache_write_1h_input_tokens,
        output_tokens=step.output_tokens,
        reasoning_tokens=step.reasoning_tokens,
    )
    outline.usage += usage
    took_ms = known_ms(step.duration_ms)
    if took_ms is not None:
        outline.model_ms = (outline.model_ms or 0.0) + took_ms
    amount = _amount(step)
    if amount is not None:
        currency = step.currency or "USD"
        outline.costs[currency] = EXACT_SUMS.add(outline.costs.get(currency, Decimal(0)), amount)
    if step.error is not None:
        outline.counts["failed_requests"] += 1
        outline.failures.append(
            f"request failed: {step.error_class or step.error_type or 'error'}: {step.error}"
        )
        outline.unpriced += amount is None and usage.total_tokens is not None
        return
    outline.unpriced += amount is None
    outline.unknown_usage += usage.total_tokens is None
    if step.purpose == "turn":
        reason = step.stop_reason or "unknown"
        answer = ModelAnswer(
            turn_id=step.turn_id,
            seq=step.step,
            text=None,
            finish_reason=FINISH_REASONS.get(reason, reason),
        )
        outline.steps.append(answer)


def _call(outline: Outline, step: ToolCallStep) -> None:
    use = ToolUse(
        tool=step.tool,
        turn_id=step.turn_id,
        seq=step.step,
        call_id=step.call_id,
        arguments=Content(step.input),
        result=Content(step.output if step.error is None or step.output is not None else step.error),
        outcome=step.status,
        error=step.error_type or "",
        duration_ms=known_ms(step.duration_ms),
    )
    if step.error is not None and step.status == "ok":
        use.outcome = "error"
    outline.steps.append(use)


def _amount(step: LlmCallStep) -> Decimal | None:
    try:
        amount = None if step.cost is None else Decimal(step.cost)
    except InvalidOperation:
        return None
    return amount if amount is not None and can_be_added(amount) else None
