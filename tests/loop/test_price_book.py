"""What the tables say of a request, under every name, way and day; nothing is fetched."""

from __future__ import annotations

import datetime as dt
import decimal
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price, data_snapshot
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.price_book import MAX_NAME, PriceBook
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
BOOK = PriceBook()
MILLION = 1_000_000
EACH = Usage(
    input_tokens=MILLION,
    cached_input_tokens=MILLION,
    cache_write_input_tokens=2 * MILLION,
    cache_write_1h_input_tokens=MILLION,
    output_tokens=MILLION,
)
ANTHROPIC = next(p for p in data_snapshot.get_snapshot().providers if p.id == "anthropic")
counts = st.integers(0, 400_000)


def cost(model: str, usage: Usage, at: dt.datetime = NOW, book: PriceBook = BOOK) -> Decimal | None:
    priced = book.cost(model, usage, at)
    return None if priced is None else priced.amount


def with_raw(usage: Usage, **raw: JSON) -> Usage:
    return Usage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        cache_write_1h_input_tokens=usage.cache_write_1h_input_tokens,
        output_tokens=usage.output_tokens,
        raw=raw,
    )


def test_a_cost_has_each_component_its_source_and_the_moment_of_its_prices() -> None:
    usage = with_raw(EACH, server_tool_use={"web_search_requests": 3, "web_fetch_requests": 9})
    priced = BOOK.cost("claude-opus-4-5", usage, NOW)
    assert priced is not None
    assert priced.components == {
        "input": Decimal(5),
        "cached_input": Decimal("0.5"),
        "cache_write": Decimal("6.25"),
        "cache_write_1h": Decimal(10),
        "output": Decimal(25),
        "web_search": Decimal("0.03"),
    }
    assert priced.amount == sum(priced.components.values())
    assert priced.currency == "USD"
    assert priced.source.startswith("genai-prices 0.")
    assert priced.priced_at == NOW


@given(
    st.sampled_from([model for model in ANTHROPIC.models if not isinstance(model.prices, list)]),
    st.tuples(counts, counts, counts, counts, counts),
)
def test_every_cost_equals_what_the_tables_own_calculator_says(
    model: object, tokens: tuple[int, ...]
) -> None:
    fresh, cached, short, long, output = tokens
    name = str(getattr(model, "id")).removesuffix("-latest")  # noqa: B009 - the strategy's type is erased
    rates = BOOK.rates(name, NOW)
    assert rates is not None
    if rates.cached_input is None:
        cached = 0
    if rates.cache_write is None:
        short = long = 0
    if rates.cache_write_1h is None:
        long = 0
    theirs = calc_price(
        TheirUsage(
            input_tokens=fresh + cached + short + long,
            cache_read_tokens=cached,
            cache_write_tokens=short + long,
            cache_write_1h_tokens=long,
            output_tokens=output,
        ),
        name,
        provider_id="anthropic",
        genai_request_timestamp=NOW,
    )
    ours = Usage(
        input_tokens=fresh,
        cached_input_tokens=cached,
        cache_write_input_tokens=short + long,
        cache_write_1h_input_tokens=long,
        output_tokens=output,
    )
    assert cost(name, ours) == theirs.total_price


def test_all_tokens_of_a_long_request_have_the_rates_of_long_ones() -> None:
    at, above = (
        Usage(input_tokens=100_000, output_tokens=1_000),
        Usage(input_tokens=1, cached_input_tokens=100_000, output_tokens=1_000),
    )
    assert cost("claude-haiku-5-5", at) == Decimal("0.0105")
    assert cost("claude-haiku-5-5", above) == Decimal("0.0000005") + Decimal("0.005") + Decimal("0.0025")


def test_a_request_is_priced_at_its_own_time() -> None:
    long = Usage(input_tokens=300_000)
    before, after = dt.datetime(2026, 3, 12, 23, 59, tzinfo=dt.UTC), dt.datetime(2026, 3, 13, tzinfo=dt.UTC)
    assert cost("claude-opus-4-6", long, before) == 3
    assert cost("claude-opus-4-6", long, after) == Decimal("1.5")
    east = dt.timezone(dt.timedelta(hours=5))
    assert cost("claude-opus-4-6", long, dt.datetime(2026, 3, 13, 1, tzinfo=east)) == 3  # the 12th in UTC


def test_a_batch_costs_half_of_every_token_and_the_whole_of_every_search() -> None:
    batch = with_raw(EACH, service_tier="batch", server_tool_use={"web_search_requests": 100})
    assert cost("claude-sonnet-5", batch) == Decimal(1 + 5 + 2) + Decimal("1.25") + Decimal("0.1") + 1
    early = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)  # before the day from which the tables list batch prices
    assert cost("claude-sonnet-4-5", with_raw(Usage(input_tokens=1_000), service_tier="batch"), early) == (
        Decimal("0.0015")
    )


def test_fast_requests_have_their_own_price_or_none() -> None:
    fast = with_raw(Usage(input_tokens=MILLION, output_tokens=MILLION), speed="fast")
    assert cost("claude-opus-5", fast) == 60
    assert cost("claude-sonnet-5", fast) is None  # nobody says what it costs
    assert cost("claude-opus-5", with_raw(EACH, speed="fast", service_tier="batch")) is None


def test_inference_in_the_us_alone_costs_a_tenth_more() -> None:
    usage = Usage(input_tokens=MILLION)
    there = with_raw(usage, inference_geo="us", server_tool_use={"web_search_requests": 1})
    assert cost("claude-opus-5", there) == Decimal("5.5") + Decimal("0.01")
    assert cost("claude-opus-5", with_raw(usage, inference_geo="global")) == 5
    priced = BOOK.cost("claude-opus-5", there, NOW)
    assert priced is not None
    assert "us inference" in priced.source


@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4-5",
        "Claude-Sonnet-4-5",
        " claude-sonnet-4-5 ",
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5-2025-09-29",
        "claude-sonnet-4-5@20250929",
        "claude-sonnet-4-5-latest",
        "claude-sonnet-4-5[1m]",
        "anthropic/claude-sonnet-4-5",
        "litellm_proxy/claude-sonnet-4-5-20250929",
    ],
)
def test_a_name_is_known_with_prefixes_dates_and_in_any_case(name: str) -> None:
    assert cost(name, Usage(input_tokens=MILLION // 10)) == Decimal("0.3")


def test_a_resellers_prefix_has_the_resellers_price() -> None:
    assert cost("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(input_tokens=100_000)) == Decimal(
        "0.33"
    )


@pytest.mark.parametrize(
    "name", ["llama3", "qwen3:8b", "gpt-5", "no-such-model", "claude", "x" * (MAX_NAME + 1), ""]
)
def test_a_local_or_unknown_model_has_no_price_instead_of_someones(name: str) -> None:
    assert cost(name, EACH) is None


def test_unknown_counts_have_no_cost_and_zero_tokens_cost_zero() -> None:
    assert cost("claude-opus-5", Usage()) is None
    assert cost("claude-opus-5", Usage(input_tokens=0, output_tokens=0)) == 0


def test_a_compaction_is_priced_by_its_own_length() -> None:
    def step(kind: str, tokens: int, **more: JSON) -> dict[str, JSON]:
        return {"type": kind, "input_tokens": tokens, "output_tokens": 0, **more}

    whole = Usage(input_tokens=180_000, output_tokens=0)
    listed = with_raw(whole, iterations=[step("compaction", 90_000), step("message", 90_000)])
    assert cost("claude-haiku-5-5", listed) == Decimal("0.018")  # neither is above 100,000 by itself
    assert cost("claude-haiku-5-5", whole) == Decimal("0.09")
    advised = with_raw(whole, iterations=[step("advisor_message", 80_000, model="claude-opus-5")])
    priced = BOOK.cost("claude-haiku-5-5", advised, NOW)
    assert priced is not None
    assert priced.components == {"input:claude-opus-5": Decimal("0.4"), "input": Decimal("0.01")}
    unknown = with_raw(whole, iterations=[step("advisor_message", 80_000, model="someone-elses")])
    assert cost("claude-haiku-5-5", unknown) is None
    foreign = with_raw(whole, iterations=[step("message", 10_000_000), "odd", {"input_tokens": -1}])
    assert cost("claude-haiku-5-5", foreign) == cost("claude-haiku-5-5", whole)


@pytest.mark.parametrize(
    "raw",
    [
        {"server_tool_use": None},
        {"server_tool_use": {"web_search_requests": "3"}},
        {"server_tool_use": {"web_search_requests": -3}},
        {"iterations": None},
        {"iterations": {"type": "message"}},
        {"service_tier": 7, "speed": None, "inference_geo": ["us"]},
    ],
)
def test_a_usage_object_of_odd_shape_is_priced_by_its_counts(raw: dict[str, JSON]) -> None:
    assert cost("claude-opus-5", with_raw(Usage(input_tokens=MILLION), **raw)) == 5


def test_more_one_hour_writes_than_writes_is_billed_once() -> None:
    odd = Usage(cache_write_input_tokens=10, cache_write_1h_input_tokens=MILLION)
    assert cost("claude-opus-5", odd) == 10


def test_a_hosts_decimal_context_changes_no_amount() -> None:
    usage = Usage(input_tokens=123_456_789, output_tokens=987_654_321)
    plain = cost("claude-sonnet-5-5", usage)
    with decimal.localcontext(prec=3):
        assert cost("claude-sonnet-5-5", usage) == plain


def test_a_list_of_ones_own_wins_and_the_tables_know_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        'version = "may"\n[aliases]\n"fast" = "claude-haiku-5-5"\n[models."claude-opus-5"]\ninput = 0.5\noutput = 1\n'
    )
    book = PriceBook(path)
    for name in ("claude-opus-5", "anthropic/claude-opus-5", "claude-opus-5-20260101"):
        priced = book.cost(name, Usage(input_tokens=MILLION), NOW)
        assert priced is not None
        assert priced.amount == Decimal("0.5")
        assert priced.source.startswith("prices.toml may sha256:")
    assert cost("claude-sonnet-5", Usage(input_tokens=MILLION), book=book) == 2
    assert cost("fast", Usage(input_tokens=1_000), book=book) == Decimal("0.0001")


def test_an_alias_that_led_to_the_tables_is_told_in_the_source(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'version = 2026\n[aliases]\nquick = "claude-haiku-5-5"\nmine = "m"\n[models.m]\ninput = 1\noutput = 1\n'
    )
    book = PriceBook(path)
    sources = {}
    for name in ("quick", "claude-haiku-5-5", "mine"):
        priced = book.cost(name, Usage(input_tokens=1), NOW)
        assert priced is not None
        sources[name] = priced.source
    tables = sources["claude-haiku-5-5"]
    assert "alias" not in tables
    assert " as " not in tables
    assert sources["quick"].startswith(f"{tables}, as claude-haiku-5-5 by own.toml 2026 sha256:")
    assert sources["mine"].startswith("own.toml 2026 sha256:")


@pytest.mark.parametrize("model", ["no-such-model", "quick"])
def test_an_alias_of_a_model_that_nobody_knows_is_refused_when_the_book_is_loaded(
    tmp_path: Path, model: str
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'[aliases]\nquick = "claude-haiku-5-5"\nwise = "{model}"\n')
    book = PriceBook(path)
    assert cost("wise", EACH, book=book) is None  # a run goes on; what it used can be priced later
    with pytest.raises(
        ConfigurationError, match=rf"aliases.'wise' = '{model}' of own.toml .* refused; write"
    ):
        book.load()
    path.write_text('[aliases]\nquick = "claude-haiku-5-5"\nmine = "m"\n[models.m]\ninput = 1\noutput = 1\n')
    PriceBook(path).load()


def test_a_book_may_be_asked_by_many_threads_at_once() -> None:
    book = PriceBook()
    found: list[Decimal | None] = []

    def ask() -> None:
        found.extend(
            cost(f"claude-opus-5-2026010{n % 9 + 1}", Usage(input_tokens=MILLION), book=book)
            for n in range(200)
        )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Decimal(5)] * 1_600


def test_a_model_that_declined_before_it_spoke_is_not_billed() -> None:
    steps: list[JSON] = [
        {"type": "message", "model": "claude-opus-5", "input_tokens": 90_000, "output_tokens": 0},
        {
            "type": "fallback_message",
            "model": "claude-haiku-5-5",
            "input_tokens": 90_000,
            "output_tokens": 10,
        },
    ]
    served = with_raw(Usage(input_tokens=90_000, output_tokens=10), iterations=steps)
    assert cost("claude-haiku-5-5", served) == cost(
        "claude-haiku-5-5", Usage(input_tokens=90_000, output_tokens=10)
    )
    spoke = [{**steps[0], "output_tokens": 5}, steps[1]]
    both = with_raw(Usage(input_tokens=180_000, output_tokens=15), iterations=spoke)
    priced = BOOK.cost("claude-haiku-5-5", both, NOW)
    assert priced is not None
    assert priced.components["input:claude-opus-5"] == Decimal("0.45")


def test_one_hour_writes_are_billed_once_where_the_samplings_do_not_split_theirs() -> None:
    split: dict[str, JSON] = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1_000}
    step = {"type": "message", "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 1_000}
    usage = Usage(
        input_tokens=10, cache_write_input_tokens=1_000, cache_write_1h_input_tokens=1_000, output_tokens=5
    )
    whole = cost("claude-sonnet-5", usage)
    for entry in (step, {**step, "cache_creation": None}, {**step, "cache_creation": split}):
        assert cost("claude-sonnet-5", with_raw(usage, iterations=[entry])) == whole == Decimal("0.00407")
    assert cost("claude-sonnet-5", with_raw(usage, iterations=[{"type": ["x"]}])) == whole


def test_a_reseller_bills_what_it_has_no_cache_price_for_as_input() -> None:
    cached = Usage(input_tokens=10_000, cached_input_tokens=100_000, output_tokens=0)
    provider = next(p for p in data_snapshot.get_snapshot().providers if p.id == "avian")
    model = next(m for m in provider.models if getattr(m.prices, "cache_read_mtok", None) is None)
    theirs = calc_price(
        TheirUsage(input_tokens=110_000, cache_read_tokens=100_000),
        model.id,
        provider_id="avian",
        genai_request_timestamp=NOW,
    )
    assert cost(f"avian/{model.id}", cached) == theirs.total_price


def test_prices_by_the_time_of_day_depend_on_no_order_of_questions() -> None:
    night, noon = NOW.replace(hour=20), NOW.replace(hour=12)
    usage = Usage(input_tokens=MILLION, output_tokens=MILLION)
    forth = [cost("deepseek/deepseek-chat", usage, at, PriceBook()) for at in (night, noon)]
    book = PriceBook()
    back = [cost("deepseek/deepseek-chat", usage, at, book) for at in (noon, night)]
    assert forth == back[::-1]
    assert forth[0] != forth[1]


def test_a_priority_request_has_the_price_of_ones_own_list_or_none(tmp_path: Path) -> None:
    bought = with_raw(Usage(input_tokens=MILLION), service_tier="priority")
    assert cost("claude-opus-5", bought) is None
    path = tmp_path / "prices.toml"
    rates = "input = 1\noutput = 1\npriority = { input = 3, output = 3 }\n"
    path.write_text(f'[models."claude-opus-5"]\n{rates}')
    assert cost("claude-opus-5", bought, book=PriceBook(path)) == 3
