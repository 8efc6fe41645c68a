"""`agentkit export otlp-json` and `agentkit export perfetto`: spans of logs as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

import click

from agentkit_reporting.cli.export_source import LogSpans, attribute_options, log_options
from agentkit_reporting.cli.reading import whisper
from agentkit_reporting.cli.whole_output import whole_output
from agentkit_reporting.terminal import counted
from agentkit_reporting.tracing.conventions import ProfileName
from agentkit_reporting.tracing.export_resource import export_resource
from agentkit_reporting.tracing.log_spans import LogSpan, batches_of
from agentkit_reporting.tracing.otlp_json import otlp_line
from agentkit_reporting.tracing.perfetto import perfetto_texts

__all__ = ["otlp_json", "perfetto"]

_OUTPUT = click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="A file that is not there yet, or - for stdout.  [default: -]",
)


@click.command("otlp-json", short_help="Write runs as lines of OTLP's JSON.")
@log_options
@_OUTPUT
@attribute_options
def otlp_json(
    logs: tuple[str, ...],
    *,
    session_id: str | None,
    output: str,
    service_name: str | None,
    profile_name: ProfileName,
    content: bool | None,
) -> int:
    """Write the runs in LOG… as lines of OTLP's JSON, as collectors read them from files.

    LOG… are files, directories, globs, or - for stdin. A line holds up to 512 spans. Needs no OpenTelemetry; the same
    log gives the same bytes. FILE is whole or not there.
    """
    resource = export_resource(service_name)
    spans = _Counted(LogSpans(logs, session_id, profile_name, content=content))
    schema_url = spans.source.schema_url
    lines = (f"{otlp_line(batch, resource, schema_url=schema_url)}\n" for batch in batches_of(spans))
    return _write(spans, lines, output)


@click.command("perfetto", short_help="Write runs for ui.perfetto.dev and speedscope.")
@log_options
@_OUTPUT
def perfetto(logs: tuple[str, ...], *, session_id: str | None, output: str) -> int:
    """Write the runs in LOG… as trace events, which ui.perfetto.dev and speedscope open.

    LOG… are files, directories, globs, or - for stdin. A process is a session, a track in it a run; calls at the same
    time have tracks of their own, and arrows lead to sub-agents. FILE is whole or not there.
    """
    spans = _Counted(LogSpans(logs, session_id))
    return _write(spans, perfetto_texts(spans), output)


class _Counted:
    """The spans of logs, counted as they go by."""

    def __init__(self, source: LogSpans) -> None:
        self.source = source
        self.count = 0

    def __iter__(self) -> Iterator[LogSpan]:
        for each in self.source:
            self.count += 1
            yield each


class _NothingError(Exception):
    """There is nothing to write."""


def _write(spans: _Counted, texts: Iterable[str], output: str) -> int:
    try:
        with whole_output(output) as file:
            _put(file, spans, texts)
    except _NothingError:
        return spans.source.tell(0)
    code = spans.source.tell(spans.count)
    if output != "-":
        whisper(f"{counted(spans.count, 'span')} written to {output}")
    return code


def _put(file: IO[bytes], spans: _Counted, texts: Iterable[str]) -> None:
    for text in texts:
        file.write(text.encode("ascii"))
    if not spans.count:
        raise _NothingError
