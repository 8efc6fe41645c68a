"""A configuration key by key: names, kinds of values, secrets that do not belong into a file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from agentkit_reporting.configuration.faults import FaultList, holds_secret, name_of, shown
from agentkit_reporting.configuration.keys import KEYS, SUBSCRIBER_KINDS, Key, key_named
from agentkit_reporting.configuration.kinds import kind_of
from agentkit_reporting.configuration.registry import OBSERVERS, SUBSCRIBERS
from agentkit_reporting.redaction.secret_keys import is_secret_key
from agentkit_reporting.toml_source import Keys, nearest

__all__ = ["check_keys", "subscriber_kind"]

_NO_LETTERS = re.compile(r"[^a-z0-9*]")
_ANY = "*"


@attrs.define
class _Node:
    """A place in the tree of keys; `children` by name, `*` for any name."""

    key: Key | None = None
    children: dict[str, _Node] = attrs.Factory(dict)


def _grown(keys: Iterable[Key]) -> _Node:
    root = _Node()
    for key in keys:
        node = root
        for name in key.path:
            node = node.children.setdefault(name, _Node())
        node.key = key
    return root


_TREE = _grown(KEYS)


def check_keys(values: dict[str, Any], faults: FaultList) -> None:
    """Note every key that is none, every value of a wrong kind, and every secret."""
    for keys, text in _texts(values):
        if keys[:2] != ("redaction", "patterns") and holds_secret(text):
            faults.add(keys, _secret(keys))
    _check_table(_TREE, values, (), faults)


def subscriber_kind(name: str, table: Any) -> str:
    """Return of which kind a subscriber is: what its table says, else its name."""
    said = table.get("kind") if isinstance(table, dict) else None
    return said if isinstance(said, str) else name


def _check_table(node: _Node, table: dict[str, Any], keys: Keys, faults: FaultList) -> None:
    for name, value in table.items():
        inner = (*keys, name)
        if keys == ("subscribers",):
            _check_subscriber(name, value, faults)
            continue
        child = node.children.get(name) or node.children.get(_ANY)
        if child is not None:
            _check(child, value, inner, faults)
        elif keys == ("reporters",) and name in OBSERVERS.names():
            if not isinstance(value, (bool, dict)):
                faults.add(inner, _refused(inner, value, key_named("reporters.stdout")))
            _refuse_secret_keys(value, inner, faults)
        else:
            faults.add(inner, _unknown(node, inner, value))


def _check(node: _Node, value: Any, keys: Keys, faults: FaultList) -> None:
    if isinstance(value, dict) and node.children:
        _check_table(node, value, keys, faults)
    elif keys == ("redaction", "patterns"):
        faults.add(keys, "redaction.patterns refused; name rules as rules = […], and own patterns in a table")
    elif node.key is None:
        name = name_of(keys)
        faults.add(keys, f"{name} refused because it is {kind_of(value)}; write a table [{name}]")
    elif not node.key.kind.accepts(value):
        faults.add(keys, _refused(keys, value, node.key))
    elif isinstance(value, dict) and keys[:1] == ("subscribers",):
        _refuse_secret_keys(value, keys, faults)


def _check_subscriber(name: str, table: Any, faults: FaultList) -> None:
    keys = ("subscribers", name)
    if not isinstance(table, dict):
        faults.add(keys, f"{name_of(keys)} refused because it is {kind_of(table)}; write a table")
        return
    kind = subscriber_kind(name, table)
    if kind in SUBSCRIBER_KINDS:
        node = _TREE.children["subscribers"].children[kind]
        known = {**node.children, "kind": _TREE.children["subscribers"].children["webhook"].children["kind"]}
        _check_table(_Node(children=known), table, keys, faults)
        return
    if kind not in (names := SUBSCRIBERS.names()):
        place = (*keys, "kind") if "kind" in table else keys
        told = f"{name_of(keys)} refused because nobody is called {shown(kind)}"
        faults.add(place, f"{told}; {nearest(kind, (*SUBSCRIBER_KINDS, *names))}")
        return
    _refuse_secret_keys(table, keys, faults)


def _refuse_secret_keys(value: Any, keys: Keys, faults: FaultList) -> None:
    """Note keys of settings that only their owner knows, whose values look secret by their names."""
    if isinstance(value, dict):
        for name, member in value.items():
            if is_secret_key(name) and not isinstance(member, (bool, dict, list)):
                faults.add((*keys, name), _secret((*keys, name)))
            else:
                _refuse_secret_keys(member, (*keys, name), faults)


def _refused(keys: Keys, value: Any, key: Key) -> str:
    quoted = "" if key.kind.hides else f"={shown(value)}"
    return f"{name_of(keys)}{quoted} refused; {key.kind.remedy(value)}"


def _secret(keys: Keys) -> str:
    name = next((key for key in reversed(keys) if isinstance(key, str)), "")
    hint = "token_env" if holds_secret(name) else f"{name}_env"
    return (
        f"{name_of(keys)} refused because a secret does not belong into a file; put it into an environment variable, "
        f"and name that where there is a key for it, as in {hint}"
    )


def _unknown(node: _Node, keys: Keys, value: Any) -> str:
    """Return what is said of a key that is none, with the one that was meant."""
    name, whole = str(keys[-1]), name_of(keys)
    meant = _by_other_names(name, node)
    if is_secret_key(name) or (meant is not None and meant.endswith("_env") and not name.endswith("_env")):
        remedy = f"name an environment variable as {meant!r}" if meant else "put it into the environment"
        return f"{whole} refused because a secret does not belong into a file; {remedy}"
    if name == "tool" and isinstance(value, dict) and len(keys) == 1:
        return f"{whole} refused because this is no pyproject.toml; write [storage] in place of [tool.agentkit.storage]"
    known = [each for each in node.children if each != _ANY]
    if keys[0] == "reporters" and len(keys) == 2:  # noqa: PLR2004 - a name in the section
        known += OBSERVERS.names()
    if meant is None and not difflib.get_close_matches(name, known, n=1):
        meant = _elsewhere(name)
    remedy = f"did you mean {meant!r}?" if meant else nearest(name, known)
    return f"{whole} refused because there is no such key; {remedy}"


def _by_other_names(name: str, node: _Node) -> str | None:
    plain = _plain(name)
    for known, child in node.children.items():
        also = child.key.also if child.key is not None else ()
        also += (known.removesuffix("_env"),)
        if plain == _plain(known) or plain in map(_plain, also):
            return known
    return None


def _elsewhere(name: str) -> str | None:
    """Return the whole name of a key that is called so in another section, if there is only one."""
    found = [key.name for key in KEYS if key.path[-1] == name or key.path[0] == name]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return _NO_LETTERS.sub("", name.lower())


def _texts(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Give every text with the way to it; names that the host chooses are texts as well."""
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield (*keys, name), name
            yield from _texts(member, (*keys, name))
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from _texts(member, (*keys, number))
