r"""Values under keys that look secret, as texts write them: `key = value`, `"key": "value"`, `--key value`.

In JSON values the key alone decides. In a text (an `.env` file, source code, YAML, JSON that a tool printed) what
stands behind `password`, `token`, `api_key` … must look like a value and not like code: `token = get_token()`,
`password: str`, `max_tokens=1024` stay. Within quotes anything is a value where the key is quoted as well (JSON, a
dictionary) and behind a bare `=` (a shell, arguments); elsewhere one word is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.rule import DOUBT, Hit, Opening, Rule, extended
from agentkit_reporting.redaction.secret_keys import is_secret_key

KEYED_SECRET = "keyed_secret"  # noqa: S105 - the name of a rule

_WINDOW, _LONGEST_KEYWORD = 2_048, 20
_KEYWORD = late_pattern(
    r"passw(?:or)?d|passphrase|passcode|pass|pwd|secret|token|key(?:_?base)?|credentials?|connection_?string"
)
_NAME = late_pattern(r"[A-Za-z0-9_.-]{1,40}\Z")
_MOST_OF_NAME = 40

# Up to three times encoded, as .NET writes it in JSON, and as an URL does.
_QUOTE = r"(?:\\{0,7}[\"'`]|\\u0022|%22)"
_BEHIND_NAME = rf"(?P<quoted>{_QUOTE})?\]?[ \t]{{0,16}}"
_SIGN = r"(?::=|=>|=(?!=)|:(?![:=])|[,>]|%3[AaDd])"
_BLOCK = r"(?P<block>[|>][+-]?[ \t]{0,4}\r?\n[ \t]{1,16})?"  # of YAML
_OPEN = rf"(?P<prefix>[bBrRuUfF]{{1,2}}(?=[\"']))?(?P<open>\"{{3}}|'{{3}}|{_QUOTE})?"
_ASSIGNED = late_pattern(rf"{_BEHIND_NAME}(?P<sign>{_SIGN}[ \t]{{0,8}}){_BLOCK}{_OPEN}")
_OPTION = late_pattern(rf"(?P<quoted>)(?P<sign>[ \t]{{1,4}})(?P<block>)(?P<prefix>)(?P<open>{_QUOTE})?")
_SIGN_OPENED = late_pattern(rf"(?:{_QUOTE})?\]?[ \t]{{0,16}}%3?\Z")
_OPTION_OPENED = late_pattern(r"(?<!-)--(?:[A-Za-z][A-Za-z0-9-]{0,38})?\Z")

_MASK = "[redacted:"
_PSEUDONYM = late_pattern(r":[0-9a-f]{16}\]")
_MAYBE_PSEUDONYM = late_pattern(r":[0-9a-f]{0,16}(?:\Z|(?<=[0-9a-f]{16})\])")
_NOT_MASKED = r"(?!\[redacted)"
# What a template, a shell or a document puts in place of a value.
_PLACEHOLDER = late_pattern(
    r"\$[({]|\{\{|<[A-Za-z/%]|(?:\{[^{}\"'\s]{1,60}\}|%\(?\w{0,20}\)?s|\*{3,400}|[xX]{3,400}|\.{3}|[Bb](?:earer|asic)"
    # a colour, a pattern; and what follows the end of a string that ends in `key=`
    r"|#[0-9A-Fa-f]{3,8})(?=\\{0,7}[\"'`])|\[|\s|[,;:)\]}]|[+%.|&]\s"
)
_EXPANDED = late_pattern(r"\$\w{1,60}(?=\\{0,7}[\"`])")
_WORD = late_pattern(rf"{_NOT_MASKED}[^\s\"'`\\]{{4,400}}+(?=\S|\Z)")
_REST_OF_WORD = late_pattern(r"[^\s\"'`\\]*")
_BARE = late_pattern(rf"{_NOT_MASKED}[^\s\"'`,;&<>(){{}}\[\]\\|]{{6,400}}+(?![(\[{{])")
_REST_OF_BARE = late_pattern(r"[^\s\"'`,;&<>(){}\[\]\\|]*")
_IN_CAPITALS = late_pattern(rf"{_NOT_MASKED}[^\s\"'`(){{}}\[\]\\]{{4,400}}+(?![(\[{{])")
_REST_IN_CAPITALS = late_pattern(r"[^\s\"'`(){}\[\]\\]*")
_ESCAPED = r"%(?!2[0267Cc]|0[AaDd])[0-9A-Fa-f]{2}"  # a character of an URL that ends no value
_IN_URL = late_pattern(rf"{_NOT_MASKED}(?:[^\s\"'`%&\\]|{_ESCAPED}){{6,400}}+")
_REST_IN_URL = late_pattern(rf"(?:[^\s\"'`%&\\]|{_ESCAPED})*(?P<{DOUBT}>%[0-9A-Fa-f]?\Z)?")
_OPENED = late_pattern(
    r"(?:[\"'`]{1,2}|[^\"'`\n]{0,3}|\\u0{0,2}2{0,2}|%2?|[|>][+-]?[ \t]{0,4}(?:\r?\n?[ \t]{0,16})"
    r"|[^\s\"'`\\]{0,401}\\{0,15})\Z"
)
_IN_BRACKET = late_pattern(r"[(\[]b?[\"']\Z")  # of a call, a list of headers; else it is a list of names
_DOTTED = late_pattern(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_IDENTIFIER = late_pattern(r"_*[A-Za-z]+(?:_+[A-Za-z0-9]+)*")
_FILE = late_pattern(
    r"(?:~|\.{0,2}/).*|.*\.(?:pem|key|crt|cer|p12|pfx|txt|json|ya?ml|toml|conf|env|py|js|ts|sh)"
)
_BASE64 = late_pattern(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9+/=]{32,}")
_NO_VALUES = frozenset({"true", "false", "null", "none", "undefined"})
_DIGIT = late_pattern(r"[0-9]")
_FEW_DIGITS = 2
_PASSWORD = late_pattern(r"(?:pass|pwd|secret)", re.IGNORECASE)


@functools.cache  # three quotes, up to eight backslashes: few are ever met, and all of them take 4 ms
def _string(quote: str, escapes: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what begins, and what goes on, of a string that ends in a quote behind so many backslashes."""
    one, doubt = rf"[^{quote}\\]|\\[\s\S]", r"\\\Z"
    if escapes:
        # It stands in a string itself: more backslashes are of a quote within it, fewer are the outer string's end.
        within = rf"\\{{{escapes + 1},15}}+{quote}"
        one = rf"[^{quote}\\]|\\{{16}}|\\{{1,15}}+(?=[^{quote}\\])|{within}"
        doubt = r"\\{1,15}\Z"
    return late_pattern(f"{_NOT_MASKED}(?:{one})"), late_pattern(f"(?:{one})*(?P<{DOUBT}>{doubt})?")


_FEW = late_pattern(r"[^\"'`\n]{0,3}(?:[\"'`\n]|\Z)")


class _KeyedValue(Rule):
    """`key = value` in a text, where the key looks secret; see `Rule` for what its methods do."""

    def next_hit(self, text: str, position: int, stop: int) -> Hit | None:
        """Return the first assignment of a secret from a position on, up to `stop`."""
        for end in _keyword_ends(text, position):
            if end > stop + _LONGEST_KEYWORD:
                return None  # an opening that was found there has its secret before any other
            found = _assignment(text, position, end)
            if found is not None and not _is_mask(text, found[0], end):
                start, name, assigned = found
                hit = _value(text, start, name, assigned)
                if hit is not None:
                    return hit
        return None

    def opening(self, text: str, position: int) -> Opening | None:
        """Return the first place from a position on where an assignment may go on behind the text."""
        position = max(position, len(text) - self.reach)
        for end in _keyword_ends(text, position):
            found = _assignment(text, position, end)
            if (
                found is not None
                and _OPENED.match(text, found[2].end()) is not None
                and not _is_mask(text, found[0], end, whole=True)
            ):
                return Opening(found[0], found[2].end())
            if _SIGN_OPENED.match(text, end) is not None:
                start, name = _name_before(text, position, end)
                if is_secret_key(name):
                    return Opening(start, len(text))
        option = _OPTION_OPENED.search(text, max(position, len(text) - _MOST_OF_NAME))
        return None if option is None else Opening(option.start(), len(text))


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


def _name_before(text: str, position: int, end: int) -> tuple[int, str]:
    r"""Return where the whole name begins that ends in a keyword, and the name, without the letter of a `\n`.

    One that begins before the position is none: what is left of it may look like another name.
    """
    found = _NAME.search(text, max(0, end - _MOST_OF_NAME), end)
    if found is None:
        return end, ""
    start, name = found.start(), found[0]
    if name[0] in "nrt" and start and text[start - 1] == "\\":
        start, name = start + 1, name[1:]
    return (start, name) if start >= position else (end, "")


def _assignment(text: str, position: int, end: int) -> tuple[int, str, re.Match[str]] | None:
    """Return where a secret name that ends here begins, the name, and the sign behind it up to the value."""
    assigned = _ASSIGNED.match(text, end) or _OPTION.match(text, end)
    if assigned is None:
        return None
    start, name = _name_before(text, position, end)
    if not is_secret_key(name):
        return None
    if assigned["sign"][0] in " \t":
        return (start, name, assigned) if name.startswith("--") else None
    if assigned["sign"][0] == ",":
        return (start, name, assigned) if assigned["quoted"] else None
    if assigned["sign"][0] == ">":
        is_element = assigned["sign"] == ">" and text[start - 1 : start] == "<"
        return (start, name, assigned) if is_element else None
    return start, name, assigned


def _is_mask(text: str, start: int, end: int, *, whole: bool = False) -> bool:
    """Whether the name is that of the rule in a pseudonym, or in the beginning of one, where not `whole`."""
    before = text[max(0, start - len(_MASK)) : start]
    return before == _MASK and (_PSEUDONYM if whole else _MAYBE_PSEUDONYM).match(text, end) is not None


def _value(text: str, start: int, name: str, assigned: re.Match[str]) -> Hit | None:
    """Return the value behind a sign, None where what stands there is none."""
    first, opened = assigned.end(), assigned["open"]
    if assigned["sign"][0] == "%" or opened == "%22":
        begun, rest = _IN_URL, _REST_IN_URL
    elif opened is None:
        if assigned["sign"][0] == ",":
            return None
        is_env = name.isupper() and assigned["sign"] == "="
        begun, rest = (_IN_CAPITALS, _REST_IN_CAPITALS) if is_env else (_BARE, _REST_OF_BARE)
    elif _takes_anything(text, assigned):
        begun, rest = _string(opened[-1], len(opened.rstrip("\"'`")))
        if not assigned["quoted"] and _FEW.match(text, first) is not None:
            return None
    else:
        begun, rest = _WORD, _REST_OF_WORD
    found = begun.match(text, first)
    if found is None or not _is_secret(text, start, name, assigned, found[0]):
        return None
    return extended(text, Hit(start, first, found.end(), found.end(), rest))


def _takes_anything(text: str, assigned: re.Match[str]) -> bool:
    """Whether all that stands within the quotes is the value."""
    opened, sign = assigned["open"], assigned["sign"]
    if opened[-1] not in "\"'`" or sign[0] == ",":
        return False
    if assigned["quoted"]:
        return True
    is_pattern_or_markdown = opened[-1] == "`" or "r" in (assigned["prefix"] or "").lower()
    is_close = sign == "=" and not text[assigned.start("sign") - 1].isspace()
    return not is_pattern_or_markdown and (is_close or sign[0] in " \t")


def _is_secret(text: str, start: int, name: str, assigned: re.Match[str], value: str) -> bool:
    """Whether what stands where a value would is more likely a secret than a word, a placeholder or code."""
    opened, sign = assigned["open"], assigned["sign"]
    if opened is not None and opened[-1] in "\"'`":
        if sign[0] == ",":
            bracket = _IN_BRACKET.search(text, max(0, start - 4), start)
            if bracket is None:
                return False
            is_of_call = bracket[0][0] == "(" and name.isupper() and not value.isupper()
            return is_of_call or _is_random(name, ":", value)
        if assigned["quoted"]:
            return True
        first = assigned.end()
        return _PLACEHOLDER.match(text, first) is None and (
            opened.endswith("'") or _EXPANDED.match(text, first) is None
        )
    if (
        value[0] in "$%*<"
        or (sign[0] == ">" and value[0] in "@:/.,")
        or value.endswith(("...", "…"))
        or _DOTTED.fullmatch(value)
    ):
        return False
    if assigned["block"]:
        return True
    if _FILE.fullmatch(value) is not None and _BASE64.fullmatch(value) is None:
        return False
    if name.isupper() and sign == "=":  # as a shell and an .env file have it
        follows = text[assigned.end() + len(value) : assigned.end() + len(value) + 1]
        is_code = value.rstrip(",").isidentifier() and (value[-1] == "," or follows == ")")
        return not is_code and value.lower() not in _NO_VALUES
    before = text[start - 1 : start]
    if before in ("?", "&") or (before in (";", "<") and _PASSWORD.search(name)):
        return True  # of an URL; of a connection string, of an element
    return _is_random(name, sign.strip() or "=", value)


def _is_random(name: str, sign: str, value: str) -> bool:
    """Whether a value without quotes is more than a word or a name."""
    digits = len(value) - len(_DIGIT.sub("", value))
    if not digits or (_IDENTIFIER.fullmatch(value) and digits <= _FEW_DIGITS and sign[0] not in "=%"):
        return False
    return digits < len(value) or _PASSWORD.search(name) is not None


_SIGNED = rf"(?:{_QUOTE}\]?[ \t]{{0,16}}(?:[:=,]|%3)|\]?[ \t]{{0,16}}(?:[:=>]|%3))"
_BEFORE_KEY = "[itsegnhdrpy]"  # the last letters of what `key` stands behind
_INSIDE = (
    ("k", f"(?:(?<=(?i:{_BEFORE_KEY}k))|(?<=(?i:{_BEFORE_KEY}[_.-]k)))(?=(?i:ey(?:_?base)?){_SIGNED})"),
    ("k", f"(?<=(?i:tok))(?=(?i:en){_SIGNED})"),
    ("c", f"(?=(?i:ret|redentials?|tion_?string){_SIGNED})"),
    ("p", f"(?=(?i:ass(?:w(?:or)?d|phrase|code)?|wd){_SIGNED})"),
)
"""A rare letter of each keyword, and what stands around it."""
_OPTION_ENDS = ("key", "token", "secret", "passwd", "password", "passphrase", "pass", "pwd", "credentials")
_IS_OPTION = "|".join(f"(?<=(?i:{end})[ \\t])" for end in _OPTION_ENDS)

KEYED_VALUES: Rule = _KeyedValue(
    name=KEYED_SECRET,
    find=_KEYWORD,
    opened=_SIGN_OPENED,
    gates=(":", "=", ",", ">", "%", "--"),
    triggers=(
        *(f"{case}{around}" for letter, around in _INSIDE for case in (letter, letter.upper())),
        rf"-(?=-[A-Za-z][A-Za-z0-9-]{{1,38}}+[ \t](?:{_IS_OPTION}))",
    ),
    arming=(r"-(?<=--)(?=[A-Za-z]|\Z)", r"%(?=3?\Z)"),
    signs=(":", "=", r",(?<=[\"'`],)", ">(?<=[A-Za-z]>)", "%(?=3)"),
    reach=560,
)
"""`key = value` in a text."""
