"""Arguments: what a model sent is checked and turned into what its tool takes.

Decoding is strict: no text becomes a number, only an int may stand for a float. Whatever does not fit is
told in one ToolInputError, a clause for each argument, written for the model to correct itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from agentkit_loop.values import JSON, clean_text, safe_repr

MAX_FAULTS = 10
_MAX_TEXT = 500  # characters of one fault; it may quote what the model sent
_MAX_NAME = 100  # characters of a name that the model sent
_MAX_CHOICES = 20

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


class SignatureArguments(msgspec.Struct, frozen=True, kw_only=True):
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


class SchemaArguments(msgspec.Struct, frozen=True, kw_only=True):
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
        import difflib  # noqa: PLC0415 - only for a name that is unknown

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


def _json_type(value: JSON) -> str:
    return next((name for name, fits in _JSON_TYPES.values() if fits(value)), type(value).__name__)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
