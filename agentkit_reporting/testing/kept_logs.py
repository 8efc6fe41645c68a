"""Logs of tests: what a test recorded, written into a directory of one file a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agentkit_loop.events import AgentEvent
from agentkit_reporting.codec import encode_event
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.testing.golden_logs import replace_file
from agentkit_reporting.testing.safe_names import safe_name

__all__ = ["keep_log", "log_path"]


def log_path(directory: Path, test_id: str) -> Path:
    """Return the file of a test's log; nothing in the test's id leads out of the directory."""
    return directory / f"{safe_name(test_id)}.jsonl"


def keep_log(path: Path, events: Iterable[AgentEvent]) -> None:
    """Write a test's events, secrets masked, in place of what an earlier run of the test left; raises LogError.

    Events that were never told (`seq` 0) belong to no session, and are left out.
    """
    redactor = Redactor()
    told = (redactor.event(event) for event in events if event.seq > 0)
    replace_file(path, b"".join(encode_event(event) + b"\n" for event in told), private=True)
