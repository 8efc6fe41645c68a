"""How many things ran at once: a sweep over their starts and ends, exact to the microsecond.

An interval holds its start and not its end, so that two that touch do not overlap; one of no length holds its one
moment. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentkit_loop.errors import ConfigurationError

MOST_BUCKETS = 1_000_000
"""Buckets that are made at most."""

Interval = tuple[int, int]
"""Start and end, microseconds since 1970; the end is not before the start."""

_END, _START, _END_OF_MOMENT = range(3)  # in the order in which they happen at one moment


def changes(intervals: Iterable[Interval]) -> Iterator[tuple[int, int]]:
    """Yield each moment at which the number of open intervals changes, and the number, in order.

    A moment comes more than once where intervals of no length end there: first with them, then without.
    """
    marks: list[tuple[int, int]] = []
    for start, end in intervals:
        marks.append((start, _START))
        marks.append((end, _END if end > start else _END_OF_MOMENT))
    marks.sort()
    level = 0
    for place, (moment, kind) in enumerate(marks):
        level += 1 if kind == _START else -1
        if place + 1 == len(marks) or marks[place + 1] != (moment, kind):
            yield moment, level


def peak(intervals: Iterable[Interval]) -> int:
    """Return the highest number of intervals that were open at one moment; 0 without any."""
    return max((level for _, level in changes(intervals)), default=0)


def peaks_by_bucket(intervals: Iterable[Interval], width_us: int) -> list[tuple[int, int]]:
    """Return the start of each bucket and the peak within it, from the first interval to the last.

    Buckets begin at multiples of their width since 1970 and hold their start and not their end; those in which
    nothing ran are there, with 0. Raises ConfigurationError where they would be more than MOST_BUCKETS.
    """
    spans = list(intervals)
    if not spans:
        return []
    first = min(start for start, _ in spans) // width_us
    # The bucket of an end that is not held itself is the one before, where it falls on a border.
    last = max(max(start, end - 1) for start, end in spans) // width_us
    number = last - first + 1
    if number > MOST_BUCKETS:
        least_us = number * width_us // (MOST_BUCKETS - 1) + 1  # one bucket less: where they begin moves too
        raise ConfigurationError(
            f"bucket_ms={width_us / 1_000:g} refused because it makes {number:,} buckets; give at least "
            f"{-(-least_us // 1_000)}"
        )
    peaks = [0] * number
    level, at = 0, 0  # since the last change, and in which bucket that was
    for moment, now in changes(spans):
        place = moment // width_us - first
        if level and place > at:  # that of the last change knows of it
            # It was open up to this moment: in all buckets between, and in this one unless it begins here.
            upto = place if moment % width_us else place - 1
            for bucket in range(at + 1, min(upto, number - 1) + 1):
                peaks[bucket] = max(peaks[bucket], level)
        level, at = now, place
        if place < number:
            peaks[place] = max(peaks[place], level)
    return [((first + place) * width_us, each) for place, each in enumerate(peaks)]


__all__ = ["MOST_BUCKETS", "Interval", "changes", "peak", "peaks_by_bucket"]
