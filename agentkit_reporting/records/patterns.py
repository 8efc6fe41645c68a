"""Topics and the patterns that name several: `agent.tool_invoked`, `agent.*`, `agent.**`.

A topic is one or more segments with dots between. In a pattern `*` stands for exactly one segment, and `**`, at
the end only, for one or more. Nothing else is a wildcard: `?` stands in neither.
"""

from __future__ import annotations

import attrs

from agentkit_loop.errors import ConfigurationError

ONE, MORE = "*", "**"

MAX_TOPIC = 200
"""Characters that a topic or a pattern has at most."""


@attrs.frozen
class TopicPattern:
    """A pattern; made by `parse_pattern`."""

    text: str
    segments: tuple[str, ...]

    def matches(self, topic: str) -> bool:
        """Whether it names the topic."""
        wanted, found = self.segments, topic.split(".")
        if wanted[-1] == MORE:
            wanted = wanted[:-1]
            if len(found) <= len(wanted):
                return False
        elif len(found) != len(wanted):
            return False
        return all(want in (ONE, have) for want, have in zip(wanted, found, strict=False))


def parse_pattern(text: str) -> TopicPattern:
    """Return the pattern; raises ConfigurationError for what is none."""
    segments = _segments("pattern", text)
    for place, segment in enumerate(segments, 1):
        if segment == MORE and place < len(segments):
            raise ConfigurationError(
                f"pattern {text!r} refused; `**` stands at the end only, as in 'agent.**'"
            )
        if "?" in segment or ("*" in segment and segment not in (ONE, MORE)):
            raise ConfigurationError(
                f"pattern {text!r} refused; a wildcard is a whole segment: 'agent.*' for one, 'agent.**' for more"
            )
    return TopicPattern(text, segments)


def is_topic(text: str) -> bool:
    """Whether a text is a topic."""
    try:
        check_topic(text)
    except ConfigurationError:
        return False
    return True


def check_topic(topic: str) -> None:
    """Raise ConfigurationError for what is no topic."""
    if any("*" in segment or "?" in segment for segment in _segments("topic", topic)):
        raise ConfigurationError(f"topic {topic!r} refused; wildcards are for subscribers, give one name")


def _segments(what: str, text: object) -> tuple[str, ...]:
    if not isinstance(text, str) or not text or len(text) > MAX_TOPIC:
        shown = text if not isinstance(text, str) else text[:40]
        raise ConfigurationError(
            f"{what} {shown!r} refused; give a name of 1 to {MAX_TOPIC} characters such as 'agent.tool_invoked'"
        )
    segments = tuple(text.split("."))
    if not all(segments) or not text.isprintable() or " " in text:
        raise ConfigurationError(
            f"{what} {text!r} refused; give names without spaces, with single dots between them"
        )
    return segments
