"""A log that was edited after it was written: the digests of its requests tell it, and never a log that was not."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop import Agent, Compaction, DropReasoning, Item, KeepRecent, SummariseOlder, tool
from agentkit_loop.digest import MessageChain
from agentkit_loop.models.scripted import AnyReply, Reply, ScriptedCall, ScriptedModel
from agentkit_reporting import JsonlReporter, Redactor, read_events
from agentkit_reporting.codec import encode_event
from agentkit_reporting.conformance.check import check_log
from agentkit_reporting.conformance.digests import MessageDigests, Step, body_of
from tests.loop.scripts import Script, run_sync, scripts

KEY = "sk-ant-api03-" + "Ab1" * 31 + "AA"


@tool
def pay(amount: int, to: str) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


def asking(number: int) -> Reply:
    return Reply(text="I pay", calls=(ScriptedCall(name="pay", input={"amount": 20 + number, "to": "ann"}),))


def agent(path: Path, replies: Sequence[AnyReply], **options: Any) -> Agent:
    log = JsonlReporter(path, **{"redact": False, **options.pop("log", {})})
    fixed: dict[str, Any] = {"tools": [pay], "system": "be kind", "parameters": {"temperature": 1.5}}
    return Agent(ScriptedModel(replies), observers=[log], **fixed, **options)


def written(path: Path, *, first: str = "hello", **options: Any) -> Path:
    """Write a log of two runs of one session, the second resumed; with items from before, calls and settings."""
    before = [Item.user("long ago"), Item.assistant("it was")]
    replies: list[AnyReply] = [asking(0), asking(1), "done", "nothing more"]
    with agent(path, replies, **options) as first_agent, first_agent.start(items=before) as driver:
        driver.run(first)
        driver.run("and now?")
    with agent(path, ["bye"], **options) as again, again.resume(list(read_events(path))) as driver:
        driver.run("and then?")
    return path


def texts(path: Path) -> list[str]:
    return [fault.text for fault in check_log(path).faults]


def edited(path: Path, old: str, new: str) -> Path:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    return path


EDITS = {
    "an item from before": ("long ago", "years ago"),
    "input": ('"text":"hello"', '"text":"hallo"'),
    "what a tool gave": ("paid 20 to ann", "paid 2000 to ann"),
    "what it gave, as a number": ('"output":"paid 21 to ann"', '"output":21'),
    "an answer": ('"text":"done"}', '"text":"gone"}'),
    "the arguments of a call": ('"amount":20', '"amount":19'),
    "the system prompt": ('"system":"be kind"', '"system":"be rude"'),
    "the description of a tool": ("Pay somebody.", "Pay nobody."),
    "a parameter": ('"temperature":1.5', '"temperature":0.5'),
    "input of the first run, which is seen after a resume": ("and now?", "and how?"),
}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("deltas", ["all", "none"])
def test_an_edit_that_keeps_every_other_rule_is_told(tmp_path: Path, old: str, new: str, deltas: str) -> None:
    path = written(tmp_path / "run.jsonl", log={"deltas": deltas})
    assert texts(path) == []
    found = texts(edited(path, old, new))
    assert len(found) >= 1
    assert all(text.endswith("the log was edited after it was written") for text in found)


def test_an_edit_is_told_once_at_the_first_request_that_sent_something_else(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "run.jsonl"), "paid 20 to ann", "paid 2000 to ann")
    (fault,) = check_log(path).faults
    events = [event for event in read_events(path) if event.type == "model_request_started"]
    assert (fault.seq, fault.type) == (events[1].seq, "model_request_started")
    assert fault.text == "does not fit the transcript before it; the log was edited after it was written"


COMPACTIONS = {
    "the newest items": Compaction(strategy=KeepRecent(items=2), max_items=4),
    "items that lost something in their place": Compaction(strategy=DropReasoning(), max_items=2),
    "a summary before the newest": Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
}


@pytest.mark.parametrize("compaction", COMPACTIONS.values(), ids=COMPACTIONS)
def test_what_a_compaction_keeps_is_judged_in_its_new_place(tmp_path: Path, compaction: Compaction) -> None:
    path = tmp_path / "run.jsonl"
    reasoned = [Reply(text=f"answer {n}", reasoning="well", signature="s") for n in range(9)]
    with agent(path, reasoned, compaction=compaction) as talker, talker.start() as driver:
        for n in range(5):
            driver.run(f"question {n}")
    kinds = [event.type for event in read_events(path)]
    assert "compaction_finished" in kinds[: -kinds[::-1].index("model_request_started")]
    assert texts(path) == []
    assert texts(edited(path, '"text":"question 3"', '"text":"question 7"')) != []


def test_an_edited_summary_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    compaction = Compaction(strategy=SummariseOlder(keep_items=2), max_items=3)
    with (
        agent(path, ["one", "two", "the story", "three"], compaction=compaction) as talker,
        talker.start() as driver,
    ):
        for n in range(3):
            driver.run(f"question {n}")
    assert texts(path) == []
    assert texts(edited(path, "the story", "the glory")) != []


def test_what_is_no_longer_held_is_believed_from_the_next_request_on() -> None:
    items = [Item.user("x" * 3_000_000 + str(number)) for number in range(4)]
    ours, theirs = MessageDigests(), MessageChain()
    for item in items:
        ours.join(body_of(item.kind, item.parts))
    assert ours.of_all() == theirs.of(items)
    ours.plan([(0, 1), (2, 4)])  # the third is forgotten by now
    assert not ours.is_known
    kept = [items[0], *items[2:]]
    ours.believe(theirs.of(kept))
    kept.append(Item.user("small"))
    ours.join(body_of("user", kept[-1].parts))
    assert ours.is_known
    assert ours.of_all() == theirs.of(kept)


@given(data=st.data())
def test_the_chain_is_the_loops_own_whatever_compactions_keep(data: st.DataObject) -> None:
    ours, theirs = MessageDigests(), MessageChain()
    items: list[Item] = []
    for number in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()) and items:
            cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), min_size=2, max_size=6)))
            ranges = list(zip(cuts[::2], cuts[1::2], strict=False))
            new = Item.user(f"new {number}")
            place = data.draw(st.integers(0, len(ranges)))
            steps: list[Step] = [*ranges[:place], body_of(new.kind, new.parts), *ranges[place:]]
            ours.plan(steps)
            before = [item for first, end in ranges[:place] for item in items[first:end]]
            items = [*before, new, *(item for first, end in ranges[place:] for item in items[first:end])]
        else:
            items.append(Item.user(f"item {number}"))
            ours.join(body_of("user", items[-1].parts))
        if data.draw(st.booleans()):
            assert ours.of_all() == MessageChain().of(items) == theirs.of(items)
    assert ours.of_all() == MessageChain().of(items) == theirs.of(items)


# --- what cannot be judged is not


def test_masked_sessions_are_not_judged_by_their_texts(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", first=f"my key is {KEY}", log={"redact": True})
    assert KEY not in path.read_text()
    found = check_log(path)
    assert ([str(fault) for fault in found.faults], found.sessions[0].redactions > 0) == ([], True)


def test_a_log_that_says_more_than_is_known_here_is_not_judged_by_its_texts(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "run.jsonl"), "long ago", "years ago")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(json.dumps(json.loads(line) | {"v": 2}) for line in lines))
    found = check_log(path)
    assert (found.newer_version, [str(fault) for fault in found.faults]) == (2, [])


def test_a_session_with_a_fault_before_it_is_not_judged_by_its_texts(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12] + lines[14:]))
    assert not any("edited" in text for text in texts(path))


@given(script=scripts)
@settings(deadline=None, max_examples=60)
def test_no_log_of_a_run_is_called_edited(script: Script) -> None:
    events = run_sync(script).events
    for redactor in (None, Redactor(["secrets", "personal"])):
        told = [event if redactor is None else redactor.event(event) for event in events]
        log = io.BytesIO(b"".join(encode_event(event) + b"\n" for event in told))
        assert [str(fault) for fault in check_log(log).faults] == []
