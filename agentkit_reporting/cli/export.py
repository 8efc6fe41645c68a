"""`agentkit export`: logs for other programs, as spans of OpenTelemetry or as a timeline."""

from __future__ import annotations

import click

from agentkit_reporting.cli.export_files import otlp_json, perfetto
from agentkit_reporting.cli.export_otlp import otlp

__all__ = ["command"]


@click.group("export")
def command() -> None:
    """Export logs: to an OpenTelemetry backend, or as files for collectors and for timelines."""


for each in (otlp, otlp_json, perfetto):
    command.add_command(each)
