"""A new session that begins where a debug replay stands, in a log of its own.

The agent is rebuilt from the log: its name, model, system prompt, parameters and tools are those of that point, and
none of them is used here. The new run is ended at once; whoever goes on with the session does so with a real agent.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import attrs

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.models.scripted import ScriptedModel
from agentkit_loop.resuming import History, awaits_answer, read_history
from agentkit_loop.stand_ins import StandIns
from agentkit_reporting.analysis.debug_replay import DebugReplay
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.locks import make_private
from agentkit_reporting.log.places import make_directories
from agentkit_reporting.log.segments import PACKED_SUFFIXES, log_of
from agentkit_reporting.terminal import counted

__all__ = ["DebugFork", "fork_path", "write_fork"]

_MOST_NAMES = 10_000  # that are tried for a fork beside its log


@attrs.frozen(kw_only=True)
class DebugFork:
    """A fork that was written.

    path: its log. session_id: of the new session. seq: the last event of the old one that counts. tools: what the
    agent had at that point. awaits_answer: whether the model answers by itself when the session is gone on with;
    else it waits for input. is_redacted: whether masks stand in place of something in the log.
    """

    path: Path
    session_id: str
    source_session_id: str
    seq: int
    tools: tuple[str, ...]
    awaits_answer: bool
    is_redacted: bool


def write_fork(replay: DebugReplay, path: str | os.PathLike[str]) -> DebugFork:
    """Write a new session that goes on from where a replay stands; `agent.resume` of that log goes on with it.

    path: a file that is not there yet. Raises ConfigurationError where no session can go on from this point,
    ResumeError for a log that is not whole, LogError for a file that is there or cannot be written.
    """
    _refuse(replay)
    told = list(replay.events())
    history = read_history(told, session_id=replay.session_id, at=replay.state().seq)
    agent, written = _agent(told, history)
    with agent, agent.fork(told, at=history.state.seq, source_session_id=replay.session_id) as driver:
        session_id = driver.session_id
    place = Path(path)
    _write(place, b"".join(encode_event(event) + b"\n" for event in written))
    return DebugFork(
        path=place,
        session_id=session_id,
        source_session_id=replay.session_id,
        seq=history.state.seq,
        tools=tuple(history.state.tools),
        awaits_answer=awaits_answer(history.state),
        is_redacted=replay.is_redacted,
    )


def _refuse(replay: DebugReplay) -> None:
    """Refuse a point from which no session can go on."""
    if not replay.is_event_log:
        raise ConfigurationError(
            "fork refused because a step log holds no conversation; give the event log of the run"
        )
    if replay.is_edited:
        raise ConfigurationError(
            "fork refused because the replay was edited, and a fork begins with what was recorded; fork the original"
        )
    state = replay.state()
    if not state.seq:
        raise ConfigurationError("fork refused because nothing has happened here yet; go to a later step")
    if state.open_calls:
        names = ", ".join(sorted({call.tool for call in state.open_calls})[:5])
        raise ConfigurationError(
            f"fork refused because {counted(len(state.open_calls), 'call')} ({names}) had no result yet; go to a step "
            "where all have theirs, or to one before they were asked for"
        )


def _agent(told: list[AgentEvent], history: History) -> tuple[Agent, list[AgentEvent]]:
    """Return the agent as it was at that point, and the list that its events come to."""
    state = history.state
    started = [
        event
        for event in told
        if isinstance(event, RunStarted) and event.run_id == state.run_id and event.seq <= state.seq
    ][-1]
    written: list[AgentEvent] = []
    agent = Agent(
        ScriptedModel([], name=started.model),
        tools=StandIns(None, live=False).catalog(state.tools.values(), frozenset()).values(),
        system=started.system,
        name=started.agent_name,
        parameters=started.parameters,
        prices=None,
        observers=[written.append],
    )
    return agent, written


def fork_path(replay: DebugReplay) -> Path:
    """Return a free name for a fork beside its log: `run-fork-12.jsonl` of `run.jsonl` at step 12.

    Without a file, in the working directory. Raises LogError where too many of them are there.
    """
    step = replay.current
    source = Path(replay.path) if replay.path and not replay.path.startswith("<") else Path("session.jsonl")
    if source.suffix in PACKED_SUFFIXES:
        source = source.with_suffix("")
    source = log_of(source) or source
    stem = f"{source.stem}-fork-{0 if step is None else step.number}"
    for number in range(1, _MOST_NAMES):
        place = source.with_name(f"{stem}{'' if number == 1 else f'-{number}'}.jsonl")
        if not os.path.lexists(place):
            return place
    raise LogError(f"fork refused because {_MOST_NAMES:,} are there; give a path", path=str(source))


def _write(place: Path, lines: bytes) -> None:
    """Write a new file, mode 0600; raises LogError, and then leaves none."""
    fd = -1
    try:
        make_directories(place.parent)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        make_private(fd)
        with open(fd, "wb") as file:  # noqa: PTH123 - by its descriptor
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise LogError(
            "fork refused because there is such a file already; give another path", path=str(place)
        ) from None
    except (OSError, ValueError) as error:
        if fd >= 0:
            with contextlib.suppress(OSError):
                place.unlink()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise LogError(f"fork refused because of: {reason}; give another path", path=str(place)) from error
