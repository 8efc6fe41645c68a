"""A forked child begins anew with everything, though some of it was never made whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os

from agentkit_loop.forks import Locked
from agentkit_reporting.process_ends import watch


class HalfLocked(Locked):
    def __init__(self):
        super().__init__()
        {HALFWAY}

    def after_fork(self):
        super().after_fork()
        self.items.clear()


class HalfWatched:
    def __init__(self):
        watch(self, at_exit=False)
        {HALFWAY}

    def begin_anew(self):
        self.items.clear()


class Whole(Locked):
    def __init__(self):
        super().__init__()
        self.items = ["the parent's"]
        watch(self, at_exit=False)

    def after_fork(self):
        super().after_fork()
        self.renewed = True

    def begin_anew(self):
        self.items.clear()


made = [Whole() for _ in range(3)]
for half in (HalfLocked, HalfWatched):
    try:
        half()
    except OSError as error:
        made.append(error)  # whose traceback keeps what was half made
made += [Whole() for _ in range(3)]

child = os.fork()
if not child:
    whole = [each for each in made if isinstance(each, Whole)]
    print(len(whole), all(each.renewed and not each.items for each in whole), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_what_was_never_made_whole_keeps_nothing_else_from_beginning_anew() -> None:
    program = PROGRAM.replace("{HALFWAY}", 'raise OSError("no more of it")')
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["6 True"]
    assert ran.stderr.count("AttributeError") == 2  # the interpreter reports the hooks
