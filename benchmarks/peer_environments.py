"""The environments of the frameworks that ours is measured against: made once, outside the repository.

Each is a virtual environment of this Python with pinned packages, in the folder that the variable
AGENTKIT_BENCH_ENVS names, else in the user's cache. One that holds other versions is installed into again.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["ENVIRONMENTS", "Environment", "EnvironmentUnavailableError", "environments_folder"]

VARIABLE = "AGENTKIT_BENCH_ENVS"
INSTALL_S = 900.0
"""Seconds that an environment may take to be made."""

_ATTRS = "attrs==26.1.0"  # what benchmarks/session.py needs


class EnvironmentUnavailableError(Exception):
    """An environment is not there and cannot be made."""


@attrs.frozen
class Environment:
    """What a framework runs in. packages: pinned; the first is the framework, `anthropic` what it talks through."""

    name: str
    packages: Sequence[str]

    def python(self, folder: Path) -> Path:
        """Return its Python, made where it is not in that folder; raise EnvironmentUnavailableError otherwise."""
        python = self._path(folder, "scripts") / "python"
        if self._holds_its_packages(folder):
            return python
        made = [sys.executable, "-m", "venv", str(self._root(folder))]
        installed = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (made, [*installed, *self.packages]):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
            except subprocess.CalledProcessError as error:
                told = (error.stderr or error.stdout).strip().splitlines() or [str(error)]
                raise EnvironmentUnavailableError(told[-1]) from error
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EnvironmentUnavailableError(str(error)) from error
        return python

    def version(self, folder: Path) -> str:
        """Return the versions of the framework and of its SDK, "left out" where they are not there."""
        if not self._holds_its_packages(folder):
            return "left out"
        pinned = dict(_name_and_version(package) for package in self.packages)
        return f"{next(iter(pinned.values()))} (anthropic {pinned['anthropic']})"

    def _holds_its_packages(self, folder: Path) -> bool:
        library = str(self._path(folder, "purelib"))
        for package in self.packages:
            name, version = _name_and_version(package)
            found = importlib.metadata.distributions(name=name, path=[library])
            if [distribution.version for distribution in found] != [version]:
                return False
        return True

    def _root(self, folder: Path) -> Path:
        return folder / f"{self.name}-py{sysconfig.get_python_version()}"

    def _path(self, folder: Path, kind: str) -> Path:
        root = str(self._root(folder))
        return Path(sysconfig.get_path(kind, "venv", {"base": root, "platbase": root}))


def _name_and_version(package: str) -> tuple[str, str]:
    name, _, version = package.partition("==")
    return name.partition("[")[0], version


ENVIRONMENTS = (
    Environment("pydantic-ai", ("pydantic-ai-slim[anthropic]==2.68.0", "anthropic==2.12.0", _ATTRS)),
    Environment("langchain", ("langchain==1.4.7", "langchain-anthropic==1.7.7", "anthropic==2.12.0", _ATTRS)),
    Environment("strands", ("strands-agents[anthropic]==1.62.0", "anthropic==0.125.0", _ATTRS)),
)
"""strands takes no newer SDK than that."""


def environments_folder() -> Path:
    """Return the folder that holds them all."""
    given = os.environ.get(VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(cache) if cache else Path.home() / ".cache") / "agentkit-bench"
