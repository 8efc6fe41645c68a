r"""The secret rules: tokens of providers, JWTs, private keys; authorization and the like is in `header_rules`.

Shapes are those that the providers document or hand out (November 2026). Each pattern is gated by a text that must be
there and is bounded, so that a hostile text costs no more than a long one.
"""

from __future__ import annotations

from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.header_rules import HEADER_RULES
from agentkit_reporting.redaction.keyed_values import KEYED_VALUES
from agentkit_reporting.redaction.named_values import NAMED_VALUES
from agentkit_reporting.redaction.rule import DOUBT, Rule, edged, token

_WORD = "[A-Za-z0-9_-]"
_NAMED = r"(?:proj|svcacct|admin|None|or-v1)"

_ANTHROPIC = token("anthropic_key", "sk-ant-", _WORD, 16, gates=("sk-ant-",), triggers=("-(?<=sk-ant-)",))

_OPENAI = Rule(
    name="openai_key",
    find=late_pattern(rf"{edged('sk-')}({_NAMED}-{_WORD}{{20}}|[A-Za-z0-9]{{20}})"),
    opened=late_pattern(rf"{edged('sk-')}({_NAMED}-{_WORD}{{0,19}}|[A-Za-z0-9]{{0,19}}|or-(?:v1?)?)\Z"),
    rest=late_pattern(f"{_WORD}*"),
    gates=("sk-",),
    triggers=("-(?<=sk-)",),
    reach=40,
)

_AWS_GATES = ("AKIA", "ASIA", "ABIA", "ACCA")
_AWS_TRIGGERS = ("A(?:(?<=A[KSB]IA)|(?<=ACCA))",)
_AWS_ID = edged("A(?:[KSB]IA|CCA)")
_BETWEEN = r"[\s\"',:;|/\\]"
_AWS = (
    token("aws_key_id", _AWS_ID, "[A-Z0-9]", 16, gates=_AWS_GATES, triggers=_AWS_TRIGGERS),
    Rule(
        # The secret beside its id, as a table or a file of credentials has it; with a name before it, that says so.
        name="aws_secret_key",
        find=late_pattern(
            rf"{_AWS_ID}[A-Z0-9]{{16}}{_BETWEEN}{{1,12}}([A-Za-z0-9/+]{{40}})(?![A-Za-z0-9/+])"
        ),
        opened=late_pattern(
            rf"{_AWS_ID}(?:[A-Z0-9]{{0,16}}|[A-Z0-9]{{16}}{_BETWEEN}{{1,12}}([A-Za-z0-9/+]{{0,40}}))\Z"
        ),
        gates=_AWS_GATES,
        triggers=_AWS_TRIGGERS,
        reach=90,
    ),
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
        find=late_pattern(f"AIza({_WORD}{{35}})"),
        opened=late_pattern(rf"AIz(?:a({_WORD}{{0,34}}))?\Z"),
        rest=late_pattern(f"{_WORD}*"),
        gates=("AIz",),
        triggers=("z(?<=AIz)",),
        reach=40,
    ),
    Rule(
        name="google_key",
        find=late_pattern(rf"{edged('ya29')}\.({_WORD}{{20}})"),
        opened=late_pattern(rf"{edged('ya29')}(?:\.({_WORD}{{0,19}}))?\Z"),
        rest=late_pattern(r"[A-Za-z0-9_.-]*"),
        gates=("ya29",),
        triggers=("9(?<=ya29)",),
        reach=30,
    ),
    Rule(
        name="google_key",
        find=late_pattern(f"{edged('1//')}(0{_WORD}{{40}})"),
        opened=late_pattern(rf"{edged('1//')}(0{_WORD}{{0,39}}|)\Z"),
        rest=late_pattern(f"{_WORD}*"),
        gates=("1//",),
        triggers=("/(?<=1//)",),
        reach=60,
    ),
    token("google_key", "GOCSPX-", _WORD, 20, gates=("GOCSPX-",), triggers=("-(?<=GOCSPX-)",)),
)

_HOOK = r"hooks\.slack\.com\\?/(?:services|workflows|triggers)\\?/"
_HOOK_PATH = r"(?:[A-Za-z0-9/]|\\/)"
_SLACK = (
    token(
        "slack_token",
        r"(?<![A-Za-z0-9])(?:xox[a-z]|xapp)-",
        "[A-Za-z0-9-]",
        10,
        gates=("xox", "xapp-"),
        triggers=("-(?:(?<=xox[a-z]-)|(?<=xapp-))",),
    ),
    Rule(
        name="slack_token",
        find=late_pattern(rf"{_HOOK}({_HOOK_PATH}{{20}})"),
        opened=late_pattern(rf"{_HOOK}({_HOOK_PATH}{{0,19}}\\?)\Z"),
        rest=late_pattern(rf"{_HOOK_PATH}*(?P<{DOUBT}>\\\Z)?"),
        gates=("hooks.slack.com",),
        triggers=(r"/(?:(?<=slack.com/(?:services|triggers)/)|(?<=slack.com/workflows/)|(?<=s\\/))",),
        reach=120,
    ),
)

_STRIPE = (
    token(
        "stripe_key",
        edged("[sr]k_(?:live|test)_"),
        "[A-Za-z0-9]",
        10,
        rest="[A-Za-z0-9_]",
        gates=("k_live_", "k_test_"),
        triggers=("_(?<=[sr]k_(?:live|test)_)",),
    ),
    token("stripe_key", edged("whsec_"), "[A-Za-z0-9+/=]", 24, gates=("whsec_",), triggers=("_(?<=whsec_)",)),
)

_SERVICE = token(
    "service_token",
    r"(?:glpat-|npm_|pypi-|(?<![A-Za-z0-9])hf_|dop_v1_)",
    _WORD,
    20,
    gates=("glpat-", "npm_", "pypi-", "hf_", "dop_v1_"),
    triggers=("-(?:(?<=glpat-)|(?<=pypi-))", "_(?:(?<=npm_)|(?<=hf_)|(?<=dop_v1_))"),
)

_JWT = Rule(
    name="jwt",
    # The header of a JWT is a JSON object, so it begins with the base64 of `{"`.
    find=late_pattern(rf"{edged('eyJ')}({_WORD}{{8,400}}+\.{_WORD}{{8}})"),
    opened=late_pattern(rf"{edged('eyJ')}({_WORD}{{0,400}}+(?:\.{_WORD}{{0,7}})?)\Z"),
    rest=late_pattern(r"[A-Za-z0-9_.-]*"),
    gates=("eyJ",),
    triggers=("J(?<=eyJ)",),
    reach=420,
)

_SPACE = r"(?: |%20|\+)"  # as an URL has it
_KEY_HEAD = (
    rf"-{{4}}{_SPACE}?BEGIN{_SPACE}(?:[A-Z0-9 ]|%20|\+){{0,24}}PRIVATE{_SPACE}KEY"
    rf"(?:{_SPACE}BLOCK)?{_SPACE}?-{{4}}-?"
)
# As a listing with line numbers, a quotation, a comment or source code shows it; the arrow also as its UTF-8.
_KEY_TEXT = r"[A-Za-z0-9+/=\s\\\"':|>→\xe2\x86\x92.,;()#*<&@%_-]"
_KEY_LINE = "[A-Za-z0-9+/]{32}"
_PRIVATE_KEY = Rule(
    name="private_key",
    find=late_pattern(rf"{_KEY_HEAD}({_KEY_TEXT}{{0,240}}?{_KEY_LINE})"),
    opened=late_pattern(rf"{_KEY_HEAD}({_KEY_TEXT}{{0,272}}+)\Z"),
    # To its last line; where that is missing, to the next empty one: nobody knows which text is the key's.
    rest=late_pattern(rf"(?:[^-\n]|-(?=[^-])|\n(?=[^\r\n]|\r[^\n]))*(?P<{DOUBT}>-\Z|\n\r?\Z)?"),
    gates=("KEY----", "KEY ----", "BLOCK----", "KEY%20----", "KEY+----"),
    triggers=("-(?:(?<=KEY----)|(?<=KEY[ +]----)|(?<=BLOCK----)|(?<=KEY%20----))",),
    reach=400,
)

SECRET_RULES: tuple[Rule, ...] = (
    _ANTHROPIC,
    _OPENAI,
    *_AWS,
    *_GITHUB,
    *_GOOGLE,
    *_SLACK,
    *_STRIPE,
    _SERVICE,
    _JWT,
    _PRIVATE_KEY,
    *HEADER_RULES,
    NAMED_VALUES,
    KEYED_VALUES,
)
"""What is looked for by default, in the order in which two that begin at one place are named."""
