"""Whether spans tell content, as the host, the environment and the project's own setting say; the strictest word counts.

| who says it | on | off |
|---|---|---|
| argument | True, `"full"` | False, `"metadata"`, `"off"` |
| `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`, without an argument | `SPAN_ONLY`, `SPAN_AND_EVENT`, `true` | `NO_CONTENT`, `EVENT_ONLY`, `false`, none |
| `AGENTKIT_CONTENT` | | `metadata`, `off`, whatever the others say |

`EVENT_ONLY` is for log events, which are not told here. `metadata` is off as well: what it would leave of a message,
its kind and size, the counts of tokens say better.
"""  # noqa: E501 - a row of a table cannot be broken

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final, get_args

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import safe_repr
from agentkit_reporting.configuration.environment import content_told
from agentkit_reporting.configuration.faults import shown
from agentkit_reporting.redaction.content_marks import Content, ContentRedactor
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.content import FEWEST_BYTES, MOST_BYTES, SpanContent

__all__ = ["CAPTURE_VARIABLE", "check_capture", "content_of"]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_LENGTH_VARIABLES: Final = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
"""Where the SDK would cut texts, and so JSON; in characters, which are never more than bytes."""

_ON, _OFF = ("span_only", "span_and_event", "true"), ("no_content", "event_only", "false")

logger = logging.getLogger(__name__)


def content_of(
    *,
    content: bool | Content | None = None,
    redact: Redactor | bool = True,
    most_bytes: int = MOST_BYTES,
    environ: Mapping[str, str] | None = None,
) -> SpanContent | None:
    """Return what keeps the content that spans tell; None where they tell none.

    content: None leaves it to the environment. redact: True for our own rules, or a Redactor that nobody else uses;
    one that takes content out leaves none to tell. most_bytes: of each attribute; less where the SDK is told to cut
    texts shorter, and none where nothing would be left. environ: in place of the process's own. Raises
    ConfigurationError for a content that is no choice, and for a `redact` that is neither.
    """
    check_capture(content, redact)
    environ = os.environ if environ is None else environ
    if not _is_wanted(content, environ) or content_told(environ) in ("metadata", "off"):
        return None
    if isinstance(redact, ContentRedactor):
        return None
    most = min([most_bytes, *_lengths(environ)])
    if most < FEWEST_BYTES:
        logger.warning("no content on spans because %d bytes hold none; allow %d or more", most, FEWEST_BYTES)
        return None
    redactor = redact if isinstance(redact, Redactor) else Redactor() if redact else None
    return SpanContent(redactor, most_bytes=most)


def check_capture(content: bool | Content | None, redact: Redactor | bool) -> None:  # noqa: FBT001 - the options
    """Raise ConfigurationError for a content that is no choice, and for a `redact` that masks nothing."""
    if not isinstance(redact, (bool, Redactor, ContentRedactor)):
        raise ConfigurationError(
            f"redact={safe_repr(redact):.60} refused because it masks nothing; give True or a Redactor(…)"
        )
    if not (content is None or isinstance(content, bool) or content in get_args(Content)):
        choices = ", ".join(map(repr, get_args(Content)))
        raise ConfigurationError(f"content={content!r} refused because it is no choice; use {choices}")


def _is_wanted(content: bool | Content | None, environ: Mapping[str, str]) -> bool:  # noqa: FBT001 - its own caller's
    if isinstance(content, bool):
        return content
    if content is not None:
        return content == "full"
    given = environ.get(CAPTURE_VARIABLE, "").strip().lower()
    if given and given not in (*_ON, *_OFF):
        # A variable of OpenTelemetry's never stops a program (its specification on configuration).
        choices = ", ".join(name.upper() for name in (*_OFF, *_ON))
        logger.warning("%s=%s is taken as NO_CONTENT; use one of %s", CAPTURE_VARIABLE, shown(given), choices)
    return given in _ON


def _lengths(environ: Mapping[str, str]) -> list[int]:
    """Return the lengths to which the SDK would cut the texts of attributes, as far as they are set."""
    for name in _LENGTH_VARIABLES:
        given = environ.get(name, "").strip()
        if given.isascii() and given.isdecimal():
            return [int(given[:9])]
    return []
