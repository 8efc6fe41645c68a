"""configure(): what was said, and secrets, reach nobody whom the configuration keeps them from, on any way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop import Agent
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_reporting import Configured, configure, register_subscriber

KEY = "sk-ant-api03-" + "A1b2C3d4" * 12
RECORDS = """
[storage]
tools = true
decisions = true
steps = true
traces = true
[event_bus]
async_dispatch = false
[event_bus.subscribers]
"""
RULES = '[[rules]]\nmetric = "tool_calls"\nop = ">"\nvalue = 0\nper = "tool"\n'


def made(directory: Path, more: str, **arguments: Any) -> Configured:
    (directory / "x.toml").write_text(RECORDS + more, encoding="utf-8")
    return configure(directory / "x.toml", directory=directory / "logs", environ={}, **arguments)


def written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / "logs").rglob("*.jsonl")}


def fails(query: str) -> str:
    raise ValueError(query)


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_what_is_told_to_a_record_directly_is_written_without_content(tmp_path: Path, content: str) -> None:
    with made(tmp_path, "", content=content) as telemetry:
        telemetry["tools"].instrument("search", lambda query: {"found": f"zebra {query}"})("zebra")
        with pytest.raises(ValueError, match="zebra"):
            telemetry["tools"].instrument("fails", fails)("zebra")
        telemetry["decisions"].log(
            "ses-1", step=3, type="tool_selection", detail="zebra", metadata={"args": "zebra"}
        )
    files = written(tmp_path)
    assert "zebra" not in "".join(files.values())
    calls = [json.loads(line) for line in files["tools.jsonl"].splitlines()]
    assert [(call["tool_name"], call["status"]) for call in calls] == [("search", "ok"), ("fails", "error")]
    assert calls[1]["error"]["type"] == "ValueError"
    assert bool(calls[1]["error"]["frames"][0].startswith("[redacted")) is (content == "off")
    (decision,) = [json.loads(line) for line in files["decisions.jsonl"].splitlines()]
    assert (decision["step"], decision["type"]) == (3, "tool_selection")


@pytest.mark.parametrize("content", ["metadata", "off"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_the_host_emits_reaches_subscribers_without_content(
    tmp_path: Path, content: str, is_async: bool
) -> None:
    heard: list[Mapping[str, Any]] = []

    async def hear(payload: Mapping[str, Any]) -> None:
        heard.append(payload)

    register_subscriber("hears", lambda _: hear if is_async else heard.append)
    with made(tmp_path, '"**" = ["hears"]\n"order.*" = ["hears"]\n', content=content) as telemetry:
        told = {"session_id": "ses-1", "timestamp": 1.5, "item": "zebra", "list": ["zebra"]}
        assert telemetry.dispatcher is not None
        telemetry.dispatcher.emit("order.placed", told)
    assert "zebra" not in repr(heard)
    assert [(each["session_id"], each["timestamp"]) for each in heard] == [("ses-1", 1.5)] * 2
    assert [getattr(each, "topic", "") for each in heard] == ["order.placed"] * 2


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_a_secret_in_the_name_of_a_tool_reaches_no_record_no_alert_and_no_subscriber(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Mapping[str, Any]] = []
    register_subscriber("hears", lambda _: heard.append)
    (tmp_path / "alerts.toml").write_text(RULES)
    more = '"**" = ["hears"]\n[alerts]\nrules = "alerts.toml"\n'
    call = ScriptedCall(name=f"x_{KEY}", input={"a": KEY})
    with (
        made(tmp_path, more, content=content) as telemetry,
        Agent(
            ScriptedModel([Reply(text="", calls=(call,)), Reply(text=KEY)]), **telemetry.agent_settings()
        ) as agent,
    ):
        agent.run(KEY)
    alerts = [record.getMessage() for record in caplog.records if record.name == "agentkit.alerts"]
    assert len(alerts) == 1
    told = [each for each in heard if getattr(each, "topic", "") == "alert.firing"]
    assert [each["message"] for each in told] == [alerts[0].removeprefix("firing: ")]
    assert KEY[:30] not in "".join([*written(tmp_path).values(), *alerts, repr(heard)])


def test_rules_for_persons_do_not_switch_off_those_for_secrets(tmp_path: Path) -> None:
    more = '[redaction]\nrules = ["email", "us_ssn"]\n'
    with (
        made(tmp_path, more) as telemetry,
        Agent(ScriptedModel(["done"]), **telemetry.agent_settings()) as agent,
    ):
        agent.run(f"ann@example.com has {KEY}")
    log = written(tmp_path)["run.jsonl"]
    assert KEY not in log
    assert "ann@example.com" not in log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[alerts]\n",
            'x.toml:1: alerts refused without rules; name their file, as in rules = "alerts.toml"',
        ),
        (
            '[alerts]\ntopic = "x"\n',
            'x.toml:1: alerts refused without rules; name their file, as in rules = "alerts.toml"',
        ),
        (
            '[alerts]\nrules = "alerts.toml"\ntopic = "x"\n',
            "x.toml:3: alerts.topic refused because there is no event bus to tell; add [event_bus], or leave it out",
        ),
        (
            "[[alerts.rules]]\nmetric = 1\n",
            "x.toml:1: alerts.rules=[{'metric': 1}] refused; give the name of a file of tables [[rules]]",
        ),
    ],
    ids=["empty", "topic alone", "topic without a bus", "rules inside"],
)
def test_alerts_that_nobody_would_ever_hear_of_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "alerts.toml").write_text(RULES)
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path / "x.toml", environ={})
    assert str(caught.value).replace(f"{tmp_path}/", "") == said


def test_a_missing_file_of_rules_stops_no_agent_where_all_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[alerts]\nrules = "none.toml"\n')
    with configure(tmp_path / "x.toml", environ={"AGENTKIT_DISABLED": "1"}) as telemetry:
        assert telemetry.observers == ()


def test_a_directory_that_was_removed_under_the_process_breaks_nothing(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        "from agentkit_reporting import configure\n"
        f"print(configure(directory={str(tmp_path)!r}, environ={{}}).names)"
    )
    root = str(Path(__file__).parent.parent.parent)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": root}
    )
    assert (result.stdout, result.stderr) == ("('log',)\n", "")
