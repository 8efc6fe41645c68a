"""A secret in a stream never gets out, however the stream is cut; what is no secret is not held."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_reporting.redaction.json_stream import JsonStream, scrub_broken
from agentkit_reporting.redaction.masking import Masking
from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.rule_set import RuleSet
from agentkit_reporting.redaction.scrubbing import Scrubber
from agentkit_reporting.redaction.text_stream import TextStream, scrub_text
from tests.reporting.redaction_samples import (
    ANTHROPIC,
    HEAD,
    HUNTER,
    NEGATIVES,
    NOT_PERSONAL,
    PERSONAL,
    POSITIVES,
    pem,
)

SECRETS = RuleSet(["secrets"])
TICKET = OwnPattern("ticket", r"TK-\d{3,9}", longest=12, begins="T")
EVERYTHING = RuleSet(["secrets", "personal", TICKET])
MASKINGS = {
    "mask": Masking(),
    "drop": Masking("drop"),
    "pseudonym": Masking("pseudonym", key=b"not a key of anyone"),
}

FRAGMENTS = (
    *(text for _, text, _ in (*POSITIVES, *PERSONAL)),
    *("TK-12345", "İ", " ", "\n", "\t", '"', "'", "\\", "=", ": ", "{", "}", "@", "/", ".", "-", "_", "0", "a", "the "),
    *("sk-", "ant-", "password", "token", "api_", "key", "://", "Bearer", " b", "Basic ", "Authorization", "eyJ", "AK"),
    *("[redacted:jwt]", HEAD, "PASSWORD=", "secret: ", "+1 ", "DE89 "),
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=8).map("".join)
RULES = st.sampled_from([SECRETS, EVERYTHING])
MODES = st.sampled_from(sorted(MASKINGS))


def pieces(text: str, sizes: list[int]) -> list[str]:
    """Cut a text in pieces of the given sizes, over and over."""
    cut, at, number = [], 0, 0
    while at < len(text):
        size = sizes[number % len(sizes)]
        cut.append(text[at : at + size])
        at, number = at + size, number + 1
    return cut


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def streamed(stream: TextStream | JsonStream, cut: list[str]) -> str:
    """Return all that goes out while the pieces come, taking the short way where the hot path would."""
    told = ""
    for piece in cut:
        text = stream.tail + piece
        if not stream.is_armed and stream.search(text, len(stream.tail)) is None:
            stream.tail = text
            if len(text) > stream.longest_tail:
                stream.trim()
            told += piece
        else:
            told += stream.feed(piece)[0]
    return told


# --- texts


@given(TEXTS, SIZES, RULES, MODES)
@settings(max_examples=600, deadline=None)
def test_what_goes_out_is_a_beginning_of_the_scrubbed_text_however_it_is_cut(
    text: str, sizes: list[int], rules: RuleSet, mode: str
) -> None:
    masking = MASKINGS[mode]
    whole, found = scrub_text(rules, masking, text)
    stream = TextStream(rules, masking)
    told = streamed(stream, pieces(text, sizes))
    assert whole.startswith(told)
    assert told + stream.feed("", is_last=True)[0] == whole
    assert len(found) == len(rules.spans(text))


@pytest.mark.parametrize(("rule", "text", "secret"), [*POSITIVES, *PERSONAL])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 1000])
def test_no_piece_of_a_secret_gets_out_before_its_mask(rule: str, text: str, secret: str, size: int) -> None:
    for around in (text, f"say {text} and so on, and so on"):
        for rules in (EVERYTHING, RuleSet([rule])):
            stream = TextStream(rules, MASKINGS["mask"])
            told = streamed(stream, pieces(around, [size]))
            assert secret[:8] not in told.replace("password", "")
            assert scrub_text(rules, MASKINGS["mask"], around)[0].startswith(told)


@pytest.mark.parametrize("text", [*NEGATIVES, *NOT_PERSONAL])
@pytest.mark.parametrize("size", [1, 4, 10])
def test_a_text_without_a_secret_goes_out_whole_once_something_harmless_follows(text: str, size: int) -> None:
    stream = TextStream(SECRETS, MASKINGS["mask"])
    told = streamed(stream, pieces(f"{text}\n\n", [size])) + stream.feed(" ok. " * 100)[0]
    assert told == f"{text}\n\n" + " ok. " * 100


def test_prose_is_never_held() -> None:
    text = "The quick brown fox, no bad bear, asks (basically): is this task the key? \n" * 20
    for size in (1, 3, 10):
        stream = TextStream(SECRETS, MASKINGS["mask"])
        for piece in pieces(text, [size]):
            assert streamed(stream, [piece]) == piece


@given(TEXTS, SIZES)
@settings(max_examples=150, deadline=None)
def test_what_is_held_is_no_longer_than_the_longest_doubtful_secret(text: str, sizes: list[int]) -> None:
    stream = TextStream(SECRETS, MASKINGS["mask"])
    told = streamed(stream, pieces(text, sizes))
    assert len(stream.tail) <= 1_200
    assert len(scrub_text(SECRETS, MASKINGS["mask"], text)[0]) - len(told) <= 1_200


def test_a_secret_without_end_is_swallowed_in_little_memory() -> None:
    for begin in (ANTHROPIC, pem("PRIVATE KEY", end=False), '"password": "' + HUNTER):
        for mode, masking in MASKINGS.items():
            stream = TextStream(SECRETS, masking)
            told = streamed(stream, [begin, *["abcdefgh12"] * 3_000])
            assert len(stream.tail) <= (1_200 if mode != "pseudonym" else 10_000)
            assert "abcdefgh12" not in told


# --- inputs of calls


KEYS = st.sampled_from(
    ["path", "password", "api_key", "a\nb", "token", "x", "next_page_token", ANTHROPIC, '"q"', "é😀"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.sampled_from([4111111111111111, 14155550123])
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
INPUTS = st.dictionaries(KEYS, VALUES, max_size=4)


def escaped(text: str, share: int) -> str:
    r"""Write some characters within strings as `\uXXXX`: it is the same JSON."""
    told, inside = [], False
    for number, (before, character) in enumerate(zip(" " + text, text, strict=False)):
        if character == '"' and before != "\\":
            inside = not inside
        plain = inside and character.isalnum() and before != "\\" and ord(character) < 0x10000
        told.append(f"\\u{ord(character):04x}" if plain and number % share == 0 else character)
    return "".join(told)


@given(INPUTS, SIZES, RULES, MODES, st.booleans())
@settings(max_examples=400, deadline=None)
def test_the_json_that_goes_out_is_the_scrubbed_input(
    given_input: dict[str, Any], sizes: list[int], rules: RuleSet, mode: str, spaced: bool
) -> None:
    masking = MASKINGS[mode]
    text = json.dumps(given_input, ensure_ascii=spaced, indent=1 if spaced else None)
    stream = JsonStream(rules, masking)
    told = streamed(stream, pieces(text, sizes)) + stream.feed("", is_last=True)[0]
    assert not stream.is_broken
    assert json.loads(told) == Scrubber(rules, masking).value(given_input, decodes=False)


@given(st.sampled_from(POSITIVES), st.integers(1, 5), SIZES)
@settings(max_examples=200, deadline=None)
def test_escapes_hide_no_secret(sample: tuple[str, str, str], share: int, sizes: list[int]) -> None:
    _, text, secret = sample
    raw = escaped(json.dumps({"command": text}, ensure_ascii=False), share)
    stream = JsonStream(SECRETS, MASKINGS["mask"])
    told = streamed(stream, pieces(raw, sizes))
    assert secret not in str(json.loads(told))
    assert json.loads(told) == {"command": scrub_text(SECRETS, MASKINGS["mask"], text)[0]}


@given(INPUTS, st.integers(0, 200), st.text(max_size=5), SIZES, MODES)
@settings(max_examples=300, deadline=None)
def test_of_json_that_breaks_off_goes_out_a_beginning_of_what_its_scrubbed_text_is(
    given_input: dict[str, Any], kept: int, rest: str, sizes: list[int], mode: str
) -> None:
    text = json.dumps(given_input)[:kept] + rest
    whole, _ = scrub_broken(SECRETS, MASKINGS[mode], text)
    stream = JsonStream(SECRETS, MASKINGS[mode])
    assert whole.startswith(streamed(stream, pieces(text, sizes)))


def test_a_value_under_a_secret_key_is_masked_whole_whatever_it_is() -> None:
    for value in (
        HUNTER,
        "",
        None,
        True,
        4711,
        1.5,
        {"a": [HUNTER, "}"]},
        [],
        [[HUNTER]],
        "[redacted:jwt]",
        "x" * 9_000,
    ):
        raw = json.dumps({"a": 1, "password": value, "b": "c"})
        stream = JsonStream(SECRETS, MASKINGS["mask"])
        told = json.loads(streamed(stream, list(raw)))
        kept = value in ("", "[redacted:jwt]") or value is None or value is True
        assert told == {"a": 1, "password": value if kept else "[redacted:keyed_secret]", "b": "c"}


def test_what_is_no_json_is_given_up_where_it_ceases_to_be() -> None:
    for raw in (
        '{"a" 1}',
        '{"a":1,,}',
        "{1:2}",
        '{"a":tru}',
        '{"a":"\\x"}',
        '{"a":"b\nc"}',
        '{"a":1}}',
        '{"a":]',
        "[" * 999,
    ):
        stream = JsonStream(SECRETS, MASKINGS["mask"])
        streamed(stream, [*raw, f'"password": "{HUNTER}"'])
        assert stream.is_broken
        assert stream.feed(HUNTER)[0] == ""
    assert HUNTER not in scrub_broken(SECRETS, MASKINGS["mask"], f'{{"password": "{HUNTER}')[0]
    assert HUNTER not in scrub_broken(SECRETS, MASKINGS["mask"], f'{{"password": "a\n{HUNTER}')[0]
    assert HUNTER not in scrub_broken(SECRETS, MASKINGS["mask"], f'{{"a" "password": "{HUNTER}"')[0]
