"""Credentials that a run is given for its tools: held in memory only, masked wherever they are shown.

A tool that needs one raises NeedsAuth before it has done anything. Once the host has resolved the request,
the tool starts again and finds it with `context.credential(provider)`. What a tool tells (its result, its
errors, its progress and facts) is searched for every credential of the run, and of the agents that share its
`Secrets`, before it becomes an event.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import threading
import types
from collections.abc import Iterable
from typing import Any, NoReturn

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import JSON

MASK = "***"
MIN_SECRET = 4
"""Characters of the shortest text that is searched for: fewer stand in any text by chance."""
MIN_ENCODED = 6
"""Characters of the shortest encoded form that is searched for; nobody chose those, so they are met sooner."""

_IN_NUMBERS = frozenset("0123456789.e+-")  # what Python and JSON write numbers with

_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)
"""What `__slots__` and builtin classes keep attributes in, such as the file name of an OSError."""
_OF_EVERY_EXCEPTION = frozenset(
    {"args", "__cause__", "__context__", "__dict__", "__suppress_context__", "__traceback__", "__weakref__"}
)


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


class Secrets:
    """What is searched for in everything that tools tell: every credential, in the forms that it is shown in.

    Shared by a session and those of the agents behind its calls, so that each masks what the others were given;
    gives no credential to anybody. Safe to share by threads.

    Found are a credential's text as Python, JSON and URLs write it, its base64 (standard and for URLs, padded or
    not) and its hexadecimal, in texts, keys, `$bytes`, and numbers whose decimal text holds it. Out of reach is
    what a tool makes of it beyond that: the base64 of a longer text (`Basic` of user and password), a hash, single
    characters.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searched: tuple[Credential, ...] = ()  # in every form, longest first; also what was replaced
        self._in_numbers: tuple[Credential, ...] = ()  # those of them that a number's text can hold

    def __repr__(self) -> str:
        return f"<secrets, in {len(self._searched)} forms>"

    def add(self, secret: str) -> None:
        """Search for a secret from now on; not for one of fewer than MIN_SECRET characters."""
        if len(secret) < MIN_SECRET:
            return
        with self._lock:
            known = {one.reveal() for one in self._searched} | _forms(secret) | _encoded_forms(secret)
            forms = sorted(known, key=lambda form: (-len(form), form))
            self._searched = tuple(Credential("", form) for form in forms)
            self._in_numbers = tuple(Credential("", form) for form in forms if _IN_NUMBERS.issuperset(form))

    @property
    def are_given(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self._searched)

    def masked_text(self, text: str) -> str:
        """Return the text with every secret masked."""
        for secret in self._searched:
            text = text.replace(secret.reveal(), MASK)
        return text

    def masked(self, value: JSON) -> JSON:
        """Return a JSON value with every secret masked, in keys, numbers and `$bytes` too."""
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
        return MASK if self._is_in_number(value) else value

    def mask_exception(self, error: BaseException) -> BaseException:
        """Take every secret out of an exception and of what hangs on it; return the one that is to be raised.

        That is the same one, or where it shows a secret by what cannot be changed (the message of a group, a
        `__str__` of its own), another in its place: a group of the same members, else one of its builtin class.
        """
        found = _hanging_on(error)
        for one in found:
            self._mask_parts(one)
        stand_ins: dict[int, BaseException] = {}
        for one in found:
            self._stand_in(one, stand_ins)
        for one in found:
            stand_in = stand_ins[id(one)]
            suppressed, cause, context = one.__suppress_context__, one.__cause__, one.__context__
            _set(stand_in, "__cause__", None if cause is None else stand_ins[id(cause)])
            _set(stand_in, "__context__", None if context is None else stand_ins[id(context)])
            _set(stand_in, "__suppress_context__", suppressed)  # which setting a cause has changed
        return stand_ins[id(error)]

    def _mask_parts(self, one: BaseException) -> None:
        """Mask what an exception holds: arguments, attributes, slots, and the fields of builtin classes."""
        _set(one, "args", tuple(self._masked_argument(argument) for argument in one.args))
        for name, value in list(vars(one).items()):
            _set(one, name, self._masked_argument(value))
        for kind in type(one).__mro__:
            for name, field in list(vars(kind).items()):
                if isinstance(field, _FIELDS) and name not in _OF_EVERY_EXCEPTION:
                    with contextlib.suppress(Exception):  # has no value, or cannot be set
                        field.__set__(one, self._masked_argument(field.__get__(one)))

    def _stand_in(self, one: BaseException, known: dict[int, BaseException]) -> BaseException:
        """Return what takes an exception's place, itself where it shows no secret. known: those found so far."""
        stand_in = known.get(id(one))
        if stand_in is None:
            members: tuple[BaseException, ...] = ()
            shows = self._shows(one)
            if isinstance(one, BaseExceptionGroup):
                members = tuple(self._stand_in(member, known) for member in one.exceptions)
                shows = shows or any(new is not old for new, old in zip(members, one.exceptions, strict=True))
            stand_in = known[id(one)] = self._made_anew(one, members) if shows else one
        return stand_in

    def _made_anew(self, one: BaseException, members: tuple[BaseException, ...]) -> BaseException:
        made: BaseException
        if isinstance(one, BaseExceptionGroup):
            made = BaseExceptionGroup(self.masked_text(one.message), members)
        else:
            kind = next(kind for kind in type(one).__mro__ if kind.__module__ == "builtins")
            argument = self._masked_argument(one.code) if isinstance(one, SystemExit) else MASK
            try:
                made = kind(argument)
            except TypeError:  # takes others
                made = Exception(MASK)
        return made.with_traceback(one.__traceback__)

    def _shows(self, one: BaseException) -> bool:
        """Whether a traceback would show a secret with the exception."""
        try:
            shown = f"{one!s}{one!r}{getattr(one, '__notes__', '')}"
        except Exception:  # noqa: BLE001 - a class's own words may fail; a traceback says that they did
            return False
        return self.masked_text(shown) != shown

    def _masked_argument(self, value: Any) -> Any:
        """Return what an exception holds, masked where its text shows a secret."""
        if isinstance(value, str):
            return self.masked_text(value)
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return [self.masked_text(line) for line in value]  # notes
        if value is None or isinstance(value, BaseException):
            return value  # which is masked by itself
        if isinstance(value, bytes):
            return self._masked_raw(value)
        if isinstance(value, (int, float)):
            return MASK if self._is_in_number(value) else value
        try:
            shown = f"{value!s}{value!r}"
        except Exception:  # noqa: BLE001 - a value of a tool's may fail to be shown; then nobody shows it
            return MASK
        return value if self.masked_text(shown) == shown else MASK

    def _is_in_number(self, value: JSON) -> bool:
        """Whether the value is a number whose decimal text holds a secret."""
        if not self._in_numbers or isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        try:
            text = repr(value)
        except ValueError:
            return False  # too long to be written in decimal; nobody shows it so
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            text += f" {value:.0f}"  # 1e+16 is shown otherwise elsewhere
        return any(secret.reveal() in text for secret in self._in_numbers)

    def _masked_bytes(self, encoded: str) -> str:
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            return self.masked_text(encoded)
        masked = self._masked_raw(raw)
        return encoded if masked == raw else base64.b64encode(masked).decode()

    def _masked_raw(self, raw: bytes) -> bytes:
        for secret in self._searched:
            raw = raw.replace(secret.reveal().encode("utf-8", "surrogatepass"), MASK.encode())
        return raw


class Credentials:
    """The credentials of one driver, by provider. Safe to share by threads.

    secrets: where they are searched for; left out, a registry of its own. One that is given is shared: what
    another holder put there is masked here too, and `get` gives only what was put here.
    """

    def __init__(self, secrets: Secrets | None = None) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Credential] = {}
        self._secrets = Secrets() if secrets is None else secrets

    def __repr__(self) -> str:
        return f"<credentials of {len(self._held)} providers>"

    @property
    def secrets(self) -> Secrets:
        """What is searched for: these credentials, and those of whoever shares it."""
        return self._secrets

    def put(self, provider: str, secret: str) -> None:
        """Hold a provider's credential; replaces the earlier one, which is still masked."""
        credential = Credential(provider, checked_secret(secret))
        self._secrets.add(secret)  # first: whoever gets it can show it
        with self._lock:
            self._held[provider] = credential

    def get(self, provider: str) -> Credential | None:
        """Return a provider's credential, None where none was given here."""
        with self._lock:
            return self._held.get(provider)

    @property
    def are_given(self) -> bool:
        """Whether there is anything to mask."""
        return self._secrets.are_given

    def masked_text(self, text: str) -> str:
        """Return the text with every secret masked; see `Secrets`."""
        return self._secrets.masked_text(text)

    def masked(self, value: JSON) -> JSON:
        """Return a JSON value with every secret masked; see `Secrets`."""
        return self._secrets.masked(value)

    def mask_exception(self, error: BaseException) -> BaseException:
        """Take every secret out of an exception; return the one to raise. See `Secrets`."""
        return self._secrets.mask_exception(error)


def _hanging_on(error: BaseException) -> list[BaseException]:
    """Return an exception with its causes, contexts and members, and what is among their arguments."""
    found: dict[int, BaseException] = {}
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in found:
            continue
        found[id(one)] = one
        waiting += [one.__cause__, one.__context__, *one.args, *vars(one).values()]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return list(found.values())


def _set(one: BaseException, name: str, value: object) -> None:
    """Set an attribute, also of a frozen class; one that cannot be set stays."""
    with contextlib.suppress(Exception):
        BaseException.__setattr__(one, name, value)


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


def _encoded_forms(secret: str) -> set[str]:
    """Return a secret in base64 and hexadecimal, and as a number loses its leading zeros."""
    raw = secret.encode("utf-8", "surrogatepass")
    padded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    forms = {*padded, *(form.rstrip("=") for form in padded), raw.hex(), raw.hex().upper()}
    if _IN_NUMBERS.issuperset(secret):
        forms.add(secret.lstrip("0"))
    return {form for form in forms if len(form) >= MIN_ENCODED}


def checked_secret(secret: Any) -> str:
    """Return the secret; raises ConfigurationError, which does not show it, for what is none."""
    if not isinstance(secret, str) or not secret:
        raise ConfigurationError(
            "resolve() refused what is no text; give the credential as a str, or cancel()"
        )
    return secret
