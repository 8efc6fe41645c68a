"""Names of a package that are loaded when they are first asked for: what `__getattr__` of both packages does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["loaded"]


def loaded(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return what a package calls by that name, or the submodule, and keep it there; raises AttributeError.

    homes: of each name, the module of the package that it lives in.
    """
    home = homes.get(name)
    try:
        module = importlib.import_module(f"{package}.{home or name}")
    except ModuleNotFoundError as error:
        if home is not None or error.name != f"{package}.{name.partition('.')[0]}":
            raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
    found = getattr(module, name) if home else module
    setattr(sys.modules[package], name, found)  # so that this is asked once
    return found
