"""What a tool's record shows and what it never shows, where it is kept, and that its troubles reach no tool."""

# ruff: noqa: ARG001, ARG002, ARG005 - tools and observers take what they do not look at
from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop import AgentEvent, ConfigurationError, EventEmitter, FailurePolicy, ObserverError
from agentkit_loop.testing import EventRecorder
from agentkit_loop.values import compact_json
from agentkit_reporting import OwnPattern, Rotation, ToolRecord, ToolRecorder, encode_event
from agentkit_reporting.log.segments import segments_of

KEY = "sk-ant-api03-" + "a1B2" * 22 + "-AA"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + ("a1B2" * 16 + "\n") * 25 + "-----END RSA PRIVATE KEY-----\n"
MASK = "[redacted:argument]"


def search(query: str, user: str = "", **more: object) -> str:
    return f"found {query}"


def last(recorder: ToolRecorder) -> ToolRecord:
    return recorder.records()[-1]


def test_a_record_has_the_fields_of_the_seed_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "tools.jsonl"
    with ToolRecorder(store_path=path, session_id="s") as recorder:
        recorder.instrument("search_web", search)("north")
    (told,) = ToolRecorder.read(path, strict=True)
    assert list(told) == [
        "timestamp",
        "tool_name",
        "args",
        "result_preview",
        "latency_ms",
        "status",
        "error",
        "session_id",
        "run_id",
        "call_id",
    ]
    assert dt.datetime.fromisoformat(told["timestamp"]).utcoffset() == dt.timedelta(0)
    assert (told["tool_name"], told["args"], told["result_preview"]) == (
        "search_web",
        {"query": "north"},
        "found north",
    )
    assert (told["status"], told["error"], told["session_id"]) == ("ok", None, "s")
    assert ToolRecord(**told) == last(recorder)
    assert str(recorder.account()) == "complete: 1 of 1"


def test_arguments_are_recorded_as_they_were_when_the_body_began() -> None:
    recorder = ToolRecorder()
    given = [1]
    recorder.instrument("grow", lambda numbers: numbers.append(2))(given)
    assert (given, last(recorder).args, last(recorder).result_preview) == ([1, 2], {"numbers": [1]}, "null")


def test_values_are_shown_in_the_one_documented_form() -> None:
    recorder = ToolRecorder()
    recorder.instrument("any", lambda value: {"$set": {1}, "raw": b"x"})({"$key": b"y"})
    assert last(recorder).args == {"value": {"$$key": {"$bytes": "eQ=="}}}
    assert last(recorder).result_preview == '{"$$set":{"$set":[1]},"raw":{"$bytes":"eA=="}}'


def test_what_can_be_iterated_once_is_not_used_up() -> None:
    class Rows:
        def __init__(self) -> None:
            self.asked = 0

        def __iter__(self) -> Iterator[int]:
            self.asked += 1
            return iter([1])

    recorder, rows = ToolRecorder(), Rows()
    lines = iter(["a"])
    assert recorder.instrument("rows", lambda given: rows)(lines) is rows
    assert (rows.asked, list(lines)) == (0, ["a"])


def test_a_preview_is_bounded_and_says_when_it_is_cut() -> None:
    recorder = ToolRecorder(preview_chars=10)
    recorder.instrument("long", lambda: "x" * 1_000_000)()
    assert last(recorder).result_preview == "x" * 10 + "… [999,990 more characters]"
    recorder.instrument("fits", lambda: "x" * 10)()
    assert last(recorder).result_preview == "x" * 10
    recorder.instrument("value", lambda: list(range(10)))()
    assert last(recorder).result_preview == "[0,1,2,3,4… [11 more characters]"


def test_a_generators_items_are_not_all_kept() -> None:
    recorder = ToolRecorder(preview_chars=20)
    made: Any = recorder.instrument("many", lambda: (str(number) * 10 for number in range(100_000)))()
    assert sum(1 for _ in made) == 100_000
    assert last(recorder).result_preview.startswith('["0000000000","11111… [')


def test_a_long_argument_is_cut_in_its_record() -> None:
    recorder = ToolRecorder()
    recorder.instrument("write", lambda content: None)("x" * 20_000)
    assert last(recorder).args["content"] == "x" * 10_000 + "… [10,000 more characters]"


# --- redaction


def test_secrets_are_masked_before_anything_is_stored_or_told(tmp_path: Path) -> None:
    def fail(query: str, password: str) -> None:
        raise ValueError(f"no {query}")

    path = tmp_path / "tools.jsonl"
    told = EventRecorder()
    with ToolRecorder(path, observers=[told]) as recorder:
        with pytest.raises(ValueError, match="sk-ant"):
            recorder.tool(fail)(KEY, "hunter22")
        assert recorder.tool(search)("x", lang=KEY) == "found x"
        recorder.instrument("echo", lambda: {"token": "abcdefgh12", "text": f"key {KEY}"})()
    for text in (path.read_text(), repr(recorder.records()), repr(told.events)):
        assert "api03" not in text
        assert "hunter22" not in text
        assert "abcdefgh12" not in text


def test_a_secret_that_a_generator_gives_in_pieces_is_masked() -> None:
    recorder = ToolRecorder()
    pieces = [KEY[start : start + 7] for start in range(0, len(KEY), 7)]
    assert "".join(recorder.instrument("type", lambda: (piece for piece in pieces))()) == KEY  # type: ignore[no-untyped-call, unused-ignore] # a lambda
    assert "a1B2a1B2" not in repr(recorder.records())


@pytest.mark.parametrize(
    "item",
    [lambda piece: {"type": "delta", "text": piece}, lambda piece: ["x", {"text": [piece]}]],
    ids=["dict", "nested"],
)
def test_a_secret_in_pieces_is_masked_wherever_the_pieces_stand(item: Any) -> None:
    told = EventRecorder()
    recorder = ToolRecorder(observers=[told])

    def spell() -> Iterator[Any]:
        yield from (item(piece) for piece in KEY)

    assert list(recorder.tool(spell)()) == [item(piece) for piece in KEY]
    for pieces in (last(recorder).result_preview, repr(told.events)):
        assert "sk-ant-[redacted" in pieces
        assert all(f"'{text}'" not in pieces and f'"{text}"' not in pieces for text in KEY if text != "x")


def test_a_secret_in_pieces_is_masked_among_other_items() -> None:
    recorder = ToolRecorder()

    def spell() -> Iterator[Any]:
        yield from ["at ", KEY[:30], 3, KEY[30:]]

    assert list(recorder.tool(spell)()) == ["at ", KEY[:30], 3, KEY[30:]]
    assert last(recorder).result_preview == '["at sk-ant-[redacted:anthropic_key]",3]'


@pytest.mark.parametrize("chars", [20, 500, 4000, 10_000])
@pytest.mark.parametrize(
    "value",
    [PEM * 40, "x" * 4100 + PEM * 3, f"{KEY} " * 3000, [KEY] * 3000, f" {KEY}".encode() * 2000],
    ids=["keys", "text then keys", "short keys", "list", "bytes"],
)
def test_a_secret_where_a_large_value_is_cut_is_masked(chars: int, value: Any) -> None:
    told = EventRecorder()
    recorder = ToolRecorder(observers=[told], preview_chars=chars)
    recorder.instrument("echo", lambda value: value)(value)
    if isinstance(value, str):
        pieces = [{"text": value[at : at + 37]} for at in range(0, len(value), 37)]

        def spell() -> Iterator[Any]:
            yield from pieces

        assert list(recorder.tool(spell)()) == pieces
    shown = repr(told.events) + repr(recorder.records())
    assert "a1B2a1B2" not in shown
    assert base64.b64encode(b"a1B2a1B2a1B2").decode()[4:-4] not in shown


def test_what_is_told_of_a_large_value_is_bounded() -> None:
    told = EventRecorder()
    recorder = ToolRecorder(observers=[told])
    rows = [{"name": f"row {number}", "text": "x" * 100} for number in range(20_000)]
    assert recorder.instrument("echo", lambda rows: rows)(rows) is rows
    assert all(len(encode_event(event)) < 210_000 for event in told.events)
    whole = len(compact_json(rows))
    assert last(recorder).args["rows"].startswith('[{"name":"row 0","text":"xxx')
    output = getattr(told.events[-1], "output", "")
    assert output.endswith(f"… [{whole - 100_000:,} more characters]")


def test_a_value_that_hides_its_class_is_recorded() -> None:
    class Hidden:
        @property  # type: ignore[misc] # hostile on purpose
        def __class__(self) -> Any:
            raise RuntimeError("hidden")

    recorder = ToolRecorder()
    hidden = Hidden()
    assert recorder.instrument("echo", lambda value: value)(hidden) is hidden
    assert (recorder.account().failed, last(recorder).status) == (0, "ok")


def test_a_secret_at_the_end_of_a_preview_is_not_cut_in_two() -> None:
    recorder = ToolRecorder(preview_chars=20)
    recorder.instrument("read", lambda: "key: " + KEY)()
    assert last(recorder).result_preview.startswith("key: sk-ant-[redacte… [")


@pytest.mark.parametrize(
    "allow",
    [["query"], {"search": ["query"]}, ["search.query"], {"*": ["query"], "other": ["user"]}],
    ids=["any tool", "by tool", "dotted", "star"],
)
def test_arguments_that_are_not_allowed_are_masked(allow: Any) -> None:
    told = EventRecorder()
    recorder = ToolRecorder(allow=allow, observers=[told])
    recorder.tool(search)("north", user="ann@example.org", lang="en")
    assert last(recorder).args == {"query": "north", "user": MASK, "more": MASK}
    assert "ann@example.org" not in repr(told.events)


def test_an_allowlist_by_tool_masks_all_of_tools_that_it_does_not_name() -> None:
    recorder = ToolRecorder(allow={"fetch": ["query"]})
    recorder.tool(search)("north")
    assert last(recorder).args == {"query": MASK}


def test_patterns_of_ones_own_and_none_at_all_can_be_chosen() -> None:
    recorder = ToolRecorder(redact=[OwnPattern("order", r"ORD-\d+")])
    recorder.tool(search)("ORD-123")
    assert last(recorder).args == {"query": "[redacted:order]"}
    bare = ToolRecorder(redact=False)
    bare.tool(search)(KEY)
    assert last(bare).args == {"query": KEY}


@pytest.mark.parametrize(
    "options",
    [
        {"allow": "query"},
        {"allow": [1]},
        {"preview_chars": 0},
        {"keep": -1},
        {"rotation": Rotation(max_bytes=1000)},
        {"redact": ["no such rule"]},
    ],
    ids=lambda options: next(iter(options)) + "=" + str(next(iter(options.values())))[:8],
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ToolRecorder(**options)


# --- where records are kept


def test_records_are_rotated_and_read_over_all_segments(tmp_path: Path) -> None:
    path = tmp_path / "tools.jsonl"
    with ToolRecorder(path, rotation=Rotation(max_bytes=1_000, compress=None), keep=3) as recorder:
        for number in range(20):
            recorder.tool(search)(str(number))
    assert len(segments_of(path)) > 2
    assert [each["args"]["query"] for each in ToolRecorder.read(path)] == [str(each) for each in range(20)]
    assert [each.args["query"] for each in recorder.records()] == ["17", "18", "19"]


def test_eight_threads_are_recorded_whole_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tools.jsonl"
    given: list[ToolRecord] = []
    recorder = ToolRecorder(path, on_record=given.append)
    made = recorder.tool(search)

    def work(name: int) -> None:
        for number in range(50):
            made(f"{name} {number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.close()
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [ToolRecord(**each) for each in told] == recorder.records()
    assert len({each["args"]["query"] for each in told}) == len(told) == len(given) == 400
    assert len({each["call_id"] for each in told}) == 400


# --- troubles of the recorder


class Failing:
    def handle_event(self, event: AgentEvent) -> None:
        raise RuntimeError("no")


def test_a_recorder_that_cannot_store_reaches_no_tool(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "gone" / "tools.jsonl"
    recorder = ToolRecorder(path)
    recorder.tool(search)("first")
    (tmp_path / "elsewhere").touch()
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path / "elsewhere")  # no directory any more
    with caplog.at_level(logging.CRITICAL):
        assert [recorder.tool(search)(str(each)) for each in range(3)] == ["found 0", "found 1", "found 2"]
        with pytest.raises(ZeroDivisionError):
            recorder.instrument("divide", lambda: 1 // 0)()


def test_a_failing_observer_a_rule_that_fails_and_an_observer_that_calls_a_tool_reach_no_tool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Exploding:
        def __repr__(self) -> str:
            raise KeyError(KEY)

    assert ToolRecorder(observers=[Failing()]).tool(search)("a") == "found a"
    emitter = EventEmitter()
    recorder = ToolRecorder(emitter=emitter)
    made = recorder.tool(search)
    inside: list[str] = []
    emitter.add_observer(lambda event: inside.append(made("inside")) if len(inside) < 1 else None)
    assert made("outside") == "found outside"
    assert inside == ["found inside"]
    assert [each.args["query"] for each in recorder.records()] == ["outside"]
    assert recorder.account().failed == 1
    assert recorder.instrument("odd", lambda value: value)(3) == 3
    with pytest.raises(ValueError, match="odd"):
        ToolRecorder().instrument("odd", lambda value: (_ for _ in ()).throw(ValueError("odd")))(Exploding())
    assert "api03" not in caplog.text


def test_fail_fast_is_the_one_choice_by_which_a_tools_result_gives_way() -> None:
    recorder = ToolRecorder(observers=[Failing()], policy=FailurePolicy.FAIL_FAST)
    with pytest.raises(ObserverError):
        recorder.tool(search)("a")


def test_a_closed_recorder_lets_functions_go_on(tmp_path: Path) -> None:
    recorder = ToolRecorder(tmp_path / "tools.jsonl")
    made = recorder.tool(search)
    made("a")
    assert recorder.close()
    assert recorder.close()
    assert made("b") == "found b"
    assert len(recorder.records()) == 1
