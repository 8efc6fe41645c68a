"""`agentkit cache`: what it prints, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentkit_loop.usage import Usage
from tests.cli.cache_samples import HELD, LOST, Conversation, used, write_all, write_missed, write_resumed
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.test_command_line import agentkit

OUTPUTS = {
    "cache.txt": ("cache", "breaks.jsonl"),
    "cache_colour.txt": ("cache", "breaks.jsonl"),
    "cache.md": ("cache", "--markdown", "breaks.jsonl"),
    "cache_many.txt": ("cache", "many.jsonl"),
    "cache_one.txt": ("cache", "--session", "unknown", "many.jsonl"),
}


def make(folder: Path) -> None:
    """Write a log of a session for each cause, and one of more sessions than are told request by request."""
    write_all(folder / "breaks.jsonl")
    many = folder / "many.jsonl"
    write_all(many)
    write_resumed(many, "model-1", model="claude-opus-5")
    write_resumed(many, "of-an-unknown", usage=None, system="Be brief.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "arguments"), OUTPUTS.items(), ids=OUTPUTS)
def test_the_output_is_as_it_was(folder: Path, name: str, arguments: Sequence[str]) -> None:
    check_golden(name, arguments, folder)


def test_json_tells_every_request_and_amounts_as_text(folder: Path) -> None:
    told = json.loads(agentkit("cache", "--json", "many.jsonl", cwd=folder).stdout)
    sessions = {session["session_id"]: session for session in told["sessions"]}
    broken = sessions["tools-1"]["requests"][2]
    assert broken["causes"] == [{"what": "tools", "by": "", "detail": "+search", "item": None}]
    assert (broken["lost_tokens"], float(broken["lost_cost"])) == (2_300, 0.007935)
    assert isinstance(broken["lost_cost"], str)
    unknown = sessions["of-an-unknown"]["requests"][2]
    assert (unknown["lost_tokens"], unknown["lost_cost"], unknown["cached_tokens"]) == (None, None, None)
    assert told["totals"]["breaks"] == 7


def test_a_loss_above_the_bound_fails(folder: Path) -> None:
    def exit_code(*arguments: str) -> int:
        return agentkit("cache", *arguments, cwd=folder).returncode

    assert exit_code("breaks.jsonl") == 0
    assert exit_code("--max-lost", "2300", "--session", "gap-1", "breaks.jsonl") == 0
    assert exit_code("--max-lost", "2299", "--session", "gap-1", "breaks.jsonl") == 1
    named = agentkit("cache", "--max-lost", "2299", "--session", "gap-1", "breaks.jsonl", cwd=folder).stderr
    assert "gap-1 turn-3 request-3 (fixer, 2026-05-24T" in named
    assert "2,300 tokens lost, above --max-lost 2,299: time to live: past 5m" in named
    unknown = agentkit("cache", "--max-lost", "0", "--session", "unknown", "many.jsonl", cwd=folder)
    assert unknown.returncode == 0
    assert "1 break lost nobody knows how many tokens" in unknown.stderr


def test_what_nobody_told_is_a_question_mark_with_its_reason(tmp_path: Path) -> None:
    Conversation(tmp_path / "a.jsonl", "quiet").begin(*[Usage(input_tokens=100, output_tokens=1)] * 3)
    shown = agentkit("cache", "a.jsonl", cwd=tmp_path).stdout
    assert "3 requests: ? of the input from the cache (3 told nothing of it)" in shown
    assert "? of 2 requests: what was read from the cache was not told" in shown
    assert "0.0%" not in shown
    assert "saved" not in shown
    assert (
        json.loads(agentkit("cache", "--json", "a.jsonl", cwd=tmp_path).stdout)["totals"]["cached_share"]
        is None
    )


def test_a_long_session_shows_what_broke_and_all_on_demand(tmp_path: Path) -> None:
    usages = [*HELD, *[used(2_300, 0, 10)] * 40, LOST]
    Conversation(tmp_path / "a.jsonl", "long").begin(*usages)
    brief = agentkit("cache", "a.jsonl", cwd=tmp_path).stdout
    assert "42 requests more; --all shows them" in brief
    assert brief.count("request-") == 2  # its row, and what is said of it
    whole = agentkit("cache", "--all", "a.jsonl", cwd=tmp_path).stdout
    assert whole.count("held") == 41 + 1  # and what the cache held, in the words


def test_a_session_that_is_not_there_and_a_foreign_file_are_one_sentence(tmp_path: Path) -> None:
    write_missed(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"a":1}\n')
    missing = agentkit("cache", "--session", "zzz", "a.jsonl", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no request of a session that ends with zzz in a.jsonl" in missing.stderr
    foreign = agentkit("cache", "b.jsonl", cwd=tmp_path)
    assert (foreign.returncode, foreign.stdout) == (1, "")
    assert agentkit("cache", "--json", "--markdown", "a.jsonl", cwd=tmp_path).returncode == 2


def test_names_of_a_log_control_no_terminal_and_no_page(tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07[red]|x"
    write_resumed(tmp_path / "a.jsonl", "s", model=hostile, name=hostile)
    for options in ((), ("--markdown",)):
        shown = agentkit("cache", *options, "a.jsonl", cwd=tmp_path).stdout
        assert "\x1b" not in shown
        assert "owned" in shown


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
