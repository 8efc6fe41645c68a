"""Step logs and ledgers in remote storage: every line arrives, and no storage that is away stops who tells them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.log.remote import Uploads
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.audit import AuditLedger
from agentkit_reporting.records.step_log import StepLog
from tests.reporting.s3_server import S3Server, s3, use_s3

__all__ = ["s3", "use_s3"]

ROOT = Path(__file__).parent.parent.parent
_buckets = iter(range(1_000))


class Bucket:
    """A bucket of the server, looked at from outside."""

    def __init__(self, server: S3Server) -> None:
        self.name = f"steps{os.getpid()}x{next(_buckets)}"
        self._server = server
        server.make_bucket(self.name)

    def copied(self, directory: Path) -> Path:
        directory.mkdir()
        for key in self._server.names(self.name):
            (directory / key.rpartition("/")[2]).write_bytes(self._server.get(self.name, key))
        return directory

    def names(self) -> list[str]:
        return self._server.names(self.name)


@pytest.fixture
def bucket(use_s3: S3Server) -> Bucket:
    return Bucket(use_s3)


def test_the_steps_of_a_local_file_are_uploaded_as_it_rotates_and_closes(
    bucket: Bucket, tmp_path: Path
) -> None:
    rotation = Rotation(max_bytes=2_000, keep=1)
    with StepLog(tmp_path / "steps.jsonl", "r", remote=f"s3://{bucket.name}/logs", rotation=rotation) as log:
        for number in range(40):
            log.record_tool_call("t", {"number": number})
    assert log.close()
    uploads = log.uploads()
    assert uploads == Uploads(uploaded=len(bucket.names()), failed=0, pending=0)
    read = StepLog.read(bucket.copied(tmp_path / "copy"), strict=True)
    assert (read.steps, read.headers) == (log.steps, log.headers)


IN_THE_CLOUD = """
import sys
from agentkit_reporting.records.step_log import StepLog

log = StepLog(sys.argv[1], run_id="run-abc123", metadata={"environment": "prod"})
log.record_llm_call("m", 10, 5, "tool_use")
log.record_tool_call("search", {"query": "Q3"}, {"results": []}, duration_ms=240)
print(log.summarize().total_tokens, log.close(60))
"""


def test_the_path_may_be_a_bucket_as_the_seed_wants_it(bucket: Bucket, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for count in (1, 2):
        arguments = [sys.executable, "-W", "error", "-c", IN_THE_CLOUD, f"s3://{bucket.name}/logs/"]
        printed = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (printed.returncode, printed.stdout, printed.stderr) == (0, "15 True\n", "")
        read = StepLog.read(bucket.copied(tmp_path / f"copy{count}"), "run-abc123", strict=True)
        assert [step.step for step in read.steps] == [*range(1, 2 * count + 1)]
        assert read.metadata == {"environment": "prod"}
    assert all(name.startswith("logs/steps.") for name in bucket.names())


def test_decisions_are_uploaded_as_well(bucket: Bucket, tmp_path: Path) -> None:
    with AuditLedger(tmp_path / "decisions.jsonl", remote=f"s3://{bucket.name}") as ledger:
        for step in range(3):
            ledger.log("ses-1", step=step, type="reasoning", detail="because")
    read = AuditLedger.read(bucket.copied(tmp_path / "copy"), strict=True)
    assert read.get_trace("ses-1") == ledger.get_trace("ses-1")
    assert ledger.uploads() == Uploads(uploaded=1, failed=0, pending=0)


def test_storage_that_is_away_stops_nobody_and_what_was_told_stays_here(
    use_s3: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    path = tmp_path / "steps.jsonl"
    log = StepLog(path, "r", remote=f"s3://{bucket.name}/logs", rotation=Rotation(max_bytes=300, keep=1))
    for number in range(10):
        log.record_tool_call("t", {"number": number})
    assert log.flush()
    assert not log.close(0.2)
    uploads = log.uploads()
    assert uploads is not None
    assert uploads.pending > 1
    assert StepLog.read(path, strict=True).steps == log.steps
    os.environ.update(use_s3.environment())
    assert log.close(60)
    assert StepLog.read(bucket.copied(tmp_path / "copy"), strict=True).steps == log.steps


def test_views_at_one_address_have_a_file_each(tmp_path: Path) -> None:
    directory = f"file://{tmp_path}/remote"
    cache = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    try:
        with StepLog(directory, "r") as log, AuditLedger(f"{directory}/") as ledger:
            log.record_tool_call("t")
            ledger.log("r", step=0, type="reasoning", detail="because")
    finally:
        if cache is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = cache
    names = sorted(each.name.partition(".")[0] for each in (tmp_path / "remote").iterdir())
    assert names == ["decisions", "steps"]


def test_what_cannot_be_uploaded_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="remote refused because nothing is stored; give a path"):
        StepLog(None, "r", remote="s3://bucket/logs")
    with pytest.raises(ConfigurationError, match="rotation refused because nothing is stored; give a path"):
        AuditLedger(None, rotation=Rotation(max_bytes=1_000))
    with pytest.raises(ConfigurationError, match="the path is an address already"):
        StepLog("s3://bucket/logs/", "r", remote="s3://bucket/logs")
