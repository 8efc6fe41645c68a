"""A secret in a stream never gets out, however the stream is cut; what is no secret is not held."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_reporting.redaction.broken_json import scrub_broken
from agentkit_reporting.redaction.json_stream import JsonStream
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
    *("\\\\\\", '\\"', '\\\\\\"', "''", "'''", '"""', "%3D", "%22", "%", "%3", "\\u0022"),
    *("\\u00", "--token ", "--", "|\n  ", "'password'", '"password"', "DB_PASSWORD", "x-api-key"),
    *(" = ", "=>", ":=", ",", "<password>", "</", "${", "$A"),
    *("{{ x }}", "<a b>", "%s", "***", HUNTER, "two words", "Cookie", "%20", "-u ", "--user ann:", "%2F%2F", "%3A"),
    *("%40", "name", "value", "-----", "PRIVATE KEY-----", "1//0", "b'", 'f"', "?", "&", ";", "\x1b[33m", "\n\n"),
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


def test_a_name_that_is_long_gone_is_not_taken_for_another() -> None:
    for name in ("x" * 60 + "_PASSWORD", "x" * 20 + "max_token", "y" * 45 + "--token", "\\nDB_PASSWORD"):
        for before in range(0, 260, 3):
            text = f"{'.' * before}{name}=swordfish12345 {'. ' * 120}key: 1 token: 2 {'. ' * 40}key: 3"
            stream = TextStream(SECRETS, MASKINGS["mask"])
            told = streamed(stream, pieces(text, [10])) + stream.feed("", is_last=True)[0]
            assert told == scrub_text(SECRETS, MASKINGS["mask"], text)[0]


def test_prose_and_code_arm_nothing() -> None:
    text = (
        "for key, value in pairs.items():\n    token = next(tokens)\n    if key == 'a': yield token\n"
        "A table: | a | b |\n|---|---|\nThe secret is: to `ask` for the password, e.g. 1 = 1.\n"
    ) * 8
    for size in (1, 3, 10):
        stream = TextStream(SECRETS, MASKINGS["mask"])
        armed = 0
        for piece in pieces(text, [size]):
            stream.feed(piece)
            armed += stream.is_armed
        assert armed <= len(text) / size / 4


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
    r"""Write some letters and digits of strings, of a JSON that has no others, as `\uXXXX`: it is the same JSON."""

    def write(found: re.Match[str]) -> str:
        is_escape = len(found[0]) > 1
        return found[0] if is_escape or found.start() % share else f"\\u{ord(found[0]):04x}"

    return re.sub(r"\\(?:u[0-9a-f]{4}|.)|[A-Za-z0-9]", write, text)


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


@given(st.sampled_from(POSITIVES), st.sampled_from(["", "-", "{", "[", '{"a": ', '{"a":1, ', "[1, "]), SIZES)
@settings(max_examples=300, deadline=None)
def test_a_secret_that_begins_like_a_number_or_a_word_of_json_is_masked(
    sample: tuple[str, str, str], before: str, sizes: list[int]
) -> None:
    _, text, secret = sample
    raw = f"{before}{text} "
    whole, _ = scrub_broken(SECRETS, MASKINGS["mask"], raw)
    assert secret[:12] not in whole
    assert secret[-12:] not in whole
    stream = JsonStream(SECRETS, MASKINGS["mask"])
    assert whole.startswith(streamed(stream, pieces(raw, sizes)))


def test_what_goes_out_of_a_string_without_a_secret_is_what_came() -> None:
    raw = '{"content": "def f(x):\\n\\treturn \\"x\\"\\r\\n\\u00e9 caf\u00e9", "a\\nb": [1, true]}'
    for size in (1, 3, 10):
        stream = JsonStream(SECRETS, MASKINGS["mask"])
        told = streamed(stream, pieces(raw, [size]))
        assert told.replace("\u00e9", "") == raw.replace("\\u00e9", "").replace("\u00e9", "")


def test_half_a_character_waits_for_the_other() -> None:
    for text in ("\\ud83d\\ude00 x", "\\ud83d x", "\\ude00\\ud83d", "a\\ud83dsk-\\ud83d\\ude00"):
        raw = f'{{"a": "{text}"}}'
        for size in (1, 2, 5, 6, 7, 30):
            stream = JsonStream(SECRETS, MASKINGS["mask"])
            assert json.loads(streamed(stream, pieces(raw, [size]))) == json.loads(raw)


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


def test_a_value_whose_name_looks_secret_is_masked_whole() -> None:
    masked = "[redacted:keyed_secret]"
    for given_input, wanted in (
        ({"name": "DB_PASSWORD", "value": HUNTER}, {"name": "DB_PASSWORD", "value": masked}),
        ({"Key": "apiKey", "n": 1, "Value": [1]}, {"Key": "apiKey", "n": 1, "Value": masked}),
        ({"env": [{"name": "a", "value": "b"}, {"name": "token", "value": 5}]}, None),
        ({"name": "user", "value": "ann"}, {"name": "user", "value": "ann"}),
        ({"name": ["token"], "value": "ann"}, {"name": ["token"], "value": "ann"}),
        ({"name": "token", "in": {"value": "ann"}}, {"name": "token", "in": {"value": "ann"}}),
        ({"name": {"name": "token"}, "value": "ann"}, {"name": {"name": "token"}, "value": "ann"}),
    ):
        expected = wanted or {"env": [{"name": "a", "value": "b"}, {"name": "token", "value": masked}]}
        assert Scrubber(SECRETS, MASKINGS["mask"]).value(given_input) == expected
        for size in (1, 4, 100):
            stream = JsonStream(SECRETS, MASKINGS["mask"])
            assert json.loads(streamed(stream, pieces(json.dumps(given_input), [size]))) == expected


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
    assert HUNTER not in scrub_broken(SECRETS, MASKINGS["mask"], f'["DB_PASSWORD": {HUNTER}')[0]
