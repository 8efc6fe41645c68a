"""`remote=` of every view that keeps a file: what is in the file is there when the view is closed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import (
    InvocationMetricsCollector,
    SessionProfiler,
    ToolRecorder,
    UsageStore,
    read_records,
)
from tests.reporting.metric_samples import metric


def tools(place: Any, **options: Any) -> Any:
    recorder = ToolRecorder(place, **options)
    recorder.instrument("f", lambda: None)()
    return recorder


def sessions(place: Any, **options: Any) -> Any:
    profiler = SessionProfiler(place, **options)
    with profiler.session("s"):
        pass
    return profiler


def usage(place: Any, **options: Any) -> Any:
    store = UsageStore(place, **options)
    store.record("r", input_tokens=1)
    return store


def metrics(place: Any, **options: Any) -> Any:
    collector = InvocationMetricsCollector(place, **options)
    collector.record(metric(1))
    return collector


VIEWS = [tools, sessions, usage, metrics]


@pytest.mark.parametrize("make", VIEWS)
def test_the_records_of_a_local_file_are_uploaded_on_close(make: Callable[..., Any], tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    view = make(tmp_path / "records.jsonl", remote=f"file://{bucket}")
    assert view.close()
    (uploaded,) = [path for path in bucket.rglob("*") if path.is_file()]
    assert len(list(read_records(uploaded))) == 1


@pytest.mark.parametrize(("make", "name"), [(tools, "tools.jsonl"), (sessions, "sessions.jsonl")])
def test_views_at_one_address_have_a_file_each(
    make: Callable[..., Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert make(f"file://{tmp_path}/bucket").close()
    assert [path.name for path in (tmp_path / "cache").rglob("*.jsonl")] == [name]
    assert len([path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("make", [usage, metrics])
def test_views_that_are_asked_of_their_file_refuse_an_address(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="give a path, and remote="):
        make("s3://bucket/records")


@pytest.mark.parametrize("make", [tools, sessions])
def test_remote_storage_of_nothing_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="remote refused because nothing is stored"):
        make(None, remote="file:///tmp/bucket")
