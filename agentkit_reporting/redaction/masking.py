"""What stands in place of what was taken out: a mask, nothing, or a pseudonym.

A pseudonym is the first half of an HMAC-SHA256 of the secret: equal secrets have equal ones, so that what one person
did can be followed; who has no key learns nothing, and who has it can try guesses. The key is shown nowhere.
"""

from __future__ import annotations

import os
from typing import Literal, NoReturn, TypeAlias, get_args

from agentkit_loop.errors import ConfigurationError

RedactionMode: TypeAlias = Literal["mask", "drop", "pseudonym"]
"""`[redacted:RULE]`; nothing; `[redacted:RULE:` and 16 hexadecimal digits `]`.

Of what was dropped nothing says where it stood, so a replay of such a log takes it for another text.
"""

PSEUDONYM_KEY_VARIABLE = "AGENTKIT_PSEUDONYM_KEY"
"""The environment variable that has the key of pseudonyms where no argument gives it."""

SHORTEST_KEY = 16
"""Bytes of the shortest key of pseudonyms; a shorter one is found by trying."""

MOST_OF_SECRET = 4_096
"""Characters of a secret that its pseudonym covers, so that a stream need not hold more."""

_HEX_DIGITS = 16


class Masking:
    """Makes what stands in place of a secret; its repr shows no key.

    mode: see RedactionMode. key: of pseudonyms, text or bytes; left out, AGENTKIT_PSEUDONYM_KEY has it. Raises
    ConfigurationError for a mode that is none, a key that is missing or short, and a key without use.
    """

    __slots__ = ("_key", "mode")

    def __init__(self, mode: RedactionMode = "mask", *, key: str | bytes | None = None) -> None:
        if mode not in get_args(RedactionMode):
            choices = ", ".join(get_args(RedactionMode))
            raise ConfigurationError(f"mode={mode!r} refused because it is none; use one of {choices}")
        if key is not None and mode != "pseudonym":
            raise ConfigurationError(f"a key refused with mode={mode!r}; use mode='pseudonym', or give none")
        self.mode = mode
        self._key = _checked_key(key) if mode == "pseudonym" else b""

    def __repr__(self) -> str:
        return f"Masking({self.mode!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a masking is not copied or stored, since it may hold a key; make a new one")

    def text(self, name: str, secret: str) -> str:
        """Return what stands in a text in place of a secret that a rule found."""
        if self.mode == "mask":
            return f"[redacted:{name}]"
        if self.mode == "drop":
            return ""
        given = secret[:MOST_OF_SECRET].encode("utf-8", "surrogatepass")
        import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL, only for pseudonyms
        import hmac  # noqa: PLC0415 - as above

        digest = hmac.new(self._key, given, hashlib.sha256).hexdigest()
        return f"[redacted:{name}:{digest[:_HEX_DIGITS]}]"

    def value(self, name: str, secret: object) -> str | None:
        """Return what stands in place of a whole JSON value; None where it is dropped. Only texts have pseudonyms."""
        if self.mode == "drop":
            return None
        return self.text(name, secret) if isinstance(secret, str) else f"[redacted:{name}]"


def _checked_key(given: str | bytes | None) -> bytes:
    """Return the key as bytes; the sentences about it never quote it."""
    key = os.environ.get(PSEUDONYM_KEY_VARIABLE, "") if given is None else given
    if not isinstance(key, (str, bytes)):
        raise ConfigurationError("a key of pseudonyms refused because it is neither text nor bytes; give one")
    raw = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
    if len(raw) < SHORTEST_KEY:
        found = "is missing" if not raw else "is too short"
        raise ConfigurationError(
            f"mode='pseudonym' refused because its key {found}; give key= or {PSEUDONYM_KEY_VARIABLE} "
            f"of at least {SHORTEST_KEY} bytes"
        )
    return raw
