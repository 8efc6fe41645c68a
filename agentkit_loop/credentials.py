"""Credentials that a run is given for its tools: held in memory only, masked wherever they are shown.

A tool that needs one raises NeedsAuth before it has done anything. Once the host has resolved the request,
the tool starts again and finds it with `context.credential(provider)`. What a tool tells (its result, its
errors, its progress and facts) is searched for every credential of the run before it becomes an event.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import JSON

MASK = "***"
MIN_SECRET = 4
"""Characters of the shortest text that is searched for: fewer stand in any text by chance."""


class Credential:
    """A secret for a provider. `reveal()` is the only way to it: its text, repr and every copy are masked."""

    __slots__ = ("_secret", "provider")

    def __init__(self, provider: str, secret: str) -> None:
        self.provider = provider
        self._secret = secret

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._secret

    def __repr__(self) -> str:
        return f"Credential({self.provider!r}, {MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not copied or stored; reveal() it where it is used")


class NeedsAuth(Exception):  # noqa: N818 - it is a request, and the contract's name
    """A tool's body needs credentials, and has done nothing yet.

    provider: whose. scopes: what they must allow. purpose: for the person who is asked.
    """

    def __init__(self, provider: str, scopes: Iterable[str] = (), purpose: str | None = None) -> None:
        super().__init__(f"credentials for {provider} are needed")
        self.provider = provider
        self.scopes = tuple(scopes)
        self.purpose = purpose


class Credentials:
    """The credentials of one driver, by provider. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Credential] = {}
        self._searched: tuple[Credential, ...] = ()  # in every form, longest first; also what was replaced

    def __repr__(self) -> str:
        return f"<credentials of {len(self._held)} providers>"

    def put(self, provider: str, secret: str) -> None:
        """Hold a provider's credential; replaces the earlier one."""
        credential = Credential(provider, checked_secret(secret))
        with self._lock:
            self._held[provider] = credential
            if len(secret) >= MIN_SECRET:
                known = {one.reveal() for one in self._searched} | _forms(secret)
                self._searched = tuple(Credential("", form) for form in sorted(known, key=len, reverse=True))

    def get(self, provider: str) -> Credential | None:
        """Return a provider's credential, None where none was given."""
        with self._lock:
            return self._held.get(provider)

    def masked_text(self, text: str) -> str:
        """Return the text with every credential masked."""
        for credential in self._searched:
            text = text.replace(credential.reveal(), MASK)
        return text

    def masked(self, value: JSON) -> JSON:
        """Return a JSON value with every credential masked, in keys and in `$bytes` too."""
        if not self._searched:
            return value
        if isinstance(value, str):
            return self.masked_text(value)
        if isinstance(value, dict):
            encoded = value.get("$bytes")
            if len(value) == 1 and isinstance(encoded, str):
                return {"$bytes": self._masked_bytes(encoded)}
            return {self.masked_text(key): self.masked(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self.masked(member) for member in value]
        return value

    def mask_exception(self, error: BaseException) -> None:
        """Take every credential out of an exception that is about to be raised again, and out of its chain."""
        waiting: list[BaseException | None] = [error]
        seen: set[int] = set()
        while waiting:
            one = waiting.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            waiting += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                waiting += one.exceptions
            one.args = tuple(self._masked_argument(argument) for argument in one.args)
            for name, value in list(vars(one).items()):
                setattr(one, name, self._masked_argument(value))
            if isinstance(one, SystemExit):
                one.code = self._masked_argument(one.code)  # what the interpreter prints at its exit

    def _masked_argument(self, value: Any) -> Any:
        """Return what an exception holds, masked where its text shows a credential."""
        if isinstance(value, str):
            return self.masked_text(value)
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return [self.masked_text(line) for line in value]  # notes
        if value is None or isinstance(value, (int, float, BaseException)):
            return value
        try:
            shown = f"{value!s}{value!r}"
        except Exception:  # noqa: BLE001 - a value of a tool's may fail to be shown; then nobody shows it
            return MASK
        return value if self.masked_text(shown) == shown else MASK

    def _masked_bytes(self, encoded: str) -> str:
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            return self.masked_text(encoded)
        masked = raw
        for credential in self._searched:
            masked = masked.replace(credential.reveal().encode("utf-8", "surrogatepass"), MASK.encode())
        return encoded if masked == raw else base64.b64encode(masked).decode()

    @property
    def are_given(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self._searched)


def _forms(secret: str) -> set[str]:
    """Return how a secret is written by Python, in JSON and in a URL: errors quote what they are about."""
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - only where there is a credential

    encoded = secret.encode("utf-8", "surrogatepass")
    return {
        secret,
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(encoded)[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(encoded, safe=""),
        quote_plus(encoded),
    }


def checked_secret(secret: Any) -> str:
    """Return the secret; raises ConfigurationError, which does not show it, for what is none."""
    if not isinstance(secret, str) or not secret:
        raise ConfigurationError(
            "resolve() refused what is no text; give the credential as a str, or cancel()"
        )
    return secret
