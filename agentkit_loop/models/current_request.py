"""Which request of the events is being sent here: for what sits between the SDK and the wire, such as a capture.

`AnthropicModel` says so only while it sends a request and waits for the head of its response, a hand-written loop
within `with run.model_call(…)`. It holds for the thread or task that sends, and is never left set across a yield of
a stream.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

import msgspec

from agentkit_loop.models.protocol import ModelRequest

__all__ = ["CurrentRequest", "Sender", "Within", "sending", "sent_now"]


class CurrentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a request in the events, and which attempt it is; None where whoever sends it does not know."""

    request_id: str
    session_id: str | None = None
    run_id: str | None = None
    turn_id: str | None = None
    attempt: int | None = None


class Sender(Protocol):
    """Who sends a request and knows whether it is over."""

    @property
    def is_open(self) -> bool:
        """Whether the request has begun and not ended."""


def sent_now() -> CurrentRequest | None:
    """Return the request that is being sent here, None where nobody said so."""
    frame = _open_frame()
    return None if frame is None else frame.request


@contextlib.contextmanager
def sending(request: ModelRequest) -> Iterator[None]:
    """Let what is sent within count as this request's; the body must not yield to others."""
    named = CurrentRequest(
        request_id=request.request_id,
        session_id=request.session_id,
        run_id=request.run_id,
        turn_id=request.turn_id,
        attempt=request.attempt,
    )
    with Within(named):
        yield


class Within:
    """A context manager within which a request is the current one, entered once.

    It may be left in another thread or task than entered: wherever it was seen, it then is the current one no more.
    sender: who is asked whether the request is over, and is not kept alive by this: where it was never left, as by
    whoever gave up a scope, the request ends with its run, or with the last that knows the sender.
    """

    def __init__(self, request: CurrentRequest, sender: Sender | None = None) -> None:
        self.request = request
        self._is_left = False
        self._sender = None if sender is None else weakref.ref(sender)
        self.outer: Within | None = None

    def __enter__(self) -> Self:
        self.outer = _open_frame()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not by a token: that could only be given back in the very task or thread that entered.
        self._is_left = True
        if _current.get() is self:
            _current.set(self.outer)

    @property
    def is_over(self) -> bool:
        """Whether nothing is sent for it any more."""
        if self._is_left or self._sender is None:
            return self._is_left
        sender = self._sender()
        return sender is None or not sender.is_open


def _open_frame() -> Within | None:
    """Return the innermost that is not over; a task that began within one has it in its context for good."""
    frame = _current.get()
    while frame is not None and frame.is_over:
        frame = frame.outer
    return frame


_current: contextvars.ContextVar[Within | None] = contextvars.ContextVar("agentkit_sent_now", default=None)
