"""RunContextFilter: what puts the current RunContext on records of the standard `logging`.

It stands by itself, since `logging` takes 2 ms to load, and those who need a context may never log.
"""

from __future__ import annotations

import logging

from agentkit_loop.run_context import RunContext

__all__ = ["RunContextFilter"]

_FIELDS = ("run_id", "parent_run_id", "root_run_id")


class RunContextFilter(logging.Filter):
    """Gives each record of the standard `logging` the fields run_id, parent_run_id and root_run_id; passes all.

    Add it to a handler (a QueueHandler where the records are written by another thread), or to a logger for what is
    logged with that very one. A record that has the field already keeps it. missing: what the fields are where no
    context is current, or there is no parent.
    """

    def __init__(self, missing: str | None = None) -> None:
        super().__init__()
        self.missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the fields; True."""
        context = RunContext.current()
        for name in _FIELDS:
            if not hasattr(record, name):
                value = getattr(context, name, None)  # None: of no context as well
                setattr(record, name, self.missing if value is None else value)
        return True
