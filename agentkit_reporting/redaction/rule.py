r"""What a rule is: how it finds what it is about, and what may still become it when a stream goes on.

A rule does not hide the public beginning of a secret (`sk-ant-`, `Bearer `, `password=`), only what follows it. So
a stream has to hold nothing back for a word that merely begins like a secret's beginning.

For a stream, a rule says two things more. `opening`: where in a text begins what more text could make a match of, or
change the match of; too early is safe, too late leaks. `rest`: once a match is certain, after its first characters,
what else belongs to it, so that a secret of any length is held no longer than those. A match that begins before the
opening is certain: no further text changes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs
import msgspec

from agentkit_loop.late import late_pattern

LOOK_BEHIND = 10
"""Characters before a match that a rule may look at."""

LONGEST_LEAD = 112
"""Characters from the beginning of a match to its secret, at most; a stream keeps as many."""


DOUBT = "doubt"
"""The group of a `rest` for an end of the text of which only more text says whether it belongs to the secret."""


class Hit(msgspec.Struct, frozen=True):
    """A match. start, end: of all that it consists of; first, last: of the secret in it (equal: it is none).

    rest: what more of the text behind `last` belongs to the secret, None where it has its end. goes_on: whether more
    text may belong to it; between `last` and the end of the text is what is in doubt.
    """

    start: int
    first: int
    last: int
    end: int
    rest: re.Pattern[str] | None
    goes_on: bool = False


class Opening(msgspec.Struct, frozen=True):
    """Where something begins that may become a match. held: from where on the text may be the secret."""

    start: int
    held: int


@attrs.frozen(kw_only=True, eq=False)
class Rule:
    r"""A pattern with a name.

    name: what masks and counts call it. find: group 1 is the secret. opened: ends in `\Z`; its one set group is what
    may be the secret; none is set where that has not begun. rest: see the module. gates: texts of which one is in
    each text that has a match, and in each that has an opening, unless `stream_gates` says otherwise; none: it is
    always looked for. triggers: patterns, each of one character and what stands around it, of which one is met in
    each text that has a match; none has a negative look, so that more text around it does not hide it. arming: further
    ones for a stream: one of both is met in each text that has an opening, and in the very piece with which that or a
    match comes up; where `signs` are given, one of those or of `arming` in the piece and a trigger in sight before
    it. reach: characters that an opening may have. accepted: how many characters of a match's secret count, 0 for a
    match that is none.
    """

    name: str
    find: re.Pattern[str]
    opened: re.Pattern[str]
    rest: re.Pattern[str] | None = None
    gates: tuple[str, ...] = ()
    triggers: tuple[str, ...]
    arming: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    stream_gates: tuple[str, ...] | None = None
    reach: int = 600
    accepted: Callable[[str], int] | None = None

    def concerns(self, text: str, *, is_whole: bool = True) -> bool:
        """Whether there may be a match in a text, or, where it goes on, an opening."""
        gates = self.gates if is_whole or self.stream_gates is None else self.stream_gates
        for gate in gates:  # asked for each rule of each suspicious text: any() takes twice as long
            if gate in text:
                return True
        return not gates

    def next_hit(self, text: str, position: int, stop: int) -> Hit | None:
        """Return the first match from a position on; none is wanted that lies behind `stop`."""
        del stop  # to search on costs less than to look before
        found = self.find.search(text, position)
        if found is None:
            return None
        first, last = found.span(1)
        if self.accepted is not None:
            last = first + self.accepted(found[1])
        return extended(text, Hit(found.start(), first, last, found.end(), self.rest))

    def opening(self, text: str, position: int) -> Opening | None:
        """Return the first opening from a position on."""
        found = self.opened.search(text, max(position, len(text) - self.reach))
        if found is None:
            return None
        group = found.lastindex
        return Opening(found.start(), len(text) if group is None else found.start(group))


def extended(text: str, hit: Hit) -> Hit:
    """Return a match with all of its secret that is in the text."""
    if hit.rest is None or hit.first == hit.last:
        return hit
    last, goes_on = run_on(hit.rest, text, hit.last)
    return Hit(hit.start, hit.first, last, max(last, hit.end), hit.rest, goes_on)


def run_on(rest: re.Pattern[str], text: str, position: int) -> tuple[int, bool]:
    """Return up to where a secret goes on from a position, and whether more text may belong to it."""
    found = rest.match(text, position)
    if found is None:
        return position, position == len(text)
    if found.lastgroup == DOUBT:
        return found.start(DOUBT), True
    return found.end(), found.end() == len(text)


def survey(
    rule: Rule, text: str, position: int = 0, *, is_whole: bool = True
) -> tuple[list[Hit], Opening | None]:
    """Return the matches from a position on, one behind the other, and the opening that ends a stream's text.

    is_whole: nothing follows the text, so there is no opening and each match is certain.
    """
    hits: list[Hit] = []
    opening = None if is_whole else rule.opening(text, position)
    while (hit := rule.next_hit(text, position, len(text) if opening is None else opening.start)) is not None:
        if opening is not None and opening.start <= hit.start:
            opening = Opening(opening.start, min(opening.held, hit.first))
            break
        hits.append(hit)
        position = hit.end
        if opening is not None and opening.start < position:
            opening = rule.opening(text, position)
    return hits, opening


def edged(lead: str, look: str | None = None) -> str:
    r"""Return a lead before which stands no letter or digit, unless that belongs to an escape.

    That is `\n`, `%3D`, `\u003d`, or the end of a terminal's colour. What stands before is looked at behind the lead,
    which a search finds faster. look: a lead of one width, where the lead has no such form.
    """
    seen = look or lead
    escapes = (
        rf"\\[nrt]{seen}",
        f"%[0-9A-Fa-f]{{2}}{seen}",
        rf"\\u[0-9A-Fa-f]{{4}}{seen}",
        rf"[0-9\[][mK]{seen}",
    )
    return f"{lead}(?:(?<![A-Za-z0-9]{seen})|{'|'.join(f'(?<={escape})' for escape in escapes)})"


def token(
    name: str,
    lead: str,
    body: str,
    least: int,
    *,
    gates: tuple[str, ...],
    triggers: tuple[str, ...],
    rest: str | None = None,
) -> Rule:
    """Return the rule of a token: a lead, and at least so many characters of a class."""
    return Rule(
        name=name,
        find=late_pattern(f"{lead}({body}{{{least}}})"),
        opened=late_pattern(f"{lead}({body}{{0,{least - 1}}})\\Z"),
        rest=late_pattern(f"{rest or body}*"),
        gates=gates,
        triggers=triggers,
        reach=least + LONGEST_LEAD,
    )
