"""`agentkit export otlp`: spans of logs to a backend."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Final

import click

from agentkit_reporting.cli.export_source import LogSpans, attribute_options, log_options, named
from agentkit_reporting.cli.reading import whisper
from agentkit_reporting.terminal import counted, json_text
from agentkit_reporting.tracing.conventions import ProfileName
from agentkit_reporting.tracing.export_resource import export_resource
from agentkit_reporting.tracing.log_spans import LogSpan, batches_of
from agentkit_reporting.tracing.otlp import OtlpSender, Sent
from agentkit_reporting.tracing.otlp_endpoint import checked_headers, shown_endpoint, traces_endpoint

__all__ = ["otlp"]

_HINTS: Final[Mapping[int, str]] = {
    **dict.fromkeys(range(300, 400), "no redirect is followed, give the address that it leads to"),
    **dict.fromkeys((401, 403), "give its credentials by --header"),
    **dict.fromkeys((404, 405), "give an endpoint that takes OTLP over HTTP"),
}
"""What helps where an endpoint answers with a status."""


@click.command("otlp", short_help="Send runs to an OTLP/HTTP endpoint.")
@log_options
@click.option(
    "--endpoint",
    metavar="URL",
    help="Where OTLP over HTTP is taken, /v1/traces is added; default: OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Send this header too; may be given again. Others see a command line: OTEL_EXPORTER_OTLP_HEADERS is private.",
)
@attribute_options
@click.option("--json", "as_json", is_flag=True, help="Print what became of it as one JSON object.")
def otlp(
    logs: tuple[str, ...],
    *,
    session_id: str | None,
    endpoint: str | None,
    headers: tuple[str, ...],
    service_name: str | None,
    profile_name: ProfileName,
    content: bool | None,
    as_json: bool,
) -> int:
    """Send the runs in LOG… to an OTLP/HTTP endpoint: files, directories, globs, or - for stdin.

    Each batch is waited for. Where one is not taken, after the retries that the standard knows, nothing more is sent;
    what is missing is said, and the exit code is 1. To send a log again is no harm: the ids are the same each time.
    All runs are sent, also those whose parent was not sampled.
    """
    url = traces_endpoint(endpoint)
    source = LogSpans(logs, session_id, profile_name, content=content)
    outcome = _Outcome(url)
    resource = export_resource(service_name)
    with OtlpSender(url, headers=_pairs(headers), resource=resource, schema_url=source.schema_url) as sender:
        try:
            outcome.send(source, sender)
        except KeyboardInterrupt:
            whisper(str(outcome))
            raise
    if not outcome.spans:
        return source.tell(0)
    source.tell(outcome.spans)
    if as_json:
        beside = {"open_sessions": source.open_sessions, "repeated_events": source.repeated_events}
        sys.stdout.write(json_text({**outcome.as_json(), **beside}) + "\n")
    elif outcome.is_whole:
        click.echo(outcome)
    if not outcome.is_whole:
        whisper(f"{outcome}: {outcome.fault}")
    return 0 if outcome.is_whole else 1


class _Outcome:
    """What became of the spans. spans: how many there are in the logs."""

    def __init__(self, url: str) -> None:
        self.spans = 0
        self._url = url
        self._sent = Sent()
        self._traces: set[int] = set()
        self._missing: dict[str, None] = {}  # sessions of which spans were not sent

    def __str__(self) -> str:
        """Say what was sent."""
        traces = counted(len(self._traces), "trace")
        return f"sent {self._sent.taken:,} of {counted(self.spans, 'span')} ({traces}) to {shown_endpoint(self._url)}"

    def send(self, spans: Iterable[LogSpan], sender: OtlpSender) -> None:
        """Send until a batch is not taken; the rest is counted."""
        for batch in batches_of(spans):
            self.spans += len(batch)
            self._traces.update(each.span.trace_id for each in batch)
            if self._sent.failure is None:
                self._sent = self._sent.and_then(sender.send(batch))
            if self._sent.failure is not None:
                self._missing.update(dict.fromkeys(each.span.session_id for each in batch))

    @property
    def is_whole(self) -> bool:
        """Whether all of it arrived."""
        return self._sent.taken == self.spans

    @property
    def fault(self) -> str:
        """Why not all of it arrived, and what is missing."""
        faults = []
        if self._sent.rejected:
            said = f": {self._sent.said}" if self._sent.said else ""
            faults.append(f"{counted(self._sent.rejected, 'span')} rejected{said}")
        if self._sent.failure:
            faults.append(self._sent.failure)
            faults += [hint] if (hint := _HINTS.get(self._sent.status or 0)) else []
            faults.append(f"spans are missing of {named(self._missing)}")
        return "; ".join(faults)

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "endpoint": shown_endpoint(self._url),
            "spans": self.spans,
            "traces": len(self._traces),
            "delivered": self._sent.taken,
            "rejected": self._sent.rejected,
            "not_sent": self.spans - self._sent.taken - self._sent.rejected,
            "failure": self._sent.failure,
            "rejected_because": self._sent.said,
            "incomplete_sessions": list(self._missing),
        }


def _pairs(headers: tuple[str, ...]) -> dict[str, str]:
    """Return the headers; what is refused is told without its value."""
    told = {}
    for header in headers:
        name, found, value = header.partition("=")
        if not found:
            raise click.UsageError("--header refused because it is no NAME=VALUE; give one like x-api-key=…")
        told[name.strip()] = value.strip()
    return checked_headers(told)
