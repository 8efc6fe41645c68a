"""DebugReplay: a recorded session, step by step, forwards and back, with its state at each point.

    replay = DebugReplay.open("logs/run.jsonl")
    while step := replay.step():
        print(step.number, step.title, replay.state().totals.costs)
    replay.seek(-1)                                    # as an index: before the last step
    for step in replay.filter(tool="read_file"): …

It reads event logs and step logs. The log is read once; opened, memory holds its steps and its compressed lines, and
a state is folded from them when it is asked for (`debug_state`).
"""

from __future__ import annotations

import bisect
import copy
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Self

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.values import JSON
from agentkit_reporting.analysis.debug_difference import DebugDifference, difference_of
from agentkit_reporting.analysis.debug_editing import edited_step
from agentkit_reporting.analysis.debug_reading import Found, found_in_memory, found_in_reader
from agentkit_reporting.analysis.debug_records import SessionRecords
from agentkit_reporting.analysis.debug_session import SessionEvents
from agentkit_reporting.analysis.debug_state import DebugState, StateFinder, state_of
from agentkit_reporting.analysis.debug_step import DebugStep, kinds_of
from agentkit_reporting.analysis.debug_summary import DebugSummary, summary_of
from agentkit_reporting.analysis.listed_session import ListedSession
from agentkit_reporting.log.read import BadLine, LogReader, read_events
from agentkit_reporting.log.sources import Source

__all__ = ["DebugReplay"]

_NOT_SEARCHED = frozenset(
    {"id", "call_id", "part_id", "wire_id", "session_id", "run_id", "signature", "redacted"}
)
"""Fields of records that are ids, or that nobody can read."""


class DebugReplay:
    """Steps through a recorded session; `position` is how many of its steps are over, from 0 to `len`.

    told: events of a log in its order, or records of a step log (made, or as JSON), in memory; `open` reads files.
    session_id: which session, or which run of a step log, where there are several, by its id or the end of it; left
    out, the one that began last, sub-agents aside. Raises ConfigurationError for what is neither, and for a session
    that is not there.

    `len`, indexes, iteration, navigation and search are over the steps that a filter lets through; the state is
    always that of everything before. Not for two threads at once.
    """

    _found: Found
    _session: SessionEvents | SessionRecords
    _states: StateFinder | None  # of an event log; shared by all replays of it
    _edits: dict[int, tuple[DebugStep, dict[str, Any]]]  # by number
    _shown: list[int] | None  # numbers that the filter lets through; None for all
    _position: int

    def __init__(self, told: Iterable[object], *, session_id: str | None = None) -> None:
        if isinstance(told, (str, bytes)) or hasattr(told, "__fspath__"):
            raise ConfigurationError(
                f"{told!r} refused because it is a path; give DebugReplay.open({told!r})"
            )
        vars(self).update(_begun(found_in_memory(told, session_id)))

    @classmethod
    def open(
        cls,
        source: Source,
        session_id: str | None = None,
        *,
        strict: bool = False,
        watch: Callable[[LogReader], Iterable[AgentEvent]] | None = None,
    ) -> Self:
        """Read a log: whatever `read_events` takes, and files of StepLog.

        strict: the first bad line raises. watch: yields the events of the reader it is given, to show how far it is.
        Raises LogError for what cannot be read or holds nothing to replay, ConfigurationError as the class does.
        """
        reader = read_events(source, strict=strict)
        replay = cls.__new__(cls)
        with reader:
            events = reader if watch is None else watch(reader)
            vars(replay).update(_begun(found_in_reader(reader, events, session_id)))
        return replay

    def _like(self, **other: Any) -> Self:
        """Return another replay of the same, at its beginning, with other values of its own."""
        fresh = copy.copy(self)
        vars(fresh).update({"_position": 0, **other})
        return fresh

    # --- what it is of

    @property
    def session_id(self) -> str:
        """The session, or the run of a step log."""
        return self._session.session_id

    @property
    def other_sessions(self) -> tuple[str, ...]:
        """The other sessions that the source holds, in the order of their first events."""
        return self._found.others

    @property
    def sessions(self) -> tuple[ListedSession, ...]:
        """All of them, this one too: what a person knows them by."""
        return self._found.listed

    @property
    def is_event_log(self) -> bool:
        """Whether events were recorded; a step log tells no transcript and no state but the totals."""
        return self._session.is_event_log

    @property
    def is_redacted(self) -> bool:
        """Whether something in it was masked, as its events say."""
        return isinstance(self._session, SessionEvents) and self._session.is_redacted

    @property
    def is_edited(self) -> bool:
        """Whether a step was edited."""
        return bool(self._edits)

    @property
    def path(self) -> str:
        """The file in which the session begins; "" for one that came from memory."""
        return self._session.path

    @property
    def bad(self) -> tuple[BadLine, ...]:
        """Lines that are neither events nor records, the first 1,000 of them; those of `left_out` are none."""
        return self._found.bad

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files of other records, which stood beside the log."""
        return self._found.left_out

    @property
    def bad_count(self) -> int:
        """How many there are."""
        return self._found.bad_count

    @property
    def newer_version(self) -> int | None:
        """The version of a log that is newer than what is known here."""
        return self._found.newer_version

    def events(self) -> Iterator[AgentEvent]:
        """Yield the session's events without the previews of answers; none for a step log. Superseded ones too."""
        if isinstance(self._session, SessionEvents):
            for _, event in self._session.events(0, len(self._session.store)):
                yield event

    # --- steps

    def __len__(self) -> int:
        return len(self._session.steps) if self._shown is None else len(self._shown)

    def __getitem__(self, index: int) -> DebugStep:
        return self._step(self._number(range(len(self))[index]))

    def __iter__(self) -> Iterator[DebugStep]:
        return (self._step(self._number(index)) for index in range(len(self)))

    def __repr__(self) -> str:
        kind = "session" if self.is_event_log else "run"
        return f"<DebugReplay of {kind} {self.session_id!r}: {self._position} of {len(self)} steps>"

    def content(self, index: int) -> dict[str, JSON]:
        """Return the facts of a step by name, as JSON: what a request answered, a call was given and gave.

        They are what `edit` changes. Raises IndexError.
        """
        facts = self._facts(self._number(range(len(self))[index]))
        told: dict[str, JSON] = msgspec.json.decode(msgspec.json.encode(facts))
        return told

    def _number(self, index: int) -> int:
        return index + 1 if self._shown is None else self._shown[index]

    def _step(self, number: int) -> DebugStep:
        edited = self._edits.get(number)
        step = self._session.steps[number - 1] if edited is None else edited[0]
        if self._edits and number > min(self._edits):
            return attrs.evolve(step, is_stale=True)
        return step

    def _facts(self, number: int) -> dict[str, Any]:
        edited = self._edits.get(number)
        return self._session.facts(number) if edited is None else edited[1]

    # --- going through it

    @property
    def position(self) -> int:
        """How many steps are over, of those that the filter lets through."""
        return self._position

    @property
    def current(self) -> DebugStep | None:
        """The step that was over last; None at the beginning."""
        return self[self._position - 1] if self._position else None

    def step(self) -> DebugStep | None:
        """Go over the next step and return it; None at the end."""
        if self._position == len(self):
            return None
        self._position += 1
        return self[self._position - 1]

    def back(self) -> DebugStep | None:
        """Go back over the last step and return it; None at the beginning."""
        if not self._position:
            return None
        self._position -= 1
        return self[self._position]

    def seek(self, position: int) -> None:
        """Go to where so many steps are over; a negative one counts from the end, as an index does.

        The length is the end. Raises IndexError for what is beyond, and leaves the position as it was.
        """
        length = len(self)
        if not -length <= position <= length:
            raise IndexError(f"position {position} refused; give -{length} to {length}")
        self._position = position + length if position < 0 else position

    def seek_number(self, number: int) -> None:
        """Go to where the step of this number is over, or the next one that the filter lets through.

        0 is the beginning. Raises IndexError where no such step comes.
        """
        last = self._number(len(self) - 1) if len(self) else 0
        if not 0 <= number <= last:
            raise IndexError(f"step {number} refused; give 0 to {last}")
        if self._shown is None or not number:
            self._position = number
        else:
            self._position = bisect.bisect_left(self._shown, number) + 1

    def reset(self) -> None:
        """Go to the beginning."""
        self._position = 0

    def filter(
        self,
        *,
        kind: str | Collection[str] | None = None,
        tool: str | Collection[str] | None = None,
        trouble: bool = False,
    ) -> Self:
        """Return a replay that goes only over the steps of these kinds and tools, of those that this one goes over.

        kind: one of KINDS, or several; what a step log calls it is understood. tool: a name, or several. trouble: only
        what failed, or has no end (`DebugStep.is_trouble`). The new one is at its beginning. Raises ConfigurationError
        for an unknown kind; a tool that nobody called matches nothing.
        """
        kinds = None if kind is None else kinds_of(kind)
        tools = None if tool is None else frozenset((tool,) if isinstance(tool, str) else tool)
        shown = [
            step.number
            for step in self
            if (kinds is None or step.kind in kinds)
            and (tools is None or step.tool in tools)
            and (step.is_trouble or not trouble)
        ]
        return self._like(_shown=shown)

    def search(self, text: str) -> tuple[int, ...]:
        """Return the indexes of the steps that say this somewhere, whatever the case: in a title, an input, a result….

        Names of fields and ids are not searched. Raises ConfigurationError for an empty text.
        """
        if not text:
            raise ConfigurationError(f"search for {text!r} refused because it is empty; give a text")
        wanted = text.casefold()
        found = {step.number for step in self if wanted in step.title.casefold()}
        found |= self._recorded_with(wanted) - set(self._edits)
        found |= {number for number, (_, facts) in self._edits.items() if _says(facts, wanted)}
        numbers = range(1, len(self) + 1) if self._shown is None else self._shown
        return tuple(index for index, number in enumerate(numbers) if number in found)

    def _recorded_with(self, wanted: str) -> set[int]:
        """Return the numbers of the steps in whose lines this stands."""
        session = self._session
        found: set[int] = set()
        in_json = json.dumps(wanted, ensure_ascii=False)[1:-1].casefold()
        for first, lines in session.store.blocks():
            if in_json not in b"\n".join(lines).decode("utf-8", "replace").casefold():
                continue  # most blocks, in a tenth of the time
            for place, line in enumerate(lines, first):
                number = session.step_at(place)
                if number in found or in_json not in line.decode("utf-8", "replace").casefold():
                    continue
                if any(_says(value, wanted) for value in session.texts_at(line)):
                    found.add(number)
        return found

    # --- the whole

    def summary(self) -> DebugSummary:
        """Return how the session went, all of it, whatever a filter lets through; as it was recorded."""
        session = self._session
        totals = session.totals(len(session.steps))
        return summary_of(session.steps, totals, is_event_log=self.is_event_log)

    # --- the state

    def state(self) -> DebugState:
        """Return where the session stands at the position: after the last step that is over, and all before it."""
        return self.state_after(self._number(self._position - 1) if self._position else 0)

    def state_after(self, number: int) -> DebugState:
        """Return where the session stands after the step of this number; 0 is the beginning. Raises IndexError."""
        session = self._session
        if not 0 <= number <= len(session.steps):
            raise IndexError(f"step {number} refused; give 0 to {len(session.steps)}")
        totals = session.totals(number)
        is_stale = bool(self._edits) and number >= min(self._edits)
        if self._states is None:
            return DebugState(number=number, session_id=self.session_id, totals=totals, is_stale=is_stale)
        step = session.steps[number - 1] if number else None
        last_seq = 0 if step is None or step.is_superseded else step.last_seq
        return state_of(
            self._states.at(session.cut(number)),
            number=number,
            session_id=self.session_id,
            last_seq=last_seq,
            totals=totals,
            is_stale=is_stale,
        )

    # --- editing and comparing

    def edit(self, index: int, /, **changes: Any) -> Self:
        """Return a replay in which this step says something else, and all later ones are stale; this one is unchanged.

        changes: facts of the step, as `content` names them, or its title, tool, status or duration_ms. What was
        recorded is not run again: states and totals stay those of the record, and say that they are stale.
        Raises IndexError; ConfigurationError for a name that the step does not have, with the nearest right one.
        """
        number = self._number(range(len(self))[index])
        edited = edited_step(self._step(number), self._facts(number), changes)
        return self._like(_edits={**self._edits, number: edited}, _position=self._position)

    def difference(self, other: DebugReplay) -> DebugDifference:
        """Return what differs: fields with both values, and steps that only one of the two has.

        Compared are the steps that each one's filter lets through, matched by kind and tool in their order. Times, ids
        of runs and numbers are not compared, nor durations, but of edited steps.
        """
        if not isinstance(other, DebugReplay):
            raise ConfigurationError(f"{other!r} refused because it is no DebugReplay; give one")
        return difference_of(list(self), list(other), self.content, other.content)


def _begun(found: Found) -> dict[str, Any]:
    """Return what a replay has in the beginning, by the names of its attributes."""
    session, states = found.session, None
    if isinstance(session, SessionEvents):
        states = StateFinder(session.counting, session.store.block_of)
    return {
        "_found": found,
        "_session": session,
        "_states": states,
        "_edits": {},
        "_shown": None,
        "_position": 0,
    }


def _says(value: Any, wanted: str) -> bool:
    """Whether a text stands in a value, or in what it holds."""
    if isinstance(value, str):
        return wanted in value.casefold()
    if isinstance(value, dict):
        return any(_says(each, wanted) for each in (*value, *value.values()))
    if isinstance(value, (list, tuple)):
        return any(_says(each, wanted) for each in value)
    if isinstance(value, msgspec.Struct):
        names = (name for name in value.__struct_fields__ if name not in _NOT_SEARCHED)
        return any(_says(getattr(value, name), wanted) for name in names)
    return value is not None and wanted in str(value).casefold()
