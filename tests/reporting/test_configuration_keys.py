"""Every key of a configuration: a wrong value, a wrong name, its default; and what the template says of it."""

from __future__ import annotations

import contextlib
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit_loop.limits import Limits
from agentkit_reporting import (
    EventDispatcher,
    JsonlReporter,
    LoggingReporter,
    PrometheusMetrics,
    Redactor,
    Rotation,
    StdoutReporter,
    UsageReporter,
    WebhookSink,
)
from agentkit_reporting.configuration.checks import check_together
from agentkit_reporting.configuration.configured import checked_settings
from agentkit_reporting.configuration.faults import ConfigurationFault, FaultList, InvalidConfigurationError
from agentkit_reporting.configuration.finding import ConfigurationFile
from agentkit_reporting.configuration.keys import KEYS, Key, key_named
from agentkit_reporting.configuration.kinds import ANYTHING
from agentkit_reporting.configuration.observers import planned_names
from agentkit_reporting.configuration.settings import Settings
from agentkit_reporting.configuration.subscribers import LogSubscriber
from agentkit_reporting.configuration.template import template_text, toml_value
from agentkit_reporting.configuration.validation import check_keys
from agentkit_reporting.toml_source import TomlSource
from tests.reporting.configuration_files import written

SECRET = "sk-ant-api03-" + "aB3dE6gH9jK2" * 4


def faults_of(path: Path, text: str, environ: dict[str, str] | None = None) -> list[ConfigurationFault]:
    """Return what is wrong with a file."""
    path.write_text(text, encoding="utf-8")
    _, faults = checked_settings(path, {}, environ or {})
    try:
        faults.raise_all()
    except InvalidConfigurationError as error:
        return list(error.faults)
    return []


def told_of(path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the sentences, without the directory of the file."""
    return [str(fault).replace(f"{path.parent}/", "") for fault in faults_of(path, text, environ)]


@pytest.mark.parametrize("key", [key for key in KEYS if key.kind is not ANYTHING], ids=lambda key: key.name)
def test_a_wrong_value_is_refused_with_its_line_and_its_name(tmp_path: Path, key: Key) -> None:
    text, line, name = written(key, "1979-05-27")
    found = faults_of(tmp_path / "agentkit.toml", text)
    assert [(fault.line, fault.key) for fault in found][:1] == [(line, name)]
    assert found[0].place == f"{tmp_path}/agentkit.toml:{line}"
    assert found[0].text.startswith(f"{name}=" if not key.kind.hides else f"{name} refused")
    assert found[0].text.endswith(key.kind.remedy(None))


@pytest.mark.parametrize(
    ("word", "meant"),
    [("yes", "true"), ("True", "true"), (" on ", "true"), ("OFF", "false"), ("no", "false"), ("0", "false")],
)
@pytest.mark.parametrize("name", ["storage.tools", "reporters.stdout", "redaction.enabled"])
def test_a_word_for_a_switch_is_no_name_of_a_file(tmp_path: Path, name: str, word: str, meant: str) -> None:
    section, _, key = name.rpartition(".")
    (told,) = told_of(tmp_path / "agentkit.toml", f'[{section}]\n{key} = "{word}"\n')
    assert told == f"agentkit.toml:2: {name}={word!r} refused; give {meant} without quotes"


def test_a_file_may_have_any_other_name(tmp_path: Path) -> None:
    assert told_of(tmp_path / "agentkit.toml", '[storage]\ntools = "yes.jsonl"\ntraces = "online"\n') == []


@pytest.mark.parametrize("key", [key for key in KEYS if "*" not in key.path[-1]], ids=lambda key: key.name)
def test_of_a_misspelled_key_the_right_one_is_told(tmp_path: Path, key: Key) -> None:
    section, _, name = key.name.rpartition(".")
    wrong = f"{name[:1]}{name}"
    head = f"[{section.replace('*', 'log')}]\n" if section else ""
    found = faults_of(tmp_path / "agentkit.toml", f"{head}{wrong} = 1\n")
    assert found[0].line == 1 + bool(head)
    assert "refused because there is no such key; did you mean " in found[0].text
    assert repr(name) in found[0].text or name == "kind"


@pytest.mark.parametrize("key", [key for key in KEYS if key.also], ids=lambda key: key.name)
def test_what_others_call_a_key_is_known(tmp_path: Path, key: Key) -> None:
    section = key.name.rpartition(".")[0].replace("*", "log")
    for other in key.also:
        found = faults_of(tmp_path / "agentkit.toml", f"[{section}]\n{other} = 1\n")
        assert key.path[-1] in found[0].text


CASES = (Path(__file__).parent.parent / "golden" / "configuration_faults.txt").read_text().split("\n====\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.partition("\n----\n")[2].split(" refused")[0])
def test_what_does_not_go_together_is_told_in_one_sentence(tmp_path: Path, case: str) -> None:
    text, _, said = case.partition("\n----\n")
    assert told_of(tmp_path / "agentkit.toml", f"{text}\n") == [said.strip()]


def test_all_faults_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = '[limits]\nmax_turns = 0\n[storage]\nper = "run"\nfsync = 1\n[limit]\n'
    found = faults_of(tmp_path / "agentkit.toml", text)
    assert [fault.line for fault in found] == [2, 4, 5, 6]


SECRETS = {
    "a url": f'[subscribers.slack]\nurl = "https://hooks.slack.com/services/{SECRET}"\n',
    "in a variable's name": f'[subscribers.slack]\nurl_env = "{SECRET}"\n',
    "a token": '[subscribers.webhook]\ntoken = "hunter2hunter2"\n',
    "a routing key": '[subscribers.pagerduty]\nrouting_key = "hunter2hunter2"\n',
    "as a key": f'[storage]\n"{SECRET}" = 1\n',
    "as a value": f'[storage]\nremote = "{SECRET}"\n',
    "in a list": f'[redaction]\nrules = ["{SECRET}"]\n',
    "as a topic": f'[event_bus.subscribers]\n"{SECRET}" = ["log"]\n',
    "as a section": f"[{SECRET}]\n",
    "in a template": f'[subscribers.webhook]\ntemplate = {{ key = "{SECRET}" }}\n',
    "under a secret name in a template": '[subscribers.webhook]\ntemplate = { api_key = "hunter2hunter2" }\n',
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_file_is_refused_and_never_shown(tmp_path: Path, name: str) -> None:
    found = faults_of(tmp_path / "agentkit.toml", SECRETS[name])
    assert found
    told = "\n".join(f"{fault} {fault.key}" for fault in found)
    assert SECRET[13:30] not in told
    assert "hunter2" not in told
    assert "environment" in told


def arguments_of(made: Callable[..., Any]) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(made).parameters.items()}


@pytest.mark.parametrize(
    ("section", "made"),
    [
        ("limits", Limits),
        ("event_bus", EventDispatcher),
        ("storage.rotation", Rotation),
        ("reporters.stdout", StdoutReporter),
        ("reporters.usage", UsageReporter),
        ("reporters.logging", LoggingReporter),
        ("subscribers.webhook", WebhookSink),
        ("subscribers.slack", WebhookSink),
        ("subscribers.log", LogSubscriber),
        ("subscribers.metrics", PrometheusMetrics),
    ],
    ids=str,
)
def test_keys_are_the_arguments_of_what_they_make_and_defaults_are_theirs(
    section: str, made: Callable[..., Any]
) -> None:
    arguments = arguments_of(made)
    own = {"max_mb", "kind", "url_env", "token_env", "text", "levels"}
    for key in KEYS:
        head, _, name = key.name.rpartition(".")
        if head == section and name not in own and name != "*":
            assert name in arguments, key.name
            if key.default is not None:
                assert key.default == arguments[name], key.name


def test_keys_of_the_log_and_of_redaction_are_those_of_their_classes() -> None:
    log = arguments_of(JsonlReporter)
    for name in ("per", "deltas", "fsync", "fsync_interval_ms", "remote"):
        assert key_named(f"storage.{name}").default == log[name]
    redactor = arguments_of(Redactor)
    for name in ("mode", "keep_arguments", "fail_closed"):
        assert key_named(f"redaction.{name}").default == redactor[name]
    assert key_named("redaction.rules").default == list(redactor["rules"])


def test_the_template_is_a_configuration_that_changes_nothing(tmp_path: Path) -> None:
    assert told_of(tmp_path / "agentkit.toml", template_text()) == []
    found, _ = checked_settings(tmp_path / "agentkit.toml", {}, {})
    assert {setting.origin for setting in found.all()} == {"default"}
    assert max(map(len, template_text().splitlines())) <= 110


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_is_in_the_template_and_works_as_it_stands_there(tmp_path: Path, key: Key) -> None:
    lines = template_text().splitlines()
    section, _, name = key.name.rpartition(".")
    section = section.replace("*", "log")
    if any(other.name.startswith(f"{key.name}.") for other in KEYS):  # a switch, whose table is there
        lines.index(f"#[{key.name}]")
        return
    start = (
        0
        if not section
        else next(n for n, line in enumerate(lines) if line in (f"[{section}]", f"#[{section}]"))
    )
    wanted = {
        "redaction.patterns": "ticket",
        "reporters.logging.levels": "tool_call_requested",
        "tracing.headers_env": "Authorization",
    }.get(section, name)
    wanted = '"agent.session_complete"' if section == "event_bus.subscribers" else wanted
    line = next(line for line in lines[start:] if line.startswith(f"#{wanted} = "))[1:]
    head = f"[{section}]\n" if section else ""
    text = f"{head}{line}\n"
    tomllib.loads(text)
    found = faults_of(tmp_path / "agentkit.toml", text)
    needs_more = ("storage.rotation", "alerts", "prices", "event_bus.subscribers", "subscribers.")
    needs_variable = ("tracing.endpoint_env", "tracing.headers_env")
    if not key.name.startswith((*needs_more, *needs_variable)):
        assert found == []
    assert all("no such key" not in fault.text and "refused; give" not in fault.text for fault in found)


@pytest.mark.parametrize(
    "value", [True, 1_048_576, 2.5, 'a "b" \\ \n é', ["x", 1], {"a b": {"c": ["d"]}}], ids=repr
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


NAMES = st.sampled_from(sorted({name for key in KEYS for name in key.path if name != "*"}))
VALUES = st.recursive(
    st.none().map(lambda _: "x")
    | st.booleans()
    | st.integers(-1, 50)
    | st.floats()
    | st.text(max_size=4)
    | NAMES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


# No deadline: the first file that names prices, rules or patterns loads their modules, which takes as long as it takes.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_whatever_stands_in_a_file_is_judged_and_never_crashes(values: dict[str, Any]) -> None:
    text = "".join(f"{toml_value(name)} = {toml_value(value)}\n" for name, value in values.items())
    file = ConfigurationFile(TomlSource("x.toml", text), (), Path.cwd())
    faults = FaultList(file.source)
    check_keys(file.values, faults)
    found = Settings(file, {}, {}, faults)
    check_together(found, planned_names(found), faults)
    assert all(setting.name for setting in found.all())
    with contextlib.suppress(InvalidConfigurationError):
        faults.raise_all()
