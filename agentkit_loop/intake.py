"""What comes in, checked: a host's content as items, a model's yield as a signal, its error as a fault."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

from agentkit_loop.content import (
    AnyPart,
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    Item,
    Part,
    TextPart,
)
from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.models.protocol import Answer, UsageReport
from agentkit_loop.signals import RequestFault
from agentkit_loop.usage import ErrorInfo, Usage, error_text
from agentkit_loop.values import clean_text, safe_repr

_part_id = operator.attrgetter("part_id")

STREAM_ENDED = "the model's stream ended without its final event"


def checked_signal(signal: object) -> Any:
    """Return what a model yielded, or the fault where it is not what the protocol allows (None: it ended)."""
    match signal:
        case None:
            return fault_of(ModelRequestError(STREAM_ENDED, error_class="stream_cut"))
        case RequestFault() | UsageReport(usage=Usage()) | Answer(finish_reason=str()):
            return signal
        case (
            BeginPart(part_id=str() as part_id)
            | AppendText(part_id=str() as part_id, chunk=str())
            | AppendBytes(part_id=str() as part_id, chunk=bytes())
            | CommitPart(part_id=str() as part_id, part=Part())
        ) if clean_text(part_id) == part_id:
            return signal
        case _:
            told = f"the model adapter broke the protocol: it yielded {safe_repr(signal)}"
            return fault_of(ModelRequestError(told))


class Appends(list[AppendText]):
    """Pieces of text of one part that came one behind the other."""


def grouped(signals: list[Any]) -> Iterator[Any]:
    """Return what came together, with pieces of text that follow each other in one part as Appends.

    Whether that part is open is not looked at. All else is as it came.
    """
    found: list[Any] = []
    for cls, each in itertools.groupby(signals, type):
        if cls is not AppendText:
            found += each
            continue
        run = Appends(each)
        if len(run) == 1 or len(set(map(_part_id, run))) == 1:  # as most are
            found.append(run)
        else:
            found += (Appends(part) for _, part in itertools.groupby(run, _part_id))
    return iter(found)


def fault_of(error: BaseException) -> RequestFault:
    """Return the signal for what a model raised."""
    if isinstance(error, ModelRequestError):
        # Its text says what happened; where our own adapter stood then is no news to anybody.
        request = f" (request {clean_text(error.request_id)})" if error.request_id else ""
        message = f"{error_text(error)}{request}"
        told = ErrorInfo(type="ModelRequestError", message=message, retryable=error.retryable)
        return RequestFault(error=told, error_class=error.error_class, retry_after_ms=error.retry_after_ms)
    return RequestFault(error=ErrorInfo.of(error), error_class="other")


def as_items(content: Iterable[str | AnyPart | Item]) -> tuple[Item, ...]:
    """Make items of what a host gives: texts and parts in a row are one user item; refuses anything else."""
    items: list[Item] = []
    parts: list[AnyPart] = []
    for piece in content:
        if isinstance(piece, Item):
            if parts:
                items.append(Item(kind="user", parts=tuple(parts)))
                parts = []
            items.append(piece)
        elif isinstance(piece, str):
            if piece:  # an empty text says nothing, and a provider refuses it
                parts.append(TextPart(text=clean_text(piece)))
        elif isinstance(piece, Part):
            parts.append(piece)
        else:
            raise ConfigurationError(f"{piece!r} cannot be submitted; give text, parts or Items")
    if parts:
        items.append(Item(kind="user", parts=tuple(parts)))
    return tuple(items)
