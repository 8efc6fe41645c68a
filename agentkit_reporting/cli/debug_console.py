"""The walk of `agentkit debug` on a terminal: a line is read, what it asks for is shown, until it is left."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agentkit_loop.errors import AgentKitError, ConfigurationError
from agentkit_reporting.analysis.debug_replay import DebugReplay
from agentkit_reporting.analysis.debug_step import KINDS
from agentkit_reporting.cli.debug_page import DebugPage, Line
from agentkit_reporting.page import TerminalStream
from agentkit_reporting.terminal import counted, one_line, visible

__all__ = ["DebugConsole", "resume_command"]

_HELP = (
    ("Enter, n [N]", "over the next step, or the next N"),
    ("p [N]", "back one step, or N"),
    ("g N, N", "to step N; g 0 the beginning, g $ the end"),
    ("/TEXT", "to the next step that says TEXT, whatever the case; / alone: once more"),
    ("e", "to the next step that failed or has no end"),
    ("l", "the steps around this one; l all: all of them"),
    ("v", "all that this step says, page by page"),
    ("t", "the conversation up to here"),
    ("s", "where the session stands: phase, open calls, what was used"),
    ("k KIND", "only steps of this kind (k: all again)"),
    ("o TOOL", "only steps of this tool (o: all again)"),
    ("f [FILE]", "fork: a new session that goes on from here, in a new log"),
    ("h, ?", "this"),
    ("q", "leave; so do Ctrl-D and Ctrl-C"),
)
_COMMAND_COLUMNS = 14
_BEFORE, _AFTER = 6, 10  # steps that `l` shows around the current one
_ALL = 1_000_000_000  # lines: more than a value has
_TOOLS_WRITING = frozenset({"write_file", "edit_file"})
_TOOLS_READING = frozenset({"list_files", "read_file", "search_files"})


class DebugConsole:
    """Walks through a replay. kinds, tools: what is gone over in the beginning; empty for all.

    failed: only what failed or has no end is gone over, until another filter is chosen.
    """

    def __init__(
        self, replay: DebugReplay, *, kinds: tuple[str, ...], tools: tuple[str, ...], failed: bool = False
    ) -> None:
        self._whole = replay
        self._failed = failed
        self._kinds, self._tools = kinds, tools
        self._replay = self._filtered(kinds, tools)
        self._out = TerminalStream(None, colour=None, width=None)
        self._out.open()
        self._page = DebugPage(replay, self._out.width, self._out.glyphs)
        self._searched = ""
        self._commands: dict[str, Callable[[str], object]] = {
            "n": self._next,
            "p": self._previous,
            "g": self._go,
            "e": lambda _: self._next_trouble(),
            "l": self._list,
            "v": lambda _: self._show_all(),
            "t": lambda _: self._show_transcript(),
            "s": lambda _: self._show_state(),
            "k": self._choose_kind,
            "o": self._choose_tool,
            "f": self._fork,
            "h": lambda _: self._help(),
            "?": lambda _: self._help(),
        }

    def walk(self, number: int | None = None) -> int:
        """Go from step `number`, else from the first, until the person leaves; return the exit code."""
        with contextlib.suppress(ImportError, OSError):
            import readline  # noqa: PLC0415 - only where a person types

            readline.parse_and_bind("set enable-bracketed-paste off")
        try:
            self._begin(number)
            while not self._out.stopped:
                given = self._asked(self._prompt())
                if given is None or given in ("q", "quit", "exit"):
                    return 0
                with self._refusals():
                    self._do(given)
        except KeyboardInterrupt:
            self._out.write("\n")
            return 130
        return 0

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except AgentKitError as error:
            self._say("warn", str(error))

    def _begin(self, number: int | None) -> None:
        kind = "session" if self._whole.is_event_log else "run"
        name = one_line(self._whole.session_id, self._out.width - 40, self._out.glyphs.cut)
        self._say("dim", f"{kind} {name}: {counted(len(self._whole), 'step')}; h shows the commands")
        summary = self._whole.summary()
        self._out.write(self._out.line(self._page.summary(summary)))
        for line in self._page.end(summary):
            self._out.write(self._out.line(line))
        if number is None:
            self._replay.step()
        else:
            self._seek(number)
        self._show()

    def _do(self, given: str) -> None:
        """Do what a line asks for."""
        if given.startswith("/"):
            self._search(given[1:].strip())
            return
        word, _, argument = given.partition(" ")
        if not word or word == "next":
            word = "n"
        elif word.isdecimal() or word == "$":
            word, argument = "g", word
        elif word[0] == "g" and word[1:].isdecimal():
            word, argument = "g", word[1:]
        command = self._commands.get(word)
        if command is None:
            self._say("warn", f"{word[:20]!r} is no command; h shows which there are")
        else:
            command(argument.strip())

    # --- moving

    def _next(self, argument: str) -> None:
        position = self._replay.position
        if position == len(self._replay):
            self._say("dim", "this is the end")
            return
        self._replay.seek(min(position + self._count(argument), len(self._replay)))
        self._show()

    def _previous(self, argument: str) -> None:
        count = self._count(argument)
        if self._replay.position <= 1:
            self._replay.reset()
            self._say("dim", "this is the beginning; nothing has happened yet")
            return
        self._replay.seek(max(self._replay.position - count, 1))
        self._show()

    def _count(self, argument: str) -> int:
        if not argument:
            return 1
        count = int(argument[:18]) if argument.isdecimal() else 0
        if not count:
            raise ConfigurationError(f"{argument[:20]!r} refused; give a number of steps, or nothing for one")
        return count

    def _next_trouble(self) -> None:
        """Go to the next step that failed or has no end; behind the last one from the beginning again."""
        found = [index for index, step in enumerate(self._replay) if step.is_trouble]
        if not found:
            self._say("dim", "no step failed, and each has an end")
            return
        after = [index for index in found if index >= self._replay.position]
        if not after:
            self._say("dim", "from the beginning again")
        self._replay.seek((after or found)[0] + 1)
        self._show()

    def _go(self, argument: str) -> None:
        if argument in ("$", "end", "last"):
            self._replay.seek(len(self._replay))
            self._show()
        elif argument.isdecimal():
            self._seek(int(argument[:18]))
            self._show()
        else:
            raise ConfigurationError(f"{argument[:20]!r} refused; give the number of a step, as in g 12")

    def _seek(self, number: int) -> None:
        try:
            self._replay.seek_number(number)
        except IndexError:
            last = self._replay[-1].number if len(self._replay) else 0
            is_filtered = self._kinds or self._tools or self._failed
            what = " that the filter lets through" if is_filtered else ""
            raise ConfigurationError(f"there is no step {number:,}{what}; give 0 to {last:,}") from None

    def _search(self, text: str) -> None:
        wanted = text or self._searched
        if not wanted:
            raise ConfigurationError("search for nothing refused; give a text, as in /error")
        self._searched = wanted
        found = self._replay.search(wanted)
        if not found:
            self._say("dim", f"no step says {one_line(wanted, 40)!r}")
            return
        after = [index for index in found if index >= self._replay.position]
        if not after:
            self._say("dim", "from the beginning again")
        index = (after or found)[0]
        self._replay.seek(index + 1)
        self._say("dim", f"{found.index(index) + 1:,} of {counted(len(found), 'step')} with that text")
        self._show()

    # --- filters

    def _filtered(self, kinds: tuple[str, ...], tools: tuple[str, ...]) -> DebugReplay:
        if not (kinds or tools or self._failed):
            return self._whole
        return self._whole.filter(kind=kinds or None, tool=tools or None, trouble=self._failed)

    def _choose_kind(self, argument: str) -> None:
        kinds = tuple(argument.replace(",", " ").replace("-", "_").split())
        if kinds == ("?",):
            self._say("dim", f"kinds: {', '.join(KINDS)}")
            return
        self._choose(kinds, self._tools)

    def _choose_tool(self, argument: str) -> None:
        self._choose(self._kinds, (argument,) if argument else ())

    def _choose(self, kinds: tuple[str, ...], tools: tuple[str, ...]) -> None:
        failed, self._failed = self._failed, False
        chosen = self._filtered(kinds, tools)
        if not len(chosen):
            self._failed = failed
            called = sorted({step.tool for step in self._whole if step.tool is not None})
            known = ", ".join(one_line(name, 30) for name in called[:10])
            told = f"; tools: {known}" if tools and known else ""
            self._say("dim", f"no step is of that kind{' and tool' if tools else ''}; all as before{told}")
            return
        here = self._replay.current
        self._kinds, self._tools, self._replay = kinds, tools, chosen
        numbers = [step.number for step in chosen]
        passed = sum(number <= (here.number if here else 0) for number in numbers)
        chosen.seek(max(passed, 1))
        self._say("dim", f"{len(chosen):,} of {counted(len(self._whole), 'step')}")
        self._show()

    # --- showing

    def _show(self) -> None:
        """Show the step that was over last."""
        step = self._replay.current
        if step is None:
            self._say("dim", "this is the beginning; nothing has happened yet")
            return
        lines = [*self._page.head(step, len(self._whole))]
        lines += self._page.facts(self._replay.content(self._replay.position - 1))
        room = max(self._rows() - 3, 8)
        for line in lines[:room]:
            self._out.write(self._out.line(line))
        if len(lines) > room:
            self._say(
                "dim", f"  {self._out.glyphs.cut} {counted(len(lines) - room, 'more line')}; v shows all"
            )

    def _show_all(self) -> None:
        step = self._replay.current
        if step is None:
            self._show()
            return
        facts = self._page.facts(self._replay.content(self._replay.position - 1), most_lines=_ALL)
        self._paged([*self._page.head(step, len(self._whole)), *facts])

    def _show_transcript(self) -> None:
        state = self._replay.state()
        if self._whole.is_event_log:
            self._paged(list(self._page.transcript(state)))
        else:
            self._say("dim", "a step log holds no conversation")

    def _show_state(self) -> None:
        self._paged(list(self._page.state(self._replay.state(), is_event_log=self._whole.is_event_log)))

    def _list(self, argument: str) -> None:
        place = self._replay.position - 1
        first, end = 0, len(self._replay)
        if argument != "all":
            first, end = max(place - _BEFORE, 0), min(max(place, 0) + _AFTER + 1, end)
        rows = (self._page.row(self._replay[index], is_current=index == place) for index in range(first, end))
        self._paged(rows)

    def _help(self) -> None:
        self._paged([(("strong", f"  {name:<{_COMMAND_COLUMNS}}"), ("", said)) for name, said in _HELP])

    # --- forking

    def _fork(self, argument: str) -> None:
        from agentkit_reporting.analysis.debug_fork import fork_path, write_fork  # noqa: PLC0415 - where asked for

        try:
            path = Path(argument).expanduser() if argument else fork_path(self._replay)
        except RuntimeError:  # it begins with ~ and names nobody
            raise ConfigurationError(
                f"{argument!r} refused because there is no such home; give another path"
            ) from None
        fork = write_fork(self._replay, path)
        self._say("good", f"forked after event {fork.seq} into {fork.path}, session {fork.session_id}")
        if fork.is_redacted:
            self._say(
                "warn", "the log is redacted: the model will be shown masks in place of what was taken out"
            )
        self._say("", "go on with it by:")
        self._say("strong", f"  {resume_command(fork.path, fork.tools, asks=not fork.awaits_answer)}")

    # --- the terminal

    def _rows(self) -> int:
        try:
            return os.get_terminal_size(sys.stdout.fileno()).lines or 24
        except (OSError, ValueError):
            return 24

    def _paged(self, lines: Iterable[Line]) -> None:
        """Show lines, a page at a time."""
        room = max(self._rows() - 2, 4)
        for place, line in enumerate(lines):
            if place and place % room == 0:
                given = self._asked("-- more: Enter, or q --")
                if given is None or given.startswith("q"):
                    return
            self._out.write(self._out.line(line))

    def _prompt(self) -> str:
        chosen = " ".join(("failed",) * self._failed + (*self._kinds, *self._tools))
        shown = f" {one_line(chosen, 30)}" if chosen else ""
        return f"debug {self._replay.position:,}/{len(self._replay):,}{shown}> "

    def _asked(self, prompt: str) -> str | None:
        """Return what a person types, None at the end of the input."""
        self._out.flush()
        try:
            return input(prompt).strip()
        except EOFError:
            self._out.write("\n")
            return None
        except UnicodeDecodeError:
            return "h"

    def _say(self, style: str, text: str) -> None:
        self._out.write(self._out.line(((style, text),)))


def resume_command(path: Path, tools: Iterable[str], *, asks: bool) -> str:
    """Return the command that goes on with a log. tools: of its session. asks: whether it waits for input."""
    had = set(tools)
    named = visible(os.path.relpath(path))
    words = ["agentkit", "resume", shlex.quote(f"./{named}" if named.startswith("-") else named)]
    if asks:
        words.append("'YOUR PROMPT'")
    if had - _TOOLS_READING - _TOOLS_WRITING - {"run_command"}:
        words.append("--agent MODULE:NAME")
    else:
        words += ["--allow-write"] if had & _TOOLS_WRITING else []
        words += ["--allow-command"] if "run_command" in had else []
    return " ".join(words)
