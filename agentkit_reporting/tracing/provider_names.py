"""Who provides a model, judged by the model's name: the value of `gen_ai.provider.name`.

An event names the model, not who answers: so this is a judgement, and a host's own word (`metadata["provider"]`) wins.
The well-known values are those of the GenAI conventions (semantic-conventions-genai, gen-ai-spans.md); two are ours:
`scripted` for the models that ship for tests, `unknown` where no rule fits, since the attribute is required.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

from agentkit_loop.values import JSON
from agentkit_reporting.terminal import one_line

__all__ = ["SCRIPTED", "UNKNOWN", "openinference_provider", "openinference_system", "provider_of"]

SCRIPTED: Final = "scripted"
UNKNOWN: Final = "unknown"

_LONGEST = 64  # characters of a host's own word

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), provider)
    for pattern, provider in (
        # Amazon's ids: the maker, behind a region or not (`us.anthropic.claude-…-v1:0`), or a whole ARN.
        (
            r"arn:aws[a-z-]*:bedrock:|(?:[a-z]{2,6}\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek)\.",
            "aws.bedrock",
        ),
        (r"claude-[^/@]+@\d|publishers/|projects/", "gcp.vertex_ai"),
        (r"(?:anthropic/)?claude|anthropic/", "anthropic"),
        (r"(?:openai/)?(?:gpt-|chatgpt|o[1-9](?:$|[-:])|text-embedding-|davinci)|openai/", "openai"),
        (r"(?:google/|models/)?gemini", "gcp.gemini"),
        (
            r"(?:mistralai/)?(?:mistral|mixtral|ministral|magistral|codestral|devstral|pixtral)|mistralai/",
            "mistral_ai",
        ),
        (r"(?:deepseek(?:-ai)?/)?deepseek", "deepseek"),
        (r"(?:x-?ai/)?grok", "x_ai"),
        (r"(?:cohere/)?command(?:$|-)|cohere/", "cohere"),
        (r"(?:moonshotai/)?kimi|moonshot", "moonshot_ai"),
        (r"(?:perplexity/)?sonar", "perplexity"),
        (r"(?:ibm/)?granite", "ibm.watsonx.ai"),
        (r"scripted|replay", SCRIPTED),
    )
)

_OPENINFERENCE_PROVIDERS: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistralai",
    "x_ai": "xai",
}
_OPENINFERENCE_SYSTEMS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure.ai.openai": "openai",
    "cohere": "cohere",
    "gcp.vertex_ai": "vertexai",
    "mistral_ai": "mistralai",
    "openai": "openai",
}


def provider_of(model: str, metadata: Mapping[str, JSON] | None = None) -> str:
    """Return who provides a model: the host's own `metadata["provider"]`, else by the first rule that fits the name."""
    given = (metadata or {}).get("provider")
    if isinstance(given, str) and given.strip():
        return one_line(given.strip(), _LONGEST)
    return _judged(model)


@functools.lru_cache(maxsize=64)  # asked for each run and request
def _judged(model: str) -> str:
    return next((provider for rule, provider in _RULES if rule.match(model)), UNKNOWN)


def openinference_provider(provider: str) -> str:
    """Return OpenInference's `llm.provider`: who hosts the model."""
    return _OPENINFERENCE_PROVIDERS.get(provider, provider)


def openinference_system(provider: str) -> str | None:
    """Return OpenInference's `llm.system`, the family of the interface; None where it has no word for it."""
    return _OPENINFERENCE_SYSTEMS.get(provider)
