"""What several observers of a configuration are made with: how files are rotated, what is masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.redaction.content_marks import Content, ContentRedactor
from agentkit_reporting.redaction.masking import PSEUDONYM_KEY_VARIABLE
from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.rule_set import RULE_GROUPS, SECRETS, RuleChoice

__all__ = ["new_content_redactor", "new_redactor", "own_pattern", "rotation_of", "rules_of"]

_MEBIBYTE = 2**20


def rotation_of(settings: Settings) -> Rotation | None:
    """Return how files are rotated, None where nothing says so; raises ConfigurationError."""
    given = settings.given("storage.rotation")
    if not given:
        return None
    if "max_mb" in given:
        if "max_bytes" in given:
            raise ConfigurationError("max_mb refused beside max_bytes; give one of them")
        given["max_bytes"] = max(1, round(given.pop("max_mb") * _MEBIBYTE))
    if given.get("compress") == "none":
        given["compress"] = None
    return Rotation(**given)


def new_redactor(settings: Settings) -> Redactor | bool:
    """Return a new redactor as `[redaction]` says, False where it is switched off; raises ConfigurationError."""
    if not settings["redaction.enabled"]:
        return False
    return Redactor(
        rules_of(settings),
        mode=settings["redaction.mode"],
        key=_key(settings),
        keep_arguments=settings["redaction.keep_arguments"],
        fail_closed=settings["redaction.fail_closed"],
    )


def new_content_redactor(settings: Settings) -> ContentRedactor | None:
    """Return a new redactor that takes content out, None where all of it may be told."""
    content: Content = settings["redaction.content"]
    if content == "full":
        return None
    rules = rules_of(settings) if settings["redaction.enabled"] else None
    return ContentRedactor(content, rules, mode=settings["redaction.mode"], key=_key(settings))


def rules_of(settings: Settings) -> list[RuleChoice]:
    """Return the rules and patterns that are looked for: those for secrets too, unless some of them are chosen."""
    named = settings["redaction.rules"]
    if named and not {SECRETS, *(rule.name for rule in RULE_GROUPS[SECRETS])} & set(named):
        named = [SECRETS, *named]
    own = (own_pattern(name, said) for name, said in settings.table("redaction.patterns").items())
    return [*named, *own]


def own_pattern(name: str, said: str | Mapping[str, Any]) -> OwnPattern:
    """Return a pattern of the host's; raises ConfigurationError."""
    return OwnPattern(name, said) if isinstance(said, str) else OwnPattern(name, **said)


def _key(settings: Settings) -> str | None:
    if settings["redaction.mode"] != "pseudonym":
        return None
    return settings.environ.get(PSEUDONYM_KEY_VARIABLE, "")
