"""What a run tells beside its scopes: facts of the host's, and what is over already."""

from __future__ import annotations

import abc
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.scope_calls import ToolCallScope
from agentkit_loop.scope_records import check_facts
from agentkit_loop.scope_requests import ModelCallScope
from agentkit_loop.sdk_values import answer_of
from agentkit_loop.state import LoopState
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import clean_text


class RunFacts(abc.ABC):
    """The part of a RunScope that needs no `with`. state: the fold of what the session has told."""

    state: LoopState
    recorder: int | None = None
    """The thread that tells a request all at once, while it does; a fork may come in between."""

    @abc.abstractmethod
    def told_together(self) -> AbstractContextManager[None]:
        """Keep other threads and Ctrl-C from coming between what is told inside."""

    @abc.abstractmethod
    def tell(self, event: AgentEvent) -> None:
        """Tell one event."""

    @abc.abstractmethod
    def was_told(self, response_id: object) -> bool:
        """Whether an answer of that id was told."""

    @abc.abstractmethod
    def model_call(self, model: str | None = None) -> ModelCallScope:
        """Return the scope of one request to the model."""

    @abc.abstractmethod
    def tool_call(self, call: object, arguments: object = None) -> ToolCallScope:
        """Return the scope of one call of a tool."""

    @abc.abstractmethod
    def cut_request(self) -> None:
        """Tell the end of a request that nobody will finish."""

    def cut_lost_request(self) -> None:
        """End the request that another thread was telling at once: this is the child of a fork, without that thread."""
        if self.state.request is not None and self.recorder is not None and not self.is_recording:
            self.cut_request()

    @property
    def is_recording(self) -> bool:
        """Whether this thread tells a request all at once, which nobody measures."""
        return self.recorder == threading.get_ident()

    def record_model_call(
        self,
        response: object = None,
        *,
        model: str | None = None,
        usage: object = None,
        stop_reason: str | None = None,
        duration_ms: float | None = None,
        cost: object = None,
        error: BaseException | ErrorInfo | str | None = None,
    ) -> None:
        """Tell a request that is over: all its events together.

        response: the SDK's Message; one that was told already is not told again. Without it usage (a Usage, the SDK's,
        or a mapping with the API's names) and stop_reason (as the API says it) say what is known. cost: an amount in
        USD or a Cost, where the host knows it. error: it failed. duration_ms: how long it took, if anybody measured.
        """
        check_facts(usage, cost, error, duration_ms)
        with self.told_together():
            answer = {} if response is None else answer_of(response)
            if self.was_told(answer.get("id")):
                return
            asked = model or answer.get("model")
            scope = self.model_call(None if asked is None else clean_text(str(asked)))
            self.cut_lost_request()
            self.recorder = threading.get_ident()
            try:
                with scope as call:
                    call.note_duration(duration_ms)
                    call.end(response, error, usage=usage, stop_reason=stop_reason, cost=cost)
            finally:
                self.recorder = None

    def record_tool_call(
        self,
        call: object,
        arguments: object = None,
        output: object = None,
        *,
        error: BaseException | ErrorInfo | str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Tell a call of a tool that is over: all its events together.

        call, arguments: as of `tool_call`. error: what went wrong, be its text empty. duration_ms: how long it took,
        where somebody measured.
        """
        check_facts(None, None, error, duration_ms)
        with self.told_together(), self.tool_call(call, arguments) as body:
            if duration_ms is None:
                body.note_unmeasured()
            body.result(output, error=error, duration_ms=duration_ms)

    def decision(
        self, kind: str, detail: str, *, step: int | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Tell what was decided, and why, as CustomEvent `decision`.

        kind: `tool_selection`, `reasoning`, `final_response`, or a word of one's own. step: default: turns before this.
        """
        with self.told_together():
            told = max(self.state.turn_index - 1, 0) if step is None else step
            self.custom("decision", {"step": told, "type": kind, "detail": detail, "metadata": metadata})

    def custom(self, name: str, data: object = None) -> None:
        """Tell a fact of the host's own."""
        self.tell(CustomEvent(name=name, data=data))
