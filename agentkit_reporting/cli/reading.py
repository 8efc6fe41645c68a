"""What commands share: the host's price list, and what is said beside the data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agentkit_reporting.log.read import LogReader
from agentkit_reporting.terminal import visible

_MAX_TOLD = 5  # bad lines that are named; the rest is counted

_NEAR = Path("prices.toml")


def own_prices(given: Path | None) -> Path | None:
    """Return the host's price list: the one given, else AGENTKIT_PRICES, else ./prices.toml if it is there."""
    named = given or os.environ.get("AGENTKIT_PRICES")
    if named:
        return Path(named)
    return _NEAR if _NEAR.is_file() else None


def tell_of_bad_lines(reader: LogReader) -> None:
    """Say on stderr what was skipped and what is not understood."""
    for bad in reader.bad[:_MAX_TOLD]:
        whisper(f"skipped {bad.path}:{bad.line}: {bad.reason}")
    if reader.bad_count > _MAX_TOLD:
        whisper(f"skipped {reader.bad_count} bad lines in all")
    if reader.newer_version is not None:
        whisper(
            f"the log is of a newer version ({reader.newer_version}); what is not known here is shown by name"
        )


def whisper(text: str) -> None:
    """Say something on stderr that is not the data."""
    sys.stderr.write(f"agentkit: {visible(text)}\n")
