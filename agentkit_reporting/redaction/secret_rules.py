r"""The secret rules: tokens of providers, JWTs, private keys, authorization, passwords in URLs.

Shapes are those that the providers document or hand out (November 2026). Each pattern is gated by a text that must be
there and is bounded, so that a hostile text costs no more than a long one.
"""

from __future__ import annotations

import base64
import re

from agentkit_reporting.redaction.keyed_values import KEYED_VALUES
from agentkit_reporting.redaction.rule import LONGEST_LEAD, Rule, token


def _edged(lead: str, look: str | None = None) -> str:
    """Return a lead before which stands no letter or digit, unless that belongs to an escape.

    What stands before is looked at behind the lead, which a search finds faster. look: a lead of one width, where
    the lead has no such form.
    """
    seen = look or lead
    return rf"{lead}(?:(?<![A-Za-z0-9]{seen})|(?<=\\[nrt]{seen})|(?<=%[0-9A-Fa-f]{{2}}{seen}))"


_WORD = "[A-Za-z0-9_-]"
_NAMED = r"(?:proj|svcacct|admin|None|or-v1)"

_ANTHROPIC = token("anthropic_key", "sk-ant-", _WORD, 16, gates=("sk-ant-",), triggers=("-(?<=sk-ant-)",))

_OPENAI = Rule(
    name="openai_key",
    find=re.compile(rf"{_edged('sk-')}({_NAMED}-{_WORD}{{20}}|[A-Za-z0-9]{{20}})"),
    opened=re.compile(rf"{_edged('sk-')}({_NAMED}-{_WORD}{{0,19}}|[A-Za-z0-9]{{0,19}}|or-(?:v1?)?)\Z"),
    rest=re.compile(f"{_WORD}*"),
    gates=("sk-",),
    triggers=("-(?<=sk-)",),
    reach=40,
)

_AWS = token(
    "aws_key_id",
    _edged("A(?:[KSB]IA|CCA)"),
    "[A-Z0-9]",
    16,
    gates=("AKIA", "ASIA", "ABIA", "ACCA"),
    triggers=("A(?:(?<=A[KSB]IA)|(?<=ACCA))",),
)

_GITHUB = (
    token(
        "github_token",
        "gh[pousr]_",
        "[A-Za-z0-9]",
        30,
        rest="[A-Za-z0-9_]",
        gates=("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        triggers=("_(?<=gh[pousr]_)",),
    ),
    token(
        "github_token",
        "github_pat_",
        "[A-Za-z0-9_]",
        22,
        gates=("github_pat_",),
        triggers=("_(?<=github_pat_)",),
    ),
)

_GOOGLE = (
    Rule(
        name="google_key",
        find=re.compile(f"AIza({_WORD}{{35}})"),
        opened=re.compile(rf"AIz(?:a({_WORD}{{0,34}}))?\Z"),
        rest=re.compile(f"{_WORD}*"),
        gates=("AIz",),
        triggers=("z(?<=AIz)",),
        reach=40,
    ),
    Rule(
        name="google_key",
        find=re.compile(rf"{_edged('ya29')}\.({_WORD}{{20}})"),
        opened=re.compile(rf"{_edged('ya29')}(?:\.({_WORD}{{0,19}}))?\Z"),
        rest=re.compile(r"[A-Za-z0-9_.-]*"),
        gates=("ya29",),
        triggers=("9(?<=ya29)",),
        reach=30,
    ),
    token("google_key", "GOCSPX-", _WORD, 20, gates=("GOCSPX-",), triggers=("-(?<=GOCSPX-)",)),
)

_SLACK = (
    token(
        "slack_token",
        r"(?<![A-Za-z0-9])(?:xox[a-z]|xapp)-",
        "[A-Za-z0-9-]",
        10,
        gates=("xox", "xapp-"),
        triggers=("-(?:(?<=xox[a-z]-)|(?<=xapp-))",),
    ),
    token(
        "slack_token",
        r"hooks\.slack\.com/services/",
        "[A-Za-z0-9/]",
        20,
        gates=("hooks.slack.com/services/",),
        triggers=("/(?<=slack.com/services/)",),
    ),
)

_STRIPE = (
    token(
        "stripe_key",
        _edged("[sr]k_(?:live|test)_"),
        "[A-Za-z0-9]",
        10,
        rest="[A-Za-z0-9_]",
        gates=("k_live_", "k_test_"),
        triggers=("_(?<=[sr]k_(?:live|test)_)",),
    ),
    token(
        "stripe_key", _edged("whsec_"), "[A-Za-z0-9+/=]", 24, gates=("whsec_",), triggers=("_(?<=whsec_)",)
    ),
)

_JWT = Rule(
    name="jwt",
    # The header of a JWT is a JSON object, so it begins with the base64 of `{"`.
    find=re.compile(rf"{_edged('eyJ')}({_WORD}{{8,400}}+\.{_WORD}{{8}})"),
    opened=re.compile(rf"{_edged('eyJ')}({_WORD}{{0,400}}+(?:\.{_WORD}{{0,7}})?)\Z"),
    rest=re.compile(r"[A-Za-z0-9_.-]*"),
    gates=("eyJ",),
    triggers=("J(?<=eyJ)",),
    reach=420,
)

_KEY_HEAD = r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
# As a listing with line numbers, a quotation or source code shows it; the arrow also as the bytes of its UTF-8.
_KEY_TEXT = r"A-Za-z0-9+/=\s\\\"':|>→\xe2\x86\x92"
_PRIVATE_KEY = Rule(
    name="private_key",
    find=re.compile(rf"{_KEY_HEAD}([{_KEY_TEXT},.-]{{0,200}}?[A-Za-z0-9+/]{{24}})"),
    opened=re.compile(rf"{_KEY_HEAD}([{_KEY_TEXT},.-]{{0,224}}+)\Z"),
    rest=re.compile(f"[{_KEY_TEXT}]*"),
    gates=("PRIVATE KEY",),
    triggers=("-(?:(?<=PRIVATE KEY-----)|(?<=KEY BLOCK-----))",),
    reach=320,
)

_CREDENTIAL = "[A-Za-z0-9._~+/=-]"
_BASE64 = "[A-Za-z0-9+/]"


def _partly(word: str, then: str) -> str:
    """Return a pattern for every beginning of a word, and for what comes behind the whole of it."""
    pattern = then
    for letter in reversed(word):
        pattern = f"(?:{letter}{pattern})?"
    return pattern


def _ends_within(word: str) -> str:
    """Return a pattern for a text that ends within a word, or that goes on with it."""
    beginnings = "|".join(rf"{word[:length]}\Z" for length in range(len(word)))
    return f"(?=(?i:{word}|{beginnings}))"


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
    first = f"[{upper[0]}{lower[0]}]"
    name, look = f"{first}(?:{lower[1:]}|{upper[1:]})", rf"[\s\S]{{{len(scheme)}}}"
    opened = rf"(?:[ \t]{{1,4}}({most}))?"
    return Rule(
        name="authorization",
        find=re.compile(rf"{_edged(name, look)}[ \t]{{1,4}}({least})"),
        opened=re.compile(rf"{first}(?:{_partly(lower[1:], opened)}|{_partly(upper[1:], opened)})\Z"),
        rest=re.compile(f"{secret}*") if accepted is None else None,
        gates=(lower[1:], upper[1:]),
        stream_gates=(),
        triggers=tuple(f"{letter}(?=(?i:{lower[1:]}))" for letter in (upper[0], lower[0])),
        arming=tuple(f"{letter}{_ends_within(lower[1:])}" for letter in (upper[0], lower[0])),
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

_QUOTE = r"(?:\\{0,3}[\"'`])?"
_HEADER = rf"(?i:authorization){_QUOTE}\]?[ \t]{{0,4}}"
_SIGN = rf"[:=]{{1,2}}>?[ \t]{{0,4}}{_QUOTE}"
_SCHEME = r"(?i:bearer|basic|token|apikey|digest|negotiate|bot)[ \t]{1,4}"
_HEADER_SECRET = r"[^\s\"'`,;\\<>{}$\[\]()]"  # noqa: S105 - a class of characters
_AUTHORIZATION = Rule(
    name="authorization",
    find=re.compile(rf"{_HEADER}{_SIGN}{_SCHEME}({_HEADER_SECRET}{{6}})"),
    opened=re.compile(
        rf"{_HEADER}(?:[:=]{{1,2}}>?[ \t]{{0,4}}(?:\\{{0,3}}[\"'`]?)"
        rf"(?:[A-Za-z]{{0,10}}|{_SCHEME}({_HEADER_SECRET}{{0,5}})))?\Z"
    ),
    rest=re.compile(r"[^\s\"'`,;\\<>]*"),
    gates=("uthorization", "UTHORIZATION"),
    triggers=("z(?<=uthoriz)", "Z(?<=UTHORIZ)"),
    arming=(":", "="),
    reach=80,
)

_PLACEHOLDER = r"\[redacted|\$?\{{1,2}[\w. -]{1,40}\}{1,2}@|\$[A-Z_]{1,40}@|\*{3,}@|%s@"
_URL_PASSWORD = Rule(
    name="url_password",
    find=re.compile(rf"://[^\s/:@?#\[\]\"'<>\\]{{0,100}}+:((?!{_PLACEHOLDER})[^\s/@?#\"'<>\\]{{1,200}}+)@"),
    opened=re.compile(r"://[^\s/:@?#\[\]\"'<>\\]{0,100}+(?::([^\s/@?#\"'<>\\]{0,200}+))?\Z"),
    gates=("://",),
    triggers=("/(?<=://)",),
    reach=210 + LONGEST_LEAD + 20,
)

SECRET_RULES: tuple[Rule, ...] = (
    _ANTHROPIC,
    _OPENAI,
    _AWS,
    *_GITHUB,
    *_GOOGLE,
    *_SLACK,
    *_STRIPE,
    _JWT,
    _PRIVATE_KEY,
    _AUTHORIZATION,
    _BEARER,
    _BASIC,
    _URL_PASSWORD,
    KEYED_VALUES,
)
"""What is looked for by default, in the order in which two that begin at one place are named."""
