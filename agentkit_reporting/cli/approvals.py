"""Approval of each call by the person at the terminal, who is shown before what the call would do.

It is asked on the controlling terminal, whatever stdin and stdout are: `agentkit run - < prompt | less` asks
too. A call is answered without a question where a pattern allows it, where it would be refused by its own
tool, and where there is no terminal: then it is denied.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence

import click

from agentkit_loop.content import ToolCallPart
from agentkit_loop.file_changes import edited, written
from agentkit_loop.file_reach import Reach
from agentkit_loop.file_reach import shown as shown_path
from agentkit_loop.line_diff import lines_of
from agentkit_loop.permissions import Approve, Deny
from agentkit_loop.previews import Preview, preview
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.values import compact_json
from agentkit_reporting.cli.allowed_calls import PATH_TOOLS, AllowedCalls
from agentkit_reporting.cli.question_screen import QuestionScreen
from agentkit_reporting.page import Piece
from agentkit_reporting.terminal import counted, visible

TERMINAL = "/dev/tty"
"""The controlling terminal of a process, by POSIX."""

_MAX_SUGGESTED = 100  # characters of a pattern that is suggested

_MAX_REASON = 1_000  # characters of why a call is asked about

_HEADER = 2  # lines of a diff that name the file
_DIFF_STYLES = {"+": "good", "-": "bad", "@": "lead", "\\": "dim"}

_EXPLAINED = (
    ("y", "yes, this call"),
    ("n, n WHY", "no; the model is told why, and goes on"),
    ("a", "yes, and in this run no more question about this path or command"),
    ("a PATTERN", "the same for a pattern, such as src/* or git status*"),
    ("l", "later: left open; agentkit resume asks again"),
    ("s", "show all of it"),
    ("Ctrl-C", "end the run"),
)


class TerminalApprover:
    """Decides about calls, as `approve=` of a synchronous driver.

    reach: that of the tools, for what their calls would do; None where the tools are not known here, and calls
    are shown as they are. allowed: patterns of calls that nobody is asked
    about. colour: None as the environment and the terminal say. leave_open: where there is no terminal, leave
    a call waiting; else it is denied, which is said on stderr. may_leave: offer to answer later, by a resume.
    terminal: the device to ask on.
    """

    def __init__(
        self,
        reach: Reach | None,
        *,
        allowed: Iterable[str] = (),
        colour: bool | None = None,
        leave_open: bool = False,
        may_leave: bool = False,
        terminal: str = TERMINAL,
    ) -> None:
        self._reach = reach
        self._allowed = AllowedCalls(reach, allowed)
        self._colour = colour
        self._leave_open = leave_open
        self._may_leave = may_leave
        self._terminal = terminal

    def __call__(self, request: ApprovalRequest) -> Approve | Deny | None:
        """Return the answer to a request, None to leave it open.

        Raises KeyboardInterrupt for Ctrl-C, also for one that came just before.
        """
        call = request.call
        planned = self._preview(call)
        if planned.refusal is not None:
            return Deny(reason=planned.refusal)
        pattern = self._allowed.pattern_for(call, planned)
        if pattern is not None:
            return Approve(reason=f"allowed by {pattern!r}", by=login_name())
        try:
            screen = QuestionScreen(self._terminal, colour=self._colour)
        except OSError:
            return None if self._leave_open else self._nobody_to_ask(call, planned)
        try:
            with screen:
                return self._agreed(screen, request, planned)
        except OSError:  # it was closed meanwhile
            return Deny(reason="the terminal went away before anybody answered")

    def _preview(self, call: ToolCallPart) -> Preview:
        return preview(call.name, call.input, self._reach)

    def _agreed(
        self, screen: QuestionScreen, request: ApprovalRequest, planned: Preview
    ) -> Approve | Deny | None:
        """Ask until a yes is for what the call would do by then: files may change while somebody reads."""
        while True:
            answer = self._asked(screen, request, planned)
            now = self._preview(request.call) if isinstance(answer, Approve) else planned
            if now == planned:
                return answer
            if now.refusal is not None:
                screen.say("the files have changed meanwhile; it is not done, because:", "warn")
                screen.show([("", now.refusal)], whole=True)
                return Deny(reason=now.refusal)
            screen.say("the files have changed meanwhile; it would do this now:", "warn")
            planned = now

    def _asked(
        self, screen: QuestionScreen, request: ApprovalRequest, planned: Preview
    ) -> Approve | Deny | None:
        call, by = request.call, login_name()
        lines = _lines(call, planned, self._reach)
        is_shown = _shows_all(screen, request, planned, lines)
        while True:
            typed = screen.ask(_question(is_shown=is_shown, may_leave=self._may_leave))
            if typed is None:
                screen.say("the input ended, which is taken as a no", "warn")
            word, _, rest = ("n", "", "") if typed is None else typed.partition(" ")
            rest = rest.strip()
            match word.lower().rstrip(".,:;"):
                case "n" | "no":
                    return Deny(reason=rest or None, by=by)
                case "s" | "show":
                    whole = lines if planned.is_whole else _whole(call, lines, self._reach)
                    if whole is None:
                        return Deny(reason="the file was changed by somebody else; look at it again")
                    screen.show(_styled(call.name, whole), whole=True)
                    is_shown = True
                case "?" | "h" | "help":
                    for key, meaning in _EXPLAINED:
                        if key != "l" or self._may_leave:
                            screen.say(f"{key:<9}  {meaning}")
                case "l" | "later" if self._may_leave and not rest:
                    return None
                case "y" | "yes" | "a" | "all" if not is_shown:
                    screen.say("not all of it was shown yet; s shows it", "warn")
                case "y" | "yes" if not rest:
                    return Approve(by=by)
                case "a" | "all":
                    pattern = self._pattern(screen, call, planned, rest)
                    if pattern is not None:
                        return Approve(reason=f"and from now on {pattern!r}", by=by)
                case _:
                    screen.say("not understood; one of the letters, then Enter; ? explains them", "dim")

    def _pattern(
        self, screen: QuestionScreen, call: ToolCallPart, planned: Preview, typed: str
    ) -> str | None:
        """Allow all calls like this one; return the pattern, None for one that does not allow this one."""
        pattern = f"{call.name}({typed})" if typed else self._allowed.literal_pattern(call)
        if not self._allowed.is_allowed_by(pattern, call, planned):
            screen.say(f"{pattern} does not allow this call; a alone does, or another pattern", "warn")
            return None
        self._allowed.add(pattern)
        screen.say(f"from now on in this run, without a question: {pattern}", "dim")
        return pattern

    def _nobody_to_ask(self, call: ToolCallPart, planned: Preview) -> Deny:
        pattern = self._allowed.literal_pattern(call)
        usable = len(pattern) <= _MAX_SUGGESTED and pattern.isprintable()
        option = f"--yes {shlex.quote(pattern)}" if usable else "--yes with a pattern for it"
        reason = "denied because there is no terminal to ask on"
        summary = visible(planned.summary)
        click.echo(f"agentkit: {reason}: {summary}; {option} allows it", err=True)
        return Deny(reason=f"{reason}; {option} allows it")


def login_name() -> str | None:
    """Return who decides: the name that was logged in with, else the process's user's; None if unknown."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getlogin()
    with contextlib.suppress(ImportError, KeyError, AttributeError):
        import pwd  # noqa: PLC0415 - not on every system

        return pwd.getpwuid(os.getuid()).pw_name
    return None


# --- what is shown


def _lines(call: ToolCallPart, planned: Preview, reach: Reach | None) -> Sequence[str]:
    """Return the preview's lines, behind the whole path where they do not begin with it."""
    path = call.input.get("path")
    if reach is None:
        return planned.lines
    if call.name not in PATH_TOOLS or not isinstance(path, str) or planned.lines[0].startswith("--- "):
        return planned.lines
    with contextlib.suppress(OSError, ValueError):
        return (f"+++ {shown_path(reach.resolve(path))}", *planned.lines)
    return planned.lines


def _whole(call: ToolCallPart, lines: Sequence[str], reach: Reach | None) -> Iterable[str] | None:
    """Return all of what a preview leaves out too; None where the file is another one by now."""
    if reach is None or call.name not in PATH_TOOLS:
        return (compact_json(call.input),)
    texts = [call.input.get(name) for name in ("path", "content", "old", "new")]
    path, content, old, new = (text if isinstance(text, str) else "" for text in texts)
    try:
        change = written(reach, path, content) if call.name == "write_file" else edited(reach, path, old, new)
    except (OSError, ValueError):
        return None
    diff = change.diff()
    if diff is None:
        return (*lines[:2], *(f"+{line}".removesuffix("\n") for line in lines_of(change.after)))
    return (*lines[:2], *diff.unified())


def _styled(tool_name: str, lines: Iterable[str]) -> Iterator[Piece]:
    """Yield lines with their style: of a diff by the first character, of a command that of what is typed."""
    for place, line in enumerate(lines):
        if tool_name not in PATH_TOOLS:
            yield "strong" if line.startswith(("$ ", "> ")) else "", line
        elif place < _HEADER and line.startswith(("--- ", "+++ ")):
            yield "strong", line
        else:
            yield _DIFF_STYLES.get(line[:1], ""), line


def _shows_all(
    screen: QuestionScreen, request: ApprovalRequest, planned: Preview, lines: Sequence[str]
) -> bool:
    """Show what a call would do, as much as there is room for; return whether that is all."""
    if request.call.name in PATH_TOOLS or not planned.is_whole:  # the lines of a command say it all
        screen.say(planned.summary, "ask")
    if request.reason:
        screen.say("asked because:", "dim")
        screen.show([("dim", request.reason[:_MAX_REASON])], whole=True)
    left_out = screen.show(_styled(request.call.name, lines), whole=False)
    if planned.is_whole and not left_out:
        return True
    more = counted(left_out, "more line") if planned.is_whole else "there is more of it than fits"
    screen.say(f"{more}; s shows all", "warn")
    return False


def _question(*, is_shown: bool, may_leave: bool) -> str:
    later = ", [l]ater" if may_leave else ""
    if is_shown:
        return f"[y]es, [n]o{later}, [a]ll like this (for this run), [?]"
    return f"[s]how all, [n]o{later}, [?]"
