"""Whose turn it is at a log: a process that keeps it holds nobody up for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_reporting.log.turns import Turn
from agentkit_reporting.records.store import RecordStore, read_records


def test_a_turn_that_is_held_for_too_long_is_refused_until_it_is_given_back(tmp_path: Path) -> None:
    other = Turn(tmp_path / "steps.jsonl", longest_wait_s=0.02)
    with Turn(tmp_path / "steps.jsonl").taken():
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"holds the turn for more than 0\.02 s"), other.taken():
                raise AssertionError
    with other.taken():
        assert other is not None
    other.close()


def test_numbers_go_on_from_what_others_wrote_before_and_after_the_file_was_read_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "steps.jsonl"

    def make(step: int) -> dict[str, object]:
        return {"run_id": "a", "step": step}

    with RecordStore(path) as one, RecordStore(path) as two:
        given = [store.append_numbered(make, run_id="a") for store in (one, one, two, one, two)]
    assert given == [1, 2, 3, 4, 5]
    assert [each["step"] for each in read_records(path)] == given
