"""A program for test_sink_faults_on_disk: three sessions, and a disk that fails while the second one goes on.

    python -m tests.reporting.disk_faults FAULT SHAPE DIRECTORY

What was acknowledged, what was logged and what came of it all is printed as JSON. FAULT is "limit" (no file grows any
more), "full" (DIRECTORY is a disk of its own, and is filled), "permission" (nothing can be made in the directory, and
no file opened; as a user without privileges).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from agentkit_loop.observers import Observer
from agentkit_reporting import JsonlReporter, Rotation
from tests.reporting.sink_runs import (
    PLAYS,
    UNPRIVILEGED,
    WRAPS,
    Acknowledged,
    Breaking,
    Records,
    agent_of,
    essence,
    undisturbed,
)

RUNS = 3
SEGMENT = 2_000  # bytes
Act = Callable[[], object]


def reporter_in(directory: Path, shape: str) -> JsonlReporter:
    path = directory / "run.jsonl"
    rotation = Rotation(max_bytes=SEGMENT)
    match shape:
        case "file":
            return JsonlReporter(path)
        case "sessions":
            return JsonlReporter(directory, per="session")
        case "rotating":
            return JsonlReporter(path, rotation=rotation)
        case "rotating sessions":
            return JsonlReporter(directory, per="session", rotation=rotation)
        case _:
            return JsonlReporter(path.open("ab"))


def limit(directory: Path, shape: str) -> tuple[Act, Act]:
    def no_file_grows() -> None:
        newest = max((each.stat() for each in directory.iterdir()), key=lambda status: status.st_mtime_ns)
        size = SEGMENT // 2 if shape.startswith("rotating") else newest.st_size + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    return no_file_grows, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, infinite)


def full(directory: Path, shape: str) -> tuple[Act, Act]:
    del shape
    filler = directory / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            size = 65_536
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2

    return fill, filler.unlink


def permission(directory: Path, shape: str) -> tuple[Act, Act]:
    del shape

    def close_and_lock() -> None:
        directory.chmod(
            0o500
        )  # first: from here on nobody begins to make or remove a file that is packed meanwhile
        for each in directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # whose removal had begun before
                each.chmod(0o000)
        os.closerange(512, 600)

    def unlock() -> None:
        directory.chmod(0o700)
        for each in directory.iterdir():
            each.chmod(0o600)

    return close_and_lock, unlock


FAULTS = {"limit": limit, "full": full, "permission": permission}


def main(fault: str, shape: str, directory: Path) -> None:
    records = Records()
    logging.getLogger().addHandler(records)
    play = PLAYS["sync"]
    if fault == "permission":
        agent_of(JsonlReporter(os.devnull)).run("go")  # all is imported that this user may not read
        shutil.chown(directory, UNPRIVILEGED)
        if os.geteuid() == 0:
            os.setuid(UNPRIVILEGED)
    begin, end = FAULTS[fault](directory, shape)
    expected = undisturbed()
    reporter = reporter_in(directory, shape)
    acknowledged = Acknowledged(reporter)
    count = 27  # of the events of a session
    sink: Observer = Breaking(acknowledged, {count + 8: begin, 2 * count - 4: end})
    with agent_of(WRAPS["nothing"](sink), runs=RUNS) as agent:
        results = [play(agent) for _ in range(RUNS)]
    print(  # noqa: T201 - what the test reads
        json.dumps(
            {
                "same": all(essence(result) == expected for result in results),
                "sessions": [result.session_id for result in results],
                "taken": acknowledged.taken,
                "logged": records.messages,
                "account": [
                    reporter.account().received,
                    reporter.account().delivered,
                    reporter.account().failed,
                ],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
