"""`agentkit scan` and `agentkit scrub` as a user meets them: real processes over real logs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting import JsonlReporter, read_events
from tests.cli.test_command_line import agentkit
from tests.reporting.redaction_samples import ANTHROPIC, GITHUB, HUNTER, JWT

SECRETS = (ANTHROPIC[7:], GITHUB[4:], HUNTER, JWT[3:])
KEY = "a key that is nobody's"


def login(user: str, password: str) -> str:
    """Log in."""
    return f"welcome {user}, {GITHUB}, {len(password)}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with secrets from everybody, with a torn line in it that has one too."""
    path = tmp_path / "run.jsonl"
    call = ScriptedCall(name="login", input={"user": "ann", "password": HUNTER})
    replies = [Reply(text=f"I use {ANTHROPIC}. ", calls=(call,), chunk_chars=4), Reply(text="Done.")]
    with Agent(
        ScriptedModel(replies), tools=[tool(login)], observers=[JsonlReporter(path, redact=False)]
    ) as agent:
        agent.run(f"hi, write to ann@example.org {JWT}")
    lines = path.read_bytes().splitlines(keepends=True)
    torn = f'{{"v":1,"seq":3,"ts":"x {ANTHROPIC}\n'.encode()
    path.write_bytes(b"".join([*lines[:2], torn, *lines[2:]]))
    return path


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text]


def test_scan_tells_where_secrets_stand_and_never_shows_one(log: Path) -> None:
    result = agentkit("scan", log.name, cwd=log.parent)
    assert result.returncode == 1
    assert_no_secret(result.stdout, result.stderr)
    lines = result.stdout.splitlines()
    assert f"{log.name}:2: seq 2 jwt in items[0].parts[0].text" in lines
    assert f"{log.name}:3: anthropic_key in (bad line)" in lines
    whole = [line for line in lines if line.endswith("anthropic_key in delta.part.text")]
    assert len(whole) == 1
    assert [line for line in lines if line.endswith("anthropic_key in delta.chunk")]
    assert [line for line in lines if line.endswith("keyed_secret in call.input.password")]
    assert [line for line in lines if line.endswith("github_token in output")]
    assert "skipped run.jsonl:3:" in result.stderr
    assert "secrets found" in result.stderr


def test_scan_prints_json_and_takes_rules_and_patterns(log: Path) -> None:
    result = agentkit(
        "scan", log.name, "--json", "--rule", "email", "--pattern", "done=(Done)", cwd=log.parent
    )
    assert result.returncode == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {one["rule"] for one in found} == {"email", "done"}
    first = next(one for one in found if one["rule"] == "email")
    assert first == {
        "path": "run.jsonl",
        "line": 2,
        "seq": 2,
        "rule": "email",
        "field": "items[0].parts[0].text",
        "count": 1,
    }


def test_scan_of_a_log_without_a_secret_ends_with_0(log: Path) -> None:
    result = agentkit("scan", log.name, "--rule", "us_ssn", cwd=log.parent)
    assert (result.returncode, result.stdout) == (0, "")
    assert "no secret found" in result.stderr
    packed = log.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert agentkit("scan", packed.name, cwd=log.parent).returncode == 1
    assert agentkit("scan", "-", cwd=log.parent, given=log.read_bytes()).returncode == 1
    strict = agentkit("scan", log.name, "--strict", cwd=log.parent)
    assert strict.returncode == 2
    assert "run.jsonl" in strict.stderr


def test_scrub_writes_a_log_in_which_scan_finds_nothing(log: Path) -> None:
    before = log.read_bytes()
    result = agentkit("scrub", log.name, "-o", "clean/run.jsonl", cwd=log.parent)
    assert result.returncode == 0, result.stderr
    assert "masked in" in result.stderr
    assert "skipped run.jsonl:3:" in result.stderr
    assert_no_secret(result.stdout, result.stderr)
    clean = log.parent / "clean" / "run.jsonl"
    assert log.read_bytes() == before
    assert_no_secret(clean.read_text())
    assert clean.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in clean.parent.iterdir()] == ["run.jsonl"]
    events, scrubbed = list(read_events(log)), list(read_events(clean, strict=True))
    assert [event.seq for event in scrubbed] == [event.seq for event in events]
    again = agentkit("scan", "clean", cwd=log.parent)
    assert (again.returncode, again.stdout) == (0, "")
    replayed = agentkit("replay", "clean/run.jsonl", cwd=log.parent)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_scrub_says_in_json_what_it_did(log: Path) -> None:
    result = agentkit(
        "scrub", log.name, "-o", "out.jsonl", "--json", "--rule", "jwt", "--rule", "email", cwd=log.parent
    )
    told = json.loads(result.stdout)
    events = len(list(read_events(log)))
    assert told == {"events": events, "changed": 1, "left_out": 1, "masked": {"email": 1, "jwt": 1}}
    assert ANTHROPIC in (log.parent / "out.jsonl").read_text()


def test_scrub_writes_to_a_pipe_and_takes_modes_and_arguments_to_keep(log: Path) -> None:
    piped = agentkit("scrub", "-", "-o", "-", "--mode", "drop", cwd=log.parent, given=log.read_bytes())
    assert piped.returncode == 0
    assert_no_secret(piped.stdout)
    assert "[redacted" not in piped.stdout
    missing = agentkit("scrub", log.name, "-o", "a.jsonl", "--mode", "pseudonym", cwd=log.parent)
    assert missing.returncode == 2
    assert "its key is missing; give key= or AGENTKIT_PSEUDONYM_KEY" in missing.stderr
    options = ("--mode", "pseudonym", "--keep-argument", "password")
    result = agentkit(
        "scrub", log.name, "-o", "a.jsonl", *options, cwd=log.parent, AGENTKIT_PSEUDONYM_KEY=KEY
    )
    assert result.returncode == 0, result.stderr
    text = (log.parent / "a.jsonl").read_text()
    assert_no_secret(text)
    assert KEY not in text + result.stdout + result.stderr
    assert '"user":"[redacted:argument:' in text
    assert '"password":"[redacted:keyed_secret:' in text


def test_scrub_overwrites_nothing_and_leaves_nothing_half_done(log: Path) -> None:
    before = log.read_bytes()
    for output in (log.name, f"./{log.name}", str(log), f"../{log.parent.name}/{log.name}"):
        result = agentkit("scrub", log.name, "-o", output, cwd=log.parent)
        assert result.returncode == 2
        assert "this file is there already; give a new one" in result.stderr
    (log.parent / "link.jsonl").symlink_to("nowhere.jsonl")
    assert agentkit("scrub", log.name, "-o", "link.jsonl", cwd=log.parent).returncode == 2
    assert agentkit("scrub", log.name, "-o", f"{log.name}/x", cwd=log.parent).returncode == 2
    wrong = agentkit("scrub", log.name, "-o", "b.jsonl", "--rule", "jtw", cwd=log.parent)
    assert (wrong.returncode, "rule 'jtw' refused" in wrong.stderr) == (2, True)
    unnamed = agentkit("scan", log.name, "--pattern", "abc", cwd=log.parent)
    assert (unnamed.returncode, "give NAME=REGEX" in unnamed.stderr) == (2, True)
    assert log.read_bytes() == before
    assert sorted(path.name for path in log.parent.iterdir()) == ["link.jsonl", "run.jsonl"]


def test_hostile_names_in_a_log_do_not_control_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Agent(ScriptedModel([Reply(text="x")]), observers=[JsonlReporter(path, redact=False)]) as agent:
        agent.run("go", metadata={"\x1b]0;owned\x07\n": {"token": HUNTER}})
    result = agentkit("scan", path.name, cwd=tmp_path)
    assert result.returncode == 1
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_a_scan_of_nothing_finds_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    result = agentkit("scan", "empty.jsonl", cwd=tmp_path)
    assert (result.returncode, "no event in empty.jsonl" in result.stderr) == (1, True)


def test_what_is_said_of_a_bad_line_quotes_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    head = '{"v":1,"seq":1,"ts":"2026-05-24T18:40:00Z","type":"input_accepted","session_id":"s","run_id":"r"'
    path.write_text(
        f'{head},"turn_id":null,"payload":{{"items":[{{"kind":"{ANTHROPIC}","parts":[]}}]}}}}\n{ANTHROPIC}\n'
    )
    for command in (("scan", path.name), ("scrub", path.name, "-o", "out.jsonl"), ("check", path.name)):
        result = agentkit(*command, cwd=tmp_path)
        assert_no_secret(result.stdout, result.stderr)
        assert "invalid enum value - at `$.payload.items[0].kind`" in result.stdout + result.stderr


def test_scan_and_scrub_count_alike_also_where_a_text_speaks_of_masks(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    text = f"PASSWORD=[redacted] or [redacted:jwt], token=[redacted:x] and {ANTHROPIC}."
    for size in (1, 4, 11):
        path.unlink(missing_ok=True)
        model = ScriptedModel([Reply(text=text, chunk_chars=size)])
        with Agent(model, observers=[JsonlReporter(path, redact=False)]) as agent:
            agent.run("hi")
        found = agentkit("scan", path.name, "--json", cwd=tmp_path).stdout.splitlines()
        told = agentkit("scrub", path.name, "-o", f"{size}.jsonl", "--json", cwd=tmp_path).stdout
        assert {json.loads(one)["rule"] for one in found} == {"anthropic_key"}
        assert json.loads(told)["masked"] == {"anthropic_key": sum(json.loads(one)["count"] for one in found)}


def test_a_scrub_of_what_is_no_log_writes_none_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_bytes(b"\x00\x01\x02 no log\n")
    result = agentkit("scrub", "other.jsonl", "-o", "out.jsonl", cwd=tmp_path)
    assert (result.returncode, "no event in other.jsonl" in result.stderr) == (1, True)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_scrub_says_how_much_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Agent(ScriptedModel(["hello"]), observers=[JsonlReporter(path)]) as agent:
        agent.run("hi")
    with path.open("a") as file:
        file.write("no event\nnor this\n")
    result = agentkit("scrub", path.name, "-o", "out.jsonl", cwd=tmp_path)
    assert (result.returncode, "; 2 lines that are no event left out" in result.stderr) == (0, True)
