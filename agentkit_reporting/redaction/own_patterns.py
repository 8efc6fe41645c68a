"""Patterns of the host's own, as rules."""

from __future__ import annotations

import re

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.records import FrozenRecord
from agentkit_reporting.redaction.rule import Hit, Rule

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
DEFAULT_LONGEST = 400
"""Characters of the longest match of a pattern that nobody bounded."""


@attrs.frozen(eq=False, repr=False)
class OwnPattern(FrozenRecord):
    """A pattern of the host's own.

    name: what masks and counts call it: letters, digits, `_`, `.` and `-`, 40 at most. pattern: a regular expression
    (Python's `re`); its group `secret`, else its first, else all of the match is hidden. longest: characters of its
    longest match; a stream holds as many back, and may show the beginning of a longer one. begins: the characters that
    a match can begin with, as in `begins="T"`: a stream then holds nothing back while none of them came; left out: any.
    How long the pattern takes on a hostile text is its author's concern. Raises ConfigurationError.
    """

    name: str
    pattern: str
    longest: int = attrs.field(default=DEFAULT_LONGEST, kw_only=True)
    begins: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name, kind in (("name", str), ("pattern", str), ("longest", int), ("begins", str)):
            value = getattr(self, name)
            if type(value) is not kind:
                wanted = "text" if kind is str else "a number"
                raise ConfigurationError(
                    f"{name}={value!r} of a rule refused because of its type; give {wanted}"
                )
        self.rule()

    def rule(self) -> Rule:
        """Return it as a rule; raises ConfigurationError for what can be none."""
        if _NAME.fullmatch(self.name) is None:
            raise ConfigurationError(
                f"rule name {self.name!r} refused because masks show it; "
                "use a letter, then letters, digits, '_', '.' and '-', 40 at most"
            )
        if self.longest < 1:
            raise ConfigurationError(f"longest={self.longest!r} of rule {self.name!r} must be at least 1")
        try:
            find = re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise ConfigurationError(
                f"pattern of rule {self.name!r} refused because of: {error}; give a regular expression"
            ) from None
        if find.search("") is not None:
            raise ConfigurationError(
                f"pattern of rule {self.name!r} refused because it is met in an empty text; "
                "let it take at least one character"
            )
        begins = f"[{re.escape(self.begins)}]" if self.begins else r"[\s\S]"
        return _OwnRule(
            name=self.name,
            find=find,
            opened=re.compile(rf"({begins}[\s\S]{{0,{self.longest}}})\Z"),
            triggers=(begins,),
            reach=self.longest,
        )


class _OwnRule(Rule):
    """A rule whose secret is in any group, or is the whole match."""

    def next_hit(self, text: str, position: int, stop: int) -> Hit | None:
        """Return the first match that takes something, from a position on."""
        del stop
        found = self.find.search(text, position)
        while found is not None and found.end() == found.start():
            found = None if found.end() >= len(text) else self.find.search(text, found.end() + 1)
        if found is None:
            return None
        group: str | int = "secret" if "secret" in self.find.groupindex else min(self.find.groups, 1)
        first, last = found.span(group)
        if first < 0:  # an alternative without the group
            first, last = found.span()
        return Hit(found.start(), first, last, found.end(), None)
