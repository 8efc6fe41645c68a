"""The tool that runs commands: what it tells of them, and that it ends all that they started.

Processes say that they are there through a FIFO, and at its end nobody is left who holds it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.commands import HEAD_BYTES, TAIL_BYTES, command_tool, kept_variables
from agentkit_loop.content import ToolResultPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.previews import MAX_COMMAND_CHARS
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from tests.loop.tool_samples import context

LONG_S = 600  # how long a process would go on that nobody ends
MOST_S = 60  # how long a test waits for something that does not happen


class Commands:
    """The tool in a directory, called as the loop calls it."""

    def __init__(
        self, root: Path, *, timeout_s: float = LONG_S, grace_s: float = 0.2, **options: dict[str, str]
    ) -> None:
        self._tool = command_tool(root, timeout_s=timeout_s, grace_s=grace_s, **options)

    def run(self, command: str, context: ToolContext | None = None) -> str:
        text = self._tool(**self._tool.bind({"command": command}), context=context)
        assert isinstance(text, str)
        return text

    def started(self, command: str, context: ToolContext) -> Callable[[], str]:
        """Run a command on a thread; what is returned waits for its answer."""
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(self.run(command, context)))
        thread.start()

        def answer() -> str:
            thread.join()
            return answers[0]

        return answer


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


# --- what it tells


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo hello", "[exit code 0]\nhello"),
        ("printf hello; exit 3", "[exit code 3]\nhello"),
        ("true", "[exit code 0; no output]"),
        ("echo 1; echo 2 >&2; echo 3; echo 4 >&2", "[exit code 0]\n1\n2\n3\n4"),
        ("kill -9 $$", "[ended by SIGKILL; no output]"),
        ("kill -40 $$", "[ended by signal 40; no output]"),
        ("no-such-command 2>/dev/null", "[exit code 127; no output]"),
        ("printf 'a\\377b\\303'", "[exit code 0]\na\ufffdb\ufffd"),
        ("printf 'ä€\\n'", "[exit code 0]\nä€"),
        ("echo one\necho two", "[exit code 0]\none\ntwo"),
        ("cat; echo rest", "[exit code 0]\nrest"),
        ("tty", "[exit code 1]\nnot a tty"),
        ("exec >&- 2>&-; exit 4", "[exit code 4; no output]"),
    ],
)
def test_a_command_is_told_by_its_exit_and_its_output(commands: Commands, command: str, told: str) -> None:
    assert commands.run(command) == told


def test_it_runs_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path)
    assert Commands(tmp_path / "way").run("pwd; touch made") == f"[exit code 0]\n{tmp_path.resolve()}"
    assert (tmp_path / "made").exists()


def test_a_flood_keeps_its_beginning_and_its_end(commands: Commands) -> None:
    size = 50_000_000
    text = commands.run(f"echo first; head -c {size} /dev/zero | tr '\\0' x; echo; echo last")
    assert text.startswith("[exit code 0]\nfirst\nxxx")
    assert text.endswith("xxx\nlast")
    count = size + len("first\n\nlast\n")
    assert f"\n… [{count - HEAD_BYTES - TAIL_BYTES:,} of {count:,} bytes left out] …\n" in text
    assert len(text) < HEAD_BYTES + TAIL_BYTES + 200


@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_torn_where_output_is_left_out(commands: Commands, shift: int) -> None:
    text = commands.run(f"{sys.executable} -c \"print('x' * {shift} + '\\U0001f600' * 60_000, end='')\"")
    assert "\ufffd" not in text
    _, head, mark, tail = text.split("\n")
    left_out = 60_000 * 4 + shift - len(head.encode()) - len(tail.encode())
    assert mark == f"… [{left_out:,} of {60_000 * 4 + shift:,} bytes left out] …"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "command '' refused; give 1 to 20,000 characters, or write a script file"),
        (" \n", "refused; give 1 to 20,000 characters"),
        ("x" * (MAX_COMMAND_CHARS + 1), "refused; give 1 to 20,000 characters, or write a script file"),
        ("echo a\0b", "holds a NUL or a lone surrogate; give it without"),
        ("echo \ud800", "holds a NUL or a lone surrogate; give it without"),
    ],
)
def test_a_command_that_cannot_be_meant_is_one_sentence(commands: Commands, command: str, said: str) -> None:
    with pytest.raises(ValueError, match="command") as caught:
        commands.run(command)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_longest_command_runs(commands: Commands) -> None:
    command = "echo ".ljust(MAX_COMMAND_CHARS, "\U0001f600")
    assert commands.run(command) == f"[exit code 0]\n{command.removeprefix('echo ')}"


def test_a_root_that_went_is_told(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    commands = Commands(tmp_path / "root")
    (tmp_path / "root").rmdir()
    with pytest.raises(OSError, match="'true' could not be started: no such file or directory"):
        commands.run("true")


def test_options_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no directory; give one that exists"):
        command_tool(tmp_path / "missing")
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="timeout_s"):
            command_tool(tmp_path, timeout_s=seconds)
        with pytest.raises(ConfigurationError, match="grace_s"):
            command_tool(tmp_path, grace_s=seconds)


# --- its environment


def test_variables_that_look_secret_are_left_out() -> None:
    secret = {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GITHUB_TOKEN",
        "HF_TOKENS",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "my_secret_thing",
        "PGPASSWORD",
        "SMTP_PASS",
        "GITLAB_PAT",
        "STRIPE_KEY",
        "npm_config__authToken",
        "OPENAI_APIKEY",
        "DB_PASSWORD_FILE",
    }
    harmless = {"PATH", "HOME", "PWD", "LANG", "TERM", "GIT_ASKPASS", "KEYBOARD", "TOKENIZERS_PARALLELISM"}
    environment = dict.fromkeys(secret | harmless, "x")
    assert set(kept_variables(environment)) == harmless


def test_a_command_sees_no_secret_of_its_parent(tmp_path: Path) -> None:
    script = (
        "from agentkit_loop.commands import command_tool\n"
        "print(command_tool('.')('env'))\n"  # in a process of its own, whose environment is ours to say
    )
    environment = {**os.environ, "ANTHROPIC_API_KEY": "sk-hunter2", "COLOUR": "green"}
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "COLOUR=green" in printed
    assert "hunter2" not in printed
    assert "ANTHROPIC_API_KEY" not in printed


def test_an_environment_that_the_host_gives_is_taken_as_it_is(tmp_path: Path) -> None:
    commands = Commands(tmp_path, environment={"MY_TOKEN": "given"})
    assert commands.run("echo $MY_TOKEN $HOME") == "[exit code 0]\ngiven"


def test_no_descriptor_of_ours_is_its_own(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003 - it takes no keyword
        assert Commands(tmp_path).run(f"[ -e /dev/fd/{file.fileno()} ] || echo closed") == (
            "[exit code 0]\nclosed"
        )


# --- how it ends


@pytest.mark.parametrize("redirected", ["", ">/dev/null 2>&1"])
def test_what_stays_in_the_background_is_ended_and_nobody_waits_for_it(
    commands: Commands, fifo: Path, redirected: str
) -> None:
    with Watched(fifo) as watched:
        text = commands.run(f"exec 3>fifo; sleep {LONG_S} {redirected} & echo shell is done")
        assert text == "[exit code 0; what it left in the background was ended]\nshell is done"
        watched.wait_for_the_end()


def test_a_command_that_takes_too_long_is_ended_with_what_it_wrote(tmp_path: Path, fifo: Path) -> None:
    commands = Commands(tmp_path, timeout_s=1)
    with Watched(fifo) as watched:
        text = commands.run(f"exec 3>fifo; echo begun; sleep {LONG_S}; echo never")
        assert text == "[timed out after 1 s and was ended]\nbegun"
        watched.wait_for_the_end()


def test_a_command_that_writes_without_end_is_ended_in_time(tmp_path: Path) -> None:
    text = Commands(tmp_path, timeout_s=1).run("yes")
    assert text.startswith("[timed out after 1 s and was ended]\ny\ny\n")
    assert " bytes left out] …\n" in text
    assert len(text) < HEAD_BYTES + TAIL_BYTES + 200


def test_a_command_that_is_silent_with_its_output_closed_is_ended_in_time(tmp_path: Path) -> None:
    text = Commands(tmp_path, timeout_s=0.3).run(f"exec >&- 2>&-; sleep {LONG_S}")
    assert text == "[timed out after 0.3 s and was ended; no output]"


def test_a_cancelled_command_is_ended(commands: Commands, fifo: Path) -> None:
    call = context()
    with Watched(fifo) as watched:
        answer = commands.started(f"exec 3>fifo; echo begun; echo there >&3; sleep {LONG_S}", call)
        watched.wait_for_line()
        call.cancel()
        assert answer() == "[cancelled]\nbegun"
        watched.wait_for_the_end()


def test_a_command_that_was_cancelled_before_it_started_ends_at_once(commands: Commands) -> None:
    call = context()
    call.cancel()
    assert commands.run(f"sleep {LONG_S}", call).startswith("[cancelled")


def test_who_handles_sigterm_ends_in_its_own_way(tmp_path: Path, fifo: Path) -> None:
    os.mkfifo(tmp_path / "gate")  # nobody opens it; the shell itself waits there, and is woken by the signal
    call = context()
    commands = Commands(tmp_path, grace_s=LONG_S)
    with Watched(fifo) as watched:
        handled = "trap 'echo tidy; exit 0' TERM; echo there >fifo; read line <gate"
        answer = commands.started(handled, call)
        watched.wait_for_line()
        call.cancel()
        text = answer()
    assert text.startswith("[cancelled]\n")
    assert text.endswith("tidy")


@pytest.mark.parametrize("who", ["the shell", "its child"])
def test_who_ignores_sigterm_is_killed(commands: Commands, fifo: Path, who: str) -> None:
    call = context()
    stubborn = f"trap '' TERM; echo there >fifo; while :; do sleep {LONG_S}; done"
    command = (
        f"exec 3>fifo; {stubborn}" if who == "the shell" else f"exec 3>fifo; ({stubborn}) & sleep {LONG_S}"
    )
    with Watched(fifo) as watched:
        answer = commands.started(command, call)
        watched.wait_for_line()
        call.cancel()
        assert answer() == "[cancelled; no output]"
        watched.wait_for_the_end()


def test_a_process_that_left_the_group_holds_nobody_up(
    tmp_path: Path, commands: Commands, fifo: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    leaves = 'import os; os.setsid(); os.write(os.open("gate", os.O_WRONLY), b"x"); os.execvp("yes", ["yes"])'
    with Watched(fifo) as watched:  # it floods the output for as long as somebody reads
        text = commands.run(f"exec 3>fifo; {sys.executable} -c '{leaves}' & cat gate >/dev/null")
        assert text.startswith("[exit code 0")
        watched.wait_for_the_end()


def test_nothing_is_left_of_commands() -> None:
    script = """
import os, threading
from agentkit_loop.commands import command_tool
from agentkit_loop.tool_context import ToolContext

def descriptors():
    return sorted(os.listdir("/dev/fd"))

before = descriptors()
tool = command_tool(".", timeout_s=0.2, grace_s=0.1)
for command in ("true", "sleep 600 & echo", "sleep 600", "trap '' TERM; sleep 600", "exec >&-; sleep 600"):
    tool(command)
cancelled = ToolContext(print, call_id="c")
cancelled.cancel()
tool("sleep 600", context=cancelled)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print(descriptors() == before, threading.active_count())
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed == "True 1\n"


def test_ctrl_c_while_a_command_runs_ends_it(fifo: Path) -> None:
    script = (
        "from agentkit_loop.commands import command_tool\n"
        f"command_tool({str(fifo.parent)!r})('exec 3>fifo; echo there >&3; sleep {LONG_S}')"
    )
    with Watched(fifo) as watched:
        process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
        watched.wait_for_line()
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate()[1]
        watched.wait_for_the_end()


# --- in a loop


def test_an_agent_runs_commands(tmp_path: Path) -> None:
    call = ScriptedCall(name="run_command", input={"command": "echo hello; exit 2"})
    agent = Agent(ScriptedModel([Reply(calls=(call,)), Reply(text="Done.")]), tools=[command_tool(tmp_path)])
    result = agent.run("Go")
    (output,) = [part for item in result.items for part in item.parts if isinstance(part, ToolResultPart)]
    assert (output.output, output.is_error) == ("[exit code 2]\nhello", False)


def test_the_tool_carries_its_summary_and_asks_nobody(tmp_path: Path) -> None:
    tool = command_tool(tmp_path, timeout_s=7)
    assert tool.summary is not None
    assert tool.summary({"command": "git status"}) == "run: git status"
    assert not tool.approval
    assert not tool.idempotent
    assert tool.timeout_s is not None
    assert tool.timeout_s > 7


class Watched:
    """The reading end of a FIFO that processes hold."""

    def __init__(self, fifo: Path) -> None:
        self._fifo = fifo

    def __enter__(self) -> Self:
        self._fd = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._events = select.poll()
        self._events.register(self._fd, select.POLLIN)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    def wait_for_line(self) -> None:
        """Wait until a process has written something."""
        assert self._read(), "nobody is there any more"

    def wait_for_the_end(self) -> None:
        """Wait until nobody holds the FIFO."""
        while self._read():
            pass

    def _read(self) -> bytes:
        assert self._events.poll(MOST_S * 1e3), "nothing happened"
        return os.read(self._fd, 1_000)
