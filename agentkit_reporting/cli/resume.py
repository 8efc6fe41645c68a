"""`agentkit resume`: go on with a session of a log, in that log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit_loop.errors import ConfigurationError, ModelError
from agentkit_reporting.cli.answering import answer_options
from agentkit_reporting.cli.file_agent import agent_options
from agentkit_reporting.cli.session_option import session_option

if TYPE_CHECKING:
    from agentkit_loop.agent import Agent
    from agentkit_loop.driver import LoopDriver
    from agentkit_loop.models.anthropic import AnthropicModel
    from agentkit_loop.state import LoopState
    from agentkit_loop.steps import ApprovalRequest, RunResult
    from agentkit_reporting.cli.answering import Answering, Outcome
    from agentkit_reporting.cli.reading import KeptEvents
    from agentkit_reporting.cli.run_log import RunLog

TERMINAL = "/dev/tty"
"""Where a person is asked, whatever stdin and stdout are."""

_OPTION_OF = {"write_file": "--allow-write", "edit_file": "--allow-write", "run_command": "--allow-command"}
_OF_THE_DEFAULT_AGENT = frozenset(
    {"model", "system", "allow_write", "allow_command", "patterns", "base_url", "max_tokens", "timeout_s"}
)


@click.command("resume")
@click.argument("log", metavar="LOG")
@click.argument("prompt", metavar="[PROMPT|-]", required=False)
@click.option(
    "--agent",
    "named",
    metavar="MODULE:NAME",
    help="The agent that goes on. Default: that of `agentkit run`, by the options below; its model and system "
    "prompt are those in the log where they are not given.",
)
@session_option("Which session, where the log holds several; the end of an id is enough.")
@click.option(
    "--trust-approvals",
    is_flag=True,
    help="Run what was approved and not started without asking again: the log may have been edited since.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Go on in spite of a newer version, an edited transcript, two runs at once, or a tool that is missing.",
)
@agent_options
@answer_options
@click.pass_context
def command(
    context: click.Context, /, *, log: str, prompt: str | None, session_id: str | None, **options: Any
) -> int:
    """Go on with the session in LOG, and write on into it; with PROMPT, which may be - for stdin, ask more.

    LOG is a file, or a directory with a file for each session. What a crash left open is closed first; calls that
    had started are answered as interrupted. What waits for an approval is asked on the terminal; without one it
    stays open, and is told.

    Exit 0 for a whole answer, 1 for a failure or an answer that was cut, refused or is still open, 2 for wrong
    usage or a log that does not fit together, 130 after Ctrl-C.
    """
    from agentkit_reporting.cli.run import prompt_of  # noqa: PLC0415 - not for --help

    asked = None if prompt is None else prompt_of(prompt)
    sizes, events = _sizes(log), _kept(log)
    state = _read(events, session_id, force=options["force"])
    run_log = _log(log, state.session_id)
    with run_log.held(state.session_id):
        if _sizes(log) != sizes:  # somebody wrote on while it was read
            events = _kept(log)
            state = _read(events, state.session_id, force=options["force"])
        outcome = _go_on(context, options, asked, state, events, run_log)
    if isinstance(outcome.error, ModelError) and context.obj:  # --debug
        raise outcome.error
    return outcome.exit_code


def _sizes(log: str) -> dict[Path, int]:
    """Return how long the files of a log are."""
    path = Path(log)
    files = path.rglob("*.jsonl") if path.is_dir() else [path]
    return {file: file.stat().st_size for file in files if file.is_file()}


def _go_on(
    context: click.Context,
    options: dict[str, Any],
    asked: str | None,
    state: LoopState,
    events: KeptEvents,
    run_log: RunLog,
) -> Outcome:
    """Go on with a session that nobody else goes on with."""
    from agentkit_reporting.cli.answering import Answering  # noqa: PLC0415 - not for --help

    if asked is None and not _has_to_go_on(state):
        raise ConfigurationError(
            f"session {state.session_id} has nothing to go on with, its last exchange is finished; give a PROMPT"
        )
    with contextlib.ExitStack() as stack:
        answering = Answering(options, run_log, resumed=True)
        agent = _agent(context, stack, options, answering, events, run_log, state.session_id)
        if not options["force"]:
            _check_tools(agent, state, options["named"])
        run_log.try_it()

        def start() -> LoopDriver:
            return agent.resume(
                events,
                session_id=state.session_id,
                trust_approvals=options["trust_approvals"],
                force=options["force"],
            )

        root = (
            options["root"] if options["named"] is None else None
        )  # where an own agent's tools write, it knows
        asks_itself = options["named"] is None and (options["allow_write"] or options["allow_command"])
        approver = None if asks_itself else _approver(root, colour=options["colour"])
        return answering.run(agent, start, lambda driver: _drive(driver, asked, approver))


def _kept(path: str) -> KeptEvents:
    """Return the events of a log that can be written on; raises ConfigurationError for another."""
    from agentkit_reporting.cli.reading import KeptEvents, tell_of_bad_lines  # noqa: PLC0415 - not for --help
    from agentkit_reporting.log.read import read_events  # noqa: PLC0415 - as above

    if path == "-" or not Path(path).exists():
        what = "it is no file to write on into" if path == "-" else "there is no such file"
        raise ConfigurationError(f"log {path!r} refused because {what}; give the session's")
    if path.endswith((".gz", ".zst")):
        raise ConfigurationError(f"log {path!r} refused because it is compressed; give the one it came from")
    reader = read_events(path)
    events = KeptEvents(reader)
    tell_of_bad_lines(reader)
    return events


def _read(events: KeptEvents, session_id: str | None, *, force: bool) -> LoopState:
    """Return the session's state. Raises ConfigurationError, ResumeError."""
    from agentkit_loop.resuming import read_history  # noqa: PLC0415 - not for --help
    from agentkit_reporting.cli.reading import in_words_of_options  # noqa: PLC0415 - as above

    with in_words_of_options():
        return read_history(events, session_id=events.session_of(session_id), force=force).state


def _has_to_go_on(state: LoopState) -> bool:
    """Whether the model has still to answer, or an exchange is open."""
    return state.exchange_is_open or state.input_unanswered or state.round_unanswered


def _log(path: str, session_id: str) -> RunLog:
    """Return the log that is written on; raises ConfigurationError where the session is in no file of its own."""
    from agentkit_reporting.cli.run_log import RunLog  # noqa: PLC0415 - not for --help

    log = RunLog(path, per_session=Path(path).is_dir())
    if log.path_of(session_id) is None:
        raise ConfigurationError(
            f"log {path!r} refused because session {session_id} has no file of its own there; give its file"
        )
    return log


def _agent(
    context: click.Context,
    stack: contextlib.ExitStack,
    options: dict[str, Any],
    answering: Answering,
    events: KeptEvents,
    log: RunLog,
    session_id: str,
) -> Agent:
    """Return the agent that goes on, with the observers of this command."""
    named = options["named"]
    if named is not None:
        from agentkit_reporting.cli.agents import agent_of  # noqa: PLC0415 - not for --help

        _refuse_beside_an_agent(context)
        agent = agent_of(named)
        own = [
            each for each in answering.observers if each is not log or not _writes_to(agent, log, session_id)
        ]
        agent.observers = (*agent.observers, *own)
        return agent
    from agentkit_loop.events import RunStarted  # noqa: PLC0415 - as above
    from agentkit_reporting.cli.file_agent import file_agent, model_of, system_text  # noqa: PLC0415 - as above

    started = [event for event in events if isinstance(event, RunStarted) and event.session_id == session_id]
    default = click.core.ParameterSource.DEFAULT
    given = dict(options)
    if context.get_parameter_source("model") is default:
        given["model"] = started[-1].model
    is_told = context.get_parameter_source("system") is not default
    system = system_text(options["system"]) if is_told else started[-1].system
    model: AnthropicModel = stack.enter_context(contextlib.closing(model_of(context, given)))
    return file_agent(
        model,
        given,
        observers=answering.observers,
        prices=answering.prices,
        log=log,
        system=system,
        leave_open=True,
    )


def _refuse_beside_an_agent(context: click.Context) -> None:
    """Refuse options that would do nothing: an agent of one's own has its model, prompt and tools."""
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if name in _OF_THE_DEFAULT_AGENT and is_given:
            raise ConfigurationError(
                f"{parameter.opts[0]} refused beside --agent, whose agent has its own; give one of them"
            )


def _check_tools(agent: Agent, state: LoopState, named: str | None) -> None:
    """Refuse an agent without the tools whose calls wait for an answer: nobody's yes could run them."""
    for call in state.calls.values():
        if call.is_pending and call.part.name not in agent.tools:
            option = _OPTION_OF.get(call.part.name) if named is None else None
            raise ConfigurationError(
                f"session {state.session_id} waits for an answer to a call of {call.part.name!r}, a tool that is "
                f"not here; give {option or 'the --agent that has it'}, or --force to go on without"
            )


def _writes_to(agent: Agent, log: RunLog, session_id: str) -> bool:
    """Whether the agent writes this very log by itself; then it is not written twice."""
    from agentkit_loop.observers import Registration  # noqa: PLC0415 - not for --help
    from agentkit_reporting.jsonl import JsonlReporter  # noqa: PLC0415 - as above

    path = log.path_of(session_id)
    for each in agent.observers:
        observer = each.observer if isinstance(each, Registration) else each
        theirs = observer.path_of(session_id) if isinstance(observer, JsonlReporter) else None
        if path is not None and theirs is not None and theirs.absolute() == path.absolute():
            return True
    return False


def _approver(root: Path | None, *, colour: bool | None) -> Callable[[ApprovalRequest], object] | None:
    """Return who is asked about calls; None where there is no terminal."""
    from agentkit_loop.file_reach import Reach  # noqa: PLC0415 - not for --help
    from agentkit_reporting.cli.approvals import TerminalApprover  # noqa: PLC0415 - as above

    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None
    return TerminalApprover(None if root is None else Reach(root), colour=colour, may_leave=True)


def _drive(
    driver: LoopDriver, prompt: str | None, approver: Callable[[ApprovalRequest], object] | None
) -> RunResult:
    """Drive to the end of the exchange, or to where it waits for somebody who is not here.

    The prompt goes in as soon as nothing waits for a person.
    """
    from agentkit_loop.steps import (  # noqa: PLC0415 - not for --help
        ApprovalRequest,
        AuthRequest,
        AwaitingInput,
        Finished,
        RunResult,
    )

    left_open: set[str] = set()
    while True:
        if prompt is not None and not driver.pending:
            driver.submit(prompt)
            prompt = None
        step = driver.next()
        match step:
            case ApprovalRequest() if approver is not None and _answered(driver, approver, left_open):
                pass
            case ApprovalRequest() | AuthRequest():
                if prompt is not None:
                    click.echo(
                        "agentkit: the prompt was not given, since a step waits for its answer", err=True
                    )
                return driver.run()
            case Finished(result) if prompt is None:
                return result
            case AwaitingInput() if prompt is None:
                return RunResult.of(driver.state, "completed")
            case _:
                pass


def _answered(driver: LoopDriver, approver: Callable[[ApprovalRequest], object], left_open: set[str]) -> bool:
    """Ask about calls that wait and were not left open before, up to an answer; whether there was one."""
    from agentkit_loop.permissions import answer_step  # noqa: PLC0415 - not for --help
    from agentkit_loop.steps import ApprovalRequest  # noqa: PLC0415 - as above

    for step in driver.pending:
        if isinstance(step, ApprovalRequest) and step.approval_id not in left_open:
            answer = approver(step)
            if answer is not None:
                answer_step(step, answer)
                return True
            left_open.add(step.approval_id)
    return False
