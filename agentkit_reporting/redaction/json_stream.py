r"""A JSON text that comes in pieces, such as the input of a call: each string in it is a text stream of its own.

Strings are looked at as they are meant, not as they are written: `sk\u002dant-…` is a secret as well. What goes out is
JSON again, with the short escapes; all of it, read, is what `Scrubber.value` makes of the whole value. A text that is
no JSON is given up where it ceases to be: nothing of it goes out from there on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import NoReturn

from agentkit_loop.differences import is_mask
from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.keyed_values import KEYED_SECRET
from agentkit_reporting.redaction.masking import MOST_OF_SECRET, Masking
from agentkit_reporting.redaction.rule_set import RuleSet
from agentkit_reporting.redaction.secret_keys import MAX_KEY, NAME_KEYS, VALUE_KEYS, is_secret_key
from agentkit_reporting.redaction.text_stream import Found, TextStream, scrub_text

_LONGEST_KEY = 4_096
_LONGEST_SCALAR = 64  # characters of a number; at a longer one the text is given up
_PLAIN = re.compile(r"[^\"\\\x00-\x1f]+")
_ESCAPE = re.compile(r"\\(?:u(?P<hex>[0-9A-Fa-f]{4})|(?P<one>[\"\\/bfnrt]))")
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_ONE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SPACE = re.compile(r"[ \t\r\n]+")
_SCALAR = re.compile(r"[-+.0-9A-Za-z]+")
_SCALARS = late_pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_SKIPPED = re.compile(r"[^\"{}\[\]]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH, _LOW, _AFTER = 0xD800, 0xDC00, 0xE000
_MOST_NESTED = 200


class BrokenJSONError(Exception):
    """What came is no JSON from here on; never leaves this module."""


class JsonStream:
    """One JSON text on its way; `tail`, `is_armed`, `search`, `is_plain` and `trim` as in TextStream.

    is_broken: whether it ceased to be JSON; rest: what came from there on and stands in nothing that went out, up to
    the end of that piece; broken_text: the stream of the string in which that was. hides: whether the value that
    comes, or has begun, stands under a key that looks secret. has_begun: whether there was any JSON at all.
    """

    longest_tail = TextStream.longest_tail

    def __init__(self, rules: RuleSet, masking: Masking) -> None:
        self.tail = ""
        self.is_armed = True
        self.search: Callable[..., re.Match[str] | None] = rules.json_search
        self.is_broken = False
        self.rest = ""
        self.broken_text: TextStream | None = None
        self.has_begun = False
        self._rules = rules
        self._masking = masking
        self._step: Callable[[str, int], int] = self._value  # what may come next
        self._nested: list[str] = []  # open brackets
        self._is_name = False  # whether the value that comes is the name of another, at the same depth
        self._secret_name: list[str] = []  # of that name, what came of it
        self._named: dict[int, bool] = {}  # by depth, whether a name there was one of a secret
        self._skipped = 0  # of them, those within a value that is masked as a whole
        self._text: TextStream | None = None  # of the open string, where it is a value that is shown
        self._collected: list[str] | None = None  # of the open string or scalar, where it must be known whole
        self._collected_size = 0
        self._is_key = False
        self.hides = False
        self._is_told = False  # the mask of the open string went out already
        self._waiting = ""  # an escape that has not ended
        self._broken_at = 0  # where in the piece a string ceased to be JSON
        self._high = 0  # the first half of a character outside the basic plane
        self._out: list[str] = []
        self._found: Found = []

    def trim(self) -> None:
        """Forget what is too long ago to matter; see TextStream."""
        self._sync_in()
        if self._text is not None:
            self._text.trim()
            self.tail = self._text.tail

    def is_plain(self, text: str, sent: int) -> bool:
        """Whether a piece is more of the open string, and cannot be of interest; see TextStream."""
        return self._rules.json_ends(text, sent) is None and self._rules.is_plain(text, sent)

    def _sync_in(self) -> None:
        if self._text is not None and not self.is_armed:
            self._text.tail = self.tail  # what the hot path added

    def feed(self, piece: str, *, is_last: bool = False) -> tuple[str, Found]:
        """Take the next piece; return what may go out now, and the rules of the masks in it."""
        self._sync_in()
        self._out, self._found = [], []
        text, at = self._waiting + piece, 0
        self._waiting, self._broken_at = "", 0
        try:
            while at < len(text) and not self._waiting:
                at = self._step(text, at)
            if is_last:
                self._end()
        except BrokenJSONError:
            # A number or word that was none stood in nothing that went out.
            scalar = "".join(self._collected or ()) if self._step == self._scalar else ""
            self.is_broken, self.rest = True, scalar + text[max(at, self._broken_at) :]
            self._step, self.broken_text, self._text = self._nothing, self._text, None
        is_half = bool(self._waiting or self._high)
        self.is_armed = self._text is None or self._text.is_armed or is_half or self._is_name
        self.tail = "" if self._text is None else self._text.tail
        return "".join(self._out), self._found

    # --- structure

    def _nothing(self, text: str, at: int) -> int:
        del at
        return len(text)

    def _spaced(self, text: str, at: int) -> int:
        """Pass on white space; return the place behind it."""
        found = _SPACE.match(text, at)
        if found is None:
            return at
        self._out.append(found[0])
        return found.end()

    def _value(self, text: str, at: int) -> int:
        at = self._spaced(text, at)
        if at == len(text):
            return at
        character = text[at]
        if character == '"':
            self._begin_string()
        elif character in "{[":
            return self._open(character, at)
        elif character == "]" and self._nested and self._nested[-1] == "[":
            return self._close(character, at)  # of an empty list; `[1,]` passes too, which harms nobody
        elif _SCALAR.match(character):
            self._collected, self._collected_size = [], 0
            self._step = self._scalar
            return at
        else:
            raise BrokenJSONError
        self.has_begun = True
        return at + 1

    def _open(self, bracket: str, at: int) -> int:
        self.has_begun = True
        if len(self._nested) >= _MOST_NESTED:
            raise BrokenJSONError
        self._nested.append(bracket)
        self._is_name = self._named[len(self._nested)] = False
        if self.hides:
            self._tell_whole(None)
            self._skipped, self._step = len(self._nested), self._skip
        else:
            self._out.append(bracket)
            self._step = self._key if bracket == "{" else self._value
        return at + 1

    def _close(self, bracket: str, at: int) -> int:
        if not self._nested or self._nested.pop() + bracket not in ("{}", "[]"):
            raise BrokenJSONError
        self._out.append(bracket)
        self._step = self._next
        return at + 1

    def _key(self, text: str, at: int) -> int:
        at = self._spaced(text, at)
        if at == len(text):
            return at
        if text[at] == "}":
            return self._close("}", at)
        if text[at] != '"':
            raise BrokenJSONError
        self._begin_string(is_key=True)
        return at + 1

    def _colon(self, text: str, at: int) -> int:
        at = self._spaced(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            raise BrokenJSONError
        self._out.append(":")
        self._step = self._value
        return at + 1

    def _next(self, text: str, at: int) -> int:
        self.hides = False
        at = self._spaced(text, at)
        if at == len(text):
            return at
        if text[at] != ",":
            return self._close(text[at], at)
        if not self._nested:
            raise BrokenJSONError
        self._out.append(",")
        self._step = self._key if self._nested[-1] == "{" else self._value
        return at + 1

    def _scalar(self, text: str, at: int) -> int:
        found = _SCALAR.match(text, at)
        if found is None:
            self._tell_scalar()
            self._step = self._next
            return at
        assert self._collected is not None  # noqa: S101 - the step says so
        self._collected_size += len(found[0])
        if self._collected_size > _LONGEST_SCALAR and not self.hides:
            raise BrokenJSONError
        self._collected.append(found[0])
        return found.end()

    def _tell_scalar(self) -> None:
        whole = "".join(self._collected or ())
        if _SCALARS.fullmatch(whole) is None:
            raise BrokenJSONError
        self._collected = None
        hidden = whole not in ("true", "false", "null") and self.hides
        if hidden:
            self._tell_whole(None)
            return
        is_number = self._rules.looks_at_numbers and _WHOLE_NUMBER.fullmatch(whole) is not None
        spans = self._rules.spans(whole) if is_number else []
        if spans:
            self._tell_mask(self._masking.value(spans[0].name, int(whole)), spans[0].name)
        else:
            self._out.append(whole)
        self.has_begun = True

    def _skip(self, text: str, at: int) -> int:
        """Pass over what stands within a value that is masked as a whole."""
        found = _SKIPPED.match(text, at)
        if found is not None:
            return found.end()
        character = text[at]
        if character == '"':
            self._step = self._skip_string
        elif character in "{[":
            if len(self._nested) >= _MOST_NESTED:
                raise BrokenJSONError
            self._nested.append(character)
        else:
            if self._nested.pop() + character not in ("{}", "[]"):
                raise BrokenJSONError
            if len(self._nested) < self._skipped:
                self._step = self._next
        return at + 1

    def _skip_string(self, text: str, at: int) -> int:
        found = _PLAIN.match(text, at)
        if found is not None:
            return found.end()
        if text[at] == "\\":
            if at + 1 == len(text):
                self._waiting = "\\"
            return at + 2
        if text[at] == '"':
            self._step = self._skip
        return at + 1

    # --- strings

    def _begin_string(self, *, is_key: bool = False) -> None:
        self._is_key, self._is_told, self._high = is_key, False, 0
        if is_key or self.hides:
            self._collected, self._collected_size = [], 0
        else:
            self._out.append('"')
            self._text, self._secret_name = TextStream(self._rules, self._masking), []
        self._step = self._string

    def _string(self, text: str, at: int) -> int:
        """Take what the piece has of the open string."""
        begin = len(text) if self._high else at
        decoded: list[str] = []
        while at < len(text):
            found = _PLAIN.match(text, at)
            if found is not None:
                decoded += (self._alone(), found[0])
                at = found.end()
            elif text[at] == "\\":
                escape = _ESCAPE.match(text, at)
                if escape is None:
                    if _ESCAPE_BEGUN.match(text, at) is None:
                        self._break_string(decoded, at)
                    self._waiting = text[at:]
                    break
                decoded.append(self._escaped(escape))
                at = escape.end()
            elif text[at] == '"':
                decoded.append(self._alone())
                self._add("".join(decoded), text[begin:at])
                self._end_string()
                return at + 1
            else:
                self._break_string(decoded, at)
        self._add("".join(decoded), text[begin:at])
        return at

    def _break_string(self, decoded: list[str], at: int) -> NoReturn:
        """Tell what of a string is JSON, and give up."""
        if self._text is not None:
            self._add("".join((*decoded, self._alone())))
            self._broken_at = at
        raise BrokenJSONError

    def _escaped(self, escape: re.Match[str]) -> str:
        if escape["one"]:
            return self._alone() + _ONE[escape["one"]]
        unit = int(escape["hex"], 16)
        if self._high and _LOW <= unit < _AFTER:
            whole = chr(0x10000 + ((self._high - _HIGH) << 10) + (unit - _LOW))
            self._high = 0
            return whole
        before = self._alone()
        if _HIGH <= unit < _LOW:
            self._high = unit
            return before
        return before + chr(unit)

    def _alone(self) -> str:
        """Return the half of a character whose other half did not come."""
        half, self._high = self._high, 0
        return chr(half) if half else ""

    def _add(self, decoded: str, raw: str = "") -> None:
        """Take a piece of the open string. raw: as it was written, where that is known."""
        if self._text is not None:
            told, found = self._text.feed(decoded)
            is_as_written = told is decoded and raw and "\\u" not in raw and "\\/" not in raw
            self._out.append(raw if is_as_written else _encoded(told))
            self._found += found
            if self._is_name:
                self._secret_name.append(decoded[:MAX_KEY])
                self._is_name = len(self._secret_name) <= MAX_KEY  # else too long for one
            return
        assert self._collected is not None  # noqa: S101 - one of both is there in a string
        self._collected_size += len(decoded)
        if self._is_key:
            if self._collected_size > _LONGEST_KEY:
                raise BrokenJSONError
        elif self._collected_size > MOST_OF_SECRET:
            if not self._is_told:
                self._tell_whole("".join((*self._collected, decoded)))
            self._is_told, self._collected = True, []
            return
        self._collected.append(decoded)

    def _end_string(self) -> None:
        self._step = self._colon if self._is_key else self._next
        if self._text is not None:
            told, found = self._text.feed("", is_last=True)
            self._text = None
            self._out += (_encoded(told), '"')
            self._found += found
            if self._is_name:
                self._named[len(self._nested)] = is_secret_key("".join(self._secret_name))
            return
        whole, self._collected = "".join(self._collected or ()), None
        if not self._is_key:
            if not self._is_told:
                self._tell_whole(whole)
            return
        is_named = whole in VALUE_KEYS and self._named.get(len(self._nested), False)
        self.hides = self._rules.looks_at_keys and (is_named or is_secret_key(whole))
        self._is_name = whole in NAME_KEYS
        told, found = scrub_text(self._rules, self._masking, whole)
        self._out.append(f'"{_encoded(told)}"')
        self._found += found

    def _tell_whole(self, secret: str | None) -> None:
        """Tell what stands for a value under a secret key. secret: its text; None for what is no text."""
        if secret is not None and (not secret or is_mask(secret)):
            self._out.append(f'"{_encoded(secret)}"')
            return
        self._tell_mask(self._masking.value(KEYED_SECRET, secret), KEYED_SECRET)

    def _tell_mask(self, mask: str | None, name: str) -> None:
        self._out.append("null" if mask is None else f'"{mask}"')
        self._found.append(name)

    def _end(self) -> None:
        """Tell what is still open: the text ends here, whole or not."""
        if self._step == self._scalar:
            whole, self._collected = "".join(self._collected or ()), None
            if self.hides:
                self._tell_whole(None)
            else:
                told, found = scrub_text(self._rules, self._masking, whole)
                self._out.append(told)
                self._found += found
        elif self._step == self._string:
            self._add(self._alone())
            self._end_string()


def _encoded(text: str) -> str:
    """Return a text as it stands in a JSON string."""
    encoded = encode_basestring(text)[1:-1]
    return _SURROGATE.sub(_escaped_surrogate, encoded) if not encoded.isascii() else encoded


def _escaped_surrogate(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
