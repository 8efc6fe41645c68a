r"""The personal-data rules, each by choice: email, phone, card, US social security number, IBAN.

Numbers are believed only with their check digits (cards: Luhn, ISO/IEC 7812; IBAN: ISO 13616, mod 97, with each
country's length) or in the form that people write them in (phone, social security number).
"""

from __future__ import annotations

from agentkit_loop.late import late_pattern
from agentkit_reporting.redaction.rule import Rule

_FILE_ENDS = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "ts", "css", "py", "json", "md", "html"}
)
_FEWEST_PHONE_DIGITS, _MOST_PHONE_DIGITS = 8, 15  # E.164


def _email_length(address: str) -> int:
    """Return the length of an address; 0 for `image@2x.png` and for the user of every git host."""
    is_file = address.rpartition(".")[2].lower() in _FILE_ENDS
    return 0 if is_file or address.startswith("git@") else len(address)


def _phone_length(number: str) -> int:
    digits = sum(character.isdigit() for character in number)
    return len(number) if _FEWEST_PHONE_DIGITS <= digits <= _MOST_PHONE_DIGITS else 0


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number  # noqa: PLR2004 - the sum of its two digits
    return total % 10 == 0


def _card_length(number: str) -> int:
    digits = number.replace(" ", "").replace("-", "")
    return len(number) if len(set(digits)) > 1 and passes_luhn(digits) else 0


# fmt: off
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}
# fmt: on


def _iban_length(text: str) -> int:
    """Return how much of a text is an IBAN; a word may follow it that looks like a group of it."""
    wanted = _IBAN_LENGTHS.get(text[:2], 0)
    taken, count = "", 0
    for count, character in enumerate(text, 1):  # noqa: B007 - where it stopped
        if character != " ":
            taken += character
        if len(taken) == wanted:
            break
    if not wanted or len(taken) != wanted or text[count : count + 1].strip():
        return 0
    number = "".join(str(int(character, 36)) for character in taken[4:] + taken[:4])
    return count if int(number) % 97 == 1 else 0


_DIGITS = tuple("0123456789")
_LOCAL = "A-Za-z0-9._%+-"

_EMAIL = Rule(
    name="email",
    find=late_pattern(
        rf"(?<![{_LOCAL}])([{_LOCAL}]{{1,64}}+@(?:[A-Za-z0-9-]{{1,63}}+\.){{1,4}}[A-Za-z]{{2,24}}+)(?![A-Za-z0-9])"
    ),
    opened=late_pattern(rf"(?<![{_LOCAL}])([{_LOCAL}]{{1,64}}+(?:@[A-Za-z0-9.-]{{0,280}}+)?)\Z"),
    gates=("@",),
    stream_gates=(),
    triggers=("@",),
    arming=(rf"[{_LOCAL}]\Z",),
    reach=360,
    accepted=_email_length,
)

_PHONE = Rule(
    name="phone",
    find=late_pattern(
        r"(?<![\w.+/=-])(\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
        r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}-\d{3}-\d{4}|\d{3}\.\d{3}\.\d{4})(?![\w/-]|\.\d)"
    ),
    opened=late_pattern(r"(?<![\w.+/=-])([+(\d][\d ().-]{0,40}+)\Z"),
    gates=_DIGITS,
    stream_gates=(*_DIGITS, "+", "("),
    triggers=(r"\d",),
    arming=(r"[+(]",),
    reach=48,
    accepted=_phone_length,
)

_CARD = Rule(
    name="card",
    find=late_pattern(r"(?<![\w.+/-])([3-6]\d{3}(?:[ -]?\d){9,15}+)(?![\w/-]|\.\d)"),
    opened=late_pattern(r"(?<![\w.+/-])([3-6]\d{0,3}(?:[ -]?\d){0,15}+[ .-]?)\Z"),
    gates=_DIGITS,
    triggers=(r"\d",),
    reach=44,
    accepted=_card_length,
)

_SSN = Rule(
    name="us_ssn",
    # Area numbers 000, 666 and 900 to 999, group 00 and serial 0000 are never given out (SSA).
    find=late_pattern(r"(?<![\w.-])((?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4})(?![\w-])"),
    opened=late_pattern(r"(?<![\w.-])(\d{1,3}(?:-\d{0,2}(?:-\d{0,4})?)?)\Z"),
    gates=_DIGITS,
    triggers=(r"\d",),
    reach=20,
)

_IBAN = Rule(
    name="iban",
    find=late_pattern(r"(?<![A-Za-z0-9])([A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,32}+)"),
    opened=late_pattern(
        r"(?<![A-Za-z0-9])([A-Z]{1,2}|[A-Z]{2}\d{1,2}|[A-Z]{2}\d{2}(?: ?[A-Z0-9]){0,32}+ ?)\Z"
    ),
    gates=_DIGITS,
    stream_gates=(),
    triggers=(r"\d",),
    arming=(r"[A-Z]\Z",),
    reach=80,
    accepted=_iban_length,
)

PERSONAL_RULES: tuple[Rule, ...] = (_EMAIL, _PHONE, _CARD, _SSN, _IBAN)
"""What is looked for where it is chosen, by name."""
