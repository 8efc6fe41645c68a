"""Every error that this project raises; the class says who is to blame.

AgentKitError
├── HostError                  the calling program used the library wrongly
│   ├── IllegalMoveError       a signal that the loop's state does not allow; the state is as it was
│   └── ConfigurationError     a wrong option, tool definition or combination
├── ModelRequestError          one request failed; raised by model adapters, retried by the loop
│   └── ReplayMismatchError    a replayed session does something else than the recorded one; says what and where
├── ModelError                 the model failed for good; carries what the session has so far
├── ObserverError              an observer under FAIL_FAST raised; the original is its cause
├── InnerObserverError         observers behind an adapter raised; the loop judges each as if it were registered
├── RedactionError             an event that could not be scrubbed, so that it is not passed on
├── ResumeError                the events of a session do not fit together, so that nothing goes on with them
└── LogError                   a log that cannot be read or written, with its path and line

A test compares this drawing with the classes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentkit_loop.content import Item
    from agentkit_loop.observers import InnerFailure
    from agentkit_loop.usage import ErrorInfo, Usage

RETRYABLE_CLASSES = frozenset({"rate_limited", "overloaded", "timeout", "connection", "server", "stream_cut"})
"""Failures of a request that another attempt may mend (DESIGN: `ModelRequestFailed.error_class`)."""

ERROR_CLASSES = RETRYABLE_CLASSES | {"context_exceeded", "invalid_request", "auth", "process_ended", "other"}
"""All values of `ModelRequestFailed.error_class`."""

_KIND_OF_EVENT = re.compile(r"events\[(\d+)\]\.type")


class AgentKitError(Exception):
    """Base of every error raised by agentkit."""


class HostError(AgentKitError):
    """The calling program used the library wrongly; the text says what would work."""


class IllegalMoveError(HostError):
    """A signal that the state does not allow: `<signal> refused while <state>; <what would work>`."""

    def __init__(self, signal: str, state: str, remedy: str) -> None:
        self.signal = signal
        self.state = state
        self.remedy = remedy
        super().__init__(f"{signal} refused while {state}; {remedy}")


class ConfigurationError(HostError):
    """A wrong option, tool definition or combination of them."""


class ModelRequestError(AgentKitError):
    """One request to a model failed.

    error_class: one of ERROR_CLASSES; decides whether the loop asks again.
    retry_after_ms: how long the provider asks to wait, None where it did not say.
    request_id: the provider's id of the failed request, for its support, None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        error_class: str = "other",
        retry_after_ms: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        if error_class not in ERROR_CLASSES:
            raise ConfigurationError(
                f"unknown error class {error_class!r}; use one of {', '.join(sorted(ERROR_CLASSES))}"
            )
        self.error_class = error_class
        self.retry_after_ms = retry_after_ms
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether another attempt may succeed."""
        return self.error_class in RETRYABLE_CLASSES


class ReplayMismatchError(ModelRequestError):
    """A replay came to where it differs from what was recorded; nothing mends that but the same configuration.

    path: where, such as `messages[4].content[1].text`, or `events[20].type` for an event of another kind.
    recorded, now: both values as they are shown, printable and bounded; of long texts the part around the first
    difference, of an event its type, with its tool and call. event_seq: of an event of another kind, else None.
    """

    def __init__(self, path: str, *, recorded: str, now: str) -> None:
        kind = _KIND_OF_EVENT.fullmatch(path)
        place = path if kind is None else f"event {kind[1]}"
        super().__init__(f"{place}: recorded {recorded}, now {now}", error_class="invalid_request")
        self.path = path
        self.event_seq = None if kind is None else int(kind[1])
        self.recorded = recorded
        self.now = now


class ModelError(AgentKitError):
    """The model failed and no attempt is left; the run has ended with RunFailed.

    error: what the last attempt said. error_class: one of ERROR_CLASSES. items: the transcript so far.
    usage: what the run used so far. session_id: with which a log can be resumed.
    """

    def __init__(
        self,
        message: str,
        *,
        error: ErrorInfo,
        error_class: str,
        items: tuple[Item, ...],
        usage: Usage,
        session_id: str,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.error_class = error_class
        self.items = items
        self.usage = usage
        self.session_id = session_id


class ObserverError(AgentKitError):
    """An observer under FAIL_FAST raised; `__cause__` is the original error."""

    def __init__(self, observer: str, event_seq: int, event_type: str) -> None:
        super().__init__(f"observer {observer} failed on event {event_seq} ({event_type})")
        self.observer = observer
        self.event_seq = event_seq
        self.event_type = event_type


class InnerObserverError(AgentKitError):
    """Observers behind an adapter raised, now or since its last event; `failures` has each, oldest first."""

    def __init__(self, failures: tuple[InnerFailure, ...]) -> None:
        first = failures[0]
        more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        super().__init__(
            f"observer {first.name} failed on event {first.event.seq} ({first.event.type}){more}"
        )
        self.failures = failures


class ResumeError(AgentKitError):
    """The events of a session do not fit together; the text says what and where."""


class RedactionError(AgentKitError):
    """An event that could not be scrubbed, and so was not passed on; the text quotes nothing of it."""


class LogError(AgentKitError):
    """A log cannot be read or written. `path` names it; `line` is 1-based, None for the whole file."""

    def __init__(self, message: str, *, path: str, line: int | None = None) -> None:
        place = path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {message}")
        self.path = path
        self.line = line
