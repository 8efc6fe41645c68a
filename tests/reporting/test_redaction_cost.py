"""Hostile texts cost what long ones cost: twice the text, about twice the time, whole and in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agentkit_reporting.redaction.json_stream import JsonStream
from agentkit_reporting.redaction.masking import Masking
from agentkit_reporting.redaction.rule_set import RuleSet
from agentkit_reporting.redaction.text_stream import TextStream, scrub_text
from tests.reporting.redaction_samples import HEAD, NEGATIVES, POSITIVES

RULES = RuleSet(["secrets", "personal"])
MASKING = Masking()

PROBES = (
    "sk-", "sk-a-", "sk-proj-", "eyJ", "eyJ-", "eyJa.", HEAD, "-----BEGIN ", "password=",
    "token=", "token = 1_", 'password="', '"password":"', "password=aaaaaaaaaaa1;", "://", "://a:", "bearer ", "basic ",
    "bearer aaaaaaaaaaaaaaaaaaaaaa", "Authorization: ", "Authorization: Bearer ", "a@", "a@b.", "a.", "a", "1", "1 ",
    "4111 ", "+1 ", "(415) ", "DE89 ", "DE89", "A", "_", "a_", "=", "\\", '"', "{", "[", "İ", " ", "123-45-", "key ",
    "[redacted", "ya29.", "\ud800", "-" * 5, "--a", "--token ", "--token=", "cookie:a=", "-u a:", "name: token\nvalue:",
    "%2F%2Fa%3A", "password%3D", 'password="$(', "'token', '", "<password>", 'password="a ', 'password":"\\', "\\" * 7,
    HEAD + "a" * 40 + "\n-", "password: |\n ", "AKIA" + "A" * 16 + ",", "://a:@@", "1//0", "Authorization: 1", "key=_",
)  # fmt: skip


def cost(work: Callable[[], object]) -> float:
    """Return seconds of this thread, the best of five."""
    best = float("inf")
    for _ in range(5):
        before = time.thread_time()
        work()
        best = min(best, time.thread_time() - before)
    return best


def repeated(probe: str, size: int) -> str:
    return (probe * (size // len(probe) + 1))[:size]


def feed(stream: TextStream | JsonStream, text: str) -> None:
    for at in range(0, len(text), 10):
        stream.feed(text[at : at + 10])


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_a_hostile_text_costs_twice_as_much_when_it_is_twice_as_long(probe: str) -> None:
    once, twice = repeated(probe, 12_000), repeated(probe, 24_000)
    least = cost(lambda: scrub_text(RULES, MASKING, once))
    assert cost(lambda: scrub_text(RULES, MASKING, twice)) <= 3.5 * least + 1e-3


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_a_hostile_stream_costs_twice_as_much_when_it_is_twice_as_long(probe: str) -> None:
    once, twice = repeated(probe, 1_500), repeated(probe, 3_000)
    least = cost(lambda: feed(TextStream(RULES, MASKING), once))
    assert cost(lambda: feed(TextStream(RULES, MASKING), twice)) <= 3.5 * least + 3e-3


def test_a_large_input_of_a_call_costs_twice_as_much_when_it_is_twice_as_long() -> None:
    once = '{"content":"' + "".join(f"line {text}\\n" for text in NEGATIVES[:8]) * 10 + '"}'
    twice = '{"content":"' + "".join(f"line {text}\\n" for text in NEGATIVES[:8]) * 20 + '"}'
    least = cost(lambda: feed(JsonStream(RULES, MASKING), once))
    assert cost(lambda: feed(JsonStream(RULES, MASKING), twice)) <= 3.5 * least + 3e-3


def test_many_secrets_cost_twice_as_much_when_they_are_twice_as_many() -> None:
    once = "\n".join(text for _, text, _ in POSITIVES)
    least = cost(lambda: scrub_text(RULES, MASKING, once))
    assert cost(lambda: scrub_text(RULES, MASKING, f"{once}\n{once}")) <= 3.5 * least + 1e-3
