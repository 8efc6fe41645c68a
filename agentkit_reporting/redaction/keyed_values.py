r"""Values under keys that look secret: which keys do, and `key = value` as texts write it.

In JSON values the key alone decides. In a text (an `.env` file, source code, YAML, JSON that a tool printed) what
stands behind `password`, `token`, `api_key` … must look like a value and not like code: `token = get_token()`,
`password: str`, `max_tokens=1024` stay.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from agentkit_reporting.redaction.rule import Hit, Opening, Rule, extended

KEYED_SECRET = "keyed_secret"  # noqa: S105 - the name of a rule

_NO_LETTERS = re.compile(r"[^a-z0-9]")
_SECRET_KEY = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret|(?:api|access|secret|private|signing|encryption|auth|account)key"
    r"|token|credentials?|authorization|cookie|connectionstring|webhookurl)\Z"
)
_NO_SECRET = re.compile(
    r"(?:page|next|previous|prev|continuation|continue|cursor|sync|max|min|eos|bos|pad|unk|stop|mask|sep|cls|per"
    r"|first|last|special|start|end|input|output|count|num|cost|price|design)token\Z"
)
_MAX_KEY = 100
"""Characters of the longest key that is looked at; names are shorter."""


@functools.lru_cache(2_048)
def is_secret_key(key: str) -> bool:
    """Whether a key looks as if its value were secret: `apiKey`, `DB_PASSWORD`, `x-auth-token`, `Authorization`."""
    if len(key) > _MAX_KEY:
        return False
    plain = _NO_LETTERS.sub("", key.lower())
    return _SECRET_KEY.search(plain) is not None and _NO_SECRET.search(plain) is None


_WINDOW, _LONGEST_KEYWORD = 2_048, 16
_KEYWORD = re.compile(r"passw(?:or)?d|passphrase|pwd|secret|token|key")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}\Z")
_MOST_OF_NAME = 40

_QUOTE = r"\\{0,3}[\"'`]"
_SIGN = r"(?::=|=>|=(?!=)|:(?![:=]))"
_ASSIGNED = re.compile(
    rf"(?P<quoted>{_QUOTE})?\]?[ \t]{{0,4}}(?P<sign>[ \t]?{_SIGN}[ \t]{{0,4}})(?P<open>{_QUOTE})?"
)
_SIGN_OPENED = re.compile(
    r"(?:\\{0,3}[\"'`]?)\]?[ \t]{0,4}(?:[ \t]?[:=]{1,2}>?[ \t]{0,4}(?:\\{0,3}[\"'`]?)?)?\Z"
)
_NOT_MASKED = r"(?!\[redacted)"
_ANYTHING = re.compile(rf"{_NOT_MASKED}(?:[^\"\\]|\\.)", re.DOTALL)
_ANYTHING_ESCAPED = re.compile(rf"{_NOT_MASKED}[^\"\\]")
_REST_OF_ANYTHING = re.compile(r"(?:[^\"]|(?<=\\)\")*")
_REST_OF_ESCAPED = re.compile(r"[^\"\\]*")
_QUOTED = re.compile(rf"{_NOT_MASKED}[^\s\"'`\\]{{4,400}}+(?=\S|\Z)")
_REST_OF_QUOTED = re.compile(r"[^\s\"'`\\]*")
_BARE = re.compile(rf"{_NOT_MASKED}[^\s\"'`,;&<>(){{}}\[\]\\|]{{6,400}}+(?![(\[{{])")
_REST_OF_BARE = re.compile(r"[^\s\"'`,;&<>(){}\[\]\\|]*")
_OPENED = re.compile(r"[^\s\"'`\\]{0,401}\\?\Z")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_IDENTIFIER = re.compile(r"_*[A-Za-z]+(?:_+[A-Za-z0-9]+)*")
_DIGIT = re.compile(r"[0-9]")
_FEW_DIGITS = 2
_PASSWORD = re.compile(r"(?:pass|pwd|secret)", re.IGNORECASE)


class _KeyedValue(Rule):
    """`key = value` in a text, where the key looks secret; see `Rule` for what its methods do."""

    def concerns(self, text: str, *, is_whole: bool = True) -> bool:
        """Whether there is a sign in the text at all."""
        del is_whole  # the sign is what makes an opening of a name
        return ":" in text or "=" in text

    def next_hit(self, text: str, position: int, stop: int) -> Hit | None:
        """Return the first assignment of a secret from a position on, up to `stop`."""
        for end in _keyword_ends(text, position):
            if end > stop + _LONGEST_KEYWORD:
                return None  # an opening that was found there has its secret before any other
            assigned = _ASSIGNED.match(text, end)
            if assigned is not None:
                name = _name_before(text, position, end)
                if is_secret_key(name):
                    hit = _value(text, end - len(name), name, assigned)
                    if hit is not None:
                        return hit
        return None

    def opening(self, text: str, position: int) -> Opening | None:
        """Return the first place from a position on where an assignment may go on behind the text."""
        for end in _keyword_ends(text, max(position, len(text) - self.reach)):
            assigned = _ASSIGNED.match(text, end)
            if assigned is not None and _OPENED.match(text, assigned.end()) is not None:
                held = assigned.end()
            elif _SIGN_OPENED.match(text, end) is not None:
                held = len(text)
            else:
                continue
            name = _name_before(text, position, end)
            if is_secret_key(name):
                return Opening(end - len(name), held)
        return None


def _keyword_ends(text: str, position: int) -> Iterator[int]:
    """Yield where keywords end. The text is lowered window by window: each match asks anew, from its end on."""
    while position < len(text):
        window = text[position : position + _WINDOW]
        lower = window.lower()
        if len(lower) != len(window):  # a few capitals have two characters for a small letter
            lower = "".join(low if len(low := letter.lower()) == 1 else letter for letter in window)
        is_last = position + _WINDOW >= len(text)
        for found in _KEYWORD.finditer(lower):
            if is_last or found.start() < _WINDOW - _LONGEST_KEYWORD:
                yield position + found.end()
        position += _WINDOW if is_last else _WINDOW - _LONGEST_KEYWORD


def _name_before(text: str, position: int, end: int) -> str:
    """Return the whole name that ends in a keyword."""
    found = _NAME.search(text, max(position, end - _MOST_OF_NAME), end)
    return "" if found is None else found[0]


def _value(text: str, start: int, name: str, assigned: re.Match[str]) -> Hit | None:
    """Return the value behind a sign, None where what stands there is none."""
    first, opened = assigned.end(), assigned["open"]
    if opened is None:
        found = _BARE.match(text, first)
        if found is None or not _is_bare_secret(name, assigned["sign"], found[0]):
            return None
        return extended(text, Hit(start, first, found.end(), found.end(), _REST_OF_BARE))
    if assigned["quoted"] is not None and opened.endswith('"'):  # JSON: its string may hold anything
        is_bare = len(opened) == 1
        found = (_ANYTHING if is_bare else _ANYTHING_ESCAPED).match(text, first)
        rest = _REST_OF_ANYTHING if is_bare else _REST_OF_ESCAPED
    else:
        found, rest = _QUOTED.match(text, first), _REST_OF_QUOTED
    if found is None:
        return None
    return extended(text, Hit(start, first, found.end(), found.end(), rest))


def _is_bare_secret(name: str, sign: str, value: str) -> bool:
    """Whether a value without quotes is more likely a secret than a word or code."""
    if value[0] in "$%/*" or value.endswith(("...", "…")) or _DOTTED.fullmatch(value):
        return False
    if name.isupper() and sign == "=":
        return True  # as a shell and an .env file have it
    digits = len(value) - len(_DIGIT.sub("", value))
    if not digits or (_IDENTIFIER.fullmatch(value) and digits <= _FEW_DIGITS and sign != "="):
        return False
    return digits < len(value) or _PASSWORD.search(name) is not None


_INSIDE = (
    ("k", "(?:(?=(?i:ey))|(?<=(?i:tok)))"),
    ("w", "(?:(?<=(?i:passw))|(?<=(?i:pw)))"),
    ("p", "(?=(?i:hrase))"),
    ("c", "(?=(?i:ret))"),
)
"""A rare letter of each keyword, and what stands around it."""

KEYED_VALUES: Rule = _KeyedValue(
    name=KEYED_SECRET,
    find=_KEYWORD,
    opened=_SIGN_OPENED,
    triggers=tuple(f"{case}{around}" for letter, around in _INSIDE for case in (letter, letter.upper())),
    arming=(":", "="),
    reach=560,
)
"""`key = value` in a text."""
