r"""Patterns of calls, such as `write_file(src/*)`: how they are written, and which calls each is about.

A pattern is the name of a tool, or that and in brackets what its only or first argument has to be. `*` stands
for any text, `/` and spaces too, `?` for one character, `[…]` for a set, as in file names. A model writes the
argument, so what a pattern is for decides in whose favour a doubt is:

- What is **allowed** has to match in every form: as it is given, as a path is in short (`a/./b//c` is `a/b/c`,
  `a/../b` is `b`), and with case, Unicode forms and `\` made equal. A wildcard never stands for what would
  lead elsewhere: a character that means something to a shell or is a control character, a step `..`, at its
  beginning a `/` or `~`, what a shell could make one of these (`.?`, `.[.]`, `{.,}.`), and a directory of version
  control, whose files make later commands run programs. What the pattern itself says, as in
  `run_command(git log | head *)`, it allows. A pattern without a wildcard is for one text alone, and one without
  brackets for all calls.
- What is **denied or asked about** needs to match in one form, and that may also be of any text in a list or
  object, of a directory itself (`prod` for `prod/*`), or of any of the commands in a text (`cd x && rm y` and
  `ls | xargs rm` for `rm *`).

All of that is about text. What a link leads to is not looked at, so that a replay decides the same: what no
tool may touch is for the tool to keep out (`hidden=` of the file tools). And who may run some command can do
what a denied one does, by a script for instance: a denial of commands stops accidents; few allowed ones keep
a shell in. What the options of an allowed program do, nobody checks.
"""

from __future__ import annotations

import collections
import fnmatch
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.late import late_pattern
from agentkit_loop.values import JSON, compact_json

VERSION_CONTROL = frozenset({".git", ".hg", ".svn"})
"""Directories for which no wildcard of an allowed path stands."""

_OF_A_SHELL = late_pattern("[;&|<>`$()\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_UP = late_pattern(r"(?<!\.)(?:\.|%2e){2}(?![\w.-])")  # a step `..`, also of `-C../x`; not `main..topic`
_DOT = late_pattern(r"(?<!\w)\.")  # at the beginning of a name, where no wildcard of a shell stands for one
_BETWEEN_STEPS = late_pattern(r"[/\s]+")
_BETWEEN_NAMES = late_pattern(r"[/\s=:,]+")
_ELSEWHERE = late_pattern(r"""[\s'"]*([/~\\]|[A-Za-z]:)""")
_SET = late_pattern(r"\[!?\]?[^]]*\]")
_OF_ONE_CHARACTER = late_pattern(r"\[([*?[])\]")  # how a pattern says `*`, `?` and `[` themselves
_WILDCARDS = frozenset("*?[")

_BETWEEN_COMMANDS = late_pattern(r"[;&|\n\r()`{}]+")
_QUOTES = late_pattern(r"""\\\n|\$(?=['"])|[\\'"]""")
_QUOTED = late_pattern(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_TELLS_APART = late_pattern(r"[\s;&|()`{}]")
_BEFORE_A_COMMAND = late_pattern(
    r"(?:[a-z_]\w*\+?=\S*|!|if|then|elif|else|while|until|do|time|builtin|command|doas|env|eval|exec|nice"
    r"|nohup|sudo|xargs) |(?:/[\w.-]+)*/s?bin/"
)


def checked_patterns(given: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of one list; raises ConfigurationError.

    A lone text is refused, which would be a pattern for each of its characters.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{given!r} refused; give a list of patterns, as in ['read_*']")
    patterns = tuple(given)
    for pattern in patterns:
        split_pattern(pattern)
    return patterns


def split_pattern(pattern: object) -> tuple[str, str | None]:
    """Return the name and the argument that a pattern is for, None for any; raises ConfigurationError."""
    if not isinstance(pattern, str) or not pattern:
        raise ConfigurationError(f"pattern {pattern!r} refused; give text such as 'read_*' or 'run(git *)'")
    name, bracket, rest = pattern.partition("(")
    if bracket and not rest.endswith(")"):
        raise ConfigurationError(f"pattern {pattern!r} refused; close its bracket, as in 'run(git *)'")
    return name, rest[:-1] if bracket else None


def is_literal(pattern: str) -> bool:
    """Whether a pattern is for one argument alone, without a wildcard."""
    argument = split_pattern(pattern)[1]
    return argument is not None and not _WILDCARDS & set(_OF_ONE_CHARACTER.sub("", argument))


class PatternedCall:
    """A call as patterns see it. first: the name of its tool's first argument, None for that of the call's."""

    def __init__(self, call: ToolCallPart, first: str | None) -> None:
        self._name = call.name
        value = call.input.get(first, "") if first is not None else next(iter(call.input.values()), "")
        self._value: JSON = value
        self._text = value if isinstance(value, str) else compact_json(value)

    def is_allowed_by(self, pattern: str, *, is_path: bool = False) -> bool:
        """Whether a pattern of what is allowed is about the call.

        is_path: the argument is known for a path, and in that a shell's characters mean nothing.
        """
        name, argument = split_pattern(pattern)
        if not fnmatch.fnmatchcase(self._name, name):
            return False
        if argument is None:
            return True
        if is_literal(pattern):
            return self._text == _OF_ONE_CHARACTER.sub(r"\1", argument)
        if not all(fnmatch.fnmatchcase(form(self._text), form(argument)) for form in _FORMS):
            return False
        if not is_path and isinstance(self._value, str) and _expands(self._text, argument):
            return False
        return not _stands_for_too_much(self._text, argument, is_path=is_path)

    def is_meant_by(self, pattern: str) -> bool:
        """Whether a pattern of what is denied, or asked about, is about the call."""
        name, argument = split_pattern(pattern)
        if not fnmatch.fnmatchcase(self._name, name):
            return False
        if argument is None:
            return True
        command = _in_one_row(_unquoted(argument))
        # Also with nothing behind it: `rm *` is about the `rm` of `xargs rm`.
        if any(fnmatch.fnmatchcase(form, command) for said in self._commands for form in (said, f"{said} ")):
            return True
        return any(
            fnmatch.fnmatchcase(text, _formed(one, form))
            for one in (argument, *_directory_of(argument))
            for form, said in self._forms
            for text in said
        )

    @functools.cached_property
    def _forms(self) -> list[tuple[Callable[[str], str], list[str]]]:
        """The argument and each text in it, in each form."""
        inner = () if isinstance(self._value, str) else _texts_in(self._value)
        texts = [self._text, *inner]
        return [(form, [form(text) for text in texts]) for form in (*_FORMS, _trimmed)]

    @functools.cached_property
    def _commands(self) -> list[str]:
        return [command for text in self._forms[0][1] for command in _commands_in(text)]


def _formed(argument: str, form: Callable[[str], str]) -> str:
    """Return a pattern in a form; `*/` stays for directories, and does not become `*`."""
    formed = form(argument)
    return f"{formed.rstrip('/')}/" if argument.endswith("*/") else formed


def _directory_of(argument: str) -> Iterator[str]:
    """Yield the directory for whose files an argument's pattern is."""
    directory = argument.rstrip("*")
    if directory != argument and directory.endswith("/") and not _WILDCARDS & set(directory):
        yield directory.rstrip("/") or "/"


def _stands_for_too_much(text: str, argument: str, *, is_path: bool) -> bool:
    """Whether a wildcard would stand for what leads elsewhere; the pattern matches."""
    said = _SET.sub("", argument)
    if not is_path and _OF_A_SHELL.findall(text) != _OF_A_SHELL.findall(said):
        return True
    if any(len(_UP.findall(form(text))) > len(_UP.findall(said)) for form in (_folded, _unquoted)):
        return True
    if argument[0] in _WILDCARDS and _ELSEWHERE.match(_folded(text)):
        return True
    if is_path:
        names, said_names = _loose(text).split("/"), _loose(argument).split("/")
    else:
        forms = _short(_unquoted(text)), _loose(text)
        names = [name for form in forms for name in _BETWEEN_NAMES.split(form)]
        said_names = _BETWEEN_NAMES.split(_loose(argument))
    return not {name for name in names if is_of_version_control(name)} <= set(said_names)


def _expands(text: str, argument: str) -> bool:
    """Whether a shell could make a step `..`, or a hidden name, of what a wildcard stands for.

    Its `?`, `*` stand for no dot at the beginning of a name, so that one is there already; of `[…]` POSIX does not
    say it. Braces stand for anything.
    """
    said, unquoted = _SET.sub("", argument), _unquoted(text)
    if _braces(unquoted) > _braces(said):
        return True
    for step in _BETWEEN_STEPS.split(unquoted):
        last, dot = max(map(step.rfind, _WILDCARDS)), _DOT.search(step)
        if last >= 0 and (step[0] == "[" or (dot is not None and dot.start() < last)):
            return True
    return False


def _braces(text: str) -> int:
    """Return how many braces may open alternatives, `{a,b}` or `{a..b}`; not those of `HEAD@{1}`."""
    return text.count("{", 0, max(text.rfind(","), text.rfind(".."), 0))


def is_of_version_control(name: str) -> bool:
    """Whether some file system takes a name for one of VERSION_CONTROL: case and invisible characters differ."""
    return _folded(name).rstrip(" .") in VERSION_CONTROL


# --- forms of a text


def _as_given(text: str) -> str:
    return text


def _short(text: str) -> str:
    """Return a path without the steps that lead nowhere; of other text, the same."""
    steps: list[str] = []
    for step in text.split("/"):
        if step == ".." and steps and steps[-1] != "..":
            steps.pop()
        elif step not in ("", ".") and not (step == ".." and text.startswith("/")):
            steps.append(step)
    path = "/".join(steps)
    return f"/{path}" if text.startswith("/") else path or (text and ".")


def _loose(text: str) -> str:
    r"""Return a path without what makes no difference to some system: case, Unicode form, `\` or `/`."""
    return _short(_folded(text).replace("\\", "/"))


def _trimmed(text: str) -> str:
    """Return a path without the dots and spaces at the end of a name, which some system drops too."""
    steps = _loose(text).split("/")
    return "/".join(step if _WILDCARDS & set(step) else step.rstrip(" .") or step for step in steps)


_FORMS = (_as_given, _short, _loose)


def _folded(text: str) -> str:
    """Return a text without differences of case, Unicode form and invisible characters."""
    if text.isascii():
        return text.lower()
    kept = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return "".join(kept).casefold()


def _unquoted(text: str) -> str:
    return _QUOTES.sub("", _folded(text))


def _texts_in(value: JSON) -> Iterator[str]:
    waiting: collections.deque[JSON] = collections.deque([value])
    while waiting:
        match waiting.popleft():
            case str() as text:
                yield text
            case list() as members:
                waiting.extend(members)
            case dict() as members:
                waiting.extend(members)
                waiting.extend(members.values())
            case _:
                pass


def _commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a shell's text, as far as they are told apart without being run.

    Without quotes, and without what may stand before a command's name: assignments, `sudo`, `/usr/bin/`. What is
    quoted is read both ways: as more commands (`sh -c 'a; rm b'`), and as one word (`A='x; y' rm b`).
    """
    joined = text.replace("\\\n", "")
    for form in dict.fromkeys((joined, _QUOTED.sub(_one_word, joined))):
        for piece in _BETWEEN_COMMANDS.split(form):
            command = _in_one_row(_unquoted(piece))
            while (found := _BEFORE_A_COMMAND.match(command)) is not None:
                command = command[found.end() :]
            if command:
                yield command


def _one_word(quoted: re.Match[str]) -> str:
    return _TELLS_APART.sub("_", quoted.group())


def _in_one_row(text: str) -> str:
    return " ".join(text.split())
