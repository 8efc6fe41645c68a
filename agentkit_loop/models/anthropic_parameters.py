"""What a host may pass on to the Messages API beside the conversation, and what may be told of it."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.late import late_pattern
from agentkit_loop.values import JSON, clean_text, to_json

OURS = frozenset({"messages", "model", "stream", "system"})
"""Parameters that the loop's request holds."""

_OF_THE_TRANSPORT = frozenset({"extra_headers", "extra_query", "timeout"})
"""Parameters of the SDK that are no part of the body; it takes them as they are."""

_BETA = "anthropic-beta"

MIN_SECRET = 4
"""Characters of the shortest secret: masking less would garble the text."""

_SECRET_HEADER = late_pattern(
    r"authorization|secret|passw|credential|cookie|key|token|signature", re.IGNORECASE
)
_SECRET = late_pattern(
    r"header|authorization|secret|passw|credential|cookie|api_?key|(?:^|_)token$|^extra_query$", re.IGNORECASE
)
_URL = late_pattern(r"([a-z][a-z0-9+.-]*://)(?:[^/?#@]*@)?([^?#]*)", re.IGNORECASE)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a parameter that is the agent's to give, or whose value is no JSON."""
    for name, value in parameters.items():
        if name in OURS:
            raise ConfigurationError(f"parameter {name!r} refused; the agent gives it with each request")
        if name in _OF_THE_TRANSPORT:
            continue
        try:
            odd = _odd(value, name)
        except RecursionError:
            odd = f"{name} contains itself"
        if odd is not None:
            raise ConfigurationError(f"parameter {name!r} refused: {odd}; give a value that JSON can hold")
        if name == "betas" and value is not None and not _is_list_of_texts(value):
            raise ConfigurationError(f"parameter 'betas' refused, {value!r}; give a list of names")
        if name == "tools" and value is not None and not _is_list_of_objects(value):
            raise ConfigurationError(f"parameter 'tools' refused, {value!r}; give a list of tool definitions")


def move_betas(parameters: dict[str, Any]) -> None:
    """Make the header of `betas`, which the SDK takes for its beta API alone; a header of the host's stays."""
    betas = parameters.pop("betas", None)
    if not betas:
        return
    headers = dict(parameters.get("extra_headers") or {})
    name = next((name for name in headers if name.lower() == _BETA), _BETA)
    told = str(headers.get(name, "")).split(",")
    wanted = [beta.strip() for beta in (*told, *betas) if beta.strip()]
    headers[name] = ",".join(dict.fromkeys(wanted))
    parameters["extra_headers"] = headers


def secrets_of(headers: Mapping[str, Any], base_url: str) -> tuple[str, ...]:
    """Return what is secret in the headers of a request and in its address, the longest first."""
    found: set[str] = set()
    for name, value in headers.items():
        if isinstance(value, str) and _SECRET_HEADER.search(name):
            found |= {value, value.rpartition(" ")[2]}  # "Bearer …"
    user = re.match(r"[a-z][a-z0-9+.-]*://([^/?#@]+)@", base_url, re.IGNORECASE)
    if user is not None:
        told = unquote(user[1])
        found |= {told, told.partition(":")[2], base64.b64encode(told.encode()).decode()}
    return tuple(sorted((each for each in found if len(each) >= MIN_SECRET), key=len, reverse=True))


def told_parameters(parameters: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, JSON]:
    """Return the parameters as JSON without what is secret.

    Left out: headers, query strings, texts under names such as `authorization_token`, user and query of a
    `url`. The secrets given are masked wherever they stand.
    """
    told = _told(to_json(dict(parameters)), secrets)
    return {name: value for name, value in told.items() if _SECRET.search(name) is None}


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(tool, dict) for tool in value)


def _odd(value: object, place: str) -> str | None:
    """Return what in a value is no JSON and where, None where all is."""
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if math.isfinite(value) else f"{place} is {value!r}"
        case str():
            return None if clean_text(value) == value else f"{place} has half of a character"
        case list() | tuple():
            members = ((f"{place}[{index}]", member) for index, member in enumerate(value))
        case dict():
            for key in value:
                if not isinstance(key, str):
                    return f"{place} has the key {key!r}"
            members = ((f"{place}.{key}", member) for key, member in value.items())
        case _:
            return f"{place} is of type {type(value).__name__}"
    return next((odd for inner, member in members if (odd := _odd(member, inner)) is not None), None)


def _told(value: JSON, secrets: tuple[str, ...]) -> JSON:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, list):
        return [_told(member, secrets) for member in value]
    if not isinstance(value, dict):
        return value
    told = {}
    for name, member in value.items():
        if _SECRET.search(name) and (isinstance(member, str) or "header" in name.lower()):
            continue
        if name == "url" and isinstance(member, str) and (found := _URL.match(member)) is not None:
            member = found[1] + found[2]  # noqa: PLW2901 - the name of what is told next
        told[name] = _told(member, secrets)
    return told
