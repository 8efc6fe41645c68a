"""Remote storage: every segment arrives, whatever goes wrong meanwhile, and nothing goes here before it is there."""

from __future__ import annotations

import http.server
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.testing import VirtualClock
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.objects import objects_at
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.remote import Uploads
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segments_of
from agentkit_reporting.log.spool import spooled
from agentkit_reporting.log.uploaded import note_path
from agentkit_reporting.records.store import RecordStore, read_records
from tests.reporting.numbered_lines import note
from tests.reporting.s3_server import SECRET, S3Server, s3, use_s3

__all__ = ["s3", "use_s3"]

ROOT = Path(__file__).parent.parent.parent
SMALL = Rotation(max_bytes=200, keep=2)
_buckets = iter(range(1_000))


class Place:
    """A remote storage, looked at from outside."""

    def __init__(self, url: str, server: S3Server | None) -> None:
        self.url = url
        self._server = server
        self._bucket = url.split("/")[2]

    def names(self) -> list[str]:
        if self._server is None:
            directory = Path(self.url.removeprefix("file://"))
            return sorted(each.name for each in directory.iterdir()) if directory.exists() else []
        return [name.removeprefix("pre/fix/") for name in self._server.names(self._bucket)]

    def copied(self, directory: Path) -> Path:
        directory.mkdir()
        for name in self.names():
            if self._server is None:
                content = Path(self.url.removeprefix("file://"), name).read_bytes()
            else:
                content = self._server.get(self._bucket, f"pre/fix/{name}")
            (directory / name).write_bytes(content)
        return directory


@pytest.fixture(params=["s3", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        yield Place(f"file://{tmp_path}/remote/storage", None)
        return
    server = request.getfixturevalue("use_s3")
    bucket = f"bucket{os.getpid()}x{next(_buckets)}"
    server.make_bucket(bucket)
    yield Place(f"s3://{bucket}/pre/fix", server)


def written(path: Any, numbers: Any, **options: Any) -> RecordStore:
    store = RecordStore(path, fsync="never", **options)
    for number in numbers:
        store.append({"number": number, "text": "x" * 50})
    return store


def uploaded_of(store: RecordStore) -> int:
    uploads = store.uploads()
    assert uploads is not None
    return uploads.uploaded


def numbers(source: Any) -> list[int]:
    return [each["number"] for each in read_records(source, strict=True)]


def await_upkeep() -> None:
    """Wait until what was kept for the upload, and need not be kept any more, is removed."""
    for thread in threading.enumerate():
        if thread.name == "agentkit-log-upkeep":
            thread.join()


def test_what_was_rotated_and_what_was_not_arrives_when_the_store_is_closed(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "steps.jsonl"
    store = written(path, range(10), rotation=Rotation(max_bytes=200), remote=place.url)
    assert store.close(60)
    assert all(name.startswith("steps.") and name.endswith(".jsonl.gz") for name in place.names())
    assert numbers(place.copied(tmp_path / "copy")) == [*range(10)]
    assert numbers(path) == [*range(10)]
    assert store.uploads() == Uploads(uploaded=len(place.names()), failed=0, pending=0)


def test_the_next_process_goes_on_under_the_same_names_and_no_line_is_there_twice(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "steps.jsonl"
    for first in range(0, 21, 3):
        rotation = Rotation(max_bytes=300, compress="zstd" if first == 9 else "gzip" if first % 2 else None)
        assert written(path, range(first, first + 3), rotation=rotation, remote=place.url).close(60)
        assert numbers(place.copied(tmp_path / f"copy{first}")) == [*range(first + 3)]


def test_a_log_without_rotation_is_uploaded_as_it_is_each_time_it_is_closed(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "steps.jsonl"
    for count in (1, 2):
        assert written(path, [0], remote=place.url).close(60)
        assert numbers(place.copied(tmp_path / f"copy{count}")) == [0] * count
    assert len(place.names()) == 1
    again = RecordStore(path, remote=place.url)
    assert again.close(60)
    assert again.uploads() == Uploads(uploaded=0, failed=0, pending=0)


def test_a_log_without_rotation_is_begun_anew_every_five_minutes_so_that_it_is_not_here_alone(
    place: Place, tmp_path: Path
) -> None:
    clock = VirtualClock()
    path = tmp_path / "steps.jsonl"
    store = written(path, range(2), remote=place.url, clock=clock)
    clock.advance(400)
    store.append({"number": 2})
    until = time.monotonic() + 60
    while not uploaded_of(store) and time.monotonic() < until:
        pass
    assert numbers(place.copied(tmp_path / "copy")) == [0, 1]
    assert numbers(path) == [0, 1, 2]
    assert store.close(60)


def test_what_a_killed_process_left_is_uploaded_by_the_next_one(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    program = (
        "import os, sys, signal\n"
        "from tests.reporting.test_remote_storage import Rotation, written\n"
        "os.environ['AWS_ENDPOINT_URL'] = 'http://127.0.0.1:9'\n"
        "written(sys.argv[1], range(10), rotation=Rotation(max_bytes=200, keep=1), remote=sys.argv[2])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", program, str(path), place.url], cwd=ROOT, check=False)
    assert child.returncode == -9
    assert written(path, range(10, 12), rotation=Rotation(max_bytes=200, keep=1), remote=place.url).close(60)
    assert numbers(place.copied(tmp_path / "copy")) == [*range(12)]


def test_a_process_that_ends_without_closing_uploads_at_its_exit(place: Place, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.reporting.test_remote_storage import Rotation, written\n"
        "store = written(sys.argv[1], range(10), rotation=Rotation(max_bytes=200), remote=sys.argv[2])\n"
    )
    arguments = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "steps.jsonl"), place.url]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert numbers(place.copied(tmp_path / "copy")) == [*range(10)]


def test_several_processes_share_a_log_and_its_objects(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    program = (
        "import sys\n"
        "from tests.reporting.test_remote_storage import Rotation, written\n"
        "first = int(sys.argv[3])\n"
        "rotation = Rotation(max_bytes=3000)\n"
        "store = written(sys.argv[1], range(first, first + 100), rotation=rotation, remote=sys.argv[2])\n"
        "sys.exit(not store.close(60))\n"
    )
    arguments = [[sys.executable, "-c", program, str(path), place.url, str(first)] for first in (0, 100, 200)]
    writers = [subprocess.Popen(each, cwd=ROOT) for each in arguments]
    assert [writer.wait(60) for writer in writers] == [0] * 3
    assert written(path, [300], rotation=Rotation(max_bytes=3000), remote=place.url).close(60)
    assert sorted(numbers(place.copied(tmp_path / "copy"))) == [*range(301)]


IDLE = """
import sys
from tests.reporting.test_remote_storage import SMALL, written
store = written(sys.argv[1], [0], rotation=SMALL, remote=sys.argv[2])
print(flush=True)
sys.stdin.read()
store.append({"number": 20})
sys.exit(not store.close(60))
"""


def test_a_process_that_is_idle_keeps_no_line_of_a_segment_here_nor_others_from_closing(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "steps.jsonl"
    arguments = [sys.executable, "-c", IDLE, str(path), place.url]
    with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
        assert idle.stdout is not None
        assert idle.stdout.readline() == b"\n"
        assert written(path, range(1, 20), rotation=SMALL, remote=place.url).close(20)
        assert numbers(place.copied(tmp_path / "copy")) == [*range(20)]
        idle.communicate()
    assert idle.returncode == 0
    assert numbers(place.copied(tmp_path / "copy_of_all")) == [*range(21)]
    assert note_path(path).exists()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"id":"","numbers":[1,2,3]}\n', None])
def test_what_is_noted_of_uploads_may_be_damaged_and_nothing_is_removed_that_is_not_there(
    place: Place, tmp_path: Path, damage: bytes | None
) -> None:
    path = tmp_path / "steps.jsonl"
    assert written(path, range(9), rotation=SMALL, remote=place.url).close(60)
    await_upkeep()
    there = numbers(path)
    if damage is None:
        note_path(path).unlink()
    else:
        note_path(path).write_bytes(damage)
    assert written(path, range(9, 12), rotation=SMALL, remote=place.url).close(60)
    copied = numbers(place.copied(tmp_path / "copy"))
    assert sorted(set(copied)) == [*range(12)]
    assert sorted(copied) == sorted(
        [*range(9), *there, *range(9, 12)]
    )  # as another log, since its name is gone


def test_two_logs_of_the_same_name_share_no_object(place: Place, tmp_path: Path) -> None:
    for directory in ("a", "b"):
        assert written(tmp_path / directory / "steps.jsonl", [1], remote=place.url).close(60)
    assert len(place.names()) == 2
    assert numbers(place.copied(tmp_path / "copy")) == [1, 1]


@pytest.mark.parametrize(
    "rotation", [None, Rotation(max_bytes=200, compress=None)], ids=["one_file", "rotating"]
)
def test_a_log_that_was_removed_by_hand_takes_the_place_of_nothing_there(
    place: Place, tmp_path: Path, rotation: Rotation | None
) -> None:
    path = tmp_path / "logs" / "steps.jsonl"
    for first in (0, 100):
        assert written(path, range(first, first + 7), rotation=rotation, remote=place.url).close(60)
        for each in path.parent.glob("steps*"):
            each.unlink()
    assert sorted(numbers(place.copied(tmp_path / "copy"))) == [*range(7), *range(100, 107)]


def test_events_of_many_sessions_arrive_each_in_its_own_file(place: Place, tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "logs", per="session", fsync="never", remote=place.url)
    for session in ("a", "b", "../odd"):
        for seq in (1, 2):
            reporter.handle_event(note(seq, session))
    assert reporter.close(60)
    copy = place.copied(tmp_path / "copy")
    assert sorted((each.session_id, each.seq) for each in read_events(copy)) == [
        (session, seq) for session in ("../odd", "a", "b") for seq in (1, 2)
    ]
    assert len(place.names()) == 3


def test_a_reporter_uploads_its_log(place: Place, tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path / "run.jsonl", rotation=Rotation(max_bytes=400), remote=place.url)
    for seq in range(1, 11):
        reporter.handle_event(note(seq))
    assert reporter.flush()
    assert reporter.close(60)
    uploads = reporter.uploads()
    assert uploads is not None
    assert (uploads.uploaded, uploads.pending) == (len(place.names()), 0)
    assert [each.seq for each in read_events(place.copied(tmp_path / "copy"), strict=True)] == [*range(1, 11)]


@pytest.fixture
def own_server(use_s3: S3Server) -> Iterator[S3Server]:
    """A server of the test's own, which is down; its bucket is made by who starts it."""
    assert use_s3.port
    server = S3Server()
    server.stop()
    os.environ.update(server.environment())
    yield server
    server.stop()


def test_while_the_server_is_down_nothing_is_removed_and_later_all_arrives(
    own_server: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "steps.jsonl"
    first = written(path, range(20), rotation=SMALL, remote="s3://bucket/pre/fix")
    assert not first.close(0.5)
    assert numbers(path) == [*range(20)]
    assert len(segments_of(path)) > 2
    until = time.monotonic() + 30
    while (uploads := first.uploads()) and uploads.pending <= 2 and time.monotonic() < until:
        assert not first.close(0.2)  # tries again: how many are left is known once the segments are looked at
    assert uploads is not None
    assert uploads.failed > 0
    assert uploads.pending > 2
    own_server.start()
    own_server.make_bucket("bucket")
    store = written(path, range(20, 22), rotation=SMALL, remote="s3://bucket/pre/fix")
    assert store.close(60)
    assert first.close(60)
    place = Place("s3://bucket/pre/fix", own_server)
    assert numbers(place.copied(tmp_path / "copy")) == [*range(22)]
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(told) == 1
    assert "could not be uploaded to s3://bucket/pre/fix" in told[0]


def test_a_store_that_waits_goes_on_when_the_server_comes_back(own_server: S3Server, tmp_path: Path) -> None:
    store = written(tmp_path / "steps.jsonl", range(20), rotation=SMALL, remote="s3://bucket/pre/fix")
    assert not store.close(0.2)
    own_server.start()
    own_server.make_bucket("bucket")
    assert store.close(60)
    place = Place("s3://bucket/pre/fix", own_server)
    assert numbers(place.copied(tmp_path / "copy")) == [*range(20)]


def test_a_failure_is_told_once_by_flush_and_quotes_no_credential(
    own_server: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = written(tmp_path / "steps.jsonl", range(9), rotation=SMALL, remote="s3://bucket/pre/fix")
    raised: list[str] = []
    until = time.monotonic() + 30
    while not raised and time.monotonic() < until:
        try:
            store.flush()
        except LogError as error:
            raised.append(str(error))
    assert len(raised) == 1
    assert store.flush()
    assert not store.close(0.2)
    assert not caplog.records
    texts = [*raised, repr(store), repr(store.uploads()), caplog.text, repr(vars(store))]
    assert not any(SECRET in each or "AKIA" in each for each in texts)
    own_server.start()
    own_server.make_bucket("bucket")
    assert store.close(60)


def test_a_server_that_never_answers_holds_up_no_line_and_no_close(use_s3: S3Server, tmp_path: Path) -> None:
    use_s3.make_bucket("silent")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        path = tmp_path / "steps.jsonl"
        store = written(path, range(20), rotation=SMALL, remote="s3://silent/pre/fix")
        assert not store.close(0.2)
        assert numbers(path) == [*range(20)]
    os.environ.update(use_s3.environment())
    assert store.close(60)
    assert numbers(Place("s3://silent/pre/fix", use_s3).copied(tmp_path / "copy")) == [*range(20)]


class Liar(http.server.BaseHTTPRequestHandler):
    """Says that it has stored what it was given, and has not; of what is asked for it says what `looked` is."""

    looked = 404

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(200)

    def do_HEAD(self) -> None:
        self._answer(self.looked)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("looked", [404, 403])
def test_what_a_server_says_is_stored_is_looked_for_where_that_is_permitted(
    use_s3: S3Server, tmp_path: Path, looked: int, caplog: pytest.LogCaptureFixture
) -> None:
    answering = type("Answering", (Liar,), {"looked": looked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
        path = tmp_path / "steps.jsonl"
        store = written(path, range(10), rotation=SMALL, remote="s3://lying/pre/fix")
        is_believed = store.close(20 if looked == 403 else 0.5)
        server.shutdown()
        thread.join()
    os.environ.update(use_s3.environment())
    assert is_believed is (looked == 403)
    if not is_believed:
        assert numbers(path) == [*range(10)]
        assert "what was uploaded is not there, though the server said so" in caplog.text
        use_s3.make_bucket("lying")
        assert store.close(60)
        assert numbers(Place("s3://lying/pre/fix", use_s3).copied(tmp_path / "copy")) == [*range(10)]


def test_the_rest_is_uploaded_also_where_closing_raises(tmp_path: Path) -> None:
    path, remote = tmp_path / "logs" / "steps.jsonl", tmp_path / "remote"
    store = written(
        path, range(9), rotation=Rotation(max_bytes=200, compress=None), remote=f"file://{remote}"
    )
    before = numbers(path)
    path.unlink()
    with pytest.raises(LogError, match="removed while it was written"):
        store.close(60)
    found = numbers(Place(f"file://{remote}", None).copied(tmp_path / "copy"))
    assert found == before[: len(found)] != []


def test_a_bound_for_calls_changes_nothing_else(use_s3: S3Server, tmp_path: Path) -> None:
    use_s3.make_bucket("bounded")
    (tmp_path / "segment").write_bytes(b"{}\n")
    with (tmp_path / "segment").open("rb") as file:
        objects_at("s3://bounded/pre/fix", timeout_s=20).put("segment", file)
    assert use_s3.get("bounded", "pre/fix/segment") == b"{}\n"


def test_one_call_to_a_server_that_never_answers_ends_where_nobody_else_can_end_it(
    use_s3: S3Server, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "segment").write_bytes(b"{}\n")
        with (tmp_path / "segment").open("rb") as file, pytest.raises(Exception, match="TimedOut"):
            objects_at("s3://silent/pre/fix", timeout_s=0.1).put("segment", file)
    os.environ.update(use_s3.environment())


def test_the_old_segments_go_once_they_are_there(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    assert written(path, range(30), rotation=SMALL, remote=place.url).close(60)
    assert written(path, [30], rotation=SMALL).close()  # who does not upload honours it as well
    assert len(segments_of(path)) == 2
    assert numbers(place.copied(tmp_path / "copy"))[:30] == [*range(30)]


def test_who_cleans_up_without_uploading_removes_nothing_that_is_not_there(tmp_path: Path) -> None:
    path, remote = tmp_path / "steps.jsonl", tmp_path / "remote"
    remote.write_text("a file where a directory should be")
    first = written(path, range(10), rotation=SMALL, remote=f"file://{remote}")
    assert not first.close(0.1)
    assert written(path, range(10, 20), rotation=SMALL).close()
    assert numbers(path) == [*range(20)]
    remote.unlink()
    assert written(path, [20], rotation=SMALL, remote=f"file://{remote}").close(60)
    assert first.close(60)
    assert numbers(Place(f"file://{remote}", None).copied(tmp_path / "copy")) == [*range(21)]


def test_a_directory_gets_private_files_and_no_unfinished_ones(tmp_path: Path) -> None:
    remote = tmp_path / "mounted" / "logs"
    assert written(tmp_path / "steps.jsonl", range(9), rotation=SMALL, remote=f"file://{remote}/").close(60)
    assert {each.stat().st_mode & 0o777 for each in remote.iterdir()} == {0o600}
    assert not [each for each in remote.iterdir() if each.name.startswith(".")]


SPOOLED = """
import sys
from tests.reporting.test_remote_storage import written
store = written(sys.argv[1], map(int, sys.argv[2:]))
print(store.path.parent.stat().st_mode & 0o777, store.close(60), store.path.name)
"""


@pytest.mark.parametrize(
    ("url", "name", "remote"),
    [
        ("s3://bucket", "records.jsonl", "s3://bucket"),
        ("s3://bucket/", "records.jsonl", "s3://bucket"),
        ("gs://bucket/a/b", "records.jsonl", "gs://bucket/a/b"),
        ("s3://bucket/a/steps.jsonl", "steps.jsonl", "s3://bucket/a"),
        ("s3://steps.jsonl", "records.jsonl", "s3://steps.jsonl"),
        ("file:///mounted/steps.jsonl", "steps.jsonl", "file:///mounted"),
    ],
)
def test_the_last_part_of_an_address_may_name_the_file(url: str, name: str, remote: str) -> None:
    path, address = spooled(url)
    assert (path.name, address) == (name, remote)
    assert path.parent == spooled(remote)[0].parent


def test_a_store_at_an_address_has_its_file_in_a_private_spool(place: Place, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for count in (1, 2):
        arguments = [sys.executable, "-c", SPOOLED, f"{place.url}/steps.jsonl", str(count)]
        printed = subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert printed.stdout == "448 True steps.jsonl\n"
        assert numbers(place.copied(tmp_path / f"copy{count}")) == [*range(1, count + 1)]
    assert (tmp_path / "cache" / "agentkit").stat().st_mode & 0o777 == 0o700


def test_a_forked_child_leaves_the_uploading_to_its_parent(use_s3: S3Server, tmp_path: Path) -> None:
    use_s3.make_bucket("forked")
    path = tmp_path / "steps.jsonl"
    store = written(path, range(5), rotation=SMALL, remote="s3://forked/pre/fix")
    assert store.close(60)
    store = written(path, range(5, 10), rotation=SMALL, remote="s3://forked/pre/fix")
    child = os.fork()
    if not child:
        store.append({"number": 10})
        own = written(tmp_path / "own.jsonl", [1], remote="s3://forked/own")
        with pytest.raises(LogError, match="from the child of a fork"):
            own.flush()
        os._exit(store.close(5) or own.close(5))
    assert os.waitpid(child, 0)[1] == 0
    store.append({"number": 11})
    assert store.close(60)
    assert numbers(Place("s3://forked/pre/fix", use_s3).copied(tmp_path / "copy")) == [*range(12)]


@pytest.mark.parametrize(
    "url",
    [
        3,
        "bucket/prefix",
        "s3://",
        "ftp://host/x",
        "http://host/x",
        "file://host/x",
        "file:///",
        "s3://AKIA:hush@bucket/x",
        "az://account/x?sig=hush",
        "s3://bucket/x#hush",
        "s3://[bucket",
    ],
)
def test_what_is_no_address_is_refused_at_once_and_secrets_in_it_are_not_quoted(
    tmp_path: Path, url: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RecordStore(tmp_path / "steps.jsonl", remote=url)
    assert "hush" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


WITHOUT = """
import sys
sys.modules["obstore"] = None
from agentkit_reporting import RecordStore
RecordStore("steps.jsonl", remote="file:///mounted/logs")
RecordStore("steps.jsonl", remote="s3://bucket/prefix")
"""


def test_a_bucket_needs_an_extra_which_is_named_and_a_directory_none(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", WITHOUT]
    result = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.stderr.endswith("because obstore is not installed; install agentkit-loop[s3]\n")
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_refused_where_files_are_meant() -> None:
    with pytest.raises(LogError, match="give a local file, and the address as remote=…"):
        JsonlReporter("s3://bucket/run.jsonl")
    with pytest.raises(LogError, match="copy it to a directory first"):
        read_events("s3://bucket/prefix/")
    with pytest.raises(ConfigurationError, match="the path is an address already"):
        RecordStore("s3://bucket/prefix", remote="s3://bucket/prefix")
    with pytest.raises(ConfigurationError, match="a stream has no files"):
        JsonlReporter("-", remote="s3://bucket/prefix")
