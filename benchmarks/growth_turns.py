"""What a turn costs late in a session, over what it costs early: ours, and beside it the bare SDK.

The tool that each turn calls notes the CPU time of the process, so that both loops are measured in the same way by
what neither knows of. The SDK makes the JSON of the whole history for each request: that part grows with whoever uses
it, and is shown in a row of its own. Ours beyond the bare SDK's own is flat where it grows by no more than that. Held
against the SDK's transport alone, with the options that ours gives it, it shows what making the request's messages out
of the items takes, which is ours.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from agentkit_loop import Agent, ModelRequest, Reply, ScriptedCall, ScriptedModel, tool
from agentkit_loop.models.anthropic_wire import wire_tool
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter
from benchmarks.growing import FLAT, require
from benchmarks.latency import KEY
from benchmarks.loop import OWN, Ours
from benchmarks.measure import Row
from benchmarks.references import BareSDK, OwnDecode
from benchmarks.server import StreamServer
from benchmarks.session import PROMPT, Session, make_session, read_lines

NO_MORE = 1.1
"""How much of what the bare SDK's turns grow by, ours may grow by: more than that would be of our own making."""


@attrs.frozen
class Turns:
    """Which turns are compared, and over how many around each; how many deltas each answer has."""

    early: int = 20
    late: int = 320
    around: int = 20
    deltas: int = 50

    @property
    def count(self) -> int:
        """Turns of the session that is played."""
        return self.late + self.around // 2 + 1


@attrs.define
class Costs:
    """Seconds of CPU that a turn took, early and late: a median for each session."""

    early: list[float] = attrs.Factory(list)
    late: list[float] = attrs.Factory(list)

    @property
    def growth(self) -> list[float]:
        """What a late turn took more than an early one, for each session."""
        return [late - early for late, early in zip(self.late, self.early, strict=True)]


class NotedTool:
    """`read_lines`, and the CPU time of the process at each call of it."""

    def __init__(self) -> None:
        self._at: list[float] = []

        @functools.wraps(read_lines)
        def noted(path: str, first: int, last: int) -> str:
            self._at.append(time.process_time())
            return read_lines(path, first, last)

        self.body = noted

    def clear(self) -> None:
        """Forget the calls of the last session."""
        self._at.clear()

    def add_to(self, costs: Costs, turns: Turns) -> None:
        """Add what the turns of the last session took."""
        for turn, kept in ((turns.early, costs.early), (turns.late, costs.late)):
            first = turn - turns.around // 2
            noted = self._at[first : first + turns.around]
            took = [after - before for before, after in itertools.pairwise(noted)]
            kept.append(statistics.median(took))


def turn_rows(rounds: int, turns: Turns) -> list[Row]:
    """Return the rows: what ours and the bare SDK's grow by, a session without a network, and both as they are."""
    ours, bare, own = over_the_network(rounds, turns)
    scripted = without_a_network(rounds, turns)
    name, early = f"turn {turns.late}", f"turn {turns.early}"
    return [
        Row.of(
            f"{name}: more than turn {turns.early}",
            ours.growth,
            bare.growth,
            against="what the bare SDK's turn takes more, the JSON of its history",
            pieces=1,
            bound=NO_MORE,
        ),
        Row.of(
            f"{name}: more than turn {turns.early}",
            ours.growth,
            own.growth,
            against=f"what a turn of {OWN} takes more",
            pieces=1,
            bound=NO_MORE,
        ),
        Row.of(f"{name}, scripted model", scripted.late, scripted.early, against=early, pieces=1, bound=FLAT),
        Row.of(f"{name}, history sent", ours.late, ours.early, against=f"{early}, ours too", pieces=1),
        Row.of(f"{name}, bare SDK", bare.late, bare.early, against=f"{early}, bare SDK too", pieces=1),
        Row.of(f"{name}, both", ours.late, bare.late, against=f"{name}, bare SDK", pieces=1),
    ]


def over_the_network(rounds: int, turns: Turns) -> list[Costs]:
    """Play sessions against a server in turns; return what turns took: ours, the bare SDK's, its transport's alone."""
    import anthropic  # noqa: PLC0415 - takes seconds, and the other benchmarks need it not

    session = make_session(turns.count, turns.deltas)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(StreamServer(turns.count, turns.deltas))
        address = server.base_url("event")
        ours_noted, bare_noted, own_noted = NotedTool(), NotedTool(), NotedTool()
        ours = Ours(address, stack.enter_context(tempfile.TemporaryDirectory()), ours_noted.body)
        stack.callback(ours.model.close)
        client = stack.enter_context(anthropic.Anthropic(base_url=address, api_key=KEY))
        own_client = stack.enter_context(
            anthropic.Anthropic(base_url=address, api_key=KEY, max_retries=0, open_telemetry=False)
        )
        schema = wire_tool(tool(read_lines).spec)
        bare, own = BareSDK(bare_noted.body, schema), OwnDecode(own_noted.body, schema)

        def play_ours() -> None:
            ours.run()
            ours.seen().check(session, "ours")

        def play_bare() -> None:
            bare.run(client).check(session, "bare SDK")

        def play_own() -> None:
            own.run(own_client).check(session, OWN)

        ways = [(ours_noted, play_ours), (bare_noted, play_bare), (own_noted, play_own)]
        return _played(ways, rounds, turns)


def without_a_network(rounds: int, turns: Turns) -> Costs:
    """Play sessions of a scripted model; return what turns took: nothing of that is anybody else's."""
    session, noted = make_session(turns.count, turns.deltas), NotedTool()

    def play() -> None:
        played_without_a_network(session, noted.body, turns.deltas)

    return _played([(noted, play)], rounds, turns)[0]


def played_without_a_network(session: Session, body: Callable[..., str], deltas: int) -> None:
    """Play the calls of a session with a scripted model; check the transcript."""
    text = ("a dozen char" * deltas)[: 12 * deltas]
    calls = iter(session.inputs)

    def reply(request: ModelRequest) -> Reply:
        del request
        model.requests.clear()  # it keeps them all, each with its whole history
        given = next(calls, None)
        return Reply(
            text=text, calls=() if given is None else (ScriptedCall(name="read_lines", input=given),)
        )

    model = ScriptedModel(reply)
    with tempfile.TemporaryDirectory() as folder:
        transcript = TranscriptReporter()
        observers = [JsonlReporter(Path(folder) / "session.jsonl"), UsageReporter(), transcript]
        with Agent(model, tools=[tool(body)], observers=observers) as agent:
            require(agent.run(PROMPT).text, text, "the answer of the scripted session")
        require(len(transcript.items()), 2 * len(session.answers), "items of the scripted session")


def _played(ways: Sequence[tuple[NotedTool, Callable[[], object]]], rounds: int, turns: Turns) -> list[Costs]:
    """Play each way in turns, after a first time that does not count."""
    found = [Costs() for _ in ways]
    for timed in (False, *[True] * rounds):
        for (noted, play), costs in zip(ways, found, strict=True):
            noted.clear()
            gc.collect()
            gc.disable()  # its passes come when they like, and would count for one turn
            try:
                play()
            finally:
                gc.enable()
            if timed:
                noted.add_to(costs, turns)
    return found
