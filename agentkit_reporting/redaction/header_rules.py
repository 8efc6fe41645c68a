r"""The rules of what goes with a request: authorization, cookies, users with their passwords, also in URLs.

Headers are looked for as a client prints them, as code and JSON write them, and as an URL encodes them.
"""

from __future__ import annotations

import base64

from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.rule import LONGEST_LEAD, Rule, edged

_CREDENTIAL = "[A-Za-z0-9._~+/=-]"
_BASE64 = "[A-Za-z0-9+/]"
_SPACES = r"(?:[ \t]|%20|\+){1,4}"
_SPACES_OPENED = r"(?:[ \t]|%20|\+){0,3}%2?"


def _is_user_and_password(encoded: str) -> int:
    """Return the length of what decodes to `user:password`, else 0."""
    bare = encoded.rstrip("=")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode()
    except ValueError:
        return 0
    return len(encoded) if ":" in decoded and decoded.isprintable() else 0


def _after_scheme(scheme: str, secret: str, least: str, most: str, accepted: object = None) -> Rule:
    """Return the rule of a secret behind the name of its scheme, written `Name`, `name` or `NAME`."""
    lower, upper = scheme.lower(), scheme.upper()
    first, last = (upper[0], lower[0]), (upper[-1], lower[-1])
    name, look = f"[{''.join(first)}](?:{lower[1:]}|{upper[1:]})", rf"[\s\S]{{{len(scheme)}}}"
    return Rule(
        name="authorization",
        find=late_pattern(rf"{edged(name, look)}{_SPACES}({least})"),
        opened=late_pattern(rf"{name}(?:{_SPACES}({most})|{_SPACES_OPENED})?\Z"),
        rest=late_pattern(f"{secret}*") if accepted is None else None,
        gates=(lower[1:], upper[1:]),
        triggers=tuple(f"{letter}(?=(?i:{lower[1:]}))" for letter in first),
        signs=tuple(f"{letter}(?<=(?i:{lower}))" for letter in last),
        reach=1_050,
        accepted=accepted,  # type: ignore[arg-type] # None or a function of the text
    )


# Prose has "bearer of good news": a token of sixteen characters has a digit among its first forty.
_BEARER = _after_scheme(
    "bearer",
    _CREDENTIAL,
    rf"(?=[A-Za-z._~+/=-]{{0,40}}[0-9]){_CREDENTIAL}{{16}}",
    f"{_CREDENTIAL}{{0,40}}+",
)
_BASIC = _after_scheme(
    "basic", _BASE64, f"{_BASE64}{{8,1000}}+={{0,2}}", f"{_BASE64}{{0,1000}}+={{0,2}}", _is_user_and_password
)

# Up to three times encoded, as .NET writes it in JSON, and as an URL does; and a beginning of it.
_QUOTE = r"(?:\\{0,7}[\"'`]|\\u0022|%22)?"
_QUOTE_OPENED = r"(?:\\{0,7}[\"'`]?|\\u0{0,2}2{0,2}|%(?:22?)?)"
_SIGN = r"(?:[:=]{1,2}>?|,|%3[AaDd])(?:[ \t]|%20|\+){0,4}b?"
_SCHEME = rf"(?i:bearer|basic|token|apikey|digest|negotiate|bot){_SPACES}"
_HEADER_SECRET = r"[^\s\"'`,;\\<>{}$\[\]()]"  # noqa: S105 - a class of characters
_HEADER = rf"(?i:authorization){_QUOTE}\]?[ \t]{{0,4}}"
# Without a scheme: no word has a digit and so many characters, and few names in code have only these.
_ALONE = r"(?=[A-Za-z+/=-]{0,40}[0-9])(?=[A-Za-z0-9+/=-]{20})"
_AUTHORIZATION = Rule(
    name="authorization",
    find=late_pattern(rf"{_HEADER}{_SIGN}{_QUOTE}(?:{_SCHEME}|{_ALONE})({_HEADER_SECRET}{{6}})"),
    opened=late_pattern(
        rf"{_HEADER}(?:%3?|{_SIGN}(?:{_QUOTE_OPENED}|{_QUOTE}(?:{_SCHEME})?({_HEADER_SECRET}{{0,41}}+)))?\Z"
    ),
    rest=late_pattern(r"[^\s\"'`,;\\<>]*"),
    gates=("uthorization", "UTHORIZATION"),
    triggers=("z(?<=uthoriz)", "Z(?<=UTHORIZ)"),
    signs=(":", "=", r",(?<=[\"'`],)", r"%(?=3|\Z)"),
    reach=160,
)

# All that a line says of cookies, their attributes too.
_COOKIE_HEADER = rf"(?i:cookie){_QUOTE}\]?[ \t]{{0,4}}(?:[:=]|(?<=[\"']),)[ \t]{{0,4}}b?"
_COOKIE = Rule(
    name="cookie",
    find=late_pattern(rf"{_COOKIE_HEADER}{_QUOTE}([\w.%-]{{1,64}}=(?!\[redacted)[^\s\"'`\\;,=])"),
    opened=late_pattern(rf"{_COOKIE_HEADER}(?:{_QUOTE_OPENED}|{_QUOTE}([\w.%-]{{0,64}}=?(?:\[redacte?)?))\Z"),
    rest=late_pattern(r"(?:[^\s\"'`\\<>]|(?<=;)[ \t])*"),
    gates=("ookie", "OOKIE"),
    triggers=tuple(f"{k}(?<=(?i:cook))(?=(?i:ie)(?:[:=]|{_QUOTE}\\]?[ \\t]{{0,4}}[:=,]))" for k in "kK"),
    signs=(":", "=", r",(?<=[\"'`],)"),
    reach=120,
)

# `curl -u ann:secret`; what follows a user of docker is a group, of digits or letters alone.
_USER = rf"(?<![\w-])-(?:u|-user)(?:[ \t]{{1,2}}|=){_QUOTE}[A-Za-z0-9_.@+-]{{1,64}}:"
_USER_PASSWORD = r"[^\s\"'`\\${}]"  # noqa: S105 - a class of characters
_USER_OPTION = Rule(
    name="authorization",
    find=late_pattern(
        rf"{_USER}(?!//|\d{{1,20}}(?!{_USER_PASSWORD})|\[redacted)"
        rf"(?=[A-Za-z-]{{0,60}}[^\sA-Za-z\"'`\\${{}}/.-])({_USER_PASSWORD}{{5}})"
    ),
    opened=late_pattern(rf"{_USER}({_USER_PASSWORD}{{0,61}}+)\Z"),
    rest=late_pattern(f"{_USER_PASSWORD}*"),
    gates=("-u",),
    triggers=(r"-(?=(?:u|-user)[ \t=])",),
    signs=(":",),
    reach=200,
)

_PLACEHOLDER = r"\[redacted|\$?\{{1,2}[\w. -]{1,40}\}{1,2}@|\$[A-Z_]{1,40}@|\*{3,}@|%s@"
_URL_USER = r":(?:\\?/){2}[^\s/:@?#\[\]\"'<>\\]{0,100}+"
_URL_PASSWORD = (
    Rule(
        name="url_password",
        # To the last `@` before the path: one of a password should be encoded, and often is not.
        find=late_pattern(rf"{_URL_USER}:((?!{_PLACEHOLDER})[^\s/?#\"'<>\\]{{1,200}})@"),
        opened=late_pattern(rf"{_URL_USER}(?::([^\s/?#\"'<>\\]{{0,200}}+))?\Z"),
        gates=("://", r":\/\/"),
        triggers=(r"/(?:(?<=://)|(?<=:\\/\\/))",),
        reach=210 + LONGEST_LEAD + 20,
    ),
    Rule(
        name="url_password",
        find=late_pattern(
            r"%2F%2F[A-Za-z0-9._~+-]{0,100}+%3A((?:[A-Za-z0-9._~!*'()+-]|%(?!40|2F|3A)[0-9A-F]{2}){1,100}+)%40"
        ),
        opened=late_pattern(
            r"%2F%2F[A-Za-z0-9._~+-]{0,100}+"
            r"(?:%3?|%3A((?:[A-Za-z0-9._~!*'()+-]|%(?!40|2F|3A)[0-9A-F]{2}){0,100}+(?:%[0-9A-F]?)?))?\Z"
        ),
        gates=("%2F%2F",),
        triggers=("F(?<=%2F%2F)",),
        reach=420,
    ),
)

HEADER_RULES: tuple[Rule, ...] = (_AUTHORIZATION, _BEARER, _BASIC, _COOKIE, _USER_OPTION, *_URL_PASSWORD)
"""What is looked for of requests, in the order in which two that begin at one place are named."""
