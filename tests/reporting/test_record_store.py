"""A record store: each record is there once, whole and in order, whoever writes it, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import decimal
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError, LogError, RedactionError
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segments_of
from agentkit_reporting.records.store import RecordStore, read_records
from agentkit_reporting.redaction.own_patterns import OwnPattern
from tests.reporting.numbered_lines import note

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-ant-api03-" + "a1B2" * 22 + "-AA"


@attrs.frozen
class Step:
    run_id: str
    step: int
    output: Any = None
    _own: int = 0


class Spent(msgspec.Struct):
    run_id: str
    cost: decimal.Decimal


@dataclasses.dataclass
class Plain:
    name: str


def records(path: Path, **options: Any) -> list[dict[str, Any]]:
    return list(read_records(path, strict=True, **options))


def test_a_record_comes_back_with_its_fields_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "steps.jsonl"
    with RecordStore(path) as store:
        store.append({"z": 1, "a": [1.5, None, True, "ü\u2028"]})
        store.append(Step("r", 1, {"b": b"x"}))
        store.append(Spent("r", decimal.Decimal("0.10")))
        store.append(Plain("p"))
    assert [list(each.items()) for each in records(path)] == [
        [("z", 1), ("a", [1.5, None, True, "ü\u2028"])],
        [("run_id", "r"), ("step", 1), ("output", {"b": {"$bytes": "eA=="}})],
        [("run_id", "r"), ("cost", "0.10")],
        [("name", "p")],
    ]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert str(store.account()) == "complete: 4 of 4"


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), JSONS, max_size=4), max_size=5))
def test_whatever_is_json_comes_back_as_it_was(
    tmp_path_factory: Any, given_records: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "any.jsonl"
    with RecordStore(path, redact=False, fsync="never") as store:
        for each in given_records:
            store.append(each)
    found = records(path) if given_records else []
    assert found == given_records


@pytest.mark.parametrize("bad", [None, 3, "text", [1], Step, {1: "a"}, {"a": 1, None: 2}], ids=repr)
def test_what_is_no_record_is_refused_before_anything_is_written(tmp_path: Path, bad: Any) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(path) as store:
        with pytest.raises(ConfigurationError):
            store.append(bad)
        assert not path.exists()
        store.append({"a": 1})
    assert records(path) == [{"a": 1}]
    assert str(store.account()) == "incomplete: 1 of 2 (1 failed)"


def test_secrets_are_masked_before_anything_is_stored_and_names_of_the_record_stay(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(
        path, redact=["secrets", "personal"], header={"type": "header", "password": "p4ssw0rd!"}
    ) as store:
        store.append(
            {"run_id": "r", "ts": 4111111111111111, "output": {"text": f"key {KEY}", "api_key": "x1y2z3q4"}}
        )
        store.append_numbered(lambda n: {"run_id": "r", "step": n, "output": KEY}, run_id="r")
    text = path.read_text()
    assert "api03-a1B2" not in text
    assert "x1y2z3q4" not in text
    assert "p4ssw0rd!" not in text
    assert records(path)[1]["ts"] == 4111111111111111
    assert store.account().redacted == 2


def test_a_record_that_cannot_be_scrubbed_is_withheld_and_the_error_quotes_nothing_of_it(
    tmp_path: Path,
) -> None:
    class Failing:
        def value(self, value: Any) -> Any:
            raise ValueError(value)

    store = RecordStore(tmp_path / "steps.jsonl", redact=[OwnPattern("own", r"never")])
    store.redactor = Failing()  # type: ignore[assignment] # a pattern cannot be made to fail on purpose
    with pytest.raises(RedactionError) as caught:
        store.append({"a": "secret"})
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None
    assert not (tmp_path / "steps.jsonl").exists()


def test_a_header_begins_each_file_and_each_segment(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    rotation = Rotation(max_bytes=120, compress=None)
    store = RecordStore(path, header={"type": "header", "run": 0}, rotation=rotation)
    for _ in range(2):
        store.close()
        with RecordStore(path, header={"type": "header", "run": 1}, rotation=rotation) as store:
            for number in range(5):
                store.append({"number": number, "text": "x" * 30})
    files = [each.path for each in segments_of(path)] + [path]
    assert len(files) > 3
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [each.get("type") for each in lines] == ["header", *[None] * (len(lines) - 1)]
        assert len(lines) > 1
    assert len(records(path, type="header")) == len(files)
    assert str(store.account()) == "complete: 5 of 5"


def test_a_torn_tail_is_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(path) as store:
        store.append({"a": 1, "inner": {"b": 2}})
    with path.open("ab") as file:
        file.write(b'{"a":2,"inner":{"b":3}')
    with RecordStore(path) as store:
        store.append({"a": 3})
    reader = read_records(path)
    assert [each["a"] for each in reader] == [1, 3]
    assert reader.bad_count == 1
    assert (reader.bad[0].line, reader.paths) == (2, (str(path),))
    with pytest.raises(LogError, match=r":2: not a record"):
        records(path)


@pytest.mark.parametrize(
    "torn",
    [b'{"a":2,"b":"x', b'{"a":2,"b":{"c":1}', b'{"a":2,"t":"odd {', b'{"a"', b'{"a":2,"b":[{"c":1}'],
    ids=["text", "object", "brace", "key", "list"],
)
def test_a_whole_record_glued_behind_a_torn_one_is_found(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_bytes(torn + b'{"a":3,"b":{"c":[{"d":1}]}}\n')
    reader = read_records(path)
    assert (list(reader), reader.bad_count) == ([{"a": 3, "b": {"c": [{"d": 1}]}}], 1)


@pytest.mark.parametrize(
    "line", [b"[1]", b"3", b'{"a":1', b'{"a":{"b":1}', b'{"a":[{"b":1}', b"\xff", b"{" * 5000]
)
def test_a_line_that_is_no_record_gives_none(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_bytes(line + b"\n\n")
    reader = read_records(path)
    assert (list(reader), reader.bad_count) == ([], 1)


def test_records_are_read_by_their_type(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(path) as store:
        for kind in ("a", "b", "c", ["a"]):
            store.append({"type": kind})
    assert [each["type"] for each in records(path, type="b")] == ["b"]
    assert [each["type"] for each in records(path, type=["a", "c"])] == ["a", "c"]


def test_threads_write_every_record_once_and_number_them_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(
        path, header={"type": "header"}, rotation=Rotation(max_bytes=4_000), fsync="never"
    ) as store:

        def write(name: str) -> None:
            for number in range(50):
                store.append({"from": name, "number": number})
                store.append_numbered(lambda step: Step("r", step, name), run_id="r")

        threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = records(path)
    assert [each["step"] for each in found if "step" in each] == [*range(1, 401)]
    plain = Counter((each["from"], each["number"]) for each in found if "from" in each)
    assert (len(plain), set(plain.values())) == (400, {1})
    assert len(segments_of(path)) > 3


WRITER = """
import sys
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.store import RecordStore
path, name, count, max_bytes = sys.argv[1:]
rotation = Rotation(max_bytes=int(max_bytes)) if int(max_bytes) else None
with RecordStore(path, header={"type": "header"}, rotation=rotation, fsync="never") as store:
    for number in range(int(count)):
        store.append({"from": name, "number": number})
        for run in ("shared", name):
            store.append_numbered(lambda step: {"run_id": run, "step": step, "from": name}, run_id=run)
"""


@pytest.mark.parametrize("max_bytes", [0, 20_000], ids=["one_file", "rotating"])
def test_processes_number_without_gaps_in_the_order_of_the_file(tmp_path: Path, max_bytes: int) -> None:
    path, count = tmp_path / "steps.jsonl", 300
    arguments = [[str(path), f"p{number}", str(count), str(max_bytes)] for number in range(4)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, *each], cwd=ROOT) for each in arguments]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = records(path)
    steps: dict[str, list[int]] = {}
    for each in found:
        if "run_id" in each:
            steps.setdefault(each["run_id"], []).append(each["step"])
    assert steps == {"shared": [*range(1, 4 * count + 1)]} | {
        f"p{n}": [*range(1, count + 1)] for n in range(4)
    }
    for name in ("p0", "p1", "p2", "p3"):
        assert [each["number"] for each in found if each.get("from") == name and "number" in each] == [
            *range(count)
        ]
    files = [each.path for each in segments_of(path)] + [path]
    assert len([each for each in found if each.get("type") == "header"]) == len(files)
    assert (len(files) > 3) is bool(max_bytes)


def test_a_process_that_dies_within_its_turn_gives_it_back_and_leaves_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    store = RecordStore(path)
    assert store.append_numbered(lambda n: Step("r", n), run_id="r") == 1
    child = os.fork()
    if not child:
        store.append_numbered(lambda _: os._exit(7), run_id="r")
    assert os.waitpid(child, 0)[1] >> 8 == 7
    assert store.append_numbered(lambda n: Step("r", n), run_id="r") == 2
    with path.open("ab") as file:
        file.write(b'{"run_id":"r","step":3,"outp')  # another process that was cut short
    assert RecordStore(path).append_numbered(lambda n: Step("r", n), run_id="r") == 3
    store.append_numbered(lambda n: Step("r", n), run_id="r")
    store.close()
    assert [each["step"] for each in read_records(path)] == [1, 2, 3, 4]


def test_a_number_whose_record_is_refused_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with RecordStore(path) as store:
        with pytest.raises(ZeroDivisionError):
            store.append_numbered(lambda n: {"step": n // 0}, run_id="r")
        with pytest.raises(ConfigurationError, match="give it step=1 and run_id='r'"):
            store.append_numbered(lambda n: Step("other", n), run_id="r")
        assert store.append_numbered(lambda n: Step("r", n), run_id="r") == 1
        assert store.append_numbered(lambda n: {"s": "x", "n": n}, run_id="x", by="s", field="n") == 1
        assert store.append_numbered(lambda n: Step("r", n), run_id="r") == 2


def test_numbers_go_on_over_packed_and_removed_segments(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    rotation = Rotation(max_bytes=200, keep=2)
    numbers = []
    for _ in range(10):
        with RecordStore(path, rotation=rotation) as store:
            numbers += [store.append_numbered(lambda n: Step("r", n, "x" * 20), run_id="r") for _ in range(5)]
    assert numbers == [*range(1, 51)]
    assert len(segments_of(path)) == 2


def test_a_closed_store_refuses_and_says_so(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "steps.jsonl")
    store.append({"a": 1})
    assert store.flush(5)
    assert store.close(5)
    assert store.close()
    with pytest.raises(LogError, match="closed"):
        store.append({"a": 2})
    with pytest.raises(LogError, match="closed"):
        store.append_numbered(lambda n: Step("r", n), run_id="r")


HOME = """
import sys
from agentkit_reporting import JsonlReporter, read_events
from agentkit_reporting.records.store import RecordStore, read_records
from tests.reporting.numbered_lines import note
with RecordStore("~/steps.jsonl") as store:
    store.append({"a": 1})
for target, options in (("~/run.jsonl", {}), ("~/logs", {"per": "session"})):
    reporter = JsonlReporter(target, **options)
    reporter.handle_event(note(1))
    reporter.close()
print([*read_records("~/steps.jsonl")], len([*read_events(["~/run.jsonl", "~/logs"])]))
"""


def test_a_tilde_is_the_home_directory_for_writers_and_readers(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", HOME],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "[{'a': 1}] 2\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["logs", "run.jsonl", "steps.jsonl"]


def test_records_and_events_may_stand_in_one_directory(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "run.jsonl")
    reporter.handle_event(note(1))
    reporter.close()
    with RecordStore(tmp_path / "steps.jsonl") as store:
        store.append({"a": 1})
    assert len(records(tmp_path)) == 2
    events = read_events(tmp_path)
    assert (len(list(events)), events.bad_count) == (1, 1)
