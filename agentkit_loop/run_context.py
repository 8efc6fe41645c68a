"""Which run this is, wherever one looks: `with RunContext.start() as context:`.

A context has an id, knows who started it, and is found again by `RunContext.current()`: in everything that is
called inside the `with`, in the tasks begun there (by themselves), in threads (`context.bind(function)`, or
`contextvars.copy_context().run`), in processes that are started with `context.environ()` (by themselves), and
behind HTTP (`context.headers()` and `RunContext.from_headers(…)`). Log records say it: `RunContextFilter` for the
standard library's, `add_run_context` for structlog's.

A run of a loop that begins under a context takes its id; a second one, and one in another process, is a child
with an id of its own. `RunStarted.metadata["run_context"]` says which, see `RunContext.join`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.ids import new_id
from agentkit_loop.late import late_logger, late_pattern
from agentkit_loop.records import FrozenRecord
from agentkit_loop.values import JSON, safe_repr, to_json

P = ParamSpec("P")
R = TypeVar("R")

RUN_CONTEXT_VARIABLE: Final = "AGENTKIT_RUN_CONTEXT"
"""The environment variable that carries a context into another process."""

RUN_CONTEXT_HEADER: Final = "Agentkit-Run-Context"
"""The HTTP header that carries a context to another service."""

LONGEST_CARRIER = 320
"""Characters that a variable or header may have; a longer one is not looked at."""

DEEPEST_CARRIED = 1_000_000
"""The depth of a context from which on another process takes nothing over."""

_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_CARRIER = late_pattern(rf"run=({_ID});root=({_ID});depth=(0|[1-9][0-9]{{0,6}})", re.ASCII)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RunContext(FrozenRecord):
    """One run among those that it belongs to; made by `start`, `child`, `from_environ` or `from_headers`.

    run_id: sorts by time as text; at least 96 bits of it are chance. parent_run_id: of the run that started this one,
    None for the first. root_run_id: of the first; its own where that is this one. depth: 0 for the first. metadata:
    JSON, holds for this context and all below it in this process.
    """

    run_id: str
    parent_run_id: str | None
    root_run_id: str
    depth: int
    metadata: dict[str, JSON] = attrs.field(factory=dict, hash=False)
    _joins: Iterator[int] = attrs.field(factory=itertools.count, init=False, eq=False, repr=False)
    _process: int = attrs.field(factory=os.getpid, init=False, eq=False, repr=False)

    # --- making one

    @classmethod
    def start(cls, metadata: Mapping[str, object] | None = None, *, run_id: str | None = None) -> RunContext:
        """Return a first context, which nobody started, whatever is current.

        run_id: an id from elsewhere, of at most 128 ASCII letters, digits, `.`, `_` and `-`.
        """
        own = new_id("run") if run_id is None else _checked(run_id)
        return cls(
            run_id=own, parent_run_id=None, root_run_id=own, depth=0, metadata=to_json(dict(metadata or {}))
        )

    def child(self, metadata: Mapping[str, object] | None = None) -> RunContext:
        """Return a context that this one starts. metadata: over what this one has."""
        return RunContext(
            run_id=new_id("run"),
            parent_run_id=self.run_id,
            root_run_id=self.root_run_id,
            depth=self.depth + 1,
            metadata={**self.metadata, **to_json(dict(metadata or {}))},
        )

    # --- being the current one

    @classmethod
    def current(cls) -> RunContext | None:
        """Return the context that holds here, None outside of any.

        In a process that was started with `environ()` of a context, what is outside of any is in a child of that one,
        the same in all of the process: its first run of a loop has that child's id, and further ones are its children.
        The environment is looked at once, at the first need.
        """
        frame = _current.get()
        return _inherited() if frame is None else frame.context

    def activate(self) -> Self:
        """Return the context itself, to be entered: `with context.activate():` is `with context:`."""
        return self

    def __enter__(self) -> Self:
        _current.set(_Frame(self, _current.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not by a token: that could only be given back in the very task or thread that entered.
        frame = _current.get()
        while frame is not None and frame.context is not self:
            frame = frame.outer
        if frame is not None:
            _current.set(frame.outer)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function, or coroutine function, with this context current while it runs, in any thread.

        `executor.submit(context.bind(work), item)`. Raises ConfigurationError for a generator function, whose body
        runs where it is iterated.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"generator function {safe_repr(function)} refused; bind the function that iterates over it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value] # what R is says the function itself

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return bound

    # --- runs of loops

    @staticmethod
    def join(metadata: Mapping[str, JSON], run_id: str | None = None) -> tuple[str, dict[str, JSON]]:
        """Return the id and the metadata of a run of a loop that begins here.

        Under a context: the context's id for the first run, then that of a new child for each; and the context's
        metadata under the run's own, with `run_context`: `{"run_id", "parent_run_id", "root_run_id", "depth"}`.
        Without one: a new id, and the metadata as they are. run_id: one that the host gave, which stays.
        """
        context = RunContext.current()
        if context is None:
            return run_id or new_id("run"), dict(metadata)
        own = context._of_run(run_id)  # noqa: SLF001 - a context
        told = {**own._fields(), "depth": own.depth}
        return own.run_id, {**own.metadata, "run_context": told, **metadata}

    def _of_run(self, run_id: str | None) -> RunContext:
        """Return this context for the first run that asks, a child for all others."""
        if run_id is not None and run_id != self.run_id:
            return attrs.evolve(self.child(), run_id=run_id)
        # A step of the interpreter: no two threads are the first. In a fork the other process may be.
        is_first = next(self._joins) == 0 and self._process == os.getpid()
        return self if is_first or run_id is not None else self.child()

    def _fields(self) -> dict[str, JSON]:
        return {"run_id": self.run_id, "parent_run_id": self.parent_run_id, "root_run_id": self.root_run_id}

    # --- to other processes

    def environ(self) -> dict[str, str]:
        """Return the variable for another process: `subprocess.run(…, env={**os.environ, **context.environ()})`.

        There `RunContext.current()` is a child of this context, and what its loops and logs tell says so.
        """
        return {RUN_CONTEXT_VARIABLE: self._carrier()}

    def headers(self) -> dict[str, str]:
        """Return the header for a request to another service. It says ids and depth, and no metadata."""
        return {RUN_CONTEXT_HEADER: self._carrier()}

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, strict: bool = False
    ) -> RunContext | None:
        """Return a new child of the context that started this process; None where there is none.

        Without being asked, `current()` has one such child for all of the process; this is for a variable that came
        by another way, and for units of work that are to be children each of its own.

        environ: instead of the process's own. A variable that is no context is ignored, with a warning in the log;
        strict: raises ConfigurationError.
        """
        given = (os.environ if environ is None else environ).get(RUN_CONTEXT_VARIABLE)
        return None if given is None else _taken(RUN_CONTEXT_VARIABLE, [given], strict=strict)

    @classmethod
    def from_headers(
        cls,
        headers: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        *,
        strict: bool = False,
    ) -> RunContext | None:
        """Return a child of the context that sent a request; None where there is none.

        headers: a mapping, or pairs of names and values, as text or bytes; names in any case. Who sends them may be
        anybody: a header that comes twice, is too long or is no context is ignored, with a warning in the log;
        strict: raises ConfigurationError.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        wanted = RUN_CONTEXT_HEADER.lower()
        given = [value for name, value in pairs if _text(name).lower() == wanted]
        return _taken(RUN_CONTEXT_HEADER, given, strict=strict) if given else None

    def _carrier(self) -> str:
        return f"run={self.run_id};root={self.root_run_id};depth={self.depth}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.run_id, self.parent_run_id, self.root_run_id, self.depth, self.metadata)


class _Frame(msgspec.Struct, frozen=True):
    """A context that was entered, and what was current before."""

    context: RunContext
    outer: _Frame | None


_current: contextvars.ContextVar[_Frame | None] = contextvars.ContextVar("agentkit_run_context", default=None)


_of_process: dict[str, RunContext | None] = {}


def _inherited() -> RunContext | None:
    """Return this process's own context under the one that its environment names; the same at each call."""
    try:
        return _of_process["own"]
    except KeyError:
        given = os.environ.get(RUN_CONTEXT_VARIABLE)
    made = None if given is None else _child_of(given)
    # Without a lock, which a fork could leave held: of two that come at once, one is kept. Kept before it is logged,
    # since a filter asks for the current context.
    kept = _of_process.setdefault("own", made)
    if given is not None and made is None:
        _warn_of(RUN_CONTEXT_VARIABLE)
    return kept


def _unpickled(
    run_id: str, parent_run_id: str | None, root_run_id: str, depth: int, metadata: dict[str, JSON]
) -> RunContext:
    """Return a copy in another process, whose runs are children: the original may have given its id away."""
    copy = RunContext(
        run_id=run_id, parent_run_id=parent_run_id, root_run_id=root_run_id, depth=depth, metadata=metadata
    )
    next(copy._joins)  # noqa: SLF001 - it is being made
    return copy


def _checked(run_id: object) -> str:
    if isinstance(run_id, str) and re.fullmatch(_ID, run_id):
        return run_id
    raise ConfigurationError(
        f"run_id={safe_repr(run_id)[:200]} refused; give at most 128 ASCII letters, digits, '.', '_' and '-', "
        "or None for a new one"
    )


def _text(given: object) -> str:
    if isinstance(given, (bytes, bytearray)):
        return bytes(given[: LONGEST_CARRIER + 1]).decode("latin-1")
    return given if isinstance(given, str) else ""


_REFUSED = "{} refused because it names no run context"  # what it says is not repeated: it comes from anybody


def _child_of(carrier: str) -> RunContext | None:
    """Return a child of the context that a carrier names, None for what names none."""
    found = _CARRIER.fullmatch(carrier) if len(carrier) <= LONGEST_CARRIER else None
    if found is None:
        return None
    run_id, root_run_id, depth = found[1], found[2], int(found[3])
    if (depth == 0) != (run_id == root_run_id) or depth >= DEEPEST_CARRIED:
        return None
    return RunContext(run_id=run_id, parent_run_id=None, root_run_id=root_run_id, depth=depth).child()


def _taken(place: str, given: list[Any], *, strict: bool) -> RunContext | None:
    """Return a child of the context that the only carrier of these names, None for what names none."""
    made = _child_of(_text(given[0])) if len(given) == 1 else None
    if made is None and strict:
        raise ConfigurationError(
            f"{_REFUSED.format(place)}; send what RunContext.headers() or environ() returns, once"
        )
    if made is None:
        _warn_of(place)
    return made


def _warn_of(place: str) -> None:
    _log.warning("%s; the run is not told as a child of it", _REFUSED.format(place))


# --- logs

_log = late_logger("agentkit.run_context")


def add_run_context(
    logger: object, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add run_id, parent_run_id and root_run_id to an entry of structlog's: a processor for `structlog.configure`.

    Keys that the entry has already stay; without a current context none is added, nor a parent where there is none.
    """
    del logger, method_name
    context = RunContext.current()
    if context is not None:
        for name, value in context._fields().items():
            if value is not None:
                event_dict.setdefault(name, value)
    return event_dict


__all__ = [
    "DEEPEST_CARRIED",
    "LONGEST_CARRIER",
    "RUN_CONTEXT_HEADER",
    "RUN_CONTEXT_VARIABLE",
    "RunContext",
    "add_run_context",
]
