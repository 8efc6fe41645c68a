"""Ctrl-C for a command that runs an agent: once ends the run, twice ends the process.

The first SIGINT is the driver's: it closes the run, so that the log is whole (agentkit_loop/interrupts.py).
The second does not wait for that. Since the main thread may hang in a call that no handler interrupts, a
thread listens to the interpreter's wakeup descriptor, to which a signal is written whatever else goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

EXIT_CODE = 130


@contextlib.contextmanager
def second_one_ends_the_process() -> Iterator[None]:
    """Let a second SIGINT end the process at once, with 130; SIGTERM counts as one.

    Does nothing on another than the main thread, which gets no signals, and where SIGINT is not Python's to
    handle: shells let what they start in the background ignore it.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    terminated = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    threading.Thread(target=_listen, args=(reader,), name="interruptions", daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminated)
        signal.set_wakeup_fd(earlier)
        os.close(writer)


def _listen(reader: int) -> None:
    """Count until the writing end is closed."""
    count = 0
    while numbers := os.read(reader, 64):
        count += numbers.count(signal.SIGINT)
        if count > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"agentkit: interrupted at once\n")
            os._exit(EXIT_CODE)
    os.close(reader)
