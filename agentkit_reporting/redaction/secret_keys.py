"""Which keys look as if their values were secret, however they are written: `apiKey`, `DB_PASSWORD`, `x-auth-token`."""

from __future__ import annotations

import functools

from agentkit_loop.late import late_pattern

_NO_LETTERS = late_pattern(r"[^a-z0-9]")
_SECRET_KEY = late_pattern(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|token|credentials?|authorization|cookies?|connectionstring"
    r"|webhookurl|secretkeybase|(?:api|app|application|access|secret|private|signing|encryption|auth|account|master"
    r"|shared|subscription|storage|service|deploy)key"
    # `pass` alone is a count of tests, and the end of `bypass` and `compass`
    r"|(?:db|database|user|admin|root|smtp|mail|imap|ftp|mysql|pg|postgres|mongo|redis|ldap|ssh|sudo|my|login|http"
    r"|proxy|rpc|jdbc|app|key|store|wifi)pass)\Z"
)
_NO_SECRET = late_pattern(
    r"(?:page|next|previous|prev|continuation|continue|cursor|sync|max|min|eos|bos|pad|unk|stop|mask|sep|cls|per"
    r"|first|last|special|start|end|input|output|count|num|cost|price|design)token\Z"
)
MAX_KEY = 100
"""Characters of the longest key that is looked at; names are shorter."""

NAME_KEYS = ("name", "Name", "key", "Key")
VALUE_KEYS = ("value", "Value")
"""Of an object that names a value: `{"name": "DB_PASSWORD", "value": …}`, the name first."""


def is_secret_key(key: str) -> bool:
    """Whether a key looks as if its value were secret: `apiKey`, `DB_PASSWORD`, `x-auth-token`, `Authorization`."""
    return len(key) <= MAX_KEY and _looks_secret(key)


@functools.lru_cache(2_048)  # behind the check of its length, so that it keeps little
def _looks_secret(key: str) -> bool:
    plain = _NO_LETTERS.sub("", key.lower())
    return _SECRET_KEY.search(plain) is not None and _NO_SECRET.search(plain) is None
