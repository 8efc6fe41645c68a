"""Several rules as one: what of a text they hide together, and which text needs no second look."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.redaction.keyed_values import KEYED_SECRET
from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.personal_rules import PERSONAL_RULES
from agentkit_reporting.redaction.rule import LONGEST_LEAD, LOOK_BEHIND, Hit, Rule, survey
from agentkit_reporting.redaction.secret_rules import SECRET_RULES

RuleChoice: TypeAlias = str | OwnPattern
"""A rule by its name (`"email"`), all of a group (`"secrets"`, `"personal"`), or a pattern of one's own."""

SECRETS, PERSONAL = "secrets", "personal"
RULE_GROUPS: dict[str, tuple[Rule, ...]] = {SECRETS: SECRET_RULES, PERSONAL: PERSONAL_RULES}
RULE_NAMES: tuple[str, ...] = tuple(dict.fromkeys(rule.name for rule in (*SECRET_RULES, *PERSONAL_RULES)))
"""Every rule that is built in; several patterns may be one rule."""

_ENDS_PLAIN_JSON = ('"', r"\\", *(f"\\x{code:02x}" for code in range(32)))
_BY_FREQUENCY = "cpbk_-/:="  # of the characters of triggers, in prose and code

CONTEXT = LONGEST_LEAD + 2 * LOOK_BEHIND
"""Characters of a stream that went out already and are kept, since a secret's beginning may be among them."""

Search: TypeAlias = Callable[..., re.Match[str] | None]


class Span(msgspec.Struct, frozen=True):
    """A piece of a text to hide. name: of the rule that found its beginning."""

    first: int
    last: int
    name: str


class RuleSet:
    """Rules that are looked for together.

    search: whether a whole text needs a look, as `re.Pattern.search`. stream_search: the same for a piece of a
    stream, which may end in what another piece goes on with. json_search: as stream_search, within a string of JSON,
    where that may end; json_ends: whether it does. plain_keys: keys of JSON that were met, hold no secret and look
    like no secret's: most come again. looks_at_keys: whether values under keys that look secret are hidden.
    looks_at_numbers: whether digits may be personal data.
    """

    def __init__(self, choices: Iterable[RuleChoice]) -> None:
        self.rules = _chosen(choices)
        self._triggers = tuple(one for rule in self.rules for one in rule.triggers)
        self._arming = tuple(one for rule in self.rules for one in rule.arming)
        self._in_piece = tuple(
            one for rule in self.rules for one in (*rule.arming, *(rule.signs or rule.triggers))
        )
        self.search: Search = _search(self._triggers)
        self.plain_keys: set[str] = set()
        self.looks_at_keys = any(rule.name == KEYED_SECRET for rule in self.rules)
        self.looks_at_numbers = any(rule in PERSONAL_RULES for rule in self.rules)

    # Each takes 2 to 4 ms to compile, so they wait for the first text, or call, that is streamed.

    @functools.cached_property
    def stream_search(self) -> Search:
        """The search for what makes a piece of a stream suspicious."""
        return _search(self._in_piece)

    @functools.cached_property
    def json_search(self) -> Search:
        """The same for a piece within a string of JSON, or for its end."""
        return _search((*self._in_piece, *_ENDS_PLAIN_JSON))

    @functools.cached_property
    def json_ends(self) -> Search:
        """The search for where a string of JSON may end."""
        return _search(_ENDS_PLAIN_JSON)

    @functools.cached_property
    def _sight_search(self) -> Search:
        return _search((*self._triggers, *self._arming))

    def is_plain(self, text: str, sent: int) -> bool:
        """Whether a piece that follows what was sent needs no look after all, with what came before it in sight."""
        return self._sight_search(text, max(0, sent - CONTEXT)) is None

    def spans(self, text: str) -> list[Span]:
        """Return what of a whole text is to be hidden, in order; none lies over another."""
        if self.search(text) is None:
            return []
        hits = [
            (hit, rule)
            for rule in self.rules
            if rule.concerns(text)
            for hit in survey(rule, text)[0]
            if hit.first < hit.last
        ]
        return merged(hits) if hits else []


@functools.cache
def secret_rules() -> RuleSet:
    """Return the rules for secrets, which most take: one set for all saves a third of a millisecond each."""
    return RuleSet((SECRETS,))


def merged(hits: list[tuple[Hit, Rule]]) -> list[Span]:
    """Return the spans of hits: those that lie over each other are one, named after what begins first."""
    hits.sort(key=_begin)
    spans: list[Span] = []
    for hit, rule in hits:
        if spans and hit.first < spans[-1].last:
            if hit.last > spans[-1].last:
                spans[-1] = msgspec.structs.replace(spans[-1], last=hit.last)
        else:
            spans.append(Span(hit.first, hit.last, rule.name))
    return spans


def _begin(found: tuple[Hit, Rule]) -> int:
    return found[0].first


@functools.lru_cache(
    maxsize=64
)  # most sets are of the same rules, and a service makes one for each of its requests
def _search(triggers: tuple[str, ...]) -> Search:
    """Return the search for any trigger: those of one character together, so that each is compared once."""
    around: dict[str, dict[str, None]] = {}
    for trigger in triggers:
        character = re.match(r"\\x..|\\.|\[(?:\\.|[^\]\\])*\]|.", trigger, re.DOTALL)
        assert character is not None  # noqa: S101 - it matches any text but an empty one
        around.setdefault(character[0], {})[trigger[character.end() :]] = None
    often = [character for character in _BY_FREQUENCY if character in around]
    branches = (
        character if "" in around[character] else f"{character}(?:{'|'.join(around[character])})"
        for character in dict.fromkeys((*often, *around))
    )
    return re.compile("|".join(branches)).search


def _chosen(choices: Iterable[RuleChoice]) -> tuple[Rule, ...]:
    """Return the rules that are meant, each once; raises ConfigurationError for a name that is none."""
    if isinstance(choices, str):
        raise ConfigurationError(f"rules={choices!r} refused because it is one text; give a list of rules")
    rules: dict[int, Rule] = {}
    own: dict[str, OwnPattern] = {}
    for choice in choices:
        if isinstance(choice, OwnPattern):
            if choice.name in RULE_NAMES or choice.name in RULE_GROUPS:
                raise ConfigurationError(
                    f"rule name {choice.name!r} refused because it is built in; use another"
                )
            if own.setdefault(choice.name, choice) != choice:
                raise ConfigurationError(
                    f"rule name {choice.name!r} refused because two patterns have it; give each its own"
                )
            found: tuple[Rule, ...] = (choice.rule(),)
        elif choice in RULE_GROUPS:
            found = RULE_GROUPS[choice]
        else:
            found = tuple(rule for rule in (*SECRET_RULES, *PERSONAL_RULES) if rule.name == choice)
        if not found:
            known = ", ".join((*RULE_GROUPS, *RULE_NAMES))
            raise ConfigurationError(
                f"rule {choice!r} refused because there is none; use OwnPattern, or one of {known}"
            )
        rules.update((id(rule), rule) for rule in found)
    if not rules:
        raise ConfigurationError("rules refused because there are none; give some, or redact=False")
    return tuple(rules.values())
