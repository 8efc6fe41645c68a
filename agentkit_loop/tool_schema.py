"""What a tool takes: JSON Schema from a signature or from an object, descriptions from a docstring.

Types are what msgspec can make of JSON, and: `pathlib` paths (text), `object` (anything). An argument
without annotation takes any JSON value. A parameter whose default is None takes null too.

A parameter's description is, first found: a text in `Annotated[int, "how many"]`, the description of a
`msgspec.Meta`, the docstring's entry (Google `Args:` or Sphinx `:param x:`). Classes keep their own
descriptions (`msgspec.Meta` on a field) and come as `$defs`.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.late import late_pattern
from agentkit_loop.tool_arguments import SchemaArguments, SignatureArguments
from agentkit_loop.values import JSON, clean_text, safe_repr, scrub_json

ARGUMENT_NAME = late_pattern(r"[a-zA-Z0-9_.-]{1,64}")
"""Argument names that the Messages API takes; one other name, and it refuses the whole request."""

_UNION = (typing.Union, types.UnionType)
_GENERIC = (list, dict, tuple, set, frozenset)
_FORMATS: tuple[tuple[type, str], ...] = ((dt.datetime, "date-time"), (dt.time, "time"))
_SUBSCHEMAS = ("anyOf", "oneOf", "allOf")

# --- from a signature


def read_signature(
    function: Callable[..., Any], *, tool_name: str, context_type: type, descriptions: dict[str, str]
) -> SignatureArguments:
    """Read what a function takes; raises ConfigurationError where no tool can be made of it.

    descriptions: of parameters, by name, used where their types bring none. Arguments that a
    `functools.partial` has bound are fixed: the model neither sees nor gives them.
    """
    raw = unwrapped(function)
    hints = _hints(function, tool_name)
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    context: str | None = None
    extra: Any | None = None
    given: dict[str, inspect.Parameter] = {}
    for name, parameter in _signature(function, tool_name).parameters.items():
        if name in fixed:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = _spelled(hints.get(name, Any))
        elif _is_context(hints.get(name), context_type):
            if context is not None:
                _refuse(tool_name, name, f"`{context}` takes the context already", "keep one of the two")
            context = name
        else:
            _check_parameter(parameter, tool_name, is_first=not given)
            given[name] = parameter
    kinds = {name: _kind(parameter, hints) for name, parameter in given.items()}
    required = tuple(name for name, parameter in given.items() if parameter.default is parameter.empty)
    schema = _object_schema(tool_name, kinds, required, extra)
    for name, parameter in given.items():
        _annotate(schema["properties"][name], parameter, hints.get(name), descriptions.get(name))
    return SignatureArguments(
        input_schema=scrub_json(schema),
        types=kinds,
        required=required,
        extra=extra,
        reserved=frozenset(_parameter_names(raw)) - given.keys(),
        takes_context=context,
    )


def find_context(function: Callable[..., Any], *, tool_name: str, context_type: type) -> str | None:
    """Return the name of the parameter that is annotated as the context, None without one."""
    hints = _hints(function, tool_name)
    return next((name for name in hints if _is_context(hints[name], context_type)), None)


def unwrapped(function: object) -> Any:
    """Return the function behind partials, bound methods and callable objects."""
    while isinstance(function, (functools.partial, types.MethodType, staticmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function if inspect.isroutine(function) else type(function).__call__


def _refuse(tool_name: str, parameter: str, reason: str, remedy: str) -> NoReturn:
    raise ConfigurationError(
        f"parameter `{parameter}` of tool {tool_name!r} refused because {reason}; {remedy}"
    )


def _signature(function: Callable[..., Any], tool_name: str) -> inspect.Signature:
    if isinstance(function, functools.partial):  # a fresh one: `__wrapped__` would show what is bound already
        function = functools.partial(function.func, *function.args, **function.keywords)
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"tool {tool_name!r} refused because {safe_repr(function)} does not tell its parameters; "
            "wrap it in a function that does"
        ) from error


def _hints(function: Any, tool_name: str) -> dict[str, Any]:
    target = inspect.unwrap(unwrapped(inspect.unwrap(function)))
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"tool {tool_name!r} refused because its annotations name {error.name!r}, which its module does "
            "not know; define or import it at the module's top level"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"tool {tool_name!r} refused because its annotations cannot be read ({error}); correct them"
        ) from error
    hints.pop("return", None)
    return hints


def _parameter_names(raw: Any) -> list[str]:
    parameters = inspect.signature(raw).parameters.values()
    hidden = (
        inspect.Parameter.VAR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.POSITIONAL_ONLY,
    )
    return [parameter.name for parameter in parameters if parameter.kind not in hidden]


def _check_parameter(parameter: inspect.Parameter, tool_name: str, *, is_first: bool) -> None:
    name = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        _refuse(tool_name, f"*{name}", "a model gives arguments by name", "take a list instead")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        _refuse(tool_name, name, "a model gives arguments by name", "drop the `/` of the signature")
    if not ARGUMENT_NAME.fullmatch(name):
        _refuse(tool_name, name, "the provider takes no such name", "use up to 64 of a-z, A-Z, 0-9 and _")
    if is_first and name in {"self", "cls"} and parameter.annotation is parameter.empty:
        _refuse(
            tool_name, name, "the model cannot give it", "make the tool of a bound method: tool(thing.method)"
        )


def _is_context(hint: Any, context_type: type) -> bool:
    if typing.get_origin(hint) is Annotated:
        return _is_context(typing.get_args(hint)[0], context_type)
    if typing.get_origin(hint) in _UNION:
        return {*typing.get_args(hint)} - {type(None)} == {context_type}
    return hint is context_type


def _kind(parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    kind = _spelled(hints.get(parameter.name, Any))
    return typing.Optional[kind] if parameter.default is None and kind is not Any else kind  # noqa: UP045 - built


def _spelled(hint: Any) -> Any:
    """Return the type as msgspec takes it: `object` as Any, formats named where msgspec leaves them out."""
    if hint is object:
        return Any
    for kind, name in _FORMATS:
        if hint is kind:
            return Annotated[kind, msgspec.Meta(extra_json_schema={"format": name})]
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_spelled(members[0]), *members[1:])]
    if origin in _UNION:
        return typing.Union[tuple(_spelled(member) for member in members)]  # noqa: UP007 - built
    if origin in _GENERIC:
        return origin[tuple(_spelled(member) for member in members)]
    return hint


def _object_schema(
    tool_name: str, kinds: dict[str, Any], required: tuple[str, ...], extra: Any | None
) -> dict[str, JSON]:
    named = kinds if extra is None else {**kinds, "**": extra}
    try:
        schemas, definitions = _schemas(list(named.values()))
    except Exception as error:
        for name, kind in named.items():
            _check_kind(tool_name, name, kind)
        raise ConfigurationError(
            f"tool {tool_name!r} refused because {_reason(error)}; change its types"
        ) from error
    properties = dict(zip(kinds, schemas, strict=False))
    open_schema: JSON = False if extra is None else schemas[-1] or True
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": open_schema,
    }
    return {**schema, "$defs": definitions} if definitions else schema


def _schemas(kinds: list[Any]) -> tuple[list[dict[str, JSON]], dict[str, JSON]]:
    schemas, definitions = msgspec.json.schema_components(
        kinds, schema_hook=_schema_hook, ref_template="#/$defs/{name}"
    )
    return [dict(schema) for schema in schemas], dict(definitions)


def _check_kind(tool_name: str, name: str, kind: Any) -> None:
    try:
        _schemas([kind])
    except Exception as error:  # noqa: BLE001 - msgspec says TypeError, a class's own annotations may raise anything
        _refuse(
            tool_name, name, _reason(error), "use types that JSON can be turned into, or leave the type out"
        )


def _reason(error: Exception) -> str:
    return clean_text(str(error)).strip().rpartition("\n")[2]


def _annotate(
    schema: dict[str, JSON], parameter: inspect.Parameter, hint: Any, documented: str | None
) -> None:
    description = _note(hint) or schema.get("description") or documented
    if description:
        schema["description"] = description
    if parameter.default is not parameter.empty:
        try:
            default = msgspec.to_builtins(parameter.default, str_keys=True, enc_hook=_plain_path)
            shown = scrub_json(default)
            faithful = msgspec.json.encode(shown) == msgspec.json.encode(default)
        except Exception:  # noqa: BLE001 - a default that JSON cannot hold is simply not shown
            return
        if faithful:
            schema["default"] = shown


def _note(hint: Any) -> str | None:
    """Return the text of `Annotated[…, "text"]`, also of a member of a union."""
    if typing.get_origin(hint) is Annotated:
        return next((clean_text(note) for note in hint.__metadata__ if isinstance(note, str)), None)
    if typing.get_origin(hint) in _UNION:
        return next((note for member in typing.get_args(hint) if (note := _note(member))), None)
    return None


def _schema_hook(kind: type) -> dict[str, JSON]:
    if issubclass(kind, pathlib.PurePath):
        return {"type": "string"}
    raise TypeError(f"type `{kind.__qualname__}` is not supported")


def _plain_path(value: object) -> str:
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise TypeError


# --- from a schema


def read_schema(schema: object, *, tool_name: str, takes_context: str | None) -> SchemaArguments:
    """Take the schema that a tool object brings; raises ConfigurationError for what providers refuse."""

    def refuse(reason: str, remedy: str) -> NoReturn:
        raise ConfigurationError(f"input_schema of tool {tool_name!r} refused because {reason}; {remedy}")

    if not isinstance(schema, dict) or schema.get("type") != "object":
        refuse(f"{safe_repr(schema)} describes no object", "give a JSON Schema with type 'object'")
    plain = scrub_json(schema)
    if plain != schema:
        refuse("it holds what is not JSON", "give plain dicts, lists, text and numbers")
    if any(word in plain for word in _SUBSCHEMAS):
        refuse(
            "the provider takes no anyOf, oneOf or allOf at the top", "describe one object with properties"
        )
    properties, required = plain.get("properties", {}), plain.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        refuse("its properties are no object or its required no list", "write them as JSON Schema says")
    for name in properties:
        if not ARGUMENT_NAME.fullmatch(name):
            refuse(f"the provider takes no property named {name!r}", f"match {ARGUMENT_NAME.pattern}")
    return SchemaArguments(
        input_schema={**plain, "properties": properties, "required": required}, takes_context=takes_context
    )


# --- docstrings

_SECTION = late_pattern(
    r"(?P<name>Args|Arguments|Parameters|Params|Returns?|Raises|Yields?|Examples?|Notes?|See Also|Attributes)"
    r":[ \t]*$"
)
_GOOGLE_ENTRY = late_pattern(r"(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")
_SPHINX_FIELD = late_pattern(r":(?P<field>[a-zA-Z]+)(?:[ \t]+(?P<rest>[^:]*))?:[ \t]*(?P<text>.*)$")
_ARGUMENT_SECTIONS = ("Args", "Arguments", "Parameters", "Params")
_ARGUMENT_FIELDS = ("param", "parameter", "arg", "argument", "key", "keyword")


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """Return what stands before the first section, and the descriptions of the parameters by name."""
    description: list[str] = []
    entries: dict[str, list[str]] = {}
    section: str | None = None  # None while in the description
    current: list[str] | None = None  # the entry that following lines belong to
    entry_indent: int | None = None
    for line in inspect.cleandoc(text or "").split("\n"):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if indent == 0 and (header := _SECTION.match(line)):
            section, current, entry_indent = header["name"], None, None
        elif indent == 0 and (field := _SPHINX_FIELD.match(line)):
            section, current = "fields", None
            if field["field"] in _ARGUMENT_FIELDS and (words := (field["rest"] or "").split()):
                current = entries.setdefault(words[-1].lstrip("*"), [])
                current.append(field["text"])
        elif section is None:
            description.append(line)
        elif section in _ARGUMENT_SECTIONS and stripped:
            entry_indent = indent if entry_indent is None else entry_indent
            entry = _GOOGLE_ENTRY.match(stripped) if indent <= entry_indent else None
            if entry:
                current = entries.setdefault(entry["name"].lstrip("*"), [])
                current.append(entry["text"])
            elif current is not None:
                current.append(stripped)
        elif current is not None and stripped:
            current.append(stripped)
    joined = {
        name: clean_text(" ".join(piece for piece in lines if piece)) for name, lines in entries.items()
    }
    return clean_text("\n".join(description).strip()), joined
