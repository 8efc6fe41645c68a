"""What came of an exchange that a command ran, and how it is told.

On a terminal stdout shows the run as it goes. Anywhere else stdout is data, the answer alone or with --json
one object, and the run is shown on stderr where that is a terminal. Totals and the log's place go to stderr.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import click

from agentkit_loop.errors import ModelError
from agentkit_reporting.cli.file_agent import NO_KEY
from agentkit_reporting.terminal import visible

if TYPE_CHECKING:
    from agentkit_loop.agent import Agent
    from agentkit_loop.driver import LoopDriver
    from agentkit_loop.price_book import PriceBook
    from agentkit_loop.steps import RunResult
    from agentkit_reporting.cli.run_log import RunLog
    from agentkit_reporting.usage import UsageReporter

_WHOLE = ("completed", "stop_sequence")
"""Finish reasons of an answer that is all there."""

_ADVICE = {
    "auth": "check ANTHROPIC_API_KEY",
    "connection": "check the network and --base-url",
    "context_exceeded": "ask for less at once",
    "overloaded": "try again later",
    "rate_limited": "try again later",
    "timeout": "try again, or raise --timeout",
}
"""What to do, by the error's class; other errors say it themselves."""

_REMEDIES = {
    "raise timeout_s= or try again": _ADVICE["timeout"],
    "check base_url": "check --base-url",
}  # remedies that errors name in Python's words, and what they are here

# What moves a cursor or turns text around. Joiners and marks that scripts need stay: the answer is data.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@attrs.define(kw_only=True)
class Outcome:
    """What came of the run.

    error: what ended it, None for an answer. attempts: of the last request. waiting: what the exchange waits
    for, where it was left open.
    """

    session_id: str
    text: str
    finish_reason: str
    error: ModelError | KeyboardInterrupt | None = None
    attempts: int = 1
    log_failed: bool = False
    waiting: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        if isinstance(self.error, KeyboardInterrupt):
            return 130
        if self.error is not None and _is_missing_key(self.error):
            return 2
        return int(self.finish_reason not in _WHOLE or self.log_failed)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--prices",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Price list whose prices win; default: AGENTKIT_PRICES, else prices.toml if there.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="One object on stdout: text, usage, cost, log, error and so on.",
    ),
    click.option(
        "--colour/--no-colour",
        "colour",
        default=None,
        help="Default: as NO_COLOR, FORCE_COLOR and the terminal say.",
    ),
)


def answer_options(command: Any) -> Any:
    """Give a command the options of how its answer is told; they are in the keywords of the same names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Answering:
    """Shows a run, runs it and tells what came of it. options: those of `answer_options`.

    resumed: whether the session was there before, of which the totals are not told. observers: what the run is
    to be told to. prices: what it costs by.
    """

    def __init__(self, options: dict[str, Any], log: RunLog | None, *, resumed: bool = False) -> None:
        from agentkit_loop.price_book import PriceBook  # noqa: PLC0415 - not for --help
        from agentkit_reporting.cli.reading import own_prices  # noqa: PLC0415 - as above
        from agentkit_reporting.cli.retries import Retries  # noqa: PLC0415 - as above
        from agentkit_reporting.usage import UsageReporter  # noqa: PLC0415 - as above

        self.prices = PriceBook(own_prices(options["prices"]))
        self._as_json: bool = options["as_json"]
        self._log = log
        self._resumed = resumed
        self._usage = UsageReporter()
        shown = _shown(as_json=self._as_json, colour=options["colour"])
        self._retries = Retries(tell=not shown)
        self.observers = [*shown, self._usage, self._retries, *([log] if log is not None else [])]

    def run(
        self, agent: Agent, start: Callable[[], LoopDriver], drive: Callable[[LoopDriver], RunResult]
    ) -> Outcome:
        """Run one exchange and tell what came of it. start: opens the run. drive: drives it (see `_ask`)."""
        from agentkit_reporting.cli.interruptions import second_one_ends_the_process  # noqa: PLC0415 - as above

        with second_one_ends_the_process():
            outcome = _ask(agent, start, drive)
            outcome.attempts = self._retries.attempt
            outcome.log_failed = self._log is not None and self._log.failure is not None
            since = "since the resume:\n" if self._resumed else ""
            _tell(outcome, self._usage, self._log, self.prices, as_json=self._as_json, since=since)
        return outcome


def _shown(*, as_json: bool, colour: bool | None) -> list[Any]:
    """Return the reporter for people, where they are: on stdout, else on stderr, else none."""
    from agentkit_reporting.stdout import StdoutReporter  # noqa: PLC0415 - not for --help

    for stream in (sys.stderr,) if as_json else (sys.stdout, sys.stderr):
        if _is_terminal(stream):
            return [StdoutReporter(stream, colour=colour)]
    return []


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether people look at a stream, which is None where the program was started with it closed."""
    return stream is not None and stream.isatty()


def _ask(agent: Agent, start: Callable[[], LoopDriver], drive: Callable[[LoopDriver], RunResult]) -> Outcome:
    """Run one exchange; raises what is neither the model's failure nor an interruption.

    start: opens the run. drive: drives it to the end of the exchange, or to where it waits for a person.
    """
    from agentkit_loop.steps import last_text  # noqa: PLC0415 - not for --help

    driver = None
    try:
        with agent, start() as driver:
            result = drive(driver)
    except (ModelError, KeyboardInterrupt) as error:
        if driver is None:
            raise
        return Outcome(
            session_id=driver.session_id,
            text=last_text(list(driver.transcript.items)),
            finish_reason="error" if isinstance(error, ModelError) else "cancelled",
            error=error,
        )
    return Outcome(
        session_id=result.session_id,
        text=result.text,
        finish_reason=result.finish_reason,
        waiting=tuple(_waits_for(step) for step in result.pending),
    )


def _waits_for(step: Any) -> str:
    """Return what a step of a suspended result waits for, in one line."""
    if hasattr(step, "approval_id"):
        return f"approval of {visible(step.summary)}"
    return f"credentials of {visible(step.provider)} for {visible(step.call.name)}"


def _tell(
    outcome: Outcome,
    usage: UsageReporter,
    log: RunLog | None,
    prices: PriceBook,
    *,
    as_json: bool,
    since: str,
) -> None:
    """Write the answer, where it was not shown as it came, and the totals, behind since when they are."""
    path = None if log is None else log.path_of(outcome.session_id)
    near = "" if path is None or outcome.log_failed else visible(os.path.relpath(path))
    place = f"; log {near}" if near else ""
    if outcome.error is not None:
        click.echo(f"agentkit: {_said(outcome.error, outcome.attempts)}{place}", err=True)
    elif outcome.waiting:
        for what in outcome.waiting:
            click.echo(f"agentkit: left open, waiting for {what}", err=True)
        command = f"agentkit resume {near or 'LOG'}"
        click.echo(f"agentkit: to answer, run `{command}` on a terminal, with the same options", err=True)
    elif outcome.finish_reason not in _WHOLE:
        remedy = "; raise --max-tokens" if outcome.finish_reason == "max_tokens" else ""
        told = f"the answer is not whole ({visible(outcome.finish_reason)}){remedy}"
        click.echo(f"agentkit: {told}{place}", err=True)
    if log is not None and log.failure is not None:
        click.echo(f"agentkit: the log is not whole; {visible(str(log.failure))}", err=True)
    if usage.total.requests:
        click.echo(("\n" if _is_terminal(sys.stderr) else "") + since + usage.render(), err=True)
    if near and not outcome.exit_code:
        click.echo(f"\nlog     {near}\nnext    agentkit show {near}", err=True)
    if as_json or not _is_terminal(sys.stdout):
        _tell_unpriced(usage, prices)
    if as_json:
        click.echo(json.dumps(_record(outcome, usage, path)))  # ASCII: nothing in it reaches a terminal
    elif not (outcome.error or outcome.waiting or sys.stdout is None or sys.stdout.isatty()):
        click.echo(_plain(outcome.text), nl=not outcome.text.endswith("\n"))


def _tell_unpriced(usage: UsageReporter, prices: PriceBook) -> None:
    """Say which models have no price."""
    now = dt.datetime.now(dt.UTC)
    unpriced = [model for model, sums in usage.by_model.items() if sums.unpriced_requests]
    unknown = ", ".join(visible(model) for model in unpriced if prices.rates(model, now) is None)
    if unknown:
        click.echo(f"agentkit: no price is known for {unknown}; give --prices FILE", err=True)


def _said(error: ModelError | KeyboardInterrupt, attempts: int) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if _is_missing_key(error):
        return NO_KEY
    said = " ".join(visible(error.error.message).split())
    advice = "check --model" if said.startswith("HTTP 404") else _ADVICE.get(error.error_class)
    for remedy, ours in _REMEDIES.items():
        head, found, request = said.rpartition(f"; {remedy}")
        if found and (not request or request.startswith(" (request ")):
            said, advice = head + request, ours
    tried = f" ({attempts} attempts)" if attempts > 1 else ""
    return f"{said}{tried}; {advice}" if advice else f"{said}{tried}"


def _record(outcome: Outcome, usage: UsageReporter, path: Path | None) -> dict[str, Any]:
    """Return what --json writes. Counts: null is unknown. cost: by currency, null where it is unknown."""
    total, error = usage.total, outcome.error
    counts = ("input", "cached_input", "cache_write_input", "cache_write_1h_input", "output", "reasoning")
    return {
        "text": outcome.text,
        "finish_reason": outcome.finish_reason,
        "status": _status(outcome),
        "session_id": outcome.session_id,
        "usage": {f"{count}_tokens": getattr(total.usage, f"{count}_tokens") for count in counts},
        "cost": {currency: str(amount) for currency, amount in total.costs.items()} or None,
        "unpriced_requests": total.unpriced_requests,
        "log": None if path is None else str(path),
        "error": {"message": _said(error, outcome.attempts), "class": error.error_class}
        if isinstance(error, ModelError)
        else None,
    }


def _status(outcome: Outcome) -> str:
    if outcome.error is None:
        return "suspended" if outcome.waiting else "completed"
    return "failed" if isinstance(outcome.error, ModelError) else "cancelled"


def _plain(text: str) -> str:
    """Return the answer as it may go to whatever reads it, a terminal perhaps."""
    harmless = _CONTROLS.sub(lambda found: visible(found.group()), text.replace("\r\n", "\n"))
    encoding = sys.stdout.encoding or "utf-8"
    return harmless.encode(encoding, "backslashreplace").decode(encoding)


def _is_missing_key(error: ModelError) -> bool:
    from agentkit_loop.models.anthropic_failures import NO_KEY as SAID_BY_THE_MODEL  # noqa: PLC0415 - as above

    return error.error.message == SAID_BY_THE_MODEL
