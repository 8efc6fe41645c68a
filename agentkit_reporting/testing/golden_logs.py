"""Golden logs: a recorded run in a file that later runs must equal, apart from times and ids.

The file is a log as any other, in normal form (`normal_form.py`) and scrubbed of secrets, so that it may be committed,
shown (`agentkit show`) and read. What differs is told event by event.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.differences import first_difference
from agentkit_loop.errors import LogError
from agentkit_loop.events import PAYLOAD_FIELDS, AgentEvent, ToolCallRequested, UnknownEvent
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import read_events
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.terminal import counted, one_line, visible
from agentkit_reporting.testing.failures import event_line
from agentkit_reporting.testing.normal_form import normal_form
from agentkit_reporting.testing.safe_names import safe_name

__all__ = ["UPDATE_OPTION", "Change", "GoldenLogs", "LogDifference", "log_differences"]

UPDATE_OPTION = "--agentkit-update-golden"
"""The option of pytest that writes golden logs anew."""

Change: TypeAlias = Callable[[AgentEvent], AgentEvent | None]
"""Changes an event before it is compared (`attrs.evolve`), or leaves it out by None: for what a host's own facts and
tools say differently each time."""

_MOST_SHOWN = 5
_MOST_FOUND = 200  # differences after which nobody counts on
_WINDOW = 400  # events that are looked ahead for where two logs meet again


@attrs.frozen(kw_only=True)
class LogDifference:
    """A place where two logs differ.

    event: what is there, on a line. field: which of its fields; empty where the event as a whole is missing or new.
    before, now: both sides as they are shown.
    """

    event: str
    field: str = ""
    before: str = ""
    now: str = ""

    def __str__(self) -> str:
        if self.field:
            return f"{self.event}\n    {one_line(self.field, 100)}: before {self.before}, now {self.now}"
        return f"{'missing now' if self.before else 'new'}: {self.event}"


def log_differences(before: Iterable[AgentEvent], now: Iterable[AgentEvent]) -> Iterator[LogDifference]:
    """Yield where the second events differ from the first, apart from times and ids; lazily, in order.

    Events are paired by their kind: where one is missing or new, those behind it are compared still. Digests are not
    compared: all that they are made of stands in the log.
    """
    old, new = normal_form(before), normal_form(now)
    at, to = 0, 0
    while at < len(old) or to < len(new):
        if at < len(old) and to < len(new) and _key(old[at]) == _key(new[to]):
            yield from _in_event(old[at], new[to])
            at, to = at + 1, to + 1
            continue
        ahead, ahead_now = old[at : at + _WINDOW], new[to : to + _WINDOW]
        matcher = difflib.SequenceMatcher(None, [*map(_key, ahead)], [*map(_key, ahead_now)], autojunk=False)
        met = next((block for block in matcher.get_matching_blocks() if block.size), None)
        missing, added = (met.a, met.b) if met is not None else (len(ahead), len(ahead_now))
        for event in ahead[:missing]:
            yield LogDifference(event=event_line(event), before="there")
        for event in ahead_now[:added]:
            yield LogDifference(event=event_line(event), now="there")
        at, to = at + missing, to + added


class GoldenLogs:
    """The golden logs of a test.

    directory: where they are. test_name: what a golden log without a name of its own is called. update: write anew
    what differs. create: write one that is missing; else it is a failure. checked: the golden logs that tests of this
    pytest have compared with or written so far, and which test; where they share it, no test writes what another one
    has just written in another way. written: those that were written, in order.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        test_name: str = "run",
        update: bool = False,
        create: bool = True,
        checked: dict[Path, str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.written: list[Path] = []
        self._test_name = test_name
        self._update = update
        self._create = create
        self._checked = checked

    def __call__(
        self, events: Iterable[AgentEvent], name: str | None = None, *, change: Change | None = None
    ) -> None:
        """Do what `check` does; for the fixture `golden_log`."""
        __tracebackhide__ = True
        self.check(events, name, change=change)

    def path_of(self, name: str | None = None) -> Path:
        """Return the file of a golden log; its name holds none of what could lead elsewhere."""
        return self.directory / f"{safe_name(self._test_name if name is None else name)}.jsonl"

    def check(
        self, events: Iterable[AgentEvent], name: str | None = None, *, change: Change | None = None
    ) -> None:
        """Compare events with a golden log; raises AssertionError where they differ, LogError for one that is none.

        events: of a run. name: of the golden log, any text; left out, the test's. change: is given each event first.
        """
        __tracebackhide__ = True
        path, now = self.path_of(name), stored_form(events, change)
        place = visible(os.fspath(path))
        if not now:
            raise AssertionError(
                f"no event was recorded for the golden log {place}; give the observer to the agent"
            )
        exists, before = path.exists(), None
        if self._checked is not None:
            before = self._checked.get(path)
            self._checked.setdefault(path, self._test_name)
        if not exists and (self._update or self._create):
            self._write(path, now)
            return
        if not exists:
            raise AssertionError(
                f"the golden log {place} is missing, and none is written in CI; "
                f"run pytest {UPDATE_OPTION}, look at it, and commit it"
            )
        try:
            found = list(itertools.islice(log_differences(read_golden(path), now), _MOST_FOUND))
        except LogError:
            if not self._update:
                raise
            found = [LogDifference(event="")]
        if found and self._update and before is not None:
            raise AssertionError(
                f"the golden log {place} is that of {visible(before)}, and this run differs from it; "
                "give each its own name"
            )
        if found and self._update:
            self._write(path, now)
        elif found:
            raise AssertionError(_told(found, place))

    def _write(self, path: Path, events: Sequence[AgentEvent]) -> None:
        __tracebackhide__ = True
        lines = b"".join(encode_event(event) + b"\n" for event in events)
        replace_file(path, lines)
        if path not in self.written:
            self.written.append(path)


def stored_form(events: Iterable[AgentEvent], change: Change | None = None) -> list[AgentEvent]:
    """Return events as a golden log has them: in normal form, secrets masked."""
    told = list(events) if change is None else [new for event in events if (new := change(event)) is not None]
    return [*map(Redactor().event, normal_form(told))]


def read_golden(path: Path) -> list[AgentEvent]:
    """Read a golden log; raises LogError for one that cannot be read, or that has a line that is no event."""
    __tracebackhide__ = True
    return list(read_events(path, strict=True))


def replace_file(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file as a whole or not at all; raises LogError. private: for its owner only."""
    __tracebackhide__ = True
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=".agentkit-")
        with open(number, "wb") as file:  # noqa: PTH123 - an open descriptor has no path
            file.write(content)
        if not private:
            os.chmod(name, 0o644)  # noqa: PTH101 - for all to read, as other files of a repository
        os.replace(name, path)  # noqa: PTH105 - beside the other calls of os
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - the same
        reason = error.strerror or str(error)
        raise LogError(
            f"cannot be written: {reason}; check the directory", path=visible(os.fspath(path))
        ) from None


def _told(found: Sequence[LogDifference], place: str) -> str:
    shown = [f"  {difference}" for difference in found[:_MOST_SHOWN]]
    or_more = " or more" if len(found) == _MOST_FOUND else ""
    if len(found) > _MOST_SHOWN:
        shown.append(f"  … and {len(found) - _MOST_SHOWN:,}{or_more} others")
    places = f"{counted(len(found), 'place')}{or_more}"
    return "\n".join(
        [
            f"the run differs from the golden log {place} in {places}, apart from times and ids",
            *shown,
            "# is an event's number in the golden log, which leaves out streamed pieces",
            f"if it is right as it is now: pytest {UPDATE_OPTION}, and look at the change of the file",
        ]
    )


def _key(event: AgentEvent) -> tuple[str, ...]:
    """Return what two events must share to be compared: their kind, and whose they are."""
    detail = event.call.name if isinstance(event, ToolCallRequested) else getattr(event, "name", "")
    delta = getattr(event, "delta", None)
    return (event.type, event.session_id, detail if isinstance(detail, str) else "", type(delta).__name__)


def _in_event(old: AgentEvent, new: AgentEvent) -> Iterator[LogDifference]:
    names = PAYLOAD_FIELDS[UnknownEvent if isinstance(old, UnknownEvent) else type(old)]
    for name in ("run_id", "turn_id", *names):
        if name == "digests":
            continue
        found = first_difference(_plain(getattr(old, name)), _plain(getattr(new, name)), name)
        if found is not None:
            yield LogDifference(event=event_line(new), field=found.path, before=found.recorded, now=found.now)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else msgspec.to_builtins(value)
