"""Logs for tests of the commands that read them, the same byte for byte at every making.

Times are those of a virtual clock, and ids are counted. `write_fixed` and `write_broken` are two runs of one task.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ModelError
from agentkit_loop.models.scripted import AnyReply
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import JsonlReporter

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
PRICES = PriceTable(
    {
        "claude-sonnet-5-5": Rates(
            input=Decimal(3),
            output=Decimal(15),
            cached_input=Decimal("0.30"),
            cache_write=Decimal("3.75"),
        )
    },
    source="samples",
)
PROMPT = "The tests of the parser fail. Fix them."


def used(fresh: int, cached: int, written: int, output: int) -> Usage:
    """Return what a request used."""
    return Usage(
        input_tokens=fresh,
        cached_input_tokens=cached,
        cache_write_input_tokens=written,
        output_tokens=output,
    )


def call(name: str, **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name=name, input=arguments)


def write_session(
    log: Path,
    session_id: str,
    replies: Sequence[AnyReply],
    *,
    prompts: Sequence[str] = (PROMPT,),
    after_s: float = 0,
    **settings: Any,
) -> None:
    """Append a session of an agent with three tools that take time; settings: of the Agent, which win.

    `read_file` takes 40 ms, `run_tests` 2.5 s, and `edit_file` is asked about, which takes 30 s.
    """
    clock = VirtualClock(START + dt.timedelta(seconds=after_s))

    @tool
    def read_file(path: str) -> str:
        """Read a text file."""
        clock.sleep(0.04)
        if path.startswith("/"):
            raise FileNotFoundError(path)
        return f"# {path}\ndef parse(text):\n    return text.split(',')\n"

    @tool(approval=True)
    def edit_file(path: str, old: str, new: str) -> str:
        """Replace a text in a file."""
        clock.sleep(0.005)
        return f"{path}: replaced {old!r} by {new!r}"

    @tool
    def run_tests(path: str = ".") -> dict[str, object]:
        """Run the tests."""
        clock.sleep(2.5)
        return {"path": path, "passed": 41, "failed": 0}

    def approve(_step: object) -> bool:
        clock.sleep(30)
        return True

    ran = log.read_bytes() if log.exists() else b""
    given: dict[str, Any] = {
        "tools": [read_file, edit_file, run_tests],
        "system": "You fix code. Read before you edit.",
        "name": "fixer",
        "prices": PRICES,
        "retry": Retry(max_attempts=2),
        "approve": approve,
        "max_parallel_tools": 1,
        **settings,
    }
    with (
        contextlib.suppress(ModelError),
        Agent(
            ScriptedModel(list(replies), name="claude-sonnet-5-5", clock=clock),
            observers=[JsonlReporter(log)],
            clock=clock,
            **given,
        ) as agent,
        agent.start(session_id=session_id, metadata={"environment": "ci"}) as driver,
    ):
        run_id = driver.run_id
        for prompt in prompts:
            driver.run(prompt)
    written = log.read_bytes()[len(ran) :]
    named = written.replace(run_id.encode(), b"run_of_" + session_id.encode())
    log.write_bytes(
        ran + re.sub(rb'"time_ms":[\d.e-]+', b'"time_ms":1.5', named)
    )  # of observers, really measured


def write_fixed(log: Path) -> None:
    """Append `fix-1`: a read, an edit that is asked about, a cut request, the tests, an answer."""
    write_session(
        log,
        "fix-1",
        [
            Reply(
                reasoning="The parser first.",
                text="I read the parser.",
                calls=(call("read_file", path="parser.py"),),
                usage=used(420, 0, 1_800, 60),
                delay_s=0.8,
                chunk_delay_s=0.05,
            ),
            Reply(
                text="It does not strip blanks.",
                calls=(
                    call(
                        "edit_file",
                        path="parser.py",
                        old="text.split(',')",
                        new="[each.strip() for each in text.split(',')]",
                    ),
                ),
                usage=used(130, 1_800, 220, 95),
                delay_s=1.1,
                chunk_delay_s=0.05,
            ),
            Reply(
                text="Now the te",
                fail=ScriptedFailure(
                    error_class="overloaded", message="the model is overloaded", after_chunks=1
                ),
                delay_s=0.4,
            ),
            Reply(
                text="Now the tests.",
                calls=(call("run_tests"),),
                usage=used(80, 2_020, 160, 30),
                delay_s=0.9,
                chunk_delay_s=0.05,
            ),
            Reply(
                text="The parser strips blanks now, and all 41 tests pass.",
                usage=used(70, 2_180, 90, 44),
                delay_s=0.7,
                chunk_delay_s=0.1,
            ),
        ],
    )


def write_broken(log: Path) -> None:
    """Append `fix-2`, the same task a day later: another file, which is not there, twice as many tokens, a failure."""
    write_session(
        log,
        "fix-2",
        [
            Reply(
                text="I read the parser.",
                calls=(call("read_file", path="/src/parser.py"),),
                usage=used(900, 0, 3_600, 70),
                delay_s=0.9,
                chunk_delay_s=0.05,
            ),
            Reply(
                text="Then the tests.",
                calls=(call("run_tests", path="tests"), call("read_file", path="parser.py")),
                usage=used(300, 3_600, 400, 90),
                delay_s=2.2,
                chunk_delay_s=0.05,
            ),
            Reply(
                fail=ScriptedFailure(error_class="invalid_request", message="messages.4: bad"), delay_s=0.3
            ),
        ],
        after_s=86_400,
    )
