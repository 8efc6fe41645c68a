r"""Values beside their names: `{"name": "DB_PASSWORD", "value": "…"}`, `- name: …` and `value: …` on two lines, XML."""

from __future__ import annotations

from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.keyed_values import KEYED_SECRET
from agentkit_reporting.redaction.rule import Rule

_QUOTE = r"(?:\\{0,7}[\"'])?"
_NAME = (
    r"(?i:[A-Z0-9_.-]{0,40}(?:passw(?:or)?d|passphrase|pwd|secret|(?<!page_)(?<!next_)token"
    r"|(?:api|access|secret|private|account)[_-]?key))"
)
_LEAD = (
    rf"[nNkK](?:(?<=[nN])(?i:ame)|(?<=[kK])(?i:ey)){_QUOTE}[ \t]?[:=][ \t]?{_QUOTE}{_NAME}{_QUOTE}"
    rf"(?:,|\\n|[ \t\r\n]){{1,16}}{_QUOTE}(?i:value){_QUOTE}[ \t]?[:=][ \t]{{0,2}}"
)
_VALUE = r"[^\s\"'\\,<>{}\[\]]"

NAMED_VALUES = Rule(
    name=KEYED_SECRET,
    find=late_pattern(rf"{_LEAD}{_QUOTE}((?!\[redacted){_VALUE}{{4}})"),
    opened=late_pattern(rf"{_LEAD}(?:\\{{0,7}}|{_QUOTE}(\[?{_VALUE}{{0,9}}))\Z"),
    rest=late_pattern(r"[^\s\"'\\<>]*"),
    gates=("value", "VALUE", "Value"),
    triggers=tuple(rf"{v}(?<=[\s\"'\\n]{v})(?=(?i:alue)[\\\"' \t]{{0,9}}[:=])" for v in "vV"),
    signs=(":", "="),
    reach=140,
)
"""The value that follows a secret name."""
