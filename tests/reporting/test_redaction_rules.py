"""What the rules find in a whole text, and what they leave."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from agentkit_loop.content import AnyDelta, AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.differences import MASK
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import ContentDelta
from agentkit_reporting import OwnPattern, Redactor
from agentkit_reporting.redaction.personal_rules import passes_luhn
from agentkit_reporting.redaction.rule_set import RULE_NAMES, secret_rules
from agentkit_reporting.redaction.secret_keys import is_secret_key
from tests.reporting.redaction_samples import (
    ANTHROPIC,
    GITHUB,
    HEAD,
    HUNTER,
    JWT,
    KEY_LINES,
    NEGATIVES,
    NOT_PERSONAL,
    OPENAI,
    PERSONAL,
    POSITIVES,
    pem,
)

SECRETS = Redactor()
EVERYTHING = Redactor(["secrets", "personal"])


@pytest.mark.parametrize(("rule", "text", "secret"), POSITIVES, ids=range(len(POSITIVES)))
def test_a_secret_is_masked_by_its_rule(rule: str, text: str, secret: str) -> None:
    assert secret in text
    for before, after in (("", ""), ("say ", " ok"), ("é\n", "\n"), ("\t", "\u2028")):
        told = SECRETS.text(before + text + after)
        assert secret not in told
        assert f"[redacted:{rule}]" in told
        assert told.startswith(before)
        is_cut = "BEGIN" in text and "END" not in text  # then nobody knows where the key ends
        assert told.endswith(after) or is_cut


@pytest.mark.parametrize("text", NEGATIVES, ids=range(len(NEGATIVES)))
def test_what_merely_looks_like_a_secret_stays(text: str) -> None:
    for around in (text, f"say {text} ok", f"{text}\n", f"[{text}]"):
        assert SECRETS.text(around) == around


def test_there_are_enough_samples_of_both_kinds() -> None:
    assert len(POSITIVES) >= 60
    assert len(NEGATIVES) >= 60
    assert {rule for rule, _, _ in (*POSITIVES, *PERSONAL)} == set(RULE_NAMES)


@pytest.mark.parametrize(("rule", "text", "secret"), PERSONAL, ids=range(len(PERSONAL)))
def test_personal_data_is_masked_where_it_is_chosen(rule: str, text: str, secret: str) -> None:
    told = Redactor([rule]).text(text)
    assert told == text.replace(secret, f"[redacted:{rule}]")
    assert secret not in EVERYTHING.text(f"so {text} so")
    assert SECRETS.text(text) == text


@pytest.mark.parametrize("text", NOT_PERSONAL, ids=range(len(NOT_PERSONAL)))
def test_what_merely_looks_like_personal_data_stays(text: str) -> None:
    assert EVERYTHING.text(text) == text
    assert EVERYTHING.text(f"say {text} ok") == f"say {text} ok"


def test_what_hides_a_secret_keeps_what_stands_around_it() -> None:
    assert SECRETS.text(f"A=1 {ANTHROPIC} b") == "A=1 sk-ant-[redacted:anthropic_key] b"
    assert SECRETS.text(f"db://ann:{HUNTER}@h/1") == "db://ann:[redacted:url_password]@h/1"
    assert SECRETS.text(f"Bearer {JWT} x") == "Bearer [redacted:authorization] x"
    assert SECRETS.text(f"{OPENAI} {OPENAI}") == "sk-[redacted:openai_key] sk-[redacted:openai_key]"


@pytest.mark.parametrize(("rule", "text", "secret"), POSITIVES, ids=range(len(POSITIVES)))
def test_what_was_masked_is_not_masked_again(rule: str, text: str, secret: str) -> None:
    del rule, secret
    once = SECRETS.text(text)
    assert SECRETS.text(once) == once


def test_secrets_that_lie_over_each_other_are_one() -> None:
    told = SECRETS.text(f'token="{ANTHROPIC}"')
    assert told == 'token="[redacted:keyed_secret]"'
    told = EVERYTHING.text(f"https://{OPENAI}:{HUNTER}@h/")
    assert MASK.sub("*", told) == "https://sk-*:*@h/"


def test_keys_that_look_secret_are_known_however_they_are_written() -> None:
    for key in (
        "password", "PASSWORD", "db_password", "dbPassword", "user-pwd", "apiKey", "X-Api-Key", "api key",
        "client_secret", "accessToken", "refresh.token", "Authorization", "Set-Cookie", "credentials",
        "AWS_SECRET_ACCESS_KEY", "private_key", "passphrase", "connectionString", "db_pass", "secret_key_base",
        "cookies", "Ocp-Apim-Subscription-Key", "master_key",
    ):  # fmt: skip
        assert is_secret_key(key), key
    for key in (
        "path", "key", "keys", "primary_key", "monkey", "tokens", "input_tokens", "max_token", "next_page_token",
        "nextPageToken", "secretary", "password_hint", "author", "tokenizer", "", "x" * 500 + "token", "pass", "bypass",
        "compass", "token_count", "signature",
    ):  # fmt: skip
        assert not is_secret_key(key), key


def test_long_keys_are_not_remembered() -> None:
    key = "".join(["x"] * 10_000)
    before = sys.getrefcount(key)
    assert not is_secret_key(key)
    assert sys.getrefcount(key) == before


def test_what_goes_around_a_secret_stays() -> None:
    pairs = (
        (f"-u ann:{HUNTER} https://x", "-u ann:[redacted:authorization] https://x"),
        (
            f'{{"password": "a \\"b\\"", "user": "{HUNTER[0]}"}}',
            '{"password": "[redacted:keyed_secret]", "user": "h"}',
        ),
        (
            '"{\\"password\\": \\"a\\\\\\"b\\", \\"x\\": 1}"',
            '"{\\"password\\": \\"[redacted:keyed_secret]\\", \\"x\\": 1}"',
        ),
        (f"?password%3D{HUNTER}%26user%3Dann", "?password%3D[redacted:keyed_secret]%26user%3Dann"),
        ("Cookie: a=b; c=d\nHost: x", "Cookie: [redacted:cookie]\nHost: x"),
        (
            f"{pem('RSA PRIVATE KEY')}\nHost: x",
            f"{HEAD}[redacted:private_key]{HEAD.replace('BEGIN', 'END')}\nHost: x",
        ),
        (f"{HEAD}\n{KEY_LINES[0]}\n\nNo end. Host: x", f"{HEAD}[redacted:private_key]\n\nNo end. Host: x"),
        ("<password>swordfish</password>", "<password>[redacted:keyed_secret]</password>"),
    )
    for text, told in pairs:
        assert SECRETS.text(text) == told


def test_the_check_digit_of_a_card_is_that_of_luhn() -> None:
    assert passes_luhn("79927398713")
    assert not any(passes_luhn(f"7992739871{digit}") for digit in "0124567890" if digit != "3")


def test_a_pattern_of_ones_own_is_masked_under_its_name() -> None:
    own = Redactor(["jwt", OwnPattern("ticket", r"TK-\d+")])
    assert own.text(f"TK-123 {OPENAI}") == f"[redacted:ticket] {OPENAI}"
    assert Redactor([OwnPattern("pin", r"pin (\d{4})")]).text("pin 4711") == "pin [redacted:pin]"
    assert Redactor([OwnPattern("pin", r"(a)?(?P<secret>b)")]).text("ab") == "a[redacted:pin]"
    assert Redactor([OwnPattern("pin", r"x(a)|b")]).text("xa b") == "x[redacted:pin] [redacted:pin]"


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (["jtw"], "rule 'jtw' refused because there is none; use OwnPattern, or one of secrets, personal,"),
        ("jwt", "rules='jwt' refused because it is one text"),
        ([], "there are none; give some, or redact=False"),
        ([OwnPattern("jwt", "x")], "is built in; use another"),
    ],
)
def test_a_rule_that_is_none_is_refused(rules: object, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Redactor(rules)  # type: ignore[arg-type] # some are no list
    assert sentence in str(refused.value)


def test_pseudonyms_are_no_secrets_whoever_looks_at_them_again() -> None:
    text = f"my key {GITHUB}, password={HUNTER} and {OPENAI}"
    masked = Redactor(mode="pseudonym", key="k" * 32).text(text)
    assert masked.count("[redacted:") == 3
    for again in (Redactor(), Redactor(mode="pseudonym", key="l" * 32), Redactor(["secrets", "personal"])):
        assert again.text(masked) == masked
        assert again.receipt() == {}


def test_what_only_begins_like_a_pseudonym_is_a_secret() -> None:
    for text in ("[redacted:token:0123456789abcdef0]", "[redacted:token:hunter2secret9]"):
        assert Redactor().text(text) != text


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_a_pseudonym_in_pieces_goes_out_as_it_is(size: int) -> None:
    text = f"a {Redactor(mode='pseudonym', key='k' * 32).text(f'password={HUNTER}, {GITHUB}')} and more"
    redactor = Redactor()
    parts = ["", ""]
    for event in streamed(text, size):
        told = redactor.event(event)
        assert isinstance(told, ContentDelta)
        if isinstance(told.delta, AppendText):
            parts[0] += told.delta.chunk
        elif isinstance(told.delta, CommitPart) and isinstance(told.delta.part, TextPart):
            parts[1] += told.delta.part.text
    assert parts[1] == text
    assert text.startswith(parts[0])
    assert len(parts[0]) > len(text) - 10
    assert redactor.receipt() == {}


def streamed(text: str, size: int) -> list[ContentDelta]:
    pieces = [AppendText("0", text[at : at + size]) for at in range(0, len(text), size)]
    deltas: list[AnyDelta] = [BeginPart("0", "text"), *pieces, CommitPart("0", TextPart(text=text))]
    return [ContentDelta(request_id="r", delta=delta, session_id="s", run_id="r") for delta in deltas]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "a b", "pattern": "x"}, "rule name 'a b' refused"),
        ({"name": "a", "pattern": "("}, "pattern of rule 'a' refused"),
        ({"name": "a", "pattern": "x*"}, "is met in an empty text"),
        ({"name": "a", "pattern": "x", "longest": 0}, "longest=0 of rule 'a' must be at least 1"),
        ({"name": "a", "pattern": b"x"}, "pattern=b'x' of a rule refused because of its type; give text"),
        ({"name": "a", "pattern": "x", "longest": "3"}, "; give a number"),
        ({"name": "a", "pattern": "x", "begins": 5}, "; give text"),
    ],
)
def test_a_pattern_that_can_be_none_is_refused_where_it_is_made(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OwnPattern(**options)
    assert sentence in str(refused.value)


def test_names_of_patterns_are_told_apart() -> None:
    with pytest.raises(ConfigurationError, match="two patterns have it"):
        Redactor([OwnPattern("t", "a+"), OwnPattern("t", "b+")])
    with pytest.raises(ConfigurationError, match="built in"):
        Redactor([OwnPattern("secrets", "a+")])
    assert Redactor([OwnPattern("t", "a+"), OwnPattern("t", "a+")]).text("aaa") == "[redacted:t]"


def test_keys_of_one_session_do_not_keep_those_of_others_from_being_remembered() -> None:
    one, other = Redactor(), Redactor()
    for number in range(5_000):
        one.value({f"id-{number}": 1})
    other.value({"a key of the other": "x"})
    assert "a key of the other" in secret_rules().plain_keys
    assert len(secret_rules().plain_keys) < 5_000
    assert HUNTER not in str(other.value({"id-1": "x", "password": HUNTER}))
