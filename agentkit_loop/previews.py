"""What a person is shown before a call is approved: what write_file, edit_file and run_command would do.

`preview` looks at the files as they are now: a unified diff, or the whole command and its directory. What it
gives is bounded, and it never raises; of a call that would be refused it shows the refusal. A summary is one
line, with escapes for what is not printable; the lines are what the model and the files say, and who prints
them neutralises control characters.

`summary_of_write` and the others are made of a call's arguments alone, with no look at a file. They are for
`Tool.summary`, and so for `ApprovalRequired`: a replay, where the files are others, tells the same.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping

import attrs
import msgspec

from agentkit_loop.file_changes import FileChange, check_place, edited, extent, written
from agentkit_loop.file_reach import MAX_PATH_CHARS, Reach, quoted
from agentkit_loop.file_reading import many
from agentkit_loop.line_diff import lines_of
from agentkit_loop.values import JSON, safe_repr

MAX_LINES = 1_000
"""Lines of a preview; those of a command are never left out."""

MAX_LINE_CHARS = 2_000
"""Characters of one of them."""

MAX_CHARS = 100_000
"""Characters of all of them, about."""

MAX_COMMAND_CHARS = 20_000
"""Characters of a command: run_command refuses a longer one, so that a person is shown all of it."""

_MAX_NAMED = 120  # characters of a path or command in a summary
_MAX_ARGUMENTS = 500  # characters of another tool's arguments in a summary


@attrs.frozen
class Preview:
    """What a call would do. summary: in one line. lines: in full. is_whole: whether nothing is left out there.

    refusal: why its tool would refuse it as things are now, in one sentence; None where it would not.
    """

    summary: str
    lines: tuple[str, ...]
    is_whole: bool
    refusal: str | None = None


def preview(tool_name: str, arguments: Mapping[str, JSON], reach: Reach | None) -> Preview:
    """Return what a call would do to the files in reach as they are now; never raises.

    A call of another tool, or with arguments that do not fit, is shown as it is; so is every call where the
    reach is None, which is for tools that only have the names of ours.
    """
    try:
        if reach is None:
            return _of_other(tool_name, arguments)
        match tool_name:
            case "write_file":
                path, content = _texts(arguments, "path", "content")
                return _of_change(
                    reach, "write", summary_of_write(arguments), lambda: written(reach, path, content)
                )
            case "edit_file":
                path, old, new = _texts(arguments, "path", "old", "new")
                return _of_change(
                    reach, "edit", summary_of_edit(arguments), lambda: edited(reach, path, old, new)
                )
            case "run_command":
                (command,) = _texts(arguments, "command")
                return _of_command(command, reach.root)
            case _:
                return _of_other(tool_name, arguments)
    except _NotTextError:
        return _of_other(tool_name, arguments)
    except Exception as error:  # noqa: BLE001 - whatever fails is told to the person, and ends no run
        return Preview(_call(tool_name, arguments), (f"no preview: {safe_repr(error)}",), is_whole=False)


# --- summaries of arguments alone


def summary_of_write(arguments: Mapping[str, JSON]) -> str:
    """Return such as `write src/a.py (12 lines)`; never raises."""
    try:
        path, content = _texts(arguments, "path", "content")
    except _NotTextError:
        return _call("write_file", arguments)
    return f"write {_printable(path)} ({many(len(lines_of(content)), 'line')})"


def summary_of_edit(arguments: Mapping[str, JSON]) -> str:
    """Return such as `edit src/a.py (1 line becomes 3)`; never raises."""
    try:
        path, old, new = _texts(arguments, "path", "old", "new")
    except _NotTextError:
        return _call("edit_file", arguments)
    before, after = len(lines_of(old)), len(lines_of(new))
    become = "becomes" if before == 1 else "become"
    return f"edit {_printable(path)} ({many(before, 'line')} {become} {after:,})"


def summary_of_command(arguments: Mapping[str, JSON]) -> str:
    """Return such as `run: git status`; never raises."""
    try:
        (command,) = _texts(arguments, "command")
    except _NotTextError:
        return _call("run_command", arguments)
    return f"run: {_command_in_short(command)}"


# --- previews


def _of_change(reach: Reach, verb: str, planned: str, find_out: Callable[[], FileChange]) -> Preview:
    """Return the preview of a change to a file. planned: its summary where it is refused."""
    try:
        change = find_out()
        check_place(reach, change)
    except (OSError, ValueError) as error:
        return _refused(planned, str(error))
    diff = change.diff()
    given = "/".join(name for name in change.path.split("/") if name not in ("", "."))
    real = "/".join(change.parts)
    # Of a link it is what it leads to that changes.
    named = _printable(real) if given == real else f"{_printable(given)} -> {_printable(real)}"
    summary = f"{verb} {named} ({extent(change, diff)})"
    if diff is None:
        marked = (f"+{line.removesuffix(chr(10))}" for line in lines_of(change.after))
        return _bounded(summary, itertools.chain(("(what is there now cannot be shown)",), marked))
    if not diff.blocks:
        return _bounded(summary, ["(an empty file)" if change.is_new else "(no change)"])
    place = _printable(real, MAX_PATH_CHARS)
    header = ("--- /dev/null" if change.is_new else f"--- {place}", f"+++ {place}")
    return _bounded(summary, itertools.chain(header, diff.unified()))


def _of_command(command: str, directory: str) -> Preview:
    """Return the preview of a command: behind its directory all of its lines, marked as a shell marks them."""
    summary = f"run in {_printable(directory)}: {_command_in_short(command)}"
    try:
        check_command(command)
    except ValueError as error:
        return _refused(summary, str(error))
    first, *others = command.split("\n")
    told = (f"in {_printable(directory, MAX_PATH_CHARS)}", f"$ {first}", *(f"> {line}" for line in others))
    return Preview(summary, told, is_whole=True)


def _refused(planned: str, refusal: str) -> Preview:
    """Return the preview of a call that would fail. planned: its summary. refusal: untrusted, as a path is."""
    said = _printable(refusal, MAX_LINE_CHARS)
    return Preview(f"{planned}: refused", (f"refused: {said}",), is_whole=True, refusal=said)


def _of_other(tool_name: str, arguments: object) -> Preview:
    try:
        text = msgspec.json.format(msgspec.json.encode(arguments), indent=2).decode()
    except (TypeError, ValueError, RecursionError):
        text = safe_repr(arguments)
    return _bounded(_call(tool_name, arguments), text.split("\n"))


def check_command(command: str) -> None:
    """Raise ValueError, with a sentence, for what run_command refuses to run."""
    if not command.strip() or len(command) > MAX_COMMAND_CHARS:
        raise ValueError(
            f"command {quoted(command)} refused; give 1 to {MAX_COMMAND_CHARS:,} characters, "
            "or write a script file"
        )
    try:
        fits = b"\0" not in os.fsencode(command)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ValueError(f"command {quoted(command)} holds a NUL or a lone surrogate; give it without")


# --- bounds


def _bounded(summary: str, lines: Iterable[str]) -> Preview:
    """Return a preview with as many lines as it may have, and a word on what is left out."""
    kept: list[str] = []
    chars = left_out = 0
    is_whole = True
    for line in lines:
        if len(kept) == MAX_LINES or chars > MAX_CHARS:
            left_out += 1
            continue
        if len(line) > MAX_LINE_CHARS:
            is_whole = False
            kept.append(f"{line[:MAX_LINE_CHARS]}… [{len(line) - MAX_LINE_CHARS:,} more characters]")
        else:
            kept.append(line)
        chars += len(kept[-1])
    if left_out:
        kept.append(f"… [{many(left_out, 'more line')}]")
    return Preview(summary, tuple(kept), is_whole and not left_out)


def _printable(text: str, most: int = _MAX_NAMED) -> str:
    """Return the beginning of a text on one line; what is not printable as an escape."""
    shown = text if len(text) <= most else f"{text[:most]}…"
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def _command_in_short(command: str) -> str:
    more = f" ({len(command):,} characters)" if len(command) > _MAX_NAMED else ""
    return f"{_printable(command)}{more}"


def _call(tool_name: str, arguments: object) -> str:
    """Return a call that no summary fits."""
    return f"{_printable(tool_name)}({_printable(safe_repr(arguments), _MAX_ARGUMENTS)})"


# --- arguments


class _NotTextError(Exception):
    """An argument is missing or no text."""


def _texts(arguments: object, *names: str) -> list[str]:
    """Return the arguments of these names; raises _NotTextError."""
    if not isinstance(arguments, Mapping):
        raise _NotTextError
    found: list[str] = []
    for name in names:
        value = arguments.get(name)
        if not isinstance(value, str):
            raise _NotTextError
        found.append(value)
    return found
