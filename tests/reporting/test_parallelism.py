"""How many ran at once (BEHAVIOUR.md 68): exact, against counting moment by moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.records.parallelism import MOST_BUCKETS, Interval, peak, peaks_by_bucket

SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda drawn: (drawn[0], drawn[0] + drawn[1])),
    max_size=12,
)


def open_at(spans: list[Interval], moment: int) -> int:
    return sum(start <= moment < end or start == end == moment for start, end in spans)


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([(0, 10)], 1, id="one"),
        pytest.param([(0, 600_000), (400_000, 900_000)], 2, id="overlapping within a second"),
        pytest.param([(0, 10), (10, 20)], 1, id="touching"),
        pytest.param([(5, 5)], 1, id="no length"),
        pytest.param([(0, 10), (5, 5)], 2, id="no length within another"),
        pytest.param([(0, 10), (10, 10)], 1, id="no length at an end"),
        pytest.param([(0, 10), (0, 0)], 2, id="no length at a start"),
        pytest.param([(5, 5), (5, 5)], 2, id="twice no length at once"),
    ],
)
def test_the_peak_is_exact(spans: list[Interval], most: int) -> None:
    assert peak(spans) == most


@given(SPANS)
def test_the_peak_is_the_most_that_are_open_at_any_moment(spans: list[Interval]) -> None:
    assert peak(spans) == max((open_at(spans, moment) for moment in range(60)), default=0)


@given(SPANS, st.integers(1, 20))
def test_each_bucket_has_the_peak_within_it(spans: list[Interval], width: int) -> None:
    found = peaks_by_bucket(spans, width)
    assert [start for start, _ in found] == [
        start for start in range(0, 80, width) if found and found[0][0] <= start <= found[-1][0]
    ]
    for start, concurrent in found:
        assert concurrent == max(open_at(spans, moment) for moment in range(start, start + width))
    outside = [
        moment for moment in range(80) if not found or not found[0][0] <= moment < found[-1][0] + width
    ]
    assert not any(open_at(spans, moment) for moment in outside)
    assert max((concurrent for _, concurrent in found), default=0) == peak(spans)


def test_the_first_and_the_last_bucket_are_not_empty() -> None:
    assert peaks_by_bucket([(10, 20), (30, 40)], 10) == [(10, 1), (20, 0), (30, 1)]


def test_too_many_buckets_are_refused_and_the_width_that_is_named_works() -> None:
    spans = [(0, 10**12)]
    with pytest.raises(ConfigurationError, match="buckets; give at least 1001") as refused:
        peaks_by_bucket(spans, 1)
    least_ms = int(str(refused.value).rsplit(" ", 1)[1])
    assert len(peaks_by_bucket(spans, least_ms * 1_000)) <= MOST_BUCKETS
