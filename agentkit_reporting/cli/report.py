"""`agentkit report`: what the runs in logs came to: how long, how many at once, what failed, what it cost."""

from __future__ import annotations

import sys

import click
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.cli.progress import blocks_with_progress
from agentkit_reporting.cli.reading import left_out_text, seldom_collected, whisper
from agentkit_reporting.cli.report_json import as_json
from agentkit_reporting.log.read import LogReader, RecordFiles, read_events
from agentkit_reporting.records.invocation_metric import InvocationMetric
from agentkit_reporting.records.report import DIMENSIONS, RunReport
from agentkit_reporting.terminal import json_text

_MAX_TOLD = 5  # bad lines that are named; the rest is counted


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
@seldom_collected()
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
    for each in blocks_with_progress(reader):
        report.take_lines(each)
        del each  # before the next are made, for which its memory is at hand
    lines.records.note_events(reader.with_events)
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
    from agentkit_reporting.cli.report_tables import as_markdown, as_text  # noqa: PLC0415 - JSON needs no tables

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
