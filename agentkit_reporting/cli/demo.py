"""`agentkit demo`: a scripted agent that does real work with real tools, on a folder that it makes.

The model is scripted, so it needs no key and no network; the loop, the tools, the retry, the log and the
numbers are real. What the model "answers" is made of what the tools returned.
"""

from __future__ import annotations

import csv
import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec

from agentkit_loop.content import AnyPart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from agentkit_loop.errors import LogError
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage

MODEL = "scripted-model"
PRICES = PriceTable(
    {MODEL: Rates(input=Decimal(3), output=Decimal(15), cached_input=Decimal("0.30"))}, source="demo prices"
)
PROMPT = "Which region sold more in the first quarter? Write the answer to report.md."
ORDERS = {"north.csv": 9_000, "south.csv": 30_000}
"""File: how many orders it has; enough that adding up takes a moment, and two at once are seen to overlap."""


@click.command("demo")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("agentkit-demo"),
    show_default=True,
    help="Where the files and the log go; made if it is not there.",
)
@click.option(
    "--colour/--no-colour",
    "colour",
    default=None,
    help="Default: as NO_COLOR, FORCE_COLOR and the terminal say.",
)
@click.option("--fast", is_flag=True, help="Do not wait between chunks, as without a terminal.")
def command(*, folder: Path, colour: bool | None, fast: bool) -> None:
    """Run a scripted agent on real files: no key, no network."""
    from agentkit_loop.agent import Agent  # noqa: PLC0415 - not for --help
    from agentkit_loop.retry import Retry  # noqa: PLC0415 - as above
    from agentkit_reporting.configuration.environment import is_disabled, log_redaction  # noqa: PLC0415 - as above
    from agentkit_reporting.jsonl import JsonlReporter  # noqa: PLC0415 - as above
    from agentkit_reporting.stdout import StdoutReporter  # noqa: PLC0415 - as above
    from agentkit_reporting.usage import UsageReporter  # noqa: PLC0415 - as above

    redact, disabled = log_redaction(os.environ), is_disabled(os.environ)
    make_orders(folder)
    log = None if disabled else JsonlReporter(folder / "logs", per="session", redact=redact)
    paced = sys.stdout.isatty() and not fast
    usage = UsageReporter()
    agent = Agent(
        ScriptedModel(DemoScript(0.025 if paced else 0.0), name=MODEL),
        tools=tools(folder),
        system="You are a careful analyst. Read before you compute, compute before you write.",
        name="analyst",
        observers=[StdoutReporter(colour=colour), *([] if log is None else [log]), usage],
        prices=PRICES,
        retry=Retry(base_ms=400 if paced else 20),
    )
    with agent:
        result = agent.run(PROMPT, metadata={"environment": "demo"})
    click.echo(f"\n{usage.render()}\n\nreport  {folder / 'report.md'}")
    if log is None:
        click.echo("log     none, since AGENTKIT_DISABLED is set")
    else:
        path = _near(log.path_of(result.session_id))
        click.echo(f"log     {path}\nnext    agentkit show {path}")


def _order(number: int, count: int) -> str:
    """Return a line of a file; made up, and the same in each run."""
    amount = number * 7_919 % 90_001 * 9_000 / count / 100
    return f"{number},{('jan', 'feb', 'mar')[number % 3]},{amount:.2f}\n"


def _near(path: Path | None) -> str:
    """Return the path as it is typed from here."""
    return "" if path is None else os.path.relpath(path)


def make_orders(folder: Path) -> None:
    """Make the folder and its files; raises LogError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, count in ORDERS.items():
            rows = (_order(number, count) for number in range(1, count + 1))
            (folder / name).write_text("order,month,amount\n" + "".join(rows), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise LogError(
            f"cannot make the demo's files ({reason}); give another --folder", path=str(folder)
        ) from error


def tools(folder: Path) -> list[object]:
    """Return the tools, bound to the folder: no other file is in their reach."""

    def inside(name: str) -> Path:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise PermissionError(f"{name!r} is outside of the folder")
        return path

    @tool
    def list_files() -> list[str]:
        """List the files of the folder."""
        return sorted(path.name for path in folder.iterdir() if path.is_file())

    @tool
    def add_up(file: str, column: Annotated[str, "name in the first line"]) -> dict[str, object]:
        """Add up a column of numbers in a CSV file."""
        with inside(file).open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        try:
            total = sum((Decimal(row[column]) for row in rows), Decimal(0))
        except (KeyError, InvalidOperation) as error:
            raise ValueError(f"no column of numbers named {column!r} in {file}") from error
        return {"file": file, "rows": len(rows), "total": total}

    @tool
    def write_report(text: str) -> str:
        """Write report.md."""
        path = inside("report.md")
        path.write_text(text, encoding="utf-8")
        return f"{path.name}: {len(text)} characters"

    return [list_files, add_up, write_report]


class DemoScript:
    """The scripted model's answers: a function of the request, which goes by what the tools returned."""

    def __init__(self, chunk_delay_s: float) -> None:
        self._delay = chunk_delay_s
        self._broke = False

    def __call__(self, request: ModelRequest) -> Reply:
        """Return the next answer."""
        results = [part for item in request.items for part in item.parts if isinstance(part, ToolResultPart)]
        if not results:
            fields = self._look()
        elif len(results) == 1:
            fields = self._add_up()
        elif len(results) == 1 + len(ORDERS):
            text = _report(results[1:])
            fields = {"text": "Now the report.", "calls": (_call("write_report", text=text),)}
        else:
            fields = {"text": _conclusion(results[1 : 1 + len(ORDERS)])}
        reply = Reply(chunk_chars=4, chunk_delay_s=self._delay, **fields)
        return msgspec.structs.replace(reply, usage=_usage(request, reply))

    def _look(self) -> dict[str, Any]:
        return {
            "reasoning": "Two regions should be two files. I look before I assume.",
            "text": "I'll see which files there are.",
            "calls": (_call("list_files"),),
        }

    def _add_up(self) -> dict[str, Any]:
        if not self._broke:
            self._broke = True
            fail = ScriptedFailure(message="the model is overloaded", after_chunks=7)
            return {"text": "Both regions are here; I'll add them up at once.", "fail": fail}
        return {
            "text": "Both regions are here; I'll add them up at once.",
            "calls": tuple(_call("add_up", file=file, column="amount") for file in ORDERS),
        }


def _call(name: str, **arguments: str) -> ScriptedCall:
    return ScriptedCall(name=name, input=dict(arguments))


def _usage(request: ModelRequest, reply: Reply) -> Usage:
    """Count as a provider would, roughly: four characters a token, what was sent before from the cache."""
    sent = [sum(len(_text_of(part)) for part in item.parts) // 4 + 4 for item in request.items]
    written = (
        len(reply.text) + len(reply.reasoning) + sum(len(str(call.input)) for call in reply.calls)
    ) // 4
    return Usage(
        input_tokens=sum(sent[-2:]) + (180 if len(sent) == 1 else 0),
        cached_input_tokens=sum(sent[:-2]) + (180 if len(sent) > 1 else 0),
        output_tokens=written + 6,
        reasoning_tokens=len(reply.reasoning) // 4,
    )


def _text_of(part: AnyPart) -> str:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text):
            return text
        case ToolCallPart(input=arguments):
            return str(arguments)
        case ToolResultPart(output=output):
            return str(output)
        case _:
            return ""


def _totals(results: list[ToolResultPart]) -> list[tuple[str, int, Decimal]]:
    totals = [(str(r.output["file"]), int(r.output["rows"]), Decimal(r.output["total"])) for r in results]
    return sorted(totals, key=lambda total: -total[2])


def _report(results: list[ToolResultPart]) -> str:
    rows = "".join(f"| {file} | {rows} | {total:,} |\n" for file, rows, total in _totals(results))
    return f"# Sales, first quarter\n\n| file | orders | amount |\n|---|---:|---:|\n{rows}"


def _conclusion(results: list[ToolResultPart]) -> str:
    (first, _, more), (second, _, less) = _totals(results)
    return (
        f"{first.removesuffix('.csv').title()} sold more: {more:,} against {less:,} in "
        f"{second.removesuffix('.csv').title()}, a lead of {more - less:,}. The table is in report.md."
    )
