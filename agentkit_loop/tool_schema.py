"""What a tool takes: JSON Schema from a signature, and arguments from what a model sent.

Types are what msgspec can make of JSON, and: `pathlib` paths (text), `object` (anything). An argument
without annotation takes any JSON value. Decoding is strict: no text becomes a number, only an int may
stand for a float. A parameter whose default is None takes null too.

A parameter's description is, first found: a text in `Annotated[int, "how many"]`, the description of a
`msgspec.Meta`, the docstring's entry (Google `Args:` or Sphinx `:param x:`). Classes keep their own
descriptions (`msgspec.Meta` on a field) and come as `$defs`.
"""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NoReturn, Protocol

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import JSON, clean_text, safe_repr, scrub_json

ARGUMENT_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""Argument names that the Messages API takes; one other name, and it refuses the whole request."""

MAX_FAULTS = 10
_MAX_TEXT = 500  # characters of one fault; it may quote what the model sent
_MAX_NAME = 100  # characters of a name that the model sent
_MAX_CHOICES = 20

_UNION = (typing.Union, types.UnionType)
_GENERIC = (list, dict, tuple, set, frozenset)
_FORMATS: tuple[tuple[type, str], ...] = ((dt.datetime, "date-time"), (dt.time, "time"))
_SUBSCHEMAS = ("anyOf", "oneOf", "allOf")

_JSON_TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "string": ("str", lambda value: isinstance(value, str)),
    "integer": ("int", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "number": ("float", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)),
    "boolean": ("bool", lambda value: isinstance(value, bool)),
    "array": ("array", lambda value: isinstance(value, list)),
    "object": ("object", lambda value: isinstance(value, dict)),
    "null": ("null", lambda value: value is None),
}


class ToolInputError(ValueError):
    """A model's input does not fit its tool. faults: one clause for each argument at fault.

    It never reaches a host: the loop answers the call with its text. So it is no AgentKitError.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - MAX_FAULTS
        shown = (*self.faults[:MAX_FAULTS], f"and {more:,} more") if more > 0 else self.faults
        super().__init__("; ".join(shown))


class Arguments(Protocol):
    """What a tool takes. takes_context: the parameter that gets the ToolContext, if there is one."""

    @property
    def input_schema(self) -> dict[str, JSON]:
        """JSON Schema of an object."""

    @property
    def takes_context(self) -> str | None:
        """Name of the parameter that gets the ToolContext."""

    def decode(self, value: JSON, /) -> dict[str, Any]:
        """Return the keyword arguments; raises ToolInputError, never anything else."""


@attrs.frozen(kw_only=True)
class SignatureArguments:
    """Arguments by a function's signature.

    types: the type of each argument. required: those without a default. extra: the type of `**kwargs`,
    None without them. reserved: parameters that are not the model's to give, though `**kwargs` would let it.
    """

    input_schema: dict[str, JSON]
    types: dict[str, Any]
    required: tuple[str, ...]
    extra: Any | None
    reserved: frozenset[str]
    takes_context: str | None

    def decode(self, value: JSON, /) -> dict[str, Any]:
        """Return the keyword arguments, each of the type that its parameter names."""
        arguments = _as_object(value)
        faults = _name_faults(
            arguments,
            self.types,
            self.required,
            is_open=lambda name: self.extra is not None and name not in self.reserved,
        )
        decoded: dict[str, Any] = {}
        for name, argument in arguments.items():
            kind = self.types.get(name, self.extra)
            if kind is None or name in self.reserved:
                continue
            try:
                decoded[name] = argument if kind is Any else _convert(argument, kind)
            except Exception as error:  # noqa: BLE001 - a class's own validation may raise anything
                faults.append(_fault(name, error, self._choices(name)))
        if faults:
            raise ToolInputError(faults)
        return decoded

    def _choices(self, name: str) -> list[JSON]:
        schema = self.input_schema["properties"].get(name) or self.input_schema["additionalProperties"]
        return list(_choices(schema, self.input_schema.get("$defs", {})))


@attrs.frozen(kw_only=True)
class SchemaArguments:
    """Arguments by a schema that a tool object brings itself.

    Checked before the call: names, and of each property of the schema its `type` and `enum`. The rest of
    the schema is the tool's own to check. Arguments stay JSON.
    """

    input_schema: dict[str, JSON]
    takes_context: str | None

    def decode(self, value: JSON, /) -> dict[str, Any]:
        """Return the arguments as they came, after their names and types were checked."""
        arguments = _as_object(value)
        properties = self.input_schema.get("properties", {})
        is_open = self.input_schema.get("additionalProperties", True) is not False
        faults = _name_faults(
            arguments,
            properties,
            self.input_schema.get("required", ()),
            is_open=lambda name: is_open and name != self.takes_context,
        )
        for name, argument in arguments.items():
            fault = _type_fault(argument, properties.get(name))
            if fault is not None:
                faults.append(f"argument `{_clip(name, _MAX_NAME)}`: {fault}")
        if faults:
            raise ToolInputError(faults)
        return dict(arguments)


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


def _type_fault(value: JSON, schema: JSON) -> str | None:
    if not isinstance(schema, dict):
        return None
    named = schema.get("type")
    wanted = [name for name in (named if isinstance(named, list) else [named]) if name in _JSON_TYPES]
    if wanted and not any(_JSON_TYPES[name][1](value) for name in wanted):
        return f"expected `{' | '.join(_JSON_TYPES[name][0] for name in wanted)}`, got `{_json_type(value)}`"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"invalid value {_clip(safe_repr(value), _MAX_NAME)}{_or_rather(choices)}"
    return None


# --- decoding


def _as_object(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise ToolInputError((f"input: expected `object`, got `{_json_type(value)}`",))
    return value


def _name_faults(
    arguments: dict[str, JSON],
    known: Iterable[str],
    required: Iterable[str],
    *,
    is_open: Callable[[str], bool],
) -> list[str]:
    names = dict.fromkeys(known)
    faults = [f"missing argument `{name}`" for name in required if name not in arguments]
    for name in arguments:
        if name in names or is_open(name):
            continue
        if len(faults) > MAX_FAULTS:  # only counted: a search among the names for each would take its time
            faults.append("unknown argument")
            continue
        near = difflib.get_close_matches(_clip(name, _MAX_NAME), names, n=1)
        if near:
            hint = f"did you mean `{near[0]}`?"
        else:
            hint = f"known are {', '.join(f'`{one}`' for one in names)}" if names else "it takes none"
        faults.append(_clip(f"unknown argument `{_clip(name, _MAX_NAME)}`, {hint}", _MAX_TEXT))
    return faults


def _convert(value: JSON, kind: Any) -> Any:
    return msgspec.convert(value, kind, strict=True, str_keys=True, dec_hook=_decode_path)


def _decode_path(kind: type, value: JSON) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{_json_type(value)}`")
    return kind(value)


def _fault(name: str, error: Exception, choices: list[JSON]) -> str:
    """Say in one clause which argument is wrong, where in it, and what was expected."""
    if not isinstance(error, msgspec.ValidationError):
        reason = (
            "nested too deeply"
            if isinstance(error, RecursionError)
            else f"refused by its type, {safe_repr(error)}"
        )
        return _clip(f"argument `{name}`: {reason}", _MAX_TEXT)
    text, path = clean_text(str(error)), ""
    if text.endswith("`"):
        reason, found, place = text.rpartition(" - at `")
        if found:
            text, path = reason, place[:-1]
    if not path and text.startswith("Invalid enum value"):
        text = _clip(text, _MAX_TEXT // 2) + _or_rather(choices)
    text = text[:1].lower() + text[1:]
    where = _clip(name, _MAX_NAME)
    if path.startswith("key` in `"):
        where, text = where + path.removeprefix("key` in `$"), f"wrong key, {text}"
    else:
        where += path.removeprefix("$")
    return _clip(f"argument `{where}`: {text}", _MAX_TEXT)


def _or_rather(choices: list[JSON]) -> str:
    if not choices:
        return ""
    shown = [msgspec.json.encode(choice).decode() for choice in choices[:_MAX_CHOICES]]
    return f", use one of {', '.join(shown)}{', …' if len(choices) > _MAX_CHOICES else ''}"


def _choices(schema: JSON, definitions: dict[str, JSON]) -> Iterable[JSON]:
    if not isinstance(schema, dict):
        return
    yield from schema.get("enum", ())
    for member in schema.get("anyOf", ()):
        yield from _choices(member, definitions)
    if "$ref" in schema and "enum" in (target := definitions.get(schema["$ref"].rpartition("/")[2], {})):
        yield from target["enum"]


def _json_type(value: JSON) -> str:
    return next((name for name, fits in _JSON_TYPES.values() if fits(value)), type(value).__name__)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# --- docstrings

_SECTION = re.compile(
    r"(?P<name>Args|Arguments|Parameters|Params|Returns?|Raises|Yields?|Examples?|Notes?|See Also|Attributes)"
    r":[ \t]*$"
)
_GOOGLE_ENTRY = re.compile(r"(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")
_SPHINX_FIELD = re.compile(r":(?P<field>[a-zA-Z]+)(?:[ \t]+(?P<rest>[^:]*))?:[ \t]*(?P<text>.*)$")
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
