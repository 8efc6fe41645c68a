"""What the tests of dispatchers and their sinks share."""

from __future__ import annotations

import threading
from typing import Any

from agentkit_reporting import TopicPayload

AT = "2026-05-24T18:40:00Z"


def payload(number: int = 0, **more: Any) -> dict[str, Any]:
    """Return what the boundary lets in."""
    return {"session_id": "ses-1", "timestamp": AT, "number": number, **more}


class Taken(list[Any]):
    """A handler that keeps the numbers that it was given."""

    def __call__(self, given: TopicPayload) -> None:
        self.append(given["number"])


class GatedHandler:
    """Waits on each payload until its gate is open; says when it has begun to wait."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.threads: set[int] = set()
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, given: TopicPayload) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        self.gate.wait()
        self.got.append(given["number"])
