"""JSON that did not end, or ceased to be JSON, as a whole: the input of a call that was cut."""

from __future__ import annotations

from agentkit_reporting.redaction.json_stream import JsonStream
from agentkit_reporting.redaction.keyed_values import KEYED_SECRET
from agentkit_reporting.redaction.masking import Masking
from agentkit_reporting.redaction.rule_set import CONTEXT, RuleSet
from agentkit_reporting.redaction.text_stream import Found, TextStream


def scrub_broken(rules: RuleSet, masking: Masking, text: str) -> tuple[str, Found]:
    """Return a JSON text that did not end, or ceased to be JSON, with its secrets masked."""
    stream = JsonStream(rules, masking)
    told, found = stream.feed(text, is_last=True)
    if not stream.is_broken:
        return told, found
    if stream.hides:  # what does not end under a key that looks secret may be all that follows
        return told + masking.text(KEYED_SECRET, stream.rest), [*found, KEYED_SECRET]
    # Within a string, its text goes on as it stands: a secret may have begun in it; else its key may stand before.
    text_stream = stream.broken_text
    if text_stream is None:
        text_stream = TextStream(rules, masking)
        text_stream.tail = told[-CONTEXT:]
    rest, more = text_stream.feed(stream.rest, is_last=True)
    return told + rest, found + more
