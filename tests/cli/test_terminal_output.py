"""What the commands print of hostile logs, names and words is text: nothing controls the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import JsonlReporter
from agentkit_reporting.cli.question_screen import QuestionScreen
from agentkit_reporting.codec import encode_event
from tests.cli.questions import Terminal
from tests.cli.test_command_line import agentkit
from tests.reporting.terminal_parser import ATTACKS, controls_in
from tests.reporting.test_terminal_paths import events_of

HOSTILE = "".join(text for name, text in ATTACKS.items() if name != "lone surrogates")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log whose every text is an attack, in whole and in broken lines."""
    lines = []
    for name, attack in {**ATTACKS, "all": HOSTILE}.items():
        if name == "lone surrogates":
            continue  # no line can hold them; as bytes, below
        for seq, event in enumerate(events_of(attack), start=1):
            told = attrs.evolve(event, session_id=attack, run_id=attack, turn_id=attack, seq=seq)
            lines.append(encode_event(told))
        bad = json.dumps({"v": 1, attack: attack, "type": attack}, ensure_ascii=False)
        lines += [bad.encode(), attack.encode(), b'{"v":1,"seq":"' + attack.encode()]
    lines += [b"\xed\xa0\x80\xed\xb2\x9b", b"\x9b2J\x1b[2J", b'{"v":1,"type":"\xff\x9b"}']
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "-v", "--no-colour"),
        ("show", "--strict"),
        ("check",),
        ("check", "--json"),
        ("cost",),
        ("cost", "--json", "--by", "session", "--by", "metadata.x"),
        ("cost", "--explain", "--by", "model", "--by", "turn", "--by", "run"),
        ("cost", "--by", HOSTILE.replace("\0", "")),
        ("replay",),
        ("resume",),
        ("show", "--session", HOSTILE.replace("\0", "")),
    ],
    ids=" ".join,
)
def test_no_command_lets_a_log_control_the_terminal(log: Path, arguments: tuple[str, ...]) -> None:
    result = agentkit(*arguments, log.name, cwd=log.parent)
    assert result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert controls_in(result.stdout) == []
    assert controls_in(result.stderr) == []


def test_colours_are_the_only_escapes_of_a_shown_log(log: Path) -> None:
    shown = agentkit("show", "-v", "--colour", log.name, cwd=log.parent).stdout
    assert "\x1b[" in shown
    assert controls_in(shown, colour=True) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "{}"),
        ("check", "{}.jsonl"),
        ("show", "--{}"),
        ("{}",),
        ("show", "--width", "{}", "x"),
        ("--debug", "show", "{}"),
        ("replay", "--agent", "x", "{}"),
        ("run", "--model", "{}", "--{}", "x"),
        ("schema", "{}"),
    ],
    ids=" ".join,
)
def test_words_of_the_command_line_are_told_visibly_since_a_pattern_may_give_hostile_names(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    text = "\x1b]0;owned\x07\x9b2J\u202e\u200bx"
    result = agentkit(*(word.replace("{}", text) for word in arguments), cwd=tmp_path)
    assert result.returncode != 0
    assert controls_in(result.stdout + result.stderr) == []
    assert "x1b" in result.stderr


def test_a_hostile_file_name_is_told_visibly(log: Path) -> None:
    folder = log.parent / "\x1b]0;owned\x07\x9b\u202e"
    folder.mkdir()
    named = folder / "\x1b[2J.jsonl"
    named.write_bytes(log.read_bytes())
    for command in ("check", "show", "cost", "resume", "replay", "scan", "check --json", "scan --json"):
        words = command.split()
        result = agentkit(*words, str(named if words[0] in {"resume", "replay"} else folder), cwd=log.parent)
        assert controls_in(result.stdout + result.stderr) == []


def test_a_file_name_that_is_no_text_is_told_so_that_it_can_be_used_again(tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"a\xff\x9b2J.jsonl")
    secret = "sk-ant-api03-" + "A1b2C3d4" * 12
    with Agent(ScriptedModel([secret]), observers=[JsonlReporter(named, redact=False)]) as agent:
        agent.run("hi")
    named.write_bytes(named.read_bytes() + b"no event\n")
    for command in ("check", "scan"):
        result = agentkit(command, "--json", named.name, cwd=tmp_path)
        assert "Traceback" not in result.stderr
        assert controls_in(result.stdout + result.stderr) == []
        told = json.loads(result.stdout.splitlines()[0])
        assert (told if command == "scan" else told["faults"][0])["path"] == named.name


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_a_person_is_asked_about_controls_nothing(attack: str) -> None:
    with Terminal() as terminal:
        with QuestionScreen(terminal.path, colour=False) as screen:
            screen.say(attack)
            screen.show([("", attack), ("", f"x {attack * 3} y")], whole=True)
            screen.say("end of it")
        terminal.wait_for("end of it")
        terminal.read_to_the_end()
        assert controls_in(terminal.text) == []
