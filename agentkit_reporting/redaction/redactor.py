"""Redactor: the one funnel that events pass on their way to a redacted sink.

One event in, one event out. Whole content is scrubbed where it stands (`scrubbing.py`); pieces of a stream go through
the stream of their part (`text_stream.py`, `json_stream.py`): a piece may go out shorter, what was held back goes out
with a later one, or not at all, since pieces are previews of what CommitPart tells whole.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable
from typing import Any, NoReturn, Protocol

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.errors import ConfigurationError, RedactionError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
)
from agentkit_loop.forks import Locked
from agentkit_loop.stamping import make_delta
from agentkit_loop.values import JSON
from agentkit_reporting.redaction.broken_json import scrub_broken
from agentkit_reporting.redaction.json_stream import JsonStream
from agentkit_reporting.redaction.masking import Masking, RedactionMode
from agentkit_reporting.redaction.rule_set import SECRETS, RuleChoice, RuleSet, secret_rules
from agentkit_reporting.redaction.scrubbing import Scrubber, changed_event
from agentkit_reporting.redaction.text_stream import Found, TextStream

RECEIPT_FIELD = "redaction_receipt"
"""The unknown field of a run's closing event that says what was masked in the run, by rule."""

UNSCRUBBED = "unscrubbed"
"""The name in a receipt of events that were passed on as they are because of `fail_closed=False`."""

MOST_SESSIONS = 4_096
"""Sessions whose open streams are followed at a time; beyond, pieces of the oldest are withheld."""

_ENDS_STREAMS = (RunStarted, ModelRequestStarted, ModelRequestFinished, ModelRequestFailed, *RUN_ENDS)
_ENCODED = ("media", "file")  # their text is base64, in which a secret can be seen in the whole only
_JSONS = ("tool_call", "structured", "custom")


class _Stream(Protocol):
    """What of a stream the hot path uses; see TextStream."""

    tail: str
    is_armed: bool
    longest_tail: int
    search: Any

    def is_plain(self, text: str, sent: int) -> bool:
        """Whether a piece needs no look though `search` found something."""

    def trim(self) -> None:
        """Shorten the tail."""

    def feed(self, piece: str, *, is_last: bool = False) -> tuple[str, Found]:
        """Take the next piece."""


class _Withheld:
    """The stream of a part of which nothing goes out before it is whole."""

    tail = ""
    is_armed = True
    longest_tail = 0
    search = None

    def is_plain(self, text: str, sent: int) -> bool:
        """No piece is."""
        del text, sent
        return False

    def trim(self) -> None:
        """There is nothing to shorten."""

    def feed(self, piece: str, *, is_last: bool = False) -> tuple[str, Found]:
        """Return nothing of the piece."""
        del piece, is_last
        return "", []


_PartKey = str | tuple[str]
"""A part's id; in a tuple for the bytes of it."""


_NO_PARTS: dict[_PartKey, _Stream] = {}


class Redactor(Locked):
    """Takes secrets out of events.

    rules: names of rules (`"jwt"`, `"email"`), of groups (`"secrets"`, the default, `"personal"`), and OwnPatterns.
    mode, key: what stands in place of a secret, see `Masking`. keep_arguments: where given, of a call's arguments only
    those are shown: `"path"` of any tool, `"read_file.path"` of one; all others are masked, and the pieces of calls
    withheld. fail_closed: an event that cannot be scrubbed raises RedactionError; False: it passes as it is, and is
    counted. Raises ConfigurationError for choices that are none.

    May be shared by sessions and threads, each session on one thread at a time, as the loop tells it.
    """

    def __init__(
        self,
        rules: Iterable[RuleChoice] = (SECRETS,),
        *,
        mode: RedactionMode = "mask",
        key: str | bytes | None = None,
        keep_arguments: Collection[str] | None = None,
        fail_closed: bool = True,
    ) -> None:
        if isinstance(keep_arguments, str):
            raise ConfigurationError(
                f"keep_arguments={keep_arguments!r} refused because it is one text; give a list"
            )
        super().__init__()
        self._rules = secret_rules() if rules == (SECRETS,) else RuleSet(rules)
        self._masking = Masking(mode, key=key)
        self._keep = None if keep_arguments is None else frozenset(keep_arguments)
        self._fail_closed = fail_closed
        self._streams: dict[str, dict[_PartKey, _Stream]] = {}  # by session, then by part
        self._has_forgotten = False
        self._counts: collections.Counter[str] = collections.Counter()
        self._runs: dict[str, collections.Counter[str]] = {}  # of the open run of each session

    def __repr__(self) -> str:
        names = dict.fromkeys(rule.name for rule in self._rules.rules)
        return f"<Redactor of {', '.join(names)}, {self._masking.mode}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a redactor is not copied or stored, since it may hold a key; make a new one")

    def receipt(self) -> dict[str, int]:
        """Return how many masks each rule put in so far, by name, over all sessions."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        told: str = self.value(text)
        return told

    def value(self, value: JSON) -> JSON:
        """Return a JSON value without its secrets."""
        scrubber = Scrubber(self._rules, self._masking, self._keep)
        told = scrubber.value(value)
        self._count("", scrubber.found)
        return told

    def told(self, value: JSON) -> JSON:
        """Return as much of what was said, a JSON value, as may be told."""
        return self.value(value)

    def stream(self, *, is_json: bool = False) -> TextStream | JsonStream:
        """Return a stream for a text of its own that comes in pieces; what it masks is not counted here."""
        return JsonStream(self._rules, self._masking) if is_json else TextStream(self._rules, self._masking)

    def json_text(self, text: str) -> tuple[str, int]:
        """Return a JSON text, or what began as one, without its secrets, and how many there were; not counted here.

        It is read as it is written: of a name that comes twice both values are looked at.
        """
        told, found = scrub_broken(self._rules, self._masking, text)
        return told, len(found)

    @property
    def is_of_events(self) -> bool:
        """Whether it hides what only events tell: arguments of calls, content."""
        return self._keep is not None

    def event(self, event: AgentEvent) -> AgentEvent:
        """Return the event without its secrets; the same object where it holds none. Raises RedactionError."""
        if event.__class__ is ContentDelta and event.unknown_fields is None:
            delta = event.delta
            if delta.__class__ is AppendText:
                parts = self._streams.get(event.session_id)
                stream = None if parts is None else parts.get(delta.part_id)
                if stream is not None and not stream.is_armed:
                    tail = stream.tail
                    text = tail + delta.chunk
                    sent = len(tail)
                    if stream.search(text, sent) is None or stream.is_plain(text, sent):
                        stream.tail = text
                        if len(text) > stream.longest_tail:
                            stream.trim()
                        return event
        return self._looked_at(event)

    def passes(self, session_id: str, part_id: str, text: str) -> bool:
        """Return whether the next pieces of a part, as one text, go out as they are; nothing is taken yet.

        A subclass whose `event` is its own looks at each.
        """
        if getattr(self.event, "__func__", None) is not Redactor.event:
            return False
        stream = self._streams.get(session_id, _NO_PARTS).get(part_id)
        if stream is None or stream.is_armed:
            return False
        sent = len(stream.tail)
        text = stream.tail + text
        return stream.search(text, sent) is None or stream.is_plain(text, sent)

    def pass_on(self, session_id: str, part_id: str, text: str) -> None:
        """Take pieces that went out as they are, all that `passes` was asked about or the first of those."""
        stream = self._streams.get(session_id, _NO_PARTS).get(part_id)
        if stream is None:  # forgotten meanwhile, for a session of another thread
            return
        stream.tail += text
        if len(stream.tail) > stream.longest_tail:
            stream.trim()

    def _looked_at(self, event: AgentEvent) -> AgentEvent:
        """Return an event that may hold a secret, scrubbed."""
        try:
            return self._scrubbed(event)
        except Exception as error:  # noqa: BLE001 - a pattern of the host's, a value nested too deeply
            kind = type(error).__name__
            self._withhold(event)
        except BaseException:
            self._withhold(event)  # Ctrl-C, in the midst of a piece
            raise
        # Here, and not above: the error's own text, which may quote the secret, is not to hang on ours.
        if not self._fail_closed:
            self._count(event.session_id, [UNSCRUBBED])
            return event
        raise RedactionError(
            f"{event.type} seq {event.seq} withheld because scrubbing it raised {kind}; "
            "mend the rules, or pass it on with fail_closed=False"
        )

    def _withhold(self, event: AgentEvent) -> None:
        """Show no more of a part of which a piece was not looked at."""
        if isinstance(event, ContentDelta):
            parts = self._parts(event.session_id)
            parts[event.delta.part_id] = parts[(event.delta.part_id,)] = _Withheld()

    def _scrubbed(self, event: AgentEvent) -> AgentEvent:
        whole: BeginPart | CommitPart | None = None
        if isinstance(event, ContentDelta):
            if isinstance(event.delta, (AppendText, AppendBytes)):
                return self._piece(event, event.delta)
            whole = event.delta
        if isinstance(event, RunStarted):
            with self._lock:
                self._runs.pop(event.session_id, None)  # of a run that never ended
        scrubber = Scrubber(self._rules, self._masking, self._keep)
        changed = scrubber.event(event)
        if whole is not None:
            self._follow(event.session_id, whole)
        elif isinstance(event, _ENDS_STREAMS):
            self._streams.pop(event.session_id, None)
        self._count(event.session_id, scrubber.found)
        if isinstance(event, RUN_ENDS):
            self._sign(event, changed)
        return changed_event(event, changed, len(scrubber.found)) if changed else event

    # --- streams

    def _piece(self, event: ContentDelta, delta: AppendText | AppendBytes) -> AgentEvent:
        """Return an event of a stream with what may go out of its piece."""
        told, found = self._appended(event.session_id, delta)
        if not found and event.unknown_fields is None:
            return event if told is delta else _with_piece(event, told)
        changed: dict[str, Any] = {} if told is delta else {"delta": told}
        if event.unknown_fields is not None:
            scrubber = Scrubber(self._rules, self._masking, self._keep)
            changed.update(scrubber.event(event))
            found = found + scrubber.found
        self._count(event.session_id, found)
        return changed_event(event, changed, len(found)) if changed else event

    def _parts(self, session_id: str) -> dict[_PartKey, _Stream]:
        """Return the streams of a session. Of very many sessions the one that began first is forgotten."""
        parts = self._streams.get(session_id)
        if parts is None:
            with self._lock:
                parts = self._streams.setdefault(session_id, {})
                if len(self._streams) > MOST_SESSIONS:
                    del self._streams[next(iter(self._streams))]
                    self._has_forgotten = True
        return parts

    def _follow(self, session_id: str, delta: BeginPart | CommitPart) -> None:
        parts = self._parts(session_id)
        parts.pop((delta.part_id,), None)
        parts.pop(delta.part_id, None)
        if isinstance(delta, BeginPart):
            if delta.kind in _ENCODED or (delta.kind == "tool_call" and self._keep is not None):
                parts[delta.part_id] = _Withheld()
            elif delta.kind in _JSONS:
                parts[delta.part_id] = JsonStream(self._rules, self._masking)
            else:
                parts[delta.part_id] = TextStream(self._rules, self._masking)

    def _appended(
        self, session_id: str, delta: AppendText | AppendBytes
    ) -> tuple[AppendText | AppendBytes, Found]:
        """Return what may go out of a piece."""
        parts = self._parts(session_id)
        if isinstance(delta, AppendBytes):
            # Each byte as a character: a secret is ASCII, and what is none comes back byte for byte.
            told, found = self._stream(parts, (delta.part_id,)).feed(delta.chunk.decode("latin-1"))
            chunk = told.encode("latin-1")
            return (delta if chunk == delta.chunk else AppendBytes(delta.part_id, chunk)), found
        stream = self._stream(parts, delta.part_id)
        told, found = stream.feed(delta.chunk)
        if isinstance(stream, JsonStream) and stream.is_broken and not stream.has_begun:
            text = parts[delta.part_id] = TextStream(self._rules, self._masking)  # it never was JSON
            more, found = text.feed(stream.rest)
            told += more
        return (delta if told == delta.chunk else AppendText(delta.part_id, told)), found

    def _stream(self, parts: dict[_PartKey, _Stream], key: _PartKey) -> _Stream:
        """Return the stream of a part; of one whose beginning was not seen, as a text, unless that was forgotten."""
        stream = parts.get(key)
        if stream is None:
            is_shown = self._keep is None and not self._has_forgotten
            stream = parts[key] = TextStream(self._rules, self._masking) if is_shown else _Withheld()
        return stream

    # --- counts

    def _count(self, session_id: str, found: Found) -> None:
        if not found:
            return
        with self._lock:
            self._counts.update(found)
            if session_id:
                self._runs.setdefault(session_id, collections.Counter()).update(found)

    def _sign(self, event: AgentEvent, changed: dict[str, Any]) -> None:
        """Put the receipt of a run on its closing event, where anything was masked in it."""
        with self._lock:
            counts = self._runs.pop(event.session_id, None)
        if counts:
            unknown = changed.get("unknown_fields", event.unknown_fields) or {}
            before = unknown.get(RECEIPT_FIELD)
            for name, count in before.items() if isinstance(before, dict) else ():
                counts[name] += count if isinstance(count, int) else 0
            changed["unknown_fields"] = {**unknown, RECEIPT_FIELD: dict(sorted(counts.items()))}


def _with_piece(event: ContentDelta, piece: AppendText | AppendBytes) -> AgentEvent:
    """Return an event of a stream with another piece, at a fifth of the cost of `attrs.evolve`."""
    return make_delta(
        event.request_id,
        piece,
        event.session_id,
        event.run_id,
        event.turn_id,
        event.seq,
        event.timestamp,
    )


Redaction = bool | Redactor | Iterable[RuleChoice]
"""What a writer's `redact` takes: True (the secret rules), False (none), rules, or a Redactor."""


def redactor_of(redact: Redaction) -> Redactor | None:
    """Return the redactor that is meant, None for none; raises ConfigurationError."""
    if redact is True:
        return Redactor()
    if redact is False:
        return None
    if redact is None:
        raise ConfigurationError("redact=None refused because it may mean both; give True, False or rules")
    return redact if isinstance(redact, Redactor) else Redactor(redact)
