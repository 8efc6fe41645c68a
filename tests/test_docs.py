"""Docs that fail the build when they lie. `python -m tests.test_docs` writes the generated parts anew."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
from click.testing import CliRunner

from agentkit_loop.events import EVENT_TYPES, HEADER_FIELDS, PAYLOAD_FIELDS, AgentEvent, UnknownEvent
from agentkit_loop.moves import MOVES, Verdict, verdict
from agentkit_loop.state import Phase
from agentkit_reporting.cli import agentkit
from benchmarks.table import in_short, kept

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - set((ROOT / "examples").glob("test_*.py")))


def events_table() -> str:
    """Return the table of events, from the classes."""
    rows = ["| category | event | fields | told when |", "|---|---|---|---|"]
    last = ""
    classes: list[type[AgentEvent]] = [*EVENT_TYPES.values(), UnknownEvent]
    for cls in classes:
        fields = ", ".join(f"`{name}`" for name in PAYLOAD_FIELDS[cls])
        first = (cls.__doc__ or "").split("\n\n")[0].replace("\n    ", " ").strip()
        rows.append(
            f"| {cls.category if cls.category != last else ''} | `{cls.__name__}` | {fields} | {first} |"
        )
        last = cls.category
    return "\n".join(rows)


def moves_table() -> str:
    """Return the table of moves: a row for each phase."""
    rows = ["| phase | taken | late |", "|---|---|---|"]
    for phase in Phase:
        cells = [
            ", ".join(f"`{signal.__name__}`" for signal in MOVES if verdict(signal, phase) is wanted)
            for wanted in (Verdict.TAKEN, Verdict.LATE)
        ]
        rows.append(f"| {phase.value} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def help_pages() -> Iterator[list[str]]:
    """Yield the commands that have a page of help, those of groups after their group."""
    yield []
    for name in agentkit.list_commands(None):  # type: ignore[arg-type] # needs none
        yield [name]
        command = agentkit.get_command(None, name)  # type: ignore[arg-type] # the same
        if isinstance(command, click.Group):
            yield from ([name, inner] for inner in command.list_commands(None))  # type: ignore[arg-type] # the same


def help_text() -> str:
    """Return the command line's help, as a console shows it at 80 columns."""
    runner = CliRunner()
    shown = []
    for arguments in help_pages():
        command = " ".join(["agentkit", *arguments, "--help"])
        result = runner.invoke(agentkit, [*arguments, "--help"], prog_name="agentkit", terminal_width=80)
        shown.append(f"$ {command}\n{result.output.rstrip()}")
    return "```console\n" + "\n\n".join(shown) + "\n```"


def demo_capture() -> str:
    """Return what `agentkit demo` prints, with ids and times that differ from run to run as dots.

    Which of two tools at once ends first is chance; the page shows a run in which the shorter one did.
    """
    for _ in range(50):
        with tempfile.TemporaryDirectory() as folder:
            printed = subprocess.run(
                [sys.executable, "-m", "agentkit_reporting.cli", "demo", "--no-colour"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
                env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
            ).stdout
        if 0 < printed.find('✓ add_up(file="north') < printed.find('✓ add_up(file="south'):
            break
    printed = re.sub(r"ses_[0-9a-z]+", "ses_…", printed)
    printed = re.sub(r"<1 ms|\d+(\.\d+)? m?s\b", "… ms", printed)
    printed = re.sub(r'(\{"file": "\w+\.csv").*', r"\1…", printed)  # cut where the time before it leaves room
    return f"```console\n$ agentkit demo\n{printed.rstrip()}\n```"


def speed_table() -> str:
    """Return the short table of what the benchmarks found last."""
    return in_short(list(kept().values()))


GENERATED = {
    (README, "speed"): speed_table,
    (README, "capture"): demo_capture,
    (README, "events"): events_table,
    (README, "help"): help_text,
    (ARCHITECTURE, "moves"): moves_table,
}


def generated_part(path: Path, name: str) -> re.Match[str]:
    """Find a generated part by its comment."""
    found = re.search(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"{path.name} has no part {name}"
    return found


@pytest.mark.parametrize(("path", "name"), list(GENERATED), ids=lambda value: getattr(value, "name", value))
def test_a_generated_part_is_up_to_date(path: Path, name: str) -> None:
    stands = generated_part(path, name).group(2).strip()
    assert stands == GENERATED[path, name](), "run `python -m tests.test_docs`"


@pytest.mark.parametrize("mark", re.findall(r"<!-- example: (\S+) -->", README.read_text(encoding="utf-8")))
def test_an_example_in_the_readme_is_the_one_that_runs(mark: str) -> None:
    block = re.search(
        rf"<!-- example: {mark} -->\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert block is not None
    assert block.group(1) == (ROOT / mark).read_text(encoding="utf-8"), "run `python -m tests.test_docs`"


EXPECTED = {
    "audit_logger.py": "TOOL_CALL {",
    "composite.py": "207 tokens",
    "control_points.py": "paid 90 to bob",
    "direct_views.py": "1 infrastructure retry, 1 escalation, peak 2 costs by phase {'1': '0.0174'}",
    "handwritten_loop.py": "80 tokens sent",
    "production_log.py": "True · complete: 18 of 18 · complete: 18 of 18",
    "incident.py": 'monday called look_up(order="A-17"), tuesday called look_up(order="17")',
    "pipe_events.py": '"type":"run_finished"',
    "readme_agent.py": "It is an agent with one tool. 421",
    "real_model.py": "It is Friday. $0.005804",
    "telemetry.py": "step 0: reasoning (observed): I do not know the figures.",
    "spans.py": "the same ids live and from the log: True",
    "tool_call_counter.py": "3 tool calls",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs_offline_and_prints_what_it_should(example: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    assert EXPECTED[example.name] in result.stdout
    assert result.stderr == ""


def test_events_piped_to_a_terminal_show_the_run(tmp_path: Path) -> None:
    python = shlex.quote(sys.executable)
    pipe = f"{python} {ROOT / 'examples' / 'pipe_events.py'} | {python} -m agentkit_reporting.cli show -"
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        ["bash", "-c", pipe], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    assert "It is the 24th of May." in result.stdout
    assert "▸ today()" in result.stdout
    assert result.stderr == ""


def test_the_python_in_the_readme_runs_on_the_examples_log(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    whole = "\n".join(blocks)  # the first one writes the log that the last one reads
    (tmp_path / "all.py").write_text(whole, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    subprocess.run([sys.executable, "all.py"], cwd=tmp_path, check=True, capture_output=True, env=environment)


@pytest.mark.parametrize(
    "mark", re.findall(r"<!-- commands: (\S+) -->", README.read_text(encoding="utf-8")) or ["none"]
)
def test_commands_of_the_readme_run_one_after_the_other(mark: str, tmp_path: Path) -> None:
    found = re.search(
        rf"<!-- commands: {mark} -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    python = shlex.quote(sys.executable)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "agentkit"
    command.write_text(f'#!/bin/sh\nexec {python} -m agentkit_reporting.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = {
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "PATH": f"{command.parent}:/usr/bin:/bin",
    }
    result = subprocess.run(
        ["bash", "-e", "-c", found.group(1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr


def test_commands_in_the_readme_are_one_line_each() -> None:
    for mark in ("demo", "tests"):
        block = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        assert block is not None
        assert block.group(1).count("\n") == 1
        assert block.group(1).startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_every_field_of_every_event_is_described() -> None:
    for cls in (*EVENT_TYPES.values(), UnknownEvent, AgentEvent):
        names = PAYLOAD_FIELDS.get(cls, HEADER_FIELDS)
        described = set(re.findall(r"\b(\w+)\b(?=[\w, ]*:)", cls.__doc__ or ""))
        assert set(names) <= described, cls.__name__
        assert cls is AgentEvent or [field.name for field in attrs.fields(cls)][:6] == list(HEADER_FIELDS)


def test_architecture_is_at_most_150_lines() -> None:
    assert ARCHITECTURE.read_text(encoding="utf-8").count("\n") <= 150


def write() -> None:
    """Write the generated parts and the examples anew."""
    for (path, name), make in GENERATED.items():
        found = generated_part(path, name)
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text[: found.start(2)]}{make()}\n{text[found.end(2) :]}", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    for example in re.findall(r"<!-- example: (\S+) -->", text):
        source = (ROOT / example).read_text(encoding="utf-8")
        pattern = rf"(<!-- example: {example} -->\n```python\n).*?(```)"
        text = re.sub(pattern, lambda m, source=source: m[1] + source + m[2], text, flags=re.DOTALL)  # type: ignore[misc] # bound now
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
