"""One event as one line of the log, and back (DESIGN section 6).

For every event class there is a payload Struct, made from the class's own fields, and two functions that
are generated from source text as attrs makes its `__init__`: they run for every event, and a loop over
field names would double their time. They are made when an event of the class is first written or read: a run
has few of the classes, and who only writes reads none.

What a newer writer added is kept in `event.unknown_fields` and written back: a payload key that the class
does not have, and, under a key that it has, the whole value as it stood where some record inside that value
has unknown keys. The second is written in place of the field, so who changes such a field of an event must
drop it from `unknown_fields` too. Unknown keys of the envelope are not kept. Of two equal keys in one
object the last counts, as in Python's own `json`.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import EVENT_TYPES, PAYLOAD_FIELDS, AgentEvent, UnknownEvent
from agentkit_loop.late import late_pattern
from agentkit_loop.stamping import TWINS, make_event
from agentkit_reporting.timestamps import utc_text

LOG_VERSION = 1
"""The `v` of every line written here."""

LINE_START = b'{"v":1,'
"""How every line of this version begins, where it was written here."""

_MAX_REASON = 300  # characters of a DecodeError; a log may quote a megabyte back at us

_QUOTED_VALUE = late_pattern(r"(?s)\A(Invalid (?:enum )?value) (['\"]).*\2")
"""What is refused is not shown: it may be secret, and readers print the reason."""

_Encode: TypeAlias = Callable[[AgentEvent], bytes]
_ReadPayload: TypeAlias = Callable[[Any], Any]
Build: TypeAlias = Callable[[Any, Any], AgentEvent]
"""Makes an event of a header whose `ts` is in UTC, and a payload, each a Struct."""

Seq: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Moment: TypeAlias = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class DecodeError(ValueError):
    """A line is no event; the text says why, in printable characters only."""

    def __init__(self, reason: str) -> None:
        self.reason = _printable(reason)
        super().__init__(self.reason)


class _Envelope(msgspec.Struct, gc=False):
    """A line as it is written; its keys stand in this order."""

    v: int
    seq: int
    ts: dt.datetime | str
    type: str
    session_id: str
    run_id: str
    turn_id: str | None
    payload: Any


class _Header(msgspec.Struct, gc=False):
    """A line as it is read: the header checked, the payload still as text."""

    v: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    seq: Seq
    ts: Moment
    type: str
    session_id: str
    run_id: str
    turn_id: str | None
    payload: msgspec.Raw


class _Version(msgspec.Struct):
    v: int


_UTC = dt.UTC
_write = msgspec.json.Encoder().encode
_read_header = msgspec.json.Decoder(_Header).decode
_read_version = msgspec.json.Decoder(_Version).decode
_read_object = msgspec.json.Decoder(dict[str, Any]).decode


def _default(default: Any) -> Any:
    """Return the default of an attrs field as msgspec takes it."""
    if default is attrs.NOTHING:
        return msgspec.field()
    factory = getattr(default, "factory", None)  # of an attrs.Factory
    return default if factory is None else msgspec.field(default_factory=factory)


LOG_CLASSES = {**EVENT_TYPES}
"""The event classes of a log, by wire name: a host's own subclass of one, which is made later, is none of them."""


@functools.cache  # made when the first event of its type is told or read: all 30 take 2 ms, and a run tells ten
def payload_struct(name: str) -> type[msgspec.Struct]:
    """Return the payload of a known event type, by wire name, which refuses unknown keys; raises KeyError."""
    cls = LOG_CLASSES[name]
    own = [field for field in attrs.fields(cls) if field.name in PAYLOAD_FIELDS[cls]]
    # The types are texts, as `from __future__ import annotations` leaves them; who makes a decoder evaluates them.
    fields = [(field.name, field.type, _default(field.default)) for field in own]
    return msgspec.defstruct(
        f"{cls.__name__}Payload",
        fields,
        namespace={"__doc__": cls.__doc__},
        module=cls.__module__,  # whose names the types are of
        forbid_unknown_fields=True,
        gc=False,  # it is gone once its event or line is made: not tracking it saves a tenth of decoding
    )


_ENCODE = """
def encode(event):
    ts = event.timestamp
    if event.seq < 1 or event.unknown_fields is not None or not ts.microsecond or ts.tzinfo is not UTC:
        return encode_rare(event)
    return write(Envelope(
        {version}, event.seq, ts, {type!r}, event.session_id, event.run_id, event.turn_id,
        Payload({arguments}),
    ))
"""

_BUILD = """
def build(header, payload):
    event = Twin()
    event.session_id = header.session_id
    event.run_id = header.run_id
    event.turn_id = header.turn_id
    event.seq = header.seq
    event.timestamp = header.ts
    event.unknown_fields = None
    {assignments}
    event.__class__ = Event
    return event
"""


def _generated(cls: type[AgentEvent], name: str, source: str, **scope: object) -> Any:
    """Return the function of that name in a source text about a class."""
    exec(compile(source, f"<{name} of {cls.__name__}>", "exec"), scope)  # noqa: S102 - our own names only
    return scope[name]


def _encoder_of(cls: type[AgentEvent]) -> _Encode | None:
    """Return what writes events of a class, None for no class of events; kept from then on."""
    if cls not in TWINS:
        return None
    source = _ENCODE.format(
        version=LOG_VERSION,
        type=cls.type,
        arguments=", ".join(f"event.{name}" for name in PAYLOAD_FIELDS[cls]),
    )
    encode: _Encode = _generated(
        cls,
        "encode",
        source,
        UTC=_UTC,
        Envelope=_Envelope,
        Payload=payload_struct(cls.type),
        encode_rare=_encode_rare,
        write=_write,
    )
    return _ENCODERS.setdefault(cls, encode)


def _reader_of(name: str) -> tuple[_ReadPayload, Build]:
    """Return what reads a payload, and what makes its event; kept from then on. Raises KeyError."""
    decode = msgspec.json.Decoder(payload_struct(name)).decode
    return _READERS.setdefault(name, (decode, builder_of(name)))


@functools.cache
def builder_of(name: str) -> Build:
    """Return what makes an event of a known type, of a header and a payload."""
    cls = LOG_CLASSES[name]
    assignments = "; ".join(f"event.{name} = payload.{name}" for name in PAYLOAD_FIELDS[cls])
    build: Build = _generated(
        cls, "build", _BUILD.format(assignments=assignments), Event=cls, Twin=TWINS[cls]
    )
    return build


# --- writing


def encode_event(event: AgentEvent) -> bytes:
    """Return the event as one JSON object, UTF-8, without a newline.

    Raises ConfigurationError for an event that was not told yet, that is of no known class, or whose clock
    gave it a time without zone; TypeError for a value that is not JSON.
    """
    encode = _ENCODERS.get(event.__class__) or _encoder_of(event.__class__)
    if encode is None:
        raise ConfigurationError(
            f"{type(event).__name__} cannot be written because it is no event class of agentkit; "
            "use CustomEvent for a host's own facts"
        )
    return encode(event)


def _encode_rare(event: AgentEvent) -> bytes:
    """Write what is not on the fast path: unknown fields, unknown events, odd times."""
    if event.seq < 1:
        raise ConfigurationError(
            f"{type(event).__name__} seq {event.seq!r} cannot be written because it was not told yet; "
            "emit it through an EventEmitter"
        )
    if isinstance(event, UnknownEvent):
        payload = event.payload
    else:
        payload = {name: getattr(event, name) for name in PAYLOAD_FIELDS[type(event)]}
        payload.update(event.unknown_fields or {})
    return _write(
        _Envelope(
            LOG_VERSION,
            event.seq,
            _time_text(event),
            event.type,
            event.session_id,
            event.run_id,
            event.turn_id,
            payload,
        )
    )


def _time_text(event: AgentEvent) -> str:
    time = event.timestamp
    if time.utcoffset() is None:
        raise ConfigurationError(
            f"{type(event).__name__} seq {event.seq} cannot be written because its timestamp {time!r} "
            "has no zone; give a clock whose now() is aware"
        )
    return utc_text(time)


# --- reading


def decode_event(line: bytes | str) -> AgentEvent:
    """Return the event of a line; white space around the object is allowed. Raises DecodeError."""
    try:
        header = _read_header(line)
        read_payload, build = _READERS.get(header.type) or _reader_of(header.type)
        if header.v == LOG_VERSION and header.ts.tzinfo is _UTC:
            return build(header, read_payload(header.payload))
    except (ValueError, KeyError, RecursionError):
        pass  # read again, slowly, by what can say what was wrong or keep what is unknown
    return _decode_rare(line)


def log_version(line: bytes) -> int | None:
    """Return the `v` of a line, None where it has none."""
    try:
        return _read_version(line).v
    except (ValueError, RecursionError):
        return None


def _decode_rare(line: bytes | str) -> AgentEvent:
    try:
        header = _read_header(line)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"line refused because {_reason(error, '$')}") from None
    try:
        payload = _read_object(header.payload)
        known = EVENT_TYPES.get(header.type)
        if known is None:
            return make_event(UnknownEvent, _header_values(header, None), (header.type, payload))
        return _with_unknown(known, header, payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{header.type} refused because {_reason(error, '$.payload')}") from None


def _with_unknown(cls: type[AgentEvent], header: _Header, payload: dict[str, Any]) -> AgentEvent:
    names = PAYLOAD_FIELDS[cls]
    known = {name: value for name, value in payload.items() if name in names}
    read = msgspec.convert(known, payload_struct(cls.type))
    values = tuple(getattr(read, name) for name in names)
    kept = {
        name: value
        for name, value in payload.items()
        if name not in names or _loses(getattr(read, name), value)
    }
    return make_event(cls, _header_values(header, kept or None), values)


def _header_values(header: _Header, unknown: dict[str, Any] | None) -> tuple[Any, ...]:
    time = header.ts.astimezone(_UTC)
    return header.session_id, header.run_id, header.turn_id, header.seq, time, unknown


def _loses(read: Any, written: Any) -> bool:
    """Whether a record in the written value has keys that its Struct does not have."""
    if isinstance(read, msgspec.Struct):
        names = {*read.__struct_encode_fields__, read.__struct_config__.tag_field}
        return any(key not in names or _loses(getattr(read, key, None), written[key]) for key in written)
    if isinstance(read, tuple):
        return any(map(_loses, read, written))
    return False


def _reason(error: Exception, place: str) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return f"it is not UTF-8: {error}"
    text = str(error)
    if "`$" not in text and isinstance(error, msgspec.ValidationError):
        text += " - at `$`"
    text = _QUOTED_VALUE.sub(r"\1", text.replace("`$", f"`{place}"))
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]


def _printable(text: str) -> str:
    """Return the text bounded, with everything escaped that could control a terminal."""
    text = text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


_ENCODERS: dict[type[AgentEvent], _Encode] = {UnknownEvent: _encode_rare}
_READERS: dict[str, tuple[_ReadPayload, Build]] = {}
