"""Which events of a session count: its numbers, its runs, and what a resume superseded (DESIGN sections 3, 4, 6).

The events of a session are a chain, `seq` 1, 2, 3 … over all its runs. A run that goes on from another one says
after which number; what the other told after that (its process was not dead after all) is superseded. Where it
told that before the resume's own events in the log, it was judged already when the resume is met: that is a
`Rewind`, and a second pass over the log leaves it out.

A log that was written without previews has gaps. They are harmless where nothing but previews can be missing: in a
run that shows none, inside a part that has begun and is not committed, with no broken line in between, and where at
least as many characters of its text are not there (`Holes`). Of a run that shows some, others were lost on the way:
no fold reads them, and yet that is told, since the log has less than the run, and no resume goes on with it.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Protocol, TypeAlias

import attrs

from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_reporting.conformance.book import Book, Holes
from agentkit_reporting.conformance.runs import RunRules, is_of_recovery

Place: TypeAlias = tuple[str, int]
"""A path, and a line from 1."""

_MOST_STRANGERS = 100  # runs that do not belong to the session, kept by id
_MOST_DOUBTFUL = 1_000  # held until it is known whether a resume explains them
_GAPS_KEPT = 64  # so that what comes late is told from what comes twice


_NOBODY: frozenset[str] = frozenset()  # once for all: each of its own would take 216 bytes


class Verdict(enum.Enum):
    """What becomes of an event: it counts, it does not, or it begins the session anew."""

    COUNTS = enum.auto()
    IGNORED = enum.auto()
    BEGINS_ANEW = enum.auto()


@attrs.frozen
class Rewind:
    """Events that do not count and stand before the resume's own: from number `seq` on.

    until: the resume's place, which is how many events of the session stand before it in the log. but: places
    before that which count.
    """

    seq: int
    until: int
    but: frozenset[int]


class Told(Protocol):
    """Hears of each fault; place: None for that of the event that was given last."""

    def __call__(self, event: AgentEvent, text: str, place: Place | None = None) -> None:
        """Take a fault."""


class Numbers:
    """Follows the numbers and runs of one session, and tells what is wrong with them.

    count: events of the session so far. bad_count: lines of the log that were no event, up to its last one.
    removed: events before the first that is there, which retention took away with a segment. is_trimmed: whether it
    did so with the log that a path belongs to.
    unlogged: previews that were not written. missing: other events that are not there. rewinds: see above.
    is_blind: too much is missing to judge by more than numbers.
    """

    __slots__ = (
        "_book", "_doubtful", "_earlier", "_forgiven", "_forgiven_count", "_gaps", "_rewound", "_run_id", "_runs",
        "_strangers", "_tell", "bad_count", "count", "is_blind", "is_trimmed", "missing", "removed",
        "rewinds", "unlogged",
    )  # fmt: skip

    def __init__(self, book: Book, runs: RunRules, tell: Told, rewinds: tuple[Rewind, ...] = ()) -> None:
        self._book = book
        self._runs = runs
        self._tell = tell
        self._rewound = rewinds  # of the first pass
        self._run_id: str | None = None  # of the last event that counts
        self._earlier: dict[str, int] = {}  # runs that another went on from: the number from which that is so
        self._strangers = _NOBODY
        # Of the open run, from the first on whose number was told before: perhaps two processes wrote it. What
        # counted has no place here.
        self._doubtful: tuple[tuple[int, AgentEvent, Place | None], ...] = ()
        self._gaps: tuple[tuple[int, int], ...] = ()  # the last few: first and last number that is missing
        self._forgiven: tuple[AgentEvent, Place, int, int] | None = None  # the first harmless gap of the run
        self._forgiven_count = 0  # what is missing in all of them
        self.bad_count = 0
        self.count = 0
        self.unlogged = 0
        self.missing = 0
        self.removed = 0
        self.is_trimmed: Callable[[str], bool] = lambda _: False
        self.rewinds: tuple[Rewind, ...] = ()
        self.is_blind = False
        if rewinds:
            self._follow()

    @property
    def last(self) -> int:
        """The number of the last event that counts."""
        return self._book.seq

    @property
    def runs(self) -> int:
        """How many runs of the session count."""
        return len(self._earlier) + (self._run_id is not None)

    @property
    def is_doubtful(self) -> bool:
        """Whether numbers were told twice and nobody knows yet why."""
        return bool(self._doubtful)

    def knows(self, run_id: str) -> bool:
        """Whether the run belongs to the session, or was met in it."""
        return run_id == self._run_id or run_id in self._earlier or run_id in self._strangers

    def take(self, event: AgentEvent, bad_count: int, place: Place) -> Verdict:
        """Say whether the session's next event counts; bad_count: lines so far that were no event."""
        self.count += 1
        if self._rewound and self._is_left_out(event):
            return Verdict.IGNORED
        if event.seq == self.last + 1 and event.run_id == self._run_id:
            verdict = Verdict.COUNTS
            if self._doubtful and is_of_recovery(event):
                self._doubt(event, None)
        elif self._run_id is None:
            verdict = self._first(event, is_trimmed=event.seq > 1 and self.is_trimmed(place[0]))
        elif isinstance(event, RunStarted) and not self.knows(event.run_id):
            verdict = self._start(event, bad_count, place)
        elif event.run_id == self._run_id:
            verdict = self._of_open_run(event, bad_count, place)
        else:
            verdict = self._of_other_run(event)
        if verdict is Verdict.COUNTS:
            self.bad_count = bad_count
            if self.is_blind:
                self._book.seq = event.seq
        return verdict

    def settle(self) -> None:
        """Tell what was waited with, since the log ends here, or the run."""
        if self._doubtful:
            self._tell_doubtful(2**63)
        if self._forgiven is not None:
            self._judge_forgiven(*self._forgiven)
        self._forgiven, self._forgiven_count = None, 0

    # --- what is not simply the next one

    def _is_left_out(self, event: AgentEvent) -> bool:
        """Whether the first pass found that the event does not count."""
        place = self.count - 1
        self._rewound = tuple(each for each in self._rewound if place < each.until)
        self._follow()
        return any(event.seq >= each.seq and place not in each.but for each in self._rewound)

    def _go_blind(self) -> None:
        self.is_blind = True
        self._follow()

    def _follow(self) -> None:
        self._runs.is_followed = not (self.is_blind or self._rewound or self._doubtful)

    def _counts(self, event: AgentEvent) -> Verdict:
        self._book.seq = event.seq - 1  # gaps are told here; the rules count on from it
        if isinstance(event, RunStarted) or self._run_id is None:
            self._run_id = event.run_id
        return Verdict.COUNTS

    def _first(self, event: AgentEvent, *, is_trimmed: bool) -> Verdict:
        if event.seq > 1 and is_trimmed:
            self.removed = event.seq - 1
            self._go_blind()
        elif event.seq > 1:
            self.missing += event.seq - 1
            self._gaps = ((1, event.seq - 1),)
            self._go_blind()
            first = "event 1" if event.seq == 2 else f"events 1 to {event.seq - 1}"  # noqa: PLR2004 - one is missing
            self._tell(event, f"begins without {first}; the session is judged by its numbers alone")
        return self._counts(event)

    def _tell_doubtful(self, superseded_from: int) -> None:
        for _, event, place in self._doubtful:
            if place is not None and event.seq < superseded_from:
                self._tell(event, "its number was told before", place)
        self._doubtful = ()
        self._follow()

    def _start(self, event: RunStarted, bad_count: int, place: Place) -> Verdict:
        before = event.resumed_run
        if before is None and event.seq == 1:
            self.count -= 1  # it is of the session that begins
            return Verdict.BEGINS_ANEW
        if before is not None and before != self._run_id and self.knows(before):
            self._tell(
                event, f"two runs at once: {before} was gone on from before, by {self._run_id} at last"
            )
            return self._strange(event)
        superseded_from = min(self._runs.recoverable_from, event.seq)
        recovery = self._recovery(event) if before == self._run_id else []
        if event.seq <= self.last or (recovery and recovery[-1][1] < superseded_from):
            if before != self._run_id:
                self._tell(event, "stands behind later events, and goes on from none of the runs before it")
                return self._strange(event)
            superseded_from = recovery[-1][1] if recovery else event.seq
            but = frozenset(place for place, _ in recovery)
            self.rewinds = (*self.rewinds, Rewind(superseded_from, self.count - 1, but))
            self._go_blind()  # what is superseded was judged already
        elif event.seq > self.last + 1:
            self._gap(event, bad_count, place)
        self._tell_doubtful(superseded_from)
        self.settle()
        if self._run_id is not None:
            self._earlier[self._run_id] = superseded_from
        return self._counts(event)

    def _recovery(self, start: RunStarted) -> list[tuple[int, int]]:
        """Return place and number of what this resume told before it began, as far as there was doubt; last first."""
        found: list[tuple[int, int]] = []
        for place, event, _ in reversed(self._doubtful):
            if event.seq == start.seq - 1 - len(found) and is_of_recovery(event):
                found.append((place, event.seq))
        return found

    def _of_open_run(self, event: AgentEvent, bad_count: int, place: Place) -> Verdict:
        if event.seq == self.last + 1:
            return self._counts(event)
        if event.seq > self.last:
            self._gap(event, bad_count, place)
            return self._counts(event)
        if any(first <= event.seq <= last for first, last in self._gaps):
            self._tell(event, "stands behind later events")
        elif isinstance(event, RunStarted):
            self._tell(event, "its number was told before")
        else:
            self._doubt(event, place)
        return Verdict.IGNORED

    def _doubt(self, event: AgentEvent, place: Place | None) -> None:
        if len(self._doubtful) >= _MOST_DOUBTFUL:
            self._tell_doubtful(2**63)
        self._doubtful = (*self._doubtful, (self.count - 1, event, place))
        self._follow()

    def _of_other_run(self, event: AgentEvent) -> Verdict:
        superseded_from = self._earlier.get(event.run_id)
        if superseded_from is not None:
            if event.seq < superseded_from:
                self._tell(event, "its number was told before")
            return Verdict.IGNORED
        if event.run_id in self._strangers:
            return Verdict.IGNORED
        if event.seq == self.last + 1:
            return self._counts(event)  # a rule says what is wrong with it
        self._tell(event, f"is of run {event.run_id}, whose run_started is not there")
        return self._strange(event)

    def _strange(self, event: AgentEvent) -> Verdict:
        if len(self._strangers) < _MOST_STRANGERS:
            self._strangers |= {event.run_id}
        return Verdict.IGNORED

    # --- what is missing

    def _gap(self, event: AgentEvent, bad_count: int, place: Place) -> None:
        first, last = self.last + 1, event.seq - 1
        asked = self._book.request if event.run_id == self._run_id else None
        in_part = asked is not None and asked.is_in_part
        if asked is not None and in_part and bad_count == self.bad_count and not self.is_blind:
            self.unlogged += last - first + 1
            self._forgiven_count += last - first + 1
            if self._forgiven is None:
                self._forgiven = (event, place, first, last)
            if asked.holes is None:
                asked.holes = Holes(functools.partial(self._judge_holes, event, place, first, last))
            asked.holes.add(asked, last - first + 1)
            return
        self.missing += last - first + 1
        self._gaps = (*self._gaps[1 - _GAPS_KEPT :], (first, last))
        if self.is_blind:
            self._tell(event, "more is missing before it")
            return
        text = _missing(first, last)
        if not in_part:
            self._go_blind()
            text += "; what follows in the session is judged by its numbers alone"
        self._tell(event, text)

    def _judge_holes(self, event: AgentEvent, place: Place, first: int, last: int, holes: Holes) -> None:
        """Tell of a request in which more is missing than its previews; the other values: of its first gap."""
        lost = holes.missing - int(holes.unshown)
        self.unlogged -= lost
        self.missing += lost
        self._forgiven_count -= holes.missing
        if self._forgiven is not None and self._forgiven[0] is event:
            self._forgiven = None  # told here
        text = _missing(first, last)
        if holes.missing > last - first + 1:
            text += f", and {holes.missing - (last - first + 1)} more before the request ends"
        if holes.hide_more:
            said = "not only previews, since the end of a part is among them"
        elif holes.unshown:
            said = f"only {int(holes.unshown)} can be previews"
        else:
            said = "the whole text is there"
        self._tell(event, f"{text}; {said}", place)

    def _judge_forgiven(self, event: AgentEvent, place: Place, first: int, last: int) -> None:
        """Tell that a run lost previews, if it shows others."""
        book = self._book
        if book.request is not None:
            book.note_previews(book.request)
        if book.previewed != event.run_id:
            return
        lost = self._forgiven_count
        self.unlogged -= lost
        self.missing += lost
        more = lost - (last - first + 1)
        text = _missing(first, last) + (f", and {more} more in the run" if more > 0 else "")
        self._tell(
            event, f"{text}; they can be previews, which the run shows elsewhere: dropped or lost", place
        )


def _missing(first: int, last: int) -> str:
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"
