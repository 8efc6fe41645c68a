"""What is never recorded: credentials in headers and addresses, and those same texts wherever else they stand.

This is no matter of rules or options. Header and query names say what is a credential; what stands there is then
looked for in everything else of the exchange, since servers and error pages repeat what they were sent.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from urllib.parse import quote, unquote

from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.secret_keys import is_secret_key

__all__ = ["CREDENTIAL", "Headers", "clean_headers", "clean_url", "literal_redactor", "secrets_in"]

CREDENTIAL = "credential"
"""The name in masks of what was sent as a credential."""

MASK = f"[redacted:{CREDENTIAL}]"

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names and values as they were sent, in order; a name may come again."""

LEAST = 4
"""Characters of the shortest credential that is looked for elsewhere: masking less would garble the text."""

LEAST_OF_OTHERS = 8
"""The same for headers that merely look secret: they may hold a word such as `true`."""

_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "set-cookie", "x-auth-token"}
)
_LOOKS_SECRET = re.compile(
    r"auth|secret|passw|passphrase|passcode|credential|cookie|token|signature|session|jwt|sso|oidc|csrf|xsrf|bearer"
    r"|assertion|hmac|key|access-?code|\b(?:pass|pin|otp|pat|pwd|sid|sig|tkn)\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(?:anthropic-(?:ratelimit|priority|fast)-.*|(?:x-stainless-)?idempotency-key|sec-websocket-.*"
    r"|access-control-.*|www-authenticate|proxy-authenticate|x-ratelimit-.*|ratelimit.*|x-stainless-.*)",
    re.IGNORECASE,
)
_SECRET_QUERY = re.compile(
    r"(?:.*[_.-])?(?:key|api_?key|sig|signature|code|auth|jwt|pass|session|sid|x-amz-credential)",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#]*)@")
_ADDRESS = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|/[^\s?]*\?"
)  # of a redirect, whole or without its host
_SCHEME = re.compile(r"\A\s*(Basic|Bearer)[ \t]+(?=\S)", re.IGNORECASE)
_BREAKS = re.compile(
    r"[\x00-\x1f\x7f]+"
)  # what no header may hold; an error's text writes it in another form
_LONGEST_NAME = 200  # characters of a header's name that are looked at
_LONGEST_PART = 8_192  # characters that are looked for at once; a longer text is looked for in parts


def is_credential_header(name: str) -> bool:
    """Whether the value of a header is never recorded."""
    return _is_credential(name.lower()[:_LONGEST_NAME])


@functools.lru_cache(1_024)
def _is_credential(low: str) -> bool:
    if low in _CREDENTIAL_HEADERS:
        return True
    return _HARMLESS.fullmatch(low) is None and (is_secret_key(low) or _LOOKS_SECRET.search(low) is not None)


def clean_headers(headers: Headers) -> list[list[str]]:
    """Return headers with the values of credentials masked; their scheme, such as `Bearer`, is told."""
    return [[name, _clean_value(name, value)] for name, value in headers]


def _clean_value(name: str, value: str) -> str:
    if not is_credential_header(name):
        return clean_url(value) if _ADDRESS.match(value) else value
    scheme = _SCHEME.match(value)
    return MASK if scheme is None else f"{scheme[1]} {MASK}"


def clean_url(url: str) -> str:
    """Return an address without user and password, and with the values of key-like query parameters masked."""
    url = _USERINFO.sub(lambda found: f"{found[1] or ''}//", url)
    head, sign, query = url.partition("?")
    if not sign:
        return url
    query, hash_sign, fragment = query.partition("#")
    pairs = []
    for pair in query.split("&"):
        name, equals, _ = pair.partition("=")
        pairs.append(f"{name}={MASK}" if equals and _is_secret_parameter(name) else pair)
    return f"{head}?{'&'.join(pairs)}{hash_sign}{fragment}"


def secrets_in(headers: Headers, url: str = "", given: Iterable[str | None] = ()) -> frozenset[str]:
    """Return the texts that are to be masked wherever they stand. given: keys that are known besides."""
    found = {each for each in given if each is not None and len(each) >= LEAST} | _secrets_of_url(url)
    for name, value in headers:
        if is_credential_header(name):
            found |= _secrets_of_header(name.lower(), value)
        elif _ADDRESS.match(value):
            found |= _secrets_of_url(value)
    return frozenset(part for each in found for form in _forms(each) for part in _parts(form))


def _secrets_of_header(name: str, value: str) -> set[str]:
    scheme = _SCHEME.match(value)
    bare = value if scheme is None else value[scheme.end() :]
    if bare.startswith("[redacted"):
        return set()
    least = LEAST if name in _CREDENTIAL_HEADERS else LEAST_OF_OTHERS
    parts = {value, bare, value.strip().rpartition(" ")[2]}  # "token …", which is no scheme that is told
    if "cookie" in name:
        cookies = value.split(";") if name == "cookie" else value.split(";")[:1]
        parts |= {each.partition("=")[2].strip(' "') for each in cookies}
        least = LEAST_OF_OTHERS
    elif scheme is not None and scheme[1].lower() == "basic":
        user = _of_base64(bare)
        parts |= {user, user.partition(":")[2]}
    parts |= {piece for part in (value, bare) for piece in _BREAKS.split(part)}
    return {part for part in parts if len(part) >= least}


def _of_base64(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands in a text, in an address, and in a JSON text within another."""
    return {secret, quote(secret, safe=""), secret.replace("/", "\\/"), json.dumps(secret)[1:-1]}


def _parts(secret: str) -> Iterator[str]:
    """Yield a secret, a very long one in the parts of which it is made."""
    for place in range(0, len(secret), _LONGEST_PART):
        part = secret[place : place + _LONGEST_PART]
        if len(part) >= LEAST:
            yield part


def _secrets_of_url(url: str) -> set[str]:
    found: set[str] = set()
    user = _USERINFO.match(url)
    if user is not None:
        for told in {user[2], unquote(user[2])}:
            found |= {told, told.partition(":")[2], base64.b64encode(told.encode()).decode()}
    for pair in url.partition("?")[2].partition("#")[0].split("&"):
        name, equals, value = pair.partition("=")
        if equals and not value.startswith("[redacted") and _is_secret_parameter(name):
            found |= {each for each in (value, unquote(value)) if len(each) >= LEAST_OF_OTHERS}
    return {each for each in found if len(each) >= LEAST}


def _is_secret_parameter(name: str) -> bool:
    plain = unquote(name)
    return is_secret_key(plain) or _SECRET_QUERY.fullmatch(plain) is not None


def literal_redactor(secrets: frozenset[str]) -> Redactor | None:
    """Return what masks these texts wherever they stand, None where there are none."""
    if not secrets:
        return None
    ordered = sorted(secrets, key=lambda each: (-len(each), each))  # of two that begin alike the longer one
    return Redactor(
        [
            OwnPattern(
                CREDENTIAL,
                "|".join(map(re.escape, ordered)),
                longest=len(ordered[0]),
                begins="".join(sorted({each[0] for each in ordered})),
            )
        ]
    )
