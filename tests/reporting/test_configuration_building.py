"""configure(): what is made of a configuration, in which order, what wins, and that all is checked before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop import Agent, FailurePolicy, LoopObserver, tool
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunFinished
from agentkit_loop.observers import Registration
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_reporting import (
    JsonlReporter,
    UsageReporter,
    check_log,
    configure,
    read_events,
    register_observer,
    register_subscriber,
)
from agentkit_reporting.configuration.faults import FaultList, InvalidConfigurationError
from agentkit_reporting.configuration.finding import ConfigurationFile
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.toml_source import TomlSource
from tests.reporting.hook_server import HookServer

ROOT = Path(__file__).parent.parent.parent
PROMPT = "look for the zebra"

EVERYTHING = """
[storage]
directory = "logs"
tools = true
traces = "sums.jsonl"
decisions = true
steps = true
usage = true
metrics = true
fsync = "never"
deltas = "none"

[storage.rotation]
max_mb = 1
keep = 3

[redaction]
rules = ["secrets", "email"]
keep_arguments = ["word"]

[redaction.patterns]
ticket = "TICKET-[0-9]+"

[event_bus]
async_dispatch = true

[event_bus.subscribers]
"agent.session_complete" = ["noted", "log"]
"agent.**" = ["metrics"]

[policies]
failure_policy = "accumulate"
disable_after = 9

[policies.observers.log]
policy = "fail_fast"

[reporters]
usage = true
transcript = true
logging = true

[limits]
max_turns = 4
max_cost_usd = 0.1
unpriced = "allow"
"""


@tool
def look(word: str, note: str) -> str:
    """Look for a word."""
    return f"{word} and {note}"


def run(settings: Mapping[str, Any]) -> None:
    call = ScriptedCall(name="look", input={"word": "zebra", "note": "TICKET-42 of ann@example.com"})
    model = ScriptedModel([Reply(text="I look.", calls=(call,)), Reply(text="There it is.")])
    with Agent(model, tools=[look], **settings) as agent:
        agent.run(PROMPT)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def files(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.name[0] != "."
    )


def test_a_run_writes_what_is_configured(tmp_path: Path) -> None:
    told: list[str] = []
    register_subscriber("noted", lambda _: lambda payload: told.append(payload["outcome"]))
    file = write(tmp_path / "agentkit.toml", EVERYTHING)
    with configure(file, environ={}) as telemetry:
        run(telemetry.agent_settings())
    assert files(tmp_path / "logs") == [
        "decisions.jsonl", "metrics/invocations.jsonl", "run.jsonl", "steps.jsonl", "sums.jsonl", "tools.jsonl",
        "usage.jsonl",
    ]  # fmt: skip
    assert told == ["completed"]
    log = tmp_path / "logs" / "run.jsonl"
    assert check_log([log]).fault_count == 0
    for path in (log, tmp_path / "logs" / "tools.jsonl", tmp_path / "logs" / "steps.jsonl"):
        text = path.read_text()
        assert "zebra" in text
        assert "TICKET-42" not in text
        assert "ann@example" not in text
    assert isinstance(telemetry["usage"], UsageReporter)
    series = {(each.kind.name, each.labels): each.value for each in telemetry.subscribers["metrics"].series()}  # type: ignore[attr-defined] # a MetricsSubscriber
    assert series["agentkit_runs", ("completed",)] == 1
    assert series["agentkit_tool_calls", ("look", "ok")] == 1
    finished = [event for event in read_events(log) if isinstance(event, RunFinished)]
    assert len(finished[0].observers) >= len(telemetry.names)


def test_observers_come_in_order_and_have_names_and_policies(tmp_path: Path) -> None:
    register_subscriber("noted", lambda _: lambda _payload: None)
    with configure(write(tmp_path / "agentkit.toml", EVERYTHING), environ={}) as telemetry:
        assert telemetry.names == (
            "log", "tools", "traces", "decisions", "steps", "usage_store", "metrics", "usage", "transcript", "logging",
            "event_bus",
        )  # fmt: skip
        assert telemetry.failure_policy is FailurePolicy.ACCUMULATE
        first, second = telemetry.observers[:2]
        assert isinstance(first, Registration)
        assert (first.policy, first.disable_after) == (FailurePolicy.FAIL_FAST, 9)
        assert isinstance(second, Registration)
        assert (second.policy, second.disable_after) == (None, 9)
        assert telemetry.limits is not None
        assert telemetry.limits.max_cost_usd == Decimal("0.1")
        assert telemetry.prices is None
        assert telemetry.dispatcher is telemetry["event_bus"]
        assert set(telemetry.agent_settings()) == {"observers", "failure_policy", "limits"}
    telemetry.close()  # twice is harmless


def test_without_a_file_there_is_one_event_log(in_directory: Path) -> None:
    with configure(environ={}) as telemetry:
        run(telemetry.agent_settings())
    assert files(in_directory) == ["agentkit-logs/run.jsonl"]


@pytest.fixture
def in_directory(tmp_path: Path) -> Iterator[Path]:
    """Be in a directory of the test's own for as long as it runs."""
    before = Path.cwd()
    place = tmp_path / "project" / "inner"
    place.mkdir(parents=True)
    os.chdir(place)
    yield place
    os.chdir(before)


def test_the_nearest_pyproject_with_the_table_is_found_and_its_paths_are_beside_it(
    in_directory: Path,
) -> None:
    write(in_directory / "pyproject.toml", '[project]\nname = "agentkit-user"\n')
    write(in_directory.parent / "pyproject.toml", '[tool.agentkit.storage]\ndirectory = "out"\n')
    with configure(environ={}) as telemetry:
        assert telemetry["log"].path == in_directory.parent / "out" / "run.jsonl"
    assert telemetry.settings.setting("storage.directory").origin == "../pyproject.toml:2"


def test_a_fault_in_a_pyproject_names_its_line(in_directory: Path) -> None:
    write(in_directory / "pyproject.toml", '[project]\nname = "x"\n\n[tool.agentkit.limits]\nmax_turn = 1\n')
    with pytest.raises(
        InvalidConfigurationError, match=r"^pyproject\.toml:5: limits\.max_turn refused .* 'max_turns'\?$"
    ):
        configure(environ={})


def test_an_argument_then_the_variable_then_agentkit_toml_then_pyproject(in_directory: Path) -> None:
    def turns(path: Path | None = None, **environ: str) -> int | None:
        with configure(path, environ=environ) as telemetry:
            return None if telemetry.limits is None else telemetry.limits.max_turns

    write(in_directory / "pyproject.toml", "[tool.agentkit.limits]\nmax_turns = 1\n")
    assert turns() == 1
    write(in_directory / "agentkit.toml", "[limits]\nmax_turns = 2\n")
    assert turns() == 2
    third = write(in_directory / "third.toml", "[limits]\nmax_turns = 3\n")
    assert turns(AGENTKIT_CONFIG=str(third)) == 3
    fourth = write(in_directory / "fourth.toml", "[limits]\nmax_turns = 4\n")
    assert turns(fourth, AGENTKIT_CONFIG=str(third)) == 4


CHOICES: dict[str, tuple[str, list[Any]]] = {
    "storage.directory": ("AGENTKIT_LOG_DIR", ["a", "b", "c"]),
    "redaction.content": ("AGENTKIT_CONTENT", ["full", "metadata", "off"]),
    "disabled": ("AGENTKIT_DISABLED", [True, False]),
}


@given(st.data(), st.sampled_from(sorted(CHOICES)))
def test_an_argument_wins_over_the_environment_that_over_the_file_that_over_the_default(
    data: st.DataObject, name: str
) -> None:
    variable, choices = CHOICES[name]
    given_values = {
        source: data.draw(st.sampled_from([None, *choices])) for source in ("argument", "variable", "file")
    }
    section, _, key = name.rpartition(".")
    value = given_values["file"]
    head = f"[{section}]\n" if section else "# a comment\n"
    text = "" if value is None else f"{head}{key} = {json.dumps(value)}\n"
    in_environment = given_values["variable"]
    shown = {True: "yes", False: "0"}.get(in_environment, in_environment)
    faults = FaultList(source := TomlSource("x.toml", text))
    settings = Settings(
        ConfigurationFile(source, (), Path.cwd()),
        {} if shown is None else {variable: shown},
        {name: given_values["argument"]},
        faults,
    )
    faults.raise_all()
    origins = {"argument": "argument", "variable": variable, "file": "x.toml:2"}
    wins = next((source for source, value in given_values.items() if value is not None), None)
    setting = settings.setting(name)
    if wins is None:
        assert setting.origin == "default"
    else:
        assert (setting.value, setting.origin) == (given_values[wins], origins[wins])


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"AGENTKIT_CONTENT": "ful"},
            "AGENTKIT_CONTENT='ful' refused because it is no choice; did you mean 'full'?",
        ),
        (
            {"AGENTKIT_DISABLED": "ture"},
            "AGENTKIT_DISABLED='ture' refused because it is neither yes nor no; did you mean 'true'?",
        ),
        (
            {"AGENTKIT_CONFIG": "none.toml"},
            "none.toml: cannot be read: No such file or directory; check the path (AGENTKIT_CONFIG)",
        ),
    ],
    ids=["content", "disabled", "config"],
)
def test_a_wrong_value_of_a_variable_is_refused_with_the_right_one(
    in_directory: Path, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(environ=environ)
    assert str(caught.value) == said
    assert files(in_directory) == []


def test_nothing_is_made_where_anything_is_wrong(in_directory: Path) -> None:
    write(in_directory / "agentkit.toml", EVERYTHING.replace('"noted"', '"nobody there"'))
    with pytest.raises(InvalidConfigurationError, match="'nobody there' refused because nobody is called so"):
        configure(environ={})
    assert files(in_directory) == ["agentkit.toml"]
    assert not (in_directory / "logs").exists()


def test_what_cannot_be_made_is_told_with_its_line_and_nothing_is_left(in_directory: Path) -> None:
    write(in_directory / "taken", "no directory")
    write(in_directory / "foreign.jsonl", "something else\n")
    text = '[storage]\nlog = "taken/run.jsonl"\nsteps = "foreign.jsonl"\ndirectory = "."\n'
    write(in_directory / "agentkit.toml", text)
    with pytest.raises(InvalidConfigurationError) as caught:
        configure(environ={})
    assert [fault.line for fault in caught.value.faults] == [2, 3]
    assert "is no directory" in str(caught.value)
    assert files(in_directory) == ["agentkit.toml", "foreign.jsonl", "taken"]


class Closing(LoopObserver):
    """An observer that says when it is closed."""

    def __init__(self) -> None:
        self.told: list[AgentEvent] = []
        self.closed = 0

    def handle_event(self, event: AgentEvent) -> None:
        self.told.append(event)

    def close(self) -> None:
        self.closed += 1


def test_an_observer_of_the_hosts_is_made_by_its_registered_name(tmp_path: Path) -> None:
    made: list[Mapping[str, Any]] = []
    observer = Closing()

    def make(settings: Mapping[str, Any]) -> Closing:
        made.append(settings)
        return observer

    register_observer("hosts_own", make)
    text = "[storage]\nlog = false\n[reporters.hosts_own]\ndepth = 3\n[policies.observers.hosts_own]\n"
    with configure(write(tmp_path / "x.toml", text), environ={}) as telemetry:
        assert telemetry["hosts_own"] is observer
        run(telemetry.agent_settings())
    assert made == [{"depth": 3}]
    assert observer.told
    assert observer.closed >= 1


def test_what_a_factory_raises_is_told_with_the_line_of_its_settings(tmp_path: Path) -> None:
    def refuse(settings: Mapping[str, Any]) -> None:
        raise ConfigurationError(f"depth={settings['depth']!r} refused; give less")

    def crash(settings: Mapping[str, Any]) -> None:
        raise KeyError(settings["depth"])

    register_observer("picky", refuse)  # type: ignore[arg-type] # it makes nothing
    register_subscriber("crashing", crash)  # type: ignore[arg-type] # as above
    text = '[event_bus.subscribers]\n"a.*" = ["crashing"]\n[subscribers.crashing]\ndepth = 8\n'
    text += "[reporters.picky]\ndepth = 9\n"
    with pytest.raises(InvalidConfigurationError) as caught:
        configure(write(tmp_path / "x.toml", text), environ={})
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "x.toml:3: subscribers.crashing could not be made: KeyError: 8",
        "x.toml:5: reporters.picky: depth=9 refused; give less",
    ]


RULES = """
[[rules]]
name = "chatty"
metric = "turns"
op = ">"
value = 0
per = "run"
"""


def test_alerts_are_logged_and_reach_the_subscribers_of_their_topic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, str]] = []
    register_subscriber("pager", lambda _: lambda told: heard.append((told["state"], told["rule"])))
    (tmp_path / "alerts.toml").write_text(RULES)
    text = '[storage]\nlog = false\n[alerts]\nrules = "alerts.toml"\ntopic = "watch"\n'
    text += (
        '[event_bus]\nasync_dispatch = false\nstamp = true\n[event_bus.subscribers]\n"watch.*" = ["pager"]\n'
    )
    with (
        configure(write(tmp_path / "x.toml", text), environ={}) as told,
        Agent(ScriptedModel(["done"]), **told.agent_settings()) as agent,
    ):
        assert told.names == ("alerts", "event_bus")
        agent.run("go")
    assert heard == [("firing", "chatty")]
    (logged,) = [record for record in caplog.records if record.name == "agentkit.alerts"]
    assert logged.levelname == "WARNING"
    assert "chatty" in logged.getMessage()


def test_wrong_rules_of_alerts_are_faults_of_the_configuration_each_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_text(RULES.replace('"turns"', '"turn"').replace('">"', '"=>"'))
    with pytest.raises(InvalidConfigurationError) as caught:
        configure(write(tmp_path / "x.toml", '[alerts]\nrules = "alerts.toml"\n'), environ={})
    said = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert [line.split(" ")[:3] for line in said] == [
        ["x.toml:2:", "alerts.rules:", "alerts.toml:4:"],
        ["x.toml:2:", "alerts.rules:", "alerts.toml:5:"],
    ]


def python(program: str, *arguments: str, path: Path | None = None) -> str:
    """Return what a program prints, in a process of its own; path: a directory of packages."""
    places = os.pathsep.join(str(each) for each in (ROOT, path) if each is not None)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": places}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, env=environ
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_subscriber_of_an_installed_package_is_loaded_only_when_it_is_named(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (packages / "greeter-1.0.dist-info").mkdir(parents=True)
    write(
        packages / "greeter-1.0.dist-info" / "METADATA",
        "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n",
    )
    write(
        packages / "greeter-1.0.dist-info" / "entry_points.txt",
        "[agentkit.subscribers]\ngreeter = greeter_hooks:made\nbroken = greeter_hooks:missing\n",
    )
    write(
        packages / "greeter_hooks.py",
        "def made(settings):\n"
        "    return lambda payload: print(settings['greeting'], payload['outcome'], payload.topic)\n",
    )
    program = (
        "import sys\n"
        "from agentkit_loop import Agent, ScriptedModel\n"
        "from agentkit_loop.testing import Reply\n"
        "from agentkit_reporting import configure\n"
        "configure(sys.argv[1], environ={}).close()\n"
        "print('greeter_hooks' in sys.modules)\n"
        "with configure(sys.argv[2], environ={}) as telemetry:\n"
        "    Agent(ScriptedModel([Reply(text='x')]), **telemetry.agent_settings()).run('hi')\n"
        "try:\n"
        "    configure(sys.argv[3], environ={})\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    off = write(tmp_path / "off.toml", '[storage]\nlog = false\n[event_bus.subscribers]\n"a.*" = ["log"]\n')
    on = write(
        tmp_path / "on.toml",
        '[storage]\nlog = false\n[event_bus.subscribers]\n"agent.session_complete" = ["greeter"]\n'
        '[subscribers.greeter]\ngreeting = "hello"\n',
    )
    bad = write(tmp_path / "bad.toml", '[event_bus.subscribers]\n"a.*" = ["broken"]\n')
    lines = python(program, str(off), str(on), str(bad), path=packages).splitlines()
    assert lines[:2] == ["False", "hello completed agent.session_complete"]
    assert lines[2].startswith(
        f"{bad}:2: event_bus.subscribers.\"a.*\"[0]: 'broken' refused because its entry point"
    )


def test_dotted_names_are_no_imports(tmp_path: Path) -> None:
    text = '[event_bus.subscribers]\n"a.*" = ["os.path:join", "os.system"]\n'
    with pytest.raises(InvalidConfigurationError) as caught:
        configure(write(tmp_path / "x.toml", text), environ={})
    assert str(caught.value).count("refused because nobody is called so") == 2


def test_a_webhook_takes_its_url_and_token_from_the_environment_and_shows_neither(tmp_path: Path) -> None:
    text = (
        '[storage]\nlog = false\n[event_bus.subscribers]\n"agent.session_complete" = ["hook"]\n'
        '[subscribers.hook]\nkind = "webhook"\nurl_env = "HOOK_URL"\ntoken_env = "HOOK_TOKEN"\n'
        'template = { how = "${outcome}" }\n'
    )
    file = write(tmp_path / "x.toml", text)
    with HookServer() as server:
        environ = {"HOOK_URL": server.url, "HOOK_TOKEN": "hunter2"}
        with configure(file, environ=environ) as telemetry:
            run(telemetry.agent_settings())
            told = f"{telemetry!r} {telemetry.subscribers!r} {list(telemetry.settings.all())!r}"
    assert server.bodies == [{"how": "completed"}]
    assert server.sent[0].headers["Authorization"] == "Bearer hunter2"
    assert "hunter2" not in told
    assert "sk-token" not in told


def test_all_is_switched_off_by_a_variable_but_limits_hold(in_directory: Path) -> None:
    write(in_directory / "agentkit.toml", EVERYTHING.replace('"noted"', '"log"'))
    with configure(environ={"AGENTKIT_DISABLED": "on"}) as telemetry:
        run(telemetry.agent_settings())
    assert telemetry.is_disabled
    assert telemetry.observers == ()
    assert telemetry.limits is not None
    assert files(in_directory) == ["agentkit.toml"]


def test_that_all_is_switched_off_is_logged_once() -> None:
    program = (
        "import logging, sys\n"
        "from agentkit_reporting import configure\n"
        "logging.basicConfig(stream=sys.stdout, format='%(levelname)s %(message)s')\n"
        "for _ in range(3):\n"
        "    configure(environ={'AGENTKIT_DISABLED': '1'}).close()\n"
    )
    assert python(program) == (
        "WARNING no observers are made and no log is written, since AGENTKIT_DISABLED is set\n"
    )


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_without_content_no_observer_is_told_what_was_said(tmp_path: Path, content: str) -> None:
    observer = Closing()
    register_observer(f"watches_{content}", lambda _: observer)
    topics: list[Mapping[str, Any]] = []
    register_subscriber("noted", lambda _: topics.append)
    file = write(tmp_path / "x.toml", f"{EVERYTHING}\n[reporters.watches_{content}]\n")
    with configure(file, environ={"AGENTKIT_CONTENT": content}) as telemetry:
        run(telemetry.agent_settings())
        transcript = telemetry["transcript"].text()
    assert "zebra" not in transcript
    assert "zebra" not in repr(observer.told)
    assert [topic["outcome"] for topic in topics] == ["completed"]
    for path in (tmp_path / "logs").rglob("*.jsonl"):
        assert "zebra" not in path.read_text(), path
    assert check_log([tmp_path / "logs" / "run.jsonl"]).fault_count == 0


def test_a_log_for_each_session_goes_to_the_directory_itself(tmp_path: Path) -> None:
    file = write(tmp_path / "x.toml", '[storage]\nper = "session"\ntools = true\n')
    with configure(file, directory=tmp_path / "here", environ={}) as telemetry:
        run(telemetry.agent_settings())
        assert isinstance(telemetry["log"], JsonlReporter)
    names = files(tmp_path / "here")
    assert len(names) == 2
    assert "tools.jsonl" in names


def test_prices_of_a_file_are_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "mine.toml", "[models.local]\ninput = 1.0\noutput = 2.0\n")
    file = write(tmp_path / "x.toml", '[storage]\nlog = false\n[prices]\nown = "mine.toml"\n')
    with configure(file, environ={}) as telemetry:
        assert telemetry.agent_settings()["prices"] is telemetry.prices
    write(tmp_path / "mine.toml", "[models.local]\ninput = 'x'\n")
    with pytest.raises(InvalidConfigurationError, match=r"prices\.own: .*mine\.toml"):
        configure(file, environ={})
