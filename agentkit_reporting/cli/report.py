"""`agentkit report`: what the runs in logs came to: how long, how many at once, what failed, what it cost."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.cli.reading import left_out_text, whisper
from agentkit_reporting.cli.report_json import as_json
from agentkit_reporting.cli.report_tables import as_markdown, as_text
from agentkit_reporting.log.read import LogReader, RecordFiles, read_events
from agentkit_reporting.records.invocation_metric import InvocationMetric
from agentkit_reporting.records.report import DIMENSIONS, RunReport
from agentkit_reporting.terminal import json_text, one_line

_MAX_TOLD = 5  # bad lines that are named; the rest is counted
_PATIENCE_S = 1.0  # after which a bar shows how far it is
_LOOK_EVERY = 1_024  # events between two looks at the clock


@click.command("report")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(DIMENSIONS),
    help="Only the table by this; may be given again, but for model and tool together.",
)
@click.option(
    "--json", "for_programs", is_flag=True, help="Print one JSON object; amounts are strings, exact."
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(logs: tuple[str, ...], *, by: tuple[str, ...], for_programs: bool, markdown: bool) -> int:
    """Report on the runs in LOG…: files, directories, globs, or - for stdin.

    Reads event logs, and the files that InvocationMetricsCollector writes. Retries are told apart by what made them
    necessary, infrastructure or code; what was cancelled is no failure, and is left out of the share that succeeded.
    A cost that is not known is counted and never zero; what runs without an end used counts too.
    """
    if for_programs and markdown:
        raise click.UsageError("--json and --markdown exclude each other; give one of them")
    asked = tuple(dict.fromkeys(by))
    report = RunReport(asked)
    reader = read_events(list(logs))
    lines = _MetricLines(report, reader)
    for event in _with_progress(reader, len(reader.paths)):
        lines.records.note_event(reader.path)
        report.take(event)
    found = bool(report.metrics() or report.open_runs)
    lines.tell_of_bad_lines(has_runs=found)
    if not found:
        whisper(f"no run in {', '.join(logs)}; give a log of one, or a file of metrics")
        return 1
    if for_programs:
        told = {"bad_lines": lines.bad_count, "left_out": lines.records.paths}
        sys.stdout.write(json_text({**as_json(report, asked), **told}) + "\n")
        return 0
    missing = _missing(report, asked)
    if missing:
        whisper(f"no {missing} in {', '.join(logs)}; give an event log, since metrics say nothing of them")
        return 1
    if markdown:
        sys.stdout.write(as_markdown(report, asked))
    else:
        sys.stdout.write(as_text(report, asked))
    return 0


def _missing(report: RunReport, by: tuple[str, ...]) -> str:
    """Return what a table was asked for of which nothing was told; "" where there is something."""
    if "tool" in by:
        return "" if report.tools else "call of a tool"
    return "request" if "model" in by and not report.requests else ""


class _MetricLines:
    """The lines that are no events: metrics, which are taken, records of others, and bad ones, which are counted."""

    def __init__(self, report: RunReport, reader: LogReader) -> None:
        self._report = report
        self._reader = reader
        self._taken = 0
        self.records = RecordFiles()
        self._places: set[tuple[str, int]] = set()  # as long as the reader keeps what was wrong with each
        reader.on_bad_line = self._take

    def _take(self, path: str, line: int, content: bytes) -> None:
        try:
            metric = InvocationMetric.of_record(msgspec.json.decode(content))
        except (ConfigurationError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.records.note_line(path, content)
            return
        self._report.add(metric)
        self.records.note_event(path)
        self._taken += 1
        if len(self._reader.bad) == self._reader.bad_count:
            self._places.add((path, line))

    @property
    def bad_count(self) -> int:
        """How many lines are neither."""
        return self._reader.bad_count - self._taken - self.records.count(self._reader.bad_by_path)

    def tell_of_bad_lines(self, *, has_runs: bool) -> None:
        """Say on stderr what was skipped."""
        left_out = self.records.paths
        bad = [
            each
            for each in self._reader.bad
            if (each.path, each.line) not in self._places and each.path not in left_out
        ]
        if left_out and has_runs:
            whisper(left_out_text(left_out))
        for each in bad[:_MAX_TOLD]:
            whisper(f"skipped {each.path}:{each.line}: {each.reason}")
        if self.bad_count > min(len(bad), _MAX_TOLD):
            whisper(f"skipped {self.bad_count} bad lines in all")
        if self._reader.newer_version is not None:
            whisper(
                f"the log is of a newer version ({self._reader.newer_version}); what is not known is left out"
            )


def _with_progress(reader: LogReader, files: int) -> Iterator[AgentEvent]:
    """Yield the events; after a second, on a terminal, with a bar that shows how far it is."""
    if not sys.stderr.isatty():
        yield from reader
        return
    with contextlib.ExitStack() as stack:
        yield from _watched(reader, files, stack)


def _watched(reader: LogReader, files: int, stack: contextlib.ExitStack) -> Iterator[AgentEvent]:
    begun = time.monotonic()
    show = None
    path, done = "", 0
    for number, event in enumerate(reader, 1):
        yield event
        if reader.path != path:
            path, done = reader.path, done + 1
        if number % _LOOK_EVERY == 0:
            if show is None and time.monotonic() - begun > _PATIENCE_S:
                show = stack.enter_context(_Bar(files))
            if show is not None:
                show.move(done - 1, number, path)


class _Bar(contextlib.AbstractContextManager["_Bar"]):
    """A bar on stderr: by files where there are several, else that something moves; gone when it is done."""

    def __init__(self, files: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where a bar is shown
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - the same

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24))
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("reading", total=files if files > 1 else None)

        self._progress.start()

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def move(self, done: int, events: int, path: str) -> None:
        """Show how many files are done and how many events were read."""
        told = f"{events:,} events  {one_line(path, 40)}"
        self._progress.update(self._task, completed=done, description=told)
