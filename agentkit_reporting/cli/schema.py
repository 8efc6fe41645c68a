"""`agentkit schema`: the JSON Schema of a log line."""

from __future__ import annotations

import click
import msgspec


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of one line of a log."""
    from agentkit_reporting.schema import event_schema  # noqa: PLC0415 - builds a class for every event

    encoded = msgspec.json.encode(event_schema(), order="deterministic")
    click.echo(msgspec.json.format(encoded, indent=2))
