"""prices.toml: what it may say, and the one sentence that refuses the rest."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from agentkit_loop import price_list
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.price_list import PriceList, read_price_list
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.usage import Usage

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
GOOD = '[models."m"]\ninput = 2.10\noutput = 10\n'


def read(tmp_path: Path, text: str | bytes) -> PriceList:
    path = tmp_path / "prices.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_price_list(path)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    document = price_list.__doc__ or ""
    listed = read(tmp_path, document.split("```toml\n")[1].split("```")[0])
    sonnet = listed.rates("claude-sonnet-5", "standard", NOW)
    assert sonnet is not None
    assert (sonnet.input, sonnet.web_search) == (Decimal("2.00"), Decimal("10.00"))
    assert sonnet.for_input(200_000).input == 2
    assert sonnet.for_input(200_001).input == 4
    assert listed.rates("claude-sonnet-5", "batch", NOW) == Rates(
        input=Decimal("1.00"), output=Decimal("5.00"), web_search=Decimal("10.00")
    )
    assert listed.rates("claude-opus-5", "standard", dt.datetime(2026, 3, 12, tzinfo=dt.UTC)) is None
    assert listed.rates("claude-opus-5", "standard", dt.datetime(2026, 3, 13, tzinfo=dt.UTC)) is not None
    assert listed.aliases == {"fast": "claude-haiku-5-5"}


def test_numbers_are_exact_and_batches_cost_half_where_nothing_is_said(tmp_path: Path) -> None:
    listed = read(tmp_path, GOOD)
    assert listed.rates("m", "standard", NOW) == Rates(input=Decimal("2.10"), output=Decimal(10))
    assert listed.rates("m", "batch", NOW) == Rates(input=Decimal("1.05"), output=Decimal(5))
    assert listed.rates("m", "fast", NOW) is None


def test_the_source_says_file_version_and_content(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).source.startswith("prices.toml sha256:")
    dated = read(tmp_path, "version = 2026-11-20\n" + GOOD)
    assert dated.source.startswith("prices.toml 2026-11-20 sha256:")
    assert dated.source != read(tmp_path, "version = 2026-11-20\n" + GOOD + "web_search = 1\n").source


def test_prices_that_changed_hold_from_their_day_whatever_their_order(tmp_path: Path) -> None:
    text = "".join(
        f'[[models."m"]]\n{since}input = {price}\noutput = 1\n'
        for since, price in (("from = 2026-06-01\n", 3), ("", 1), ("from = 2026-03-01\n", 2))
    )
    listed = read(tmp_path, text)
    days = {(2026, 2, 28): 1, (2026, 3, 1): 2, (2026, 5, 31): 2, (2026, 6, 1): 3}
    for day, price in days.items():
        rates = listed.rates("m", "standard", dt.datetime(*day, 12, tzinfo=dt.UTC))
        assert rates is not None
        assert rates.input == price


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no prices"),
        ("x = [", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
        (
            "[modles.m]\ninput = 1\noutput = 1",
            "'modles', which is none of version, currency, aliases, models",
        ),
        ("[models.m]\ninput = 1", "models.'m' has no `output`"),
        ("[models.m]\ninput = '1'\noutput = 1", "models.'m'.input = '1' refused"),
        ("[models.m]\ninput = true\noutput = 1", "models.'m'.input = True refused"),
        (
            "[models.m]\ninput = -1\noutput = 1",
            "models.'m'.input = -1 refused; write a price from 0 to 1,000,000",
        ),
        ("[models.m]\ninput = nan\noutput = 1", "models.'m'.input = nan refused; write a price from 0"),
        ("[models.m]\ninput = 1e99\noutput = 1", "refused"),
        ("[models.m]\ninput = 1\noutput = 1\ncahced_input = 1", "'cahced_input', which is none of"),
        ("[models.m]\ninput = 1\noutput = 1\nfrom = 'May'", "write a day such as 2026-03-13"),
        ("[models.m]\ninput = 1\noutput = 1\nabove = 3", "write a list of tables"),
        (
            "[models.m]\ninput = 1\noutput = 1\nabove = [{ input = 1, output = 1 }]",
            "models.'m'.above, entry 1 has no `input_tokens`",
        ),
        (
            "[models.m]\ninput = 1\noutput = 1\nabove = [{ input_tokens = 0, input = 1, output = 1 }]",
            "input_tokens = 0 refused",
        ),
        (
            "[models.claude-sonnet-5.5]\ninput = 1\noutput = 1",
            "put a name with dots in quotes: [models.'claude-sonnet-5.5']",
        ),
        (
            "[models.m]\ninput = 1\noutput = 1\n[[models.m.x.5]]\ninput = 1\noutput = 1",
            "put a name with dots in quotes: [models.'m.x.5']",
        ),
        ("[aliases]\nsonnet-5.5 = 'm'\n" + GOOD, "put a name with dots in quotes: 'sonnet-5.5'"),
        ("[models.m]\ninput = 1\noutput = 1\nbatch = 0.5", "models.'m'.batch = 0.5 refused"),
        (
            "[[models.m]]\ninput = 1\noutput = 1\n[[models.m]]\ninput = 2\noutput = 1",
            "two tables from the same day",
        ),
        ("models = 3", "models = 3 refused; write a table"),
        ("currency = 'Euro'\n" + GOOD, "currency = 'Euro' refused"),
        ("[aliases]\na = 1\n" + GOOD, "aliases.'a' = 1 refused"),
        (b"#" + b" " * price_list.MAX_BYTES, "is larger than"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_place_and_what_to_write(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert "prices.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_price_list(path)


def test_rates_are_decimals_and_a_table_without_a_search_price_prices_no_search() -> None:
    with pytest.raises(ConfigurationError, match=r"rate input=0.1 refused; give a Decimal"):
        Rates(input=0.1, output=Decimal(1))  # type: ignore[arg-type] # a float is what people try first
    table = PriceTable({"m": Rates(input=Decimal(1), output=Decimal(1))}, source="mine")
    searched = Usage(input_tokens=5, raw={"server_tool_use": {"web_search_requests": 1}})
    assert table.cost("m", searched, NOW) is None
    assert table.cost("m", Usage(input_tokens=5), NOW) is not None
