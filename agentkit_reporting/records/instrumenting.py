"""Functions in whose place others stand that do the same and are watched: of each kind, with its signature and type.

A watcher is asked at each call; what it gives takes note of what comes of the call. Neither ever changes anything: the
same object is returned or raised, with one frame more in its traceback, and the protocol of generators is kept.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON, safe_repr, to_json

__all__ = ["Watched", "Watcher", "watched", "watched_name"]

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__agentkit_watched__"  # functools.wraps copies it: it names the function that it is of


class Watched(Protocol):
    """Takes note of what comes of one call. None of it raises what is its own trouble."""

    def returned(self, result: object) -> None:
        """Take note of what the body gave."""

    def yielded(self, item: object) -> None:
        """Take note of an item of a generator, which goes on."""

    def exhausted(self) -> None:
        """Take note that a generator came to its end."""

    def failed(self, error: BaseException) -> None:
        """Take note of what the body raised, or was left with."""

    def detach(self) -> None:
        """Take note that the body goes on later, maybe elsewhere."""


class Watcher(Protocol):
    """Is asked at the beginning of each call."""

    def watch(
        self, name: str, arguments: Callable[[], dict[str, JSON]], *, detached: bool = False
    ) -> Watched | None:
        """Return what takes note of the call, None where nothing is to be noted.

        detached: its caller goes on in between.
        """


def watched(watcher: Watcher, name: str, function: Callable[P, R]) -> Callable[P, R]:
    """Return a function of the same kind that does the same and is watched; raises ConfigurationError.

    function: sync, async, a generator of either kind; a method, a partial, an object with `__call__`, a static or
    class method as it stands in a class body, a Tool.
    """
    given: Any = function
    if isinstance(given, (staticmethod, classmethod)):
        return type(given)(watched(watcher, name, given.__func__))  # type: ignore[return-value] # of its kind
    if isinstance(given, Tool):
        return attrs.evolve(given, function=watched(watcher, name, given.function))
    if _is_watched(given, watcher, name):
        return function
    if not callable(given) or isinstance(given, type):
        raise ConfigurationError(
            f"{safe_repr(given)} refused because it is no function; give a function, a bound method or an "
            "object with __call__"
        )
    body: Any = given
    if not inspect.isroutine(given) and not isinstance(given, functools.partial):
        body = given.__call__  # its kind cannot be told by the object
    kind = _function
    if inspect.iscoroutinefunction(body):
        kind = _coroutine_function
    elif inspect.isgeneratorfunction(body):
        kind = _generator_function
    elif inspect.isasyncgenfunction(body):
        kind = _async_generator_function
    read, watch = _Arguments(given).of, watcher.watch
    is_detached = kind in (_generator_function, _async_generator_function)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Watched | None:
        return watch(name, lambda: read(args, kwargs), detached=is_detached)

    made = kind(begin, given)
    if getattr(getattr(body, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:
        made = types.coroutine(made)
    wrapper: Callable[P, R] = _named_like(made, name, given, body)
    wrapper.__dict__[_MARK] = (wrapper, watcher, name)
    return wrapper


def _is_watched(function: Any, watcher: Watcher, name: str) -> bool:
    """Whether it is what `watched` gave for the same; a second time would note each call twice."""
    mark = function.__dict__.get(_MARK) if isinstance(function, types.FunctionType) else None
    return mark is not None and mark[0] is function and mark[1] is watcher and mark[2] == name


def watched_name(function: object) -> str:
    """Return the name that a function has by itself."""
    found: Any = function
    while isinstance(found, functools.partial):
        found = found.func
    name = getattr(found, "__name__", None) or getattr(found, "name", None)
    return name if isinstance(name, str) else type(found).__name__


def _named_like(wrapper: Any, name: str, function: Any, body: Any) -> Any:
    """Return the wrapper with the name, the text and the annotations of what it stands for."""
    raw = body
    while isinstance(raw, functools.partial):
        raw = raw.func
    is_function = inspect.isroutine(function)
    wrapper.__name__ = wrapper.__qualname__ = name
    functools.update_wrapper(wrapper, function, updated=("__dict__",) if is_function else ())
    if not is_function:
        wrapper.__doc__ = raw.__doc__ or function.__doc__
        wrapper.__annotations__ = dict(getattr(raw, "__annotations__", {}))
    return wrapper


# --- arguments


class _Arguments:
    """Reads the arguments of calls by name: those that were given, without `self` and the context of a tool."""

    def __init__(self, function: Any) -> None:
        fixed: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        while isinstance(function, functools.partial):
            fixed, named = function.args + fixed, {**function.keywords, **named}
            function = function.func
        self._fixed, self._named = fixed, named
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):  # some of C do not tell
            self._signature = inspect.signature(lambda *args, **kwargs: (args, kwargs))
        first = next(iter(self._signature.parameters.values()), None)
        is_own = first is not None and _is_own(first, function) and first.kind < first.VAR_POSITIONAL
        self._own = first.name if first is not None and is_own else None
        parameters = self._signature.parameters.values()
        is_simple = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        self._names = tuple(each.name for each in parameters) if is_simple else None
        self._needed = {each.name for each in parameters if each.default is each.empty}

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, JSON]:
        """Return the arguments as JSON; of a call that does not fit, as they came."""
        args, kwargs = self._fixed + args, {**self._named, **kwargs} if self._named else kwargs
        given = self._simply_bound(args, kwargs)
        if given is None:
            try:
                given = self._signature.bind(*args, **kwargs).arguments
            except TypeError:
                given = {"args": args, "kwargs": kwargs}
        told: dict[str, JSON] = to_json(
            {
                name: _kept(value)
                for name, value in given.items()
                if name != self._own and not issubclass(type(value), ToolContext)
            }
        )
        return told

    def _simply_bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return what `bind` gives for most functions and calls, in a quarter of its time; None for the others."""
        names = self._names
        if names is None or len(args) > len(names):
            return None
        given = dict(zip(names, args, strict=False))
        if not kwargs:
            return given if self._needed <= given.keys() else None
        if not given.keys().isdisjoint(kwargs) or not kwargs.keys() <= set(names):
            return None
        given.update(kwargs)
        return (
            {name: given[name] for name in names if name in given} if self._needed <= given.keys() else None
        )


def _is_own(first: inspect.Parameter, function: Any) -> bool:
    """Whether it is the object, or class, of a method; a function by itself may have an argument `cls`."""
    owner = str(getattr(function, "__qualname__", "")).rpartition(".")[0]
    return first.name == "self" or (first.name == "cls" and bool(owner) and not owner.endswith("<locals>"))


class _Unread:
    """Stands for what is iterated once, or at a price, and so is shown as its repr only."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return safe_repr(self._value)


def json_of(value: object) -> JSON:
    """Return a value as JSON without using it up."""
    return to_json(_kept(value))


def _kept(value: object) -> object:
    kind: Any = type(value)
    if kind in (dict, list, str, int):
        return value
    try:
        is_read = isinstance(value, Iterable) and not isinstance(value, Collection)
    except Exception:  # noqa: BLE001 - a foreign __class__ may raise anything
        return _Unread(value)
    if not is_read:
        return value
    is_record = isinstance(value, msgspec.Struct) or attrs.has(kind) or hasattr(kind, "__dataclass_fields__")
    return value if is_record else _Unread(value)


# --- one wrapper for each kind of function

_Begin = Callable[[tuple[Any, ...], dict[str, Any]], Watched | None]


def _function(begin: _Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        seen = begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            if seen is not None:
                seen.failed(error)
            raise
        if seen is None:
            return result
        later = _LATER.get(type(result))
        if later is not None:  # of a lambda or a partial: what it does comes later
            seen.detach()
            return later(lambda *_: seen, lambda: result)()
        seen.returned(result)
        return result

    return call


def _coroutine_function(begin: _Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        seen = begin(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            if seen is not None:
                seen.failed(error)
            raise
        if seen is not None:
            seen.returned(result)
        return result

    return call


def _generator_function(begin: _Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        """Delegate as `yield from` does (PEP 380), and take note of each item."""
        seen = begin(args, kwargs)
        sent: Any = None
        thrown: BaseException | None = None
        try:
            generator = function(*args, **kwargs)
            item = next(generator)
            while True:
                if seen is not None:
                    seen.yielded(item)
                try:
                    sent = yield item
                except GeneratorExit as left:
                    answer = generator.close()  # a value from Python 3.13 on
                    if answer is None:
                        raise
                    if seen is not None:
                        seen.failed(left)
                    return answer
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the generator
                    thrown = error
                if thrown is None:
                    item = generator.send(sent)
                else:
                    given, thrown = thrown, None
                    try:
                        item = generator.throw(given)
                    finally:
                        del given  # which holds this frame
        except StopIteration as end:
            if seen is not None:
                seen.exhausted()
            return end.value
        except BaseException as error:
            if seen is not None:
                seen.failed(error)
            raise

    return call


def _async_generator_function(begin: _Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        """Delegate, since there is no `yield from` for it, and take note of each item."""
        seen = begin(args, kwargs)
        sent: Any = None
        thrown: BaseException | None = None
        try:
            generator = function(*args, **kwargs)
            item = await anext(generator)
            while True:
                if seen is not None:
                    seen.yielded(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the generator
                    thrown = error
                if thrown is None:
                    item = await generator.asend(sent)
                else:
                    given, thrown = thrown, None
                    try:
                        item = await generator.athrow(given)
                    finally:
                        del given  # which holds this frame
        except StopAsyncIteration:
            if seen is not None:
                seen.exhausted()
        except BaseException as error:
            if seen is not None:
                seen.failed(error)
            raise

    return call


_LATER: dict[type, Callable[[_Begin, Callable[..., Any]], Callable[..., Any]]] = {
    types.CoroutineType: _coroutine_function,
    types.GeneratorType: _generator_function,
    types.AsyncGeneratorType: _async_generator_function,
}
