"""Bodies of webhooks: a JSON value in which `${name}` stands for what the payload has there.

A string that is a placeholder and nothing else becomes the value itself, of whatever kind; inside other text it
becomes text. The body is encoded after that, so that no value can leave its place. `${a.b}` looks into objects;
`${topic}`, `${payload}` (all of it), `${time}` (the timestamp as ISO text, UTC), `${how_it_ended}`, `${incident}` and
`${event_action}` are always there; what is not there is null, in text a `?`; `$$` is a dollar. `${how_it_ended}` is
`: completed, 0.2 USD, 12.3 s` of `agent.session_complete`, the message of an alert, and empty of any other topic.
`${incident}` is what a payload is about: of an alert its rule and group, which it has in common with the one that
resolves it; of any other the session. `${event_action}` is `resolve` of an alert that is resolved, else `trigger`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import JSON, compact_json, to_json
from agentkit_reporting.records.topics import SESSION_COMPLETE, time_text

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
"""Where PagerDuty takes events of its Events API v2."""

_PLACE = re.compile(r"\$(?:\$|\{([^{}$]+)\})")
_MISSING = object()

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})  # Slack: "Escaping text"
_SLACK_TEXT = 40_000  # characters; Slack cuts longer ones

# PagerDuty, Events API v2: characters of a summary and of a dedup_key, and bytes of an event, of which the rest is few
_SUMMARY, _DEDUP_KEY, _DETAILS = 1_024, 255, 480_000
_SHORT_KEYS, _SHORT_VALUE = 200, 200  # what is left of details that are too long

_INCIDENT, _INCIDENT_DIGEST = 200, 32  # characters; of a longer one its beginning and a digest of all of it
_OF_SESSION = frozenset(
    {"run", "turn", "call", "request"}
)  # dimensions of alerts whose ids are of their session


@attrs.frozen
class _Text:
    """A place for text, of so many characters at most, also where it is one placeholder and nothing else."""

    text: str
    most: int


@attrs.frozen
class _Payload:
    """The place of the payload, each of whose values is shortened where all are more than so many bytes."""

    most: int


class WebhookTemplate:
    """A body to be filled in.

    body: a JSON value, or the text of one. escape: what text goes through before it is put inside other text.
    max_chars: of what is put inside other text; the rest is cut, with `…`.
    Raises ConfigurationError for text that is no JSON. Never shown: a routing key may stand in it.
    """

    def __init__(
        self, body: JSON, *, escape: Callable[[str], str] | None = None, max_chars: int = 1_000
    ) -> None:
        if isinstance(body, str):
            try:
                body = msgspec.json.decode(body)
            except msgspec.DecodeError:
                raise ConfigurationError(
                    "a template that is no JSON refused; give a JSON value, or its text with every "
                    "placeholder inside a string"
                ) from None
        self._body = body
        self._escape = escape
        self._max_chars = max_chars

    def __repr__(self) -> str:
        return "<WebhookTemplate>"

    def filled(self, topic: str, payload: Mapping[str, JSON]) -> bytes:
        """Return the body for a payload, as UTF-8."""
        plain = dict(payload)
        always: dict[str, JSON] = {
            "topic": topic,
            "payload": plain,
            "time": time_text(plain.get("timestamp")),
            "how_it_ended": _how_it_ended(plain) if topic == SESSION_COMPLETE else _alert_text(plain),
            "incident": _incident(plain),
            "event_action": "resolve" if _is_alert(plain) and plain.get("state") == "resolved" else "trigger",
        }
        try:
            return msgspec.json.encode(self._fill(self._body, {**plain, **always}))
        except (TypeError, ValueError, UnicodeError):  # a payload that did not come from a dispatcher
            converted: Any = to_json({**plain, **always})
            return msgspec.json.encode(self._fill(self._body, converted))

    def _fill(self, value: Any, names: dict[str, JSON]) -> JSON:
        if isinstance(value, _Text):
            return _cut(self._filled_text(value.text, names), value.most) or "?"
        if isinstance(value, _Payload):
            return _shortened(names["payload"], value.most)
        if isinstance(value, dict):
            return {key: self._fill(item, names) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, names) for item in value]
        if not isinstance(value, str):
            return value
        whole = _PLACE.fullmatch(value)
        if whole is not None and whole[1] is not None:
            found = _found(whole[1], names)
            return None if found is _MISSING else found
        return self._filled_text(value, names)

    def _filled_text(self, text: str, names: dict[str, JSON]) -> str:
        return _PLACE.sub(lambda match: self._text(match[1], names), text)

    def _text(self, name: str | None, names: dict[str, JSON]) -> str:
        if name is None:
            return "$"
        found = _found(name, names)
        if found is _MISSING or found is None:
            return "?"
        text = _cut(found if isinstance(found, str) else compact_json(found), self._max_chars)
        return text if self._escape is None else self._escape(text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _how_it_ended(payload: Mapping[str, JSON]) -> str:
    """Return outcome, cost and duration of a run as far as its payload says them, after a colon; else nothing."""
    facts: list[str] = []
    if isinstance(outcome := payload.get("outcome"), str):
        facts.append(outcome)
    costs, cost, currency = (payload.get(name) for name in ("costs", "cost", "currency"))
    if isinstance(costs, dict) and costs:
        facts.append(" + ".join(f"{amount} {name}" for name, amount in costs.items()))
    elif cost is not None:
        facts.append(f"cost {cost}" if currency is None else f"{cost} {currency}")
    elif "cost" in payload:
        facts.append("cost unknown")
    took_ms = payload.get("duration_ms")
    if isinstance(took_ms, (int, float)) and not isinstance(took_ms, bool):
        facts.append(f"{took_ms / 1e3:.1f} s")
    return f": {', '.join(facts)}" if facts else ""


def _alert_text(payload: Mapping[str, JSON]) -> str:
    """Return what an alert says, after a colon; nothing of another payload."""
    return f": {payload['message']}" if _is_alert(payload) else ""


def _is_alert(payload: Mapping[str, JSON]) -> bool:
    texts = (payload.get("message"), payload.get("rule"))
    return all(isinstance(each, str) for each in texts) and "threshold" in payload


def _incident(payload: Mapping[str, Any]) -> str:
    """Return what a payload is about: of an alert its rule and group, cut where they are long, else its session."""
    session = payload.get("session_id")
    session = session if isinstance(session, str) else "?"
    if not _is_alert(payload):
        return session
    group = payload.get("group")
    group = group if isinstance(group, dict) else {}
    about = [f"{name}={value}" for name, value in group.items()]
    if _OF_SESSION & group.keys() and "session" not in group:
        about.insert(0, f"session={session}")
    text = ":".join([payload["rule"], *about])
    if len(text) <= _INCIDENT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_INCIDENT_DIGEST]
    return f"{text[: _INCIDENT - len(digest) - 1]}:{digest}"


def _shortened(payload: Any, most: int) -> JSON:
    """Return a payload of at most so many bytes of JSON, with its names and the beginnings of its values."""
    if len(msgspec.json.encode(payload)) <= most:
        return payload
    short: dict[str, JSON] = {}
    for name, value in itertools.islice(payload.items(), _SHORT_KEYS):
        text = value if isinstance(value, str) else compact_json(value)
        short[_cut(name, _SHORT_VALUE)] = value if len(text) <= _SHORT_VALUE else _cut(text, _SHORT_VALUE)
    return short


def _found(path: str, names: JSON) -> Any:
    for key in path.split("."):
        if not isinstance(names, dict) or key not in names:
            return _MISSING
        names = names[key]
    return names


WHOLE_PAYLOAD = WebhookTemplate({"topic": "${topic}", "payload": "${payload}"})
"""The template where none is given."""


def slack_template(text: str = "*${topic}* in session ${session_id}${how_it_ended}") -> WebhookTemplate:
    """Return the body of a Slack message, for an incoming webhook.

    text: by default the topic and the session, of a run that is over its outcome, cost and duration, and the message
    of an alert.
    What is filled in names, calls and hides nobody: it is escaped as Slack asks. Slack makes links of addresses in it,
    but fetches none of them for a preview, which would tell their server what stands in them.
    """
    body: Any = {"text": _Text(text, _SLACK_TEXT), "unfurl_links": False, "unfurl_media": False}
    return WebhookTemplate(body, escape=lambda value: value.translate(_SLACK))


def pagerduty_template(
    routing_key: str,
    *,
    summary: str = "${topic} in session ${session_id}${how_it_ended}",
    severity: str = "error",
    dedup_key: str = "agentkit:${incident}",
) -> WebhookTemplate:
    """Return the body of an event of PagerDuty's Events API v2, to be sent to PAGERDUTY_URL.

    An alert that is resolved resolves its incident; all else triggers one. severity: critical, error, warning or info.
    dedup_key: what makes two triggers one incident; by default a rule and group, and for what is no alert the session.
    The details are the payload; each of its values is shortened where all of them are more than PagerDuty takes.
    """
    if severity not in ("critical", "error", "warning", "info"):
        raise ConfigurationError(
            f"severity={severity!r} refused; PagerDuty knows critical, error, warning and info"
        )
    if not routing_key:
        raise ConfigurationError(
            "an empty routing key refused; give that of the service's Events API v2 integration"
        )
    body: Any = {
        "routing_key": routing_key.replace("$", "$$"),
        "event_action": "${event_action}",
        "dedup_key": _Text(dedup_key, _DEDUP_KEY),
        "client": "agentkit",
        "payload": {
            "summary": _Text(summary, _SUMMARY),
            "source": _Text("${session_id}", _SUMMARY),
            "severity": severity,
            "timestamp": "${time}",
            "component": "${topic}",
            "custom_details": _Payload(_DETAILS),
        },
    }
    return WebhookTemplate(body, max_chars=200)
