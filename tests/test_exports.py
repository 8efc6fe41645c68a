"""`__all__` is what can be imported, and what can be imported is in `__all__`."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import agentkit_loop
import agentkit_reporting
from agentkit_loop import errors, testing
from agentkit_loop.events import EVENT_TYPES

PACKAGES = [agentkit_loop, agentkit_reporting, testing]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_exported_name_can_be_imported(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined] # each has one
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(package, name) is not None


@pytest.mark.parametrize("package", ["agentkit_loop", "agentkit_reporting"])
def test_no_exported_name_is_hidden_by_a_module_of_that_name(package: str) -> None:
    check = (
        f"import {package} as package, types\n"
        "for name in package.__all__:\n"
        "    space = {}\n"
        f"    exec(f'from {package} import {{name}} as found', space)\n"
        "    assert not isinstance(space['found'], types.ModuleType), name\n"
        "    assert getattr(package, name) is space['found'], name\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("package", [agentkit_loop, agentkit_reporting], ids=lambda package: package.__name__)
def test_every_imported_name_is_exported(package: object) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined] # a module
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agentkit_")
        for alias in node.names
    }
    assert imported == set(package.__all__)  # type: ignore[attr-defined] # each has one


def test_an_unknown_name_is_an_attribute_error() -> None:
    for name in ("agentkit_loop", "agentkit_reporting"):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            importlib.import_module(name).nothing  # noqa: B018 - the access is the point


def test_every_event_class_is_exported() -> None:
    assert {cls.__name__ for cls in EVENT_TYPES.values()} | {"UnknownEvent", "AgentEvent"} <= set(
        agentkit_loop.__all__
    )


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    drawing = (errors.__doc__ or "").split("\n\n")[1].splitlines()
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in drawing:
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        name = line.lstrip("│├└─ ").split()[0]
        path = [*path[:depth], name]
        drawn[name] = path[-2] if depth else None
    real = {
        name: None if cls is errors.AgentKitError else cls.__bases__[0].__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception)
    }
    assert drawn == real
