"""`agentkit config`: the configuration that holds, where each value came from, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.cli.drawing import Cell, Pieces, Table, drawn, grid, styled_line
from agentkit_reporting.cli.reading import whisper
from agentkit_reporting.configuration.checks import warnings_of
from agentkit_reporting.configuration.configured import checked_settings
from agentkit_reporting.configuration.faults import ConfigurationFault, InvalidConfigurationError, shown
from agentkit_reporting.configuration.observers import Planned, planned_observers
from agentkit_reporting.configuration.settings import DEFAULT, Setting
from agentkit_reporting.configuration.template import template_text, toml_value
from agentkit_reporting.terminal import counted, json_text, visible

if TYPE_CHECKING:
    from agentkit_reporting.configuration.settings import Settings

_VALUE_COLUMNS, _DETAIL_COLUMNS = 60, 200


@click.command("config")
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--check", is_flag=True, help="Say what is wrong, else what would be made; make nothing.")
@click.option("--template", is_flag=True, help="Print every key with its default and what it does, as TOML.")
@click.option("--json", "for_programs", is_flag=True, help="Print one JSON object.")
def command(*, file: str | None, check: bool, template: bool, for_programs: bool) -> int:
    """Show the configuration that holds, and where each value came from.

    FILE is a TOML file, or a pyproject.toml with [tool.agentkit]. Without it: that of AGENTKIT_CONFIG,
    ./agentkit.toml, or the nearest pyproject.toml with that table. AGENTKIT_LOG_DIR, AGENTKIT_CONTENT,
    AGENTKIT_DISABLED and AGENTKIT_PRICES win over the file. No secret is printed.

    Exit 0 for a configuration that works, 1 where --check finds faults, 2 where it cannot be shown for them.
    """
    if template:
        if check or for_programs or file is not None:
            raise click.UsageError("--template refused beside FILE and other options; give it alone")
        sys.stdout.write(template_text())
        return 0
    settings, faults = _looked_at(file, check=check)
    if check:
        return _check(settings, faults, for_programs=for_programs)
    if settings is None or faults:
        for fault in faults:
            whisper(str(fault))
        return 2
    if for_programs:
        found = [_as_json(setting, settings) for setting in settings.all()]
        sys.stdout.write(json_text({"file": _name(settings), "settings": found}) + "\n")
        return 0
    table = Table("", ("key", "value", "from"), _rows(settings), names=3, whole=("key", "from"))
    sys.stdout.write(drawn(lambda console: console.print(grid(table, console.width))))
    return 0


def _looked_at(file: str | None, *, check: bool) -> tuple[Settings | None, tuple[ConfigurationFault, ...]]:
    """Return what holds and what is wrong; raises ConfigurationError for a file that is not there."""
    try:
        settings, faults = checked_settings(file, {})
    except ConfigurationError as error:
        if not check or (file is not None and not Path(file).exists()):
            raise
        return None, (ConfigurationFault("", 0, "", str(error)),)
    try:
        faults.raise_all()
    except InvalidConfigurationError as error:
        return settings, error.faults
    return settings, ()


# --- --check


def _check(settings: Settings | None, faults: tuple[ConfigurationFault, ...], *, for_programs: bool) -> int:
    planned = [] if settings is None or faults or settings["disabled"] else planned_observers(settings, {})
    if for_programs:
        told: dict[str, Any] = {
            "ok": not faults,
            "file": None if settings is None else _name(settings),
            "disabled": False if settings is None else settings["disabled"],
            "faults": [
                {"place": each.place, "line": each.line, "key": each.key, "text": each.text}
                for each in faults
            ],
            "warnings": [] if settings is None or faults else warnings_of(settings),
            "observers": [{"name": each.name, "class": each.kind, "detail": each.detail} for each in planned],
        }
        sys.stdout.write(json_text(told) + "\n")
    elif settings is None or faults:
        lines: list[Pieces] = [_fault_line(fault) for fault in faults]
        lines.append((("bad", counted(len(faults), "fault")),))
        _print(lines)
    else:
        _tell_plan(settings, planned)
    return int(bool(faults))


def _fault_line(fault: ConfigurationFault) -> Pieces:
    text = visible(fault.text).replace("\n", " ")
    return (("dim", f"{visible(fault.place)}: "), text) if fault.place else (text,)


def _tell_plan(settings: Settings, planned: list[Planned]) -> None:
    name = _name(settings)
    lines: list[Pieces] = [
        (f"{'no file, the defaults' if name is None else visible(name)}: ", ("good", "ok"))
    ]
    if settings["disabled"]:
        lines.append((("warn", f"switched off by {settings.setting('disabled').origin}: nothing is made"),))
    elif not planned:
        lines.append(("no observer is made",))
    lines += [(("warn", visible(each)),) for each in warnings_of(settings)]
    _print(lines)
    rows: list[list[Cell]] = [
        [each.name, each.kind, ("dim", visible(each.detail).replace("\n", " ")[:_DETAIL_COLUMNS])]
        for each in planned
    ]
    if rows:
        table = Table("", ("observer", "class", "where or what"), rows, names=3, whole=("observer", "class"))
        sys.stdout.write(drawn(lambda console: console.print(grid(table, console.width))))


def _print(lines: list[Pieces]) -> None:
    def draw(console: Any) -> None:
        for line in lines:
            console.print(styled_line(line), soft_wrap=True)

    sys.stdout.write(drawn(draw))


# --- what holds


def _name(settings: Settings) -> str | None:
    return None if settings.file is None else settings.file.source.path


def _rows(settings: Settings) -> list[list[Cell]]:
    """Return a line for each value, under a line for its section."""
    sections: dict[str, list[Setting]] = {}
    for setting in settings.all():
        sections.setdefault(setting.section, []).append(setting)
    rows: list[list[Cell]] = []
    for section, members in sections.items():
        if section:
            rows.append([("strong", f"[{visible(section)}]"), "", ""])
        for setting in members:
            style = "dim" if setting.origin == DEFAULT else ""
            value = "-" if setting.value is None else _told(setting, settings)
            key = visible(setting.name.removeprefix(f"{section}."))
            rows.append([(style, key), (style, value[:_VALUE_COLUMNS]), ("dim", visible(setting.origin))])
    return rows


def _told(setting: Setting, settings: Settings) -> str:
    """Return a value as TOML has it; what looks like a secret as nothing of it, a variable with whether it is set."""
    if shown(setting.value) == "…":
        return "…"
    text = visible(toml_value(setting.value)).replace("\n", " ")
    return f"{text}{_whether_set(setting, settings)}"


def _whether_set(setting: Setting, settings: Settings) -> str:
    if not setting.name.endswith("_env") or not isinstance(setting.value, str):
        return ""
    return " (set)" if settings.environ.get(setting.value, "").strip() else " (not set)"


def _as_json(setting: Setting, settings: Settings) -> dict[str, Any]:
    value = "…" if shown(setting.value) == "…" else setting.value
    told = {"key": setting.name, "value": value, "from": setting.origin}
    if setting.name.endswith("_env") and isinstance(setting.value, str):
        told["is_set"] = bool(settings.environ.get(setting.value, "").strip())
    return told
