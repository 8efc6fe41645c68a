"""The events of a run's course: its life, input, streaming, the model, and what it used."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from agentkit_loop.content import AnyDelta, Item, Parent, ToolSpec
from agentkit_loop.events.base import AgentEvent
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage
from agentkit_loop.values import JSON

# --- Lifecycle


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunStarted(AgentEvent, category="Lifecycle"):
    """A driver starts over a session; first event of its run.

    agent_name: as configured. model: the model asked for. system: the system prompt, None without one.
    tools: what the model is told of. parameters: further request parameters. items: the preloaded
    transcript, empty on a resume. parent: who started this sub-agent. resumed_run, resumed_after: the run
    that this one goes on from, and the last sequence number of it that counts. metadata: the host's own.
    """

    agent_name: str
    model: str
    system: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    parameters: dict[str, JSON] = attrs.field(factory=dict)
    items: tuple[Item, ...] = ()
    parent: Parent | None = None
    resumed_run: str | None = None
    resumed_after: int | None = None
    metadata: dict[str, JSON] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TurnStarted(AgentEvent, category="Lifecycle"):
    """A step of the exchange begins: one model answer and its tools; first event of its turn.

    index: number of the turn within its exchange, from 1.
    """

    index: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TurnFinished(AgentEvent, category="Lifecycle"):
    """The exchange has ended; once for each, after its last turn.

    finish_reason: why, see FINISH_REASONS. usage: sum over the exchange's requests, for people: nobody adds
    it. item_count: length of the transcript now. duration_ms: since the exchange's first TurnStarted,
    monotonic; None where the exchange began in an earlier run.
    """

    finish_reason: str
    usage: Usage
    item_count: int
    duration_ms: float | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunFinished(AgentEvent, category="Lifecycle"):
    """The run ended as intended.

    outcome: completed, or suspended with work left open. usage: sum over the run's requests, for people.
    duration_ms: since RunStarted, monotonic. open_approvals, open_auths: ids that still wait.
    observers: what was counted for each observer.
    """

    outcome: Literal["completed", "suspended"]
    usage: Usage
    duration_ms: float | None = None
    open_approvals: tuple[str, ...] = ()
    open_auths: tuple[str, ...] = ()
    observers: tuple[ObserverStats, ...] = ()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CancelRequested(AgentEvent, category="Lifecycle"):
    """Somebody asked to end the exchange; told once, before anything is closed.

    reason: why, None if not said. by: who, None if not said.
    """

    reason: str | None = None
    by: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunFailed(AgentEvent, category="Lifecycle"):
    """The run ended by an error: of the model, of an observer under FAIL_FAST, or of the host.

    error: what happened. usage: sum over the run's requests, for people. duration_ms: since RunStarted.
    """

    error: ErrorInfo
    usage: Usage
    duration_ms: float | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunCancelled(AgentEvent, category="Lifecycle"):
    """The run was interrupted: Ctrl-C, a cancelled task, SystemExit from a tool.

    reason: what interrupted it. usage: sum over the run's requests, for people. duration_ms: since
    RunStarted.
    """

    reason: str
    usage: Usage
    duration_ms: float | None = None


RUN_ENDS: Final = (RunFinished, RunFailed, RunCancelled)
"""The events of which exactly one ends each run."""


# --- Input


@attrs.frozen(kw_only=True, eq=False, repr=False)
class InputAccepted(AgentEvent, category="Input"):
    """Input was submitted; told inside `submit()`.

    items: what was submitted, with their ids.
    """

    items: tuple[Item, ...]


# --- Streaming


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ContentDelta(AgentEvent, category="Streaming"):
    """A fragment of an answer.

    request_id: the request that it belongs to. delta: begin, append or commit of a part.
    """

    request_id: str
    delta: AnyDelta


# --- Model


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelRequestStarted(AgentEvent, category="Model"):
    """A request to the model begins; the driver sends it after this event was told.

    request_id: new for every attempt. attempt: 1 for the first. purpose: turn, or compaction (whose answer
    joins no transcript). model: the model asked for. message_count: items sent. digests: `tools`, `system`,
    `settings`, `messages`: what was sent, as hashes; that of the messages is chained item by item.
    """

    request_id: str
    attempt: int
    purpose: Literal["turn", "compaction"]
    model: str
    message_count: int
    digests: dict[str, str]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelRequestRetrying(AgentEvent, category="Model"):
    """A failed request will be made again after a pause.

    request_id: the failed request. delay_ms: the pause. next_attempt: number of the coming attempt.
    """

    request_id: str
    delay_ms: float
    next_attempt: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelRequestFinished(AgentEvent, category="Model"):
    """The model answered; the committed parts of the request join the transcript as one item.

    request_id: which request. finish_reason: see FINISH_REASONS; unknown words of a provider are kept.
    response_id, response_model: the provider's. first_content_ms, duration_ms: since ModelRequestStarted,
    monotonic; first_content_ms is None where nothing was streamed.
    """

    request_id: str
    finish_reason: str
    response_id: str | None = None
    response_model: str | None = None
    first_content_ms: float | None = None
    duration_ms: float | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelRequestFailed(AgentEvent, category="Model"):
    """The request failed; its parts are dropped, the usage that it reported counts.

    request_id: which request. error: what happened. error_class: rate_limited, overloaded, timeout,
    connection, server, stream_cut, context_exceeded, invalid_request, auth, process_ended or other.
    retry_after_ms: what the provider asked to wait. duration_ms: since ModelRequestStarted, monotonic.
    """

    request_id: str
    error: ErrorInfo
    error_class: str
    retry_after_ms: float | None = None
    duration_ms: float | None = None


# --- Usage


@attrs.frozen(kw_only=True, eq=False, repr=False)
class UsageUpdated(AgentEvent, category="Usage"):
    """What a request used so far; replaces earlier ones of the same request, adds across requests.

    request_id: which request. model: which model is billed. usage: the counts. cost: None where the model
    has no known price or nothing is known to be billed. final: the provider's last word, exactly once for
    a finished request.
    """

    request_id: str
    model: str
    usage: Usage
    cost: Cost | None = None
    final: bool = False
