"""Tools: functions and objects that a model may call, how they are run, and how their results are bounded.

`tool` (also as a decorator) and `as_tool` make a `Tool` of

- a function or bound method, sync or async, a `functools.partial`, or an object with `__call__`: the schema
  is read from its signature (see tool_schema.py), the description from its docstring;
- an object with `name`, `description`, `input_schema` and `run` or else `__call__`: the schema is its own,
  its arguments come by keyword as plain JSON. `timeout_s`, `max_output_chars`, `idempotent`, `approval`
  and `summary` are read too, where it has them;
- a Tool: itself.

A parameter annotated `ToolContext` gets the call's context and is not the model's to give. A tool may return
any value; an iterator (a generator, sync or async) is run to its end and gives a list.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

import attrs
import msgspec

from agentkit_loop.content import ToolSpec
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.tool_arguments import Arguments
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tool_schema import find_context, read_docstring, read_schema, read_signature, unwrapped
from agentkit_loop.values import JSON, clean_text, copy_json, safe_repr

__all__ = [
    "Tool",
    "ainvoke",
    "as_tool",
    "bound_output",
    "check_catalog",
    "invoke",
    "tool",
]

MAX_OUTPUT_CHARS = 100_000
"""Characters of a result that the model sees, where a tool does not say otherwise."""

MAX_YIELDED = 10_000
"""Values taken from an iterator that a tool returned; the list says when there were more."""

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
"""Tool names that the Messages API takes."""

ApprovalRule: TypeAlias = bool | Callable[[dict[str, JSON]], object]
"""Whether a person is asked before each call, or a predicate on the arguments, whose text is the reason."""

Summary: TypeAlias = Callable[[dict[str, JSON]], str]
"""Says in one line what a call with these arguments would do."""

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


# --- tools


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise ConfigurationError(
            f"tool name {safe_repr(name)} refused because providers take only {TOOL_NAME.pattern}; give name="
        )
    return name


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Tool(Generic[P, R_co]):
    """Something that a model may call; calling it calls its function, with that function's types.

    name, description: as the model is told. function: what runs. arguments: what it takes. timeout_s: how
    long an attempt may take, None for the agent's bound. max_output_chars: how much of a result the model
    sees. idempotent: whether a call that a crash interrupted may run again. approval: whether a person is
    asked before each call, or a predicate on the arguments, whose text is the reason; its error is a question
    too. summary: what a call would do, one line, of its arguments. Both get the defaults of arguments that
    the model left out. is_async: whether the function is to be awaited on an event loop. is_agent: whether an
    agent stands behind it (`Agent.as_tool`).
    """

    name: str = attrs.field(converter=_check_name)
    description: str = attrs.field(converter=clean_text)
    function: Callable[P, R_co] = attrs.field(repr=False)
    arguments: Arguments = attrs.field(repr=False)
    timeout_s: float | None = None
    max_output_chars: int = MAX_OUTPUT_CHARS
    idempotent: bool = False
    approval: ApprovalRule = attrs.field(default=False, repr=False)
    summary: Summary | None = attrs.field(default=None, repr=False)
    is_async: bool = False
    is_agent: bool = False

    def __attrs_post_init__(self) -> None:
        limit: Any = self.timeout_s
        if not (limit is None or (isinstance(limit, (int, float)) and 0 < limit < math.inf)):
            raise ConfigurationError(
                f"timeout_s={limit!r} of tool {self.name!r} refused; give seconds above 0, or None"
            )
        bound: Any = self.max_output_chars
        if not isinstance(bound, int) or bound < 1:
            raise ConfigurationError(
                f"max_output_chars={bound!r} of tool {self.name!r} refused; give an int of at least 1"
            )
        if not (isinstance(self.approval, bool) or callable(self.approval)):
            raise ConfigurationError(
                f"approval={safe_repr(self.approval)} of tool {self.name!r} refused; give True, False or a "
                "function of the arguments"
            )
        object.__setattr__(self, "__wrapped__", self.function)  # what inspect.signature and doctest follow

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function as it is: no schema, no bound, no context of ours."""
        return self.function(*args, **kwargs)

    @property
    def input_schema(self) -> dict[str, JSON]:
        """JSON Schema of the input, an object."""
        return self.arguments.input_schema

    @property
    def takes_context(self) -> str | None:
        """Name of the parameter that gets the ToolContext, None without one."""
        return self.arguments.takes_context

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model is told of it."""
        return ToolSpec(name=self.name, description=self.description, input_schema=self.input_schema)

    def bind(self, value: JSON, /) -> dict[str, Any]:
        """Return the keyword arguments for an input; raises ToolInputError, never anything else."""
        return self.arguments.decode(value)


@overload
def tool(
    function: Callable[P, R_co],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    max_output_chars: int = MAX_OUTPUT_CHARS,
    idempotent: bool = False,
    approval: ApprovalRule = False,
    summary: Summary | None = None,
) -> Tool[P, R_co]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    max_output_chars: int = MAX_OUTPUT_CHARS,
    idempotent: bool = False,
    approval: ApprovalRule = False,
    summary: Summary | None = None,
) -> Callable[[Callable[P, R_co]], Tool[P, R_co]]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Make a tool of a callable by its signature and docstring; `@tool` and `@tool(name=…)` decorate.

    name: the function's. description: the docstring's text before its sections. Further options: see Tool.
    Raises ConfigurationError where the callable cannot be a tool.
    """
    if function is None:
        return functools.partial(_from_callable, **options)
    return _from_callable(function, **options)


def as_tool(thing: object) -> Tool[..., Any]:
    """Make a tool of a function, of an object of one of the shapes above, or of a Tool (itself)."""
    if isinstance(thing, Tool):
        return thing
    if hasattr(thing, "input_schema") and not isinstance(thing, type):
        return _from_object(thing)
    return _from_callable(thing)


def check_catalog(tools: Iterable[object]) -> dict[str, Tool[..., Any]]:
    """Return the tools by name, in order; raises ConfigurationError for two of one name."""
    catalog: dict[str, Tool[..., Any]] = {}
    for thing in tools:
        if isinstance(thing, (list, tuple)):
            raise ConfigurationError(
                "a list among the tools refused; put a * before it, as in tools=[*file_tools('.')]"
            )
        made = as_tool(thing)
        first = catalog.setdefault(made.name, made)
        if first is not made:
            raise ConfigurationError(
                f"two tools named {made.name!r} refused ({safe_repr(first.function)} and "
                f"{safe_repr(made.function)}); give one of them another name="
            )
    return catalog


def _from_callable(
    function: Any, *, name: str | None = None, description: str | None = None, **options: Any
) -> Tool[..., Any]:
    if isinstance(function, Tool):
        raise ConfigurationError(f"{function.name!r} is a tool already; give its options where it is made")
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(
            f"{safe_repr(function)} refused because it is no function; give a function, a bound method or an "
            "object with __call__"
        )
    named = _name_of(function) if name is None else name
    _check_name(named)
    documented, of_parameters = read_docstring(_doc_of(function))
    return Tool(
        name=named,
        description=documented if description is None else description,
        function=function,
        arguments=read_signature(
            function, tool_name=named, context_type=ToolContext, descriptions=of_parameters
        ),
        is_async=_runs_async(function),
        **options,
    )


def _from_object(thing: Any) -> Tool[..., Any]:
    function = getattr(thing, "run", thing)
    name = _check_name(getattr(thing, "name", None))
    if not callable(function):
        raise ConfigurationError(
            f"tool {name!r} refused because {safe_repr(thing)} cannot run; give it a method run(**arguments)"
        )
    options = {
        option: getattr(thing, option)
        for option in ("timeout_s", "max_output_chars", "idempotent", "approval", "summary")
        if hasattr(thing, option)
    }
    context = find_context(function, tool_name=name, context_type=ToolContext)
    return Tool(
        name=name,
        description=str(getattr(thing, "description", None) or ""),
        function=function,
        arguments=read_schema(thing.input_schema, tool_name=name, takes_context=context),
        is_async=_runs_async(function),
        **options,
    )


def _name_of(function: Any) -> str:
    own = getattr(function, "name", None)
    if isinstance(own, str):
        return own
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _doc_of(function: Any) -> str | None:
    raw = unwrapped(function)
    own = None if inspect.isroutine(function) or isinstance(function, functools.partial) else function.__doc__
    return raw.__doc__ or own


def _runs_async(function: Any) -> bool:
    raw = unwrapped(function)
    return inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw)


# --- running a tool


def invoke(tool: Tool[..., Any], value: JSON, context: ToolContext) -> object:
    """Run a tool on this thread and return what it gives; its exceptions pass through.

    The tool gets a deep copy of the input. An async one runs on an event loop of its own. Raises
    ToolInputError for an input that does not fit.
    """
    arguments = _arguments(tool, value, context)
    result = tool.function(**arguments)
    if inspect.isawaitable(result) or isinstance(result, AsyncIterator):
        from asyncio import run  # noqa: PLC0415 - a third of what this package takes to import

        return run(_stoppable(result, context))
    return _listed(result, context)


async def ainvoke(tool: Tool[..., Any], value: JSON, context: ToolContext) -> object:
    """Run an async tool on this event loop, otherwise as `invoke`.

    A synchronous one would hold up the loop: ConfigurationError; `invoke` it on a thread.
    """
    if not tool.is_async:
        raise ConfigurationError(f"tool {tool.name!r} is not async; invoke() it on a thread")
    return await _settled(tool.function(**_arguments(tool, value, context)), context)


def _arguments(tool: Tool[..., Any], value: JSON, context: ToolContext) -> dict[str, Any]:
    arguments = tool.bind(copy_json(value))
    if tool.takes_context is not None:
        arguments[tool.takes_context] = context
    return arguments


async def _stoppable(result: Any, context: ToolContext) -> object:
    """Settle on an event loop of its own, where a cancel of the call cancels the task as it does elsewhere."""
    import asyncio  # noqa: PLC0415 - as in invoke

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the tool has ended
            loop.call_soon_threadsafe(task.cancel)

    context.on_cancel(stop)
    return await _settled(result, context)


async def _settled(result: Any, context: ToolContext) -> object:
    if inspect.isawaitable(result):
        result = await result
    if not isinstance(result, AsyncIterator):
        return _listed(result, context)
    values: list[object] = []
    async for value in result:
        if not _goes_on(values, context):
            if isinstance(result, AsyncGenerator):
                await result.aclose()
            break
        values.append(value)
    return values


def _listed(result: object, context: ToolContext) -> object:
    if not isinstance(result, Iterator):
        return result
    values: list[object] = []
    for value in result:
        if not _goes_on(values, context):
            if isinstance(result, Generator):
                result.close()
            break
        values.append(value)
    return values


def _goes_on(values: list[object], context: ToolContext) -> bool:
    """Whether one more value is taken; at the bound the list gets its mark instead."""
    if context.cancelled:
        return False
    if len(values) < MAX_YIELDED:
        return True
    values.append(f"… [stopped after {MAX_YIELDED:,} values] …")
    return False


# --- bounding what it gave


def bound_output(output: JSON, max_chars: int) -> JSON:
    """Return an output of at most `max_chars` characters (or a bare mark, where even that is longer).

    A longer text keeps its head and tail around a mark; any other value whose compact JSON is longer becomes
    that text, bounded so. In `{"$parts": […]}` texts and structured values share the bound, media stay.
    """
    if isinstance(output, str):
        return _bound_text(output, max_chars)
    if not isinstance(output, (dict, list)):
        return output
    parts = output.get("$parts") if isinstance(output, dict) and len(output) == 1 else None
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        return {"$parts": _bound_parts(parts, max_chars)}
    return _bound_value(output, max_chars)


def _bound_text(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    mark = f"… [{len(text):,} of {len(text):,} characters left out] …"  # as long as it can get
    kept = max(max_chars - len(mark), 0)
    head, tail = text[: kept - kept // 2], text[len(text) - kept // 2 :]
    return f"{head}… [{len(text) - kept:,} of {len(text):,} characters left out] …{tail}"


def _bound_value(value: JSON, max_chars: int) -> JSON:
    encoded = msgspec.json.encode(value)
    if len(encoded) <= max_chars:  # never fewer bytes than characters
        return value
    text = encoded.decode()
    return value if len(text) <= max_chars else _bound_text(text, max_chars)


def _bound_parts(parts: list[dict[str, JSON]], max_chars: int) -> list[dict[str, JSON]]:
    bounded: list[dict[str, JSON]] = []
    left, dropped = max_chars, 0
    for part in parts:
        if part.get("kind") not in ("text", "structured"):
            bounded.append(part)
            continue
        content = part.get("text") if part["kind"] == "text" else part.get("value")
        text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
        if len(text) <= left:
            bounded.append(part)
            left -= len(text)
        elif left == 0:
            dropped += 1
        else:
            bounded.append({"kind": "text", "text": _bound_text(text, left)})
            left = 0
    if dropped:
        bounded.append({"kind": "text", "text": f"… [further parts left out: {dropped:,}] …"})
    return bounded
