"""One call of an instrumented function while it runs: what comes of it is told as the events of its run."""

from __future__ import annotations

import contextvars
from pathlib import Path
from typing import Protocol

import msgspec

from agentkit_loop.closing import INTERRUPTED
from agentkit_loop.errors import ObserverError
from agentkit_loop.scope_calls import ToolCallScope
from agentkit_loop.scope_records import AsJson
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, compact_json
from agentkit_reporting.records import instrumenting
from agentkit_reporting.records.instrumenting import json_of
from agentkit_reporting.records.tool_records import SPARE_CHARS, CallRules, beginning

__all__ = ["CallBook", "OpenTelling"]

_WRAPPERS = f"{'/'.join(Path(instrumenting.__file__).parts[-2:])}:"
"""How the frames of the functions in instrumenting.py begin."""


class CallBook(Protocol):
    """Keeps which calls were told here."""

    def note_begun(self, call: tuple[str, str, str]) -> None:
        """Take note of a call that was told here."""

    def note_ended(self, session_id: str, call: tuple[str, str, str] | None) -> None:
        """Take note that it is over."""

    def note_missed(self, error: Exception) -> None:
        """Take note of a call, or its end, that could not be told."""


class OpenTelling:
    """Tells the beginning of a call and, once, its end. Raises nothing but ObserverError, for a FAIL_FAST."""

    __slots__ = ("_book", "_items", "_key", "_monotonic", "_rules", "_scope", "_session_id", "_started")

    def __init__(self, book: CallBook, session_id: str, scope: ToolCallScope, rules: CallRules) -> None:
        self._book = book
        self._session_id = session_id
        self._scope = scope
        self._rules = rules
        self._items: Yielded | None = None
        self._key: tuple[str, str, str] | None = None
        self._monotonic = scope.clock.monotonic
        self._started = 0.0

    def begin(self, *, detached: bool) -> None:
        """Tell that the body starts. detached: its caller goes on before it ends, and is not within the call."""
        if detached:
            contextvars.copy_context().run(self._scope.__enter__)
            self._items = Yielded(self._rules)
        else:
            self._scope.__enter__()
        self._key = self._scope.place
        self._book.note_begun(self._key)
        self._started = self._monotonic()

    def detach(self) -> None:
        """Let the body go on later, maybe elsewhere."""
        self._scope.leave_context()
        self._items = Yielded(self._rules)

    def yielded(self, item: object) -> None:
        """Take note of an item of a generator."""
        if self._items is not None:
            self._items.add(item)

    def exhausted(self) -> None:
        """Tell that a generator came to its end."""
        took_ms = self._took_ms()
        try:
            self._tell(None if self._items is None else self._items.output(), took_ms=took_ms)
        except ObserverError:
            raise
        except Exception as error:  # noqa: BLE001 - it is no trouble of the tool's
            self._book.note_missed(error)
        finally:
            self._leave()

    def returned(self, result: object) -> None:
        """Tell what the body gave."""
        took_ms = self._took_ms()
        try:
            self._tell(self._rules.output(json_of(result)), took_ms=took_ms)
        except ObserverError:
            raise
        except Exception as error:  # noqa: BLE001 - it is no trouble of the tool's
            self._book.note_missed(error)
        finally:
            self._leave()

    def failed(self, error: BaseException) -> None:
        """Tell what the body raised; a FAIL_FAST gives way to that."""
        took_ms = self._took_ms()
        try:
            info = self._rules.error(_described(error))
            is_cut = not isinstance(error, Exception)
            items = self._items
            if is_cut and items is not None and items.count:
                output = items.output()
            elif is_cut:
                output = INTERRUPTED
            else:
                output = info.message if info.message == info.type else f"{info.type}: {info.message}"
            self._tell(output, took_ms=took_ms, error=info, interrupted=is_cut)
        except Exception as trouble:  # noqa: BLE001 - the tool's own error goes on
            self._book.note_missed(trouble)
        finally:
            self._leave()

    def _took_ms(self) -> float:
        return (self._monotonic() - self._started) * 1e3

    def _tell(
        self,
        output: JSON,
        *,
        took_ms: float,
        error: ErrorInfo | None = None,
        interrupted: bool = False,
    ) -> None:
        self._scope.result(AsJson(output), error=error, interrupted=interrupted, duration_ms=took_ms)

    def _leave(self) -> None:
        self._scope.leave_context()
        self._book.note_ended(self._session_id, self._key)


def _described(error: BaseException) -> ErrorInfo:
    """Return an error as data, without the frames of the functions that stand in place of the tools."""
    info = ErrorInfo.of(error)
    frames = tuple(frame for frame in info.frames if not frame.startswith(_WRAPPERS))
    return msgspec.structs.replace(info, frames=frames)


class Yielded:
    """The first items of a generator: as many as a preview shows, and some that a secret may go on in."""

    def __init__(self, rules: CallRules) -> None:
        self._rules = rules
        self._left = rules.preview_chars + 4 * SPARE_CHARS
        self._items: list[JSON] = []
        self.count = 0

    def add(self, item: object) -> None:
        """Take one item; beyond the bound it is only counted."""
        self.count += 1
        if self._left <= 0:
            return
        told = json_of(item[: self._left + 1] if isinstance(item, str) else item)
        text = told if isinstance(told, str) else compact_json(told)
        self._items.append(told if len(text) <= self._left else beginning(told, self._left))
        self._left -= len(text) + 1

    def output(self) -> JSON:
        """Return the items as they may be told, and how many more there were."""
        if self._left > 0:
            return self._rules.value(_joined(self._items, self._rules))
        # What was not taken may go on with a secret that begins in what was.
        told: list[JSON] = self._rules.value(_joined(self._items, self._rules, unsure=SPARE_CHARS))
        sure = len(compact_json(told)) - SPARE_CHARS
        shown: list[JSON] = beginning(told, min(self._rules.preview_chars, max(sure, 0)))
        left_out = self.count - len(shown)
        return [*shown, f"… [{left_out:,} more items]" if left_out else "…"]


_Path = tuple[str, ...]


def _joined(items: list[JSON], rules: CallRules, *, unsure: int = 0) -> list[JSON]:
    """Return the items; where texts at the same place have a secret in pieces, the first is all of them.

    unsure: characters at the end of such a text that are left out.
    """
    texts: dict[_Path, list[str]] = {}
    for item in items:
        _gather(item, (), texts)
    masked: dict[_Path, list[str]] = {}
    for path, pieces in texts.items():
        whole = "".join(pieces)
        shown = rules.value(whole)
        if len(pieces) > 1 and shown != whole:
            masked[path] = [shown[: max(len(shown) - unsure, 0)]]
    if not masked:
        return items
    told = [_replaced(item, (), masked) for item in items]
    return [item for item in told if item != ""]


def _gather(value: JSON, path: _Path, texts: dict[_Path, list[str]]) -> None:
    if isinstance(value, str):
        texts.setdefault(path, []).append(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            _gather(item, (*path, name), texts)
    elif isinstance(value, list):
        for item in value:
            _gather(item, (*path, ""), texts)


def _replaced(value: JSON, path: _Path, masked: dict[_Path, list[str]]) -> JSON:
    if isinstance(value, str):
        if path not in masked:
            return value
        return masked[path].pop() if masked[path] else ""
    if isinstance(value, dict):
        return {name: _replaced(item, (*path, name), masked) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, (*path, ""), masked) for item in value]
    return value
