"""A text that comes in pieces: each piece goes out as soon as nothing in it can be a part of a secret.

What goes out, all pieces together, is a beginning of what `scrub_text` makes of the whole text, however it was cut.
Held back is only what follows the public beginning of a possible secret (`sk-ant-`, `password=`), until it is one or
none; of a secret the mask goes out as soon as it is certain, and the rest is swallowed.
"""

from __future__ import annotations

import re

from agentkit_reporting.redaction.masking import MOST_OF_SECRET, Masking
from agentkit_reporting.redaction.rule import LOOK_BEHIND, Hit, Opening, Rule, run_on, survey
from agentkit_reporting.redaction.rule_set import CONTEXT, RuleSet, Search, merged

_LONGEST_TAIL = 4 * CONTEXT
"""From so many on they are cut to CONTEXT; not at each piece, which would cost more than it saves."""

Found = list[str]
"""The names of the rules whose masks stand in a piece, once for each mask."""


def scrub_text(rules: RuleSet, masking: Masking, text: str) -> tuple[str, Found]:
    """Return a whole text with its secrets masked, and the rules that found them."""
    spans = rules.spans(text)
    if not spans:
        return text, []
    pieces: list[str] = []
    at = 0
    for span in spans:
        pieces += (text[at : span.first], masking.text(span.name, text[span.first : span.last]))
        at = span.last
    return "".join((*pieces, text[at:])), [span.name for span in spans]


class TextStream:
    """One text on its way.

    tail: what went out last, and what is held back behind it. is_armed: whether the next piece needs a look whatever
    it is. search: for a trigger; a piece in which, behind the tail, none is found goes out as it is, and then is all
    that has to be done: `tail = tail + piece`, and `trim` from `longest_tail` on. So says the hot path of `Redactor`.
    """

    longest_tail = _LONGEST_TAIL

    def __init__(self, rules: RuleSet, masking: Masking) -> None:
        self.tail = ""
        self.is_armed = False
        self.search: Search = rules.stream_search
        self._rules = rules
        self._masking = masking
        self._sent = 0  # characters of the tail that went out; where armed, all of it otherwise
        self._skip = 0  # characters of the tail that are there to be looked back at only
        self._covered = 0  # up to there a mask stands already
        self._behind: dict[Rule, int] = {}  # where the last match of a rule ended, if that is in the tail
        self._running: dict[Rule, re.Pattern[str]] = {}  # secrets that go on with the next piece

    def trim(self) -> None:
        """Forget what is too long ago to matter, of a tail that is not armed."""
        self._keep(len(self.tail) - CONTEXT)

    def feed(self, piece: str, *, is_last: bool = False) -> tuple[str, Found]:
        """Take the next piece; return what may go out now. is_last: nothing follows, so nothing is held back."""
        sent = self._sent if self.is_armed else len(self.tail)
        text = self.tail = self.tail + piece
        if not self.is_armed and (
            not piece or (not is_last and (self.search(text, sent) is None or self.is_plain(text, sent)))
        ):
            if len(text) > _LONGEST_TAIL:
                self.trim()
            return piece, []
        doubt = self._run_on(text)
        hits, openings = self._survey(text, is_last=is_last)
        hold, taken = self._settled(text, hits, openings, is_last=is_last)
        if not is_last:
            hold = min(hold, doubt)
        told, found = self._told(text, sent, hold, taken)
        for hit, rule in taken:
            self._behind[rule] = max(hit.end, self._behind.get(rule, 0))
            if hit.goes_on and hit.rest is not None:
                self._running[rule] = hit.rest
        waiting = [hit.start for hit, _ in hits if hit.first >= hold]
        waiting += [opening.start for opening in openings]
        keep = min([len(text) - CONTEXT, *(start - LOOK_BEHIND for start in waiting)])
        self.is_armed = bool(waiting or self._running or hold < len(text))
        self._sent = max(sent, hold)
        self._keep(keep)
        return told, found

    def is_plain(self, text: str, sent: int) -> bool:
        """Whether what follows what was sent cannot be of interest, though `search` found something in it."""
        return self._rules.is_plain(text, sent)

    def _run_on(self, text: str) -> int:
        """Follow the secrets that go on; return up to where it is certain which characters are theirs."""
        certain = len(text)
        for rule, rest in list(self._running.items()):
            end, goes_on = run_on(rest, text, self._behind[rule])
            self._behind[rule] = end
            self._covered = max(self._covered, end)
            if goes_on:
                certain = min(certain, end)
            else:
                del self._running[rule]
        return certain

    def _survey(self, text: str, *, is_last: bool) -> tuple[list[tuple[Hit, Rule]], list[Opening]]:
        hits: list[tuple[Hit, Rule]] = []
        openings: list[Opening] = []
        for rule in self._rules.rules:
            if rule in self._running or not rule.concerns(text, is_whole=False):
                continue
            found, opening = survey(rule, text, max(self._skip, self._behind.get(rule, 0)), is_whole=is_last)
            hits.extend((hit, rule) for hit in found)
            if opening is not None:
                openings.append(opening)
        return hits, openings

    def _settled(
        self, text: str, hits: list[tuple[Hit, Rule]], openings: list[Opening], *, is_last: bool
    ) -> tuple[int, list[tuple[Hit, Rule]]]:
        """Return up to where the text is decided, and the hits before that."""
        hold = min([len(text), *(each.held for each in openings)])
        if not is_last:
            hold = min([hold, *(hit.last for hit, _ in hits if hit.goes_on)])
        if self._masking.mode == "pseudonym" and not is_last:
            # A pseudonym needs the whole secret: one that may go on is held, as far as its pseudonym covers it.
            for span in reversed(merged([each for each in hits if each[0].first < each[0].last])):
                if span.first < hold <= span.last and span.last - span.first < MOST_OF_SECRET:
                    hold = span.first
        return hold, [(hit, rule) for hit, rule in hits if hit.first < hold]

    def _told(self, text: str, sent: int, hold: int, taken: list[tuple[Hit, Rule]]) -> tuple[str, Found]:
        """Return what goes out of `text[sent:hold]`, with a mask for each secret that begins there."""
        pieces: list[str] = []
        found: Found = []
        at = max(sent, self._covered)
        for span in merged([each for each in taken if each[0].first < each[0].last]):
            if span.first < at:
                at = self._covered = max(at, span.last)
                continue
            pieces += (text[at : span.first], self._masking.text(span.name, text[span.first : span.last]))
            found.append(span.name)
            at = self._covered = span.last
        pieces.append(text[at:hold])
        return "".join(pieces), found

    def _keep(self, start: int) -> None:
        """Let go of the text before `start`."""
        if start <= 0:
            return
        self.tail = self.tail[start:]
        self._sent = max(0, self._sent - start)
        self._covered = max(0, self._covered - start)
        self._skip = LOOK_BEHIND
        self._behind = {rule: end - start for rule, end in self._behind.items() if end > start}
