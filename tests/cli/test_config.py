"""`agentkit config`, and what AGENTKIT_CONTENT and AGENTKIT_DISABLED do to the logs of other commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit_reporting import check_log, configure
from agentkit_reporting.configuration.keys import KEYS
from tests.cli.goldens import GOLDEN, check_golden, printed, write_goldens
from tests.cli.test_command_line import agentkit

GOOD = """\
[storage]
directory = "logs"
tools = true
traces = "sums.jsonl"

[storage.rotation]
max_mb = 100
keep = 10

[redaction]
rules = ["secrets", "email", "phone", "us_ssn"]

[event_bus]
async_dispatch = true

[event_bus.subscribers]
"agent.session_complete" = ["metrics", "log"]

[policies.observers.log]
policy = "fail_fast"

[reporters]
stdout = true
usage = { keep_requests = false }

[limits]
max_cost_usd = 2.5
"""
BAD = """\
[storage]
toolsPath = "tools.jsonl"
fsync = "allways"

[storage.rotation]
max_bytes = "100MB"

[event_bus.subscribers]
"agent.session_complete" = ["slack"]

[subscribers.oncall]
kind = "pagerduty"
routing_key = "R0123456789"
\"\\u001b[31mred\" = 1
"""
OUTPUTS = {
    "config.txt": ["config", "good.toml"],
    "config_colour.txt": ["config", "good.toml"],
    "config.json": ["config", "--json", "good.toml"],
    "config_template.toml": ["config", "--template"],
    "config_check.txt": ["config", "--check", "good.toml"],
    "config_check_colour.txt": ["config", "--check", "good.toml"],
    "config_check.json": ["config", "--check", "--json", "good.toml"],
    "config_faults_colour.txt": ["config", "--check", "bad.toml"],
    "config_faults.json": ["config", "--check", "--json", "bad.toml"],
}
FAULTS = "config_faults.txt"
"""What is piped of a check that fails; its lines are as long as they are, for who looks through them."""


def make(directory: Path) -> None:
    """Write the configurations."""
    (directory / "good.toml").write_text(GOOD, encoding="utf-8")
    (directory / "bad.toml").write_text(BAD, encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    make(tmp_path)
    yield tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "good.toml"], "something was made"


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_command_prints_what_it_printed(place: Path, name: str) -> None:
    check_golden(name, OUTPUTS[name], place)


def test_a_check_that_fails_prints_each_fault_with_its_line_and_exits_1(place: Path) -> None:
    assert printed(FAULTS, ["config", "--check", "bad.toml"], place) == (GOLDEN / FAULTS).read_text()
    result = agentkit("config", "--check", "bad.toml", cwd=place)
    assert (result.returncode, result.stderr) == (1, "")
    assert agentkit("config", "--check", "good.toml", cwd=place).returncode == 0


def test_a_configuration_with_faults_is_not_shown(place: Path) -> None:
    result = agentkit("config", "bad.toml", cwd=place)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("agentkit: bad.toml:") == 6


def test_the_template_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text(agentkit("config", "--template", cwd=tmp_path).stdout)
    result = agentkit("config", "--check", cwd=tmp_path)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "agentkit.toml: ok")
    configure(tmp_path / "agentkit.toml", environ={}).close()


def checked(place: Path, text: str, *options: str, **environment: str) -> str:
    """Return what a check of a configuration that works prints."""
    (place / "x.toml").write_text(f"[storage]\nlog = false\n{text}", encoding="utf-8")
    result = agentkit("config", "--check", *options, "x.toml", cwd=place, given=None, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    return " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("keys", "environment", "told"),
    [
        ("", {}, "http://localhost:4318/v1/traces (the default)"),
        ('service_name = "zoo"', {}, "http://localhost:4318/v1/traces (the default), service_name zoo"),
        (
            'endpoint = "http://host:1"',
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
            "http://host:1/v1/traces",
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:word@host:1/?token=abc"},
            "http://***@host:1/v1/traces (OTEL_EXPORTER_OTLP_ENDPOINT)",
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://host:1/x"},
            "http://host:1/x (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)",
        ),
        ('endpoint_env = "ZOO"', {"ZOO": "http://me:word@host:1/to-ken"}, "http://***@host:1 (ZOO)"),
    ],
    ids=["default", "service", "file", "variable", "own-variable", "named"],
)
def test_where_spans_are_sent_is_told_without_credentials(
    tmp_path: Path, keys: str, environment: dict[str, str], told: str
) -> None:
    shown = json.loads(checked(tmp_path, f"[tracing]\n{keys}\n", "--json", **environment))
    assert shown["observers"] == [{"name": "tracing", "class": "TracingReporter", "detail": told}]


def test_a_protocol_that_is_not_spoken_is_a_fault_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[storage]\nlog = false\n[tracing]\n", encoding="utf-8")
    result = agentkit("config", "--check", "x.toml", cwd=tmp_path, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert result.returncode == 1
    assert result.stdout.startswith("x.toml:3: tracing: OTEL_EXPORTER_OTLP_PROTOCOL='grpc' refused; ")


@pytest.mark.parametrize(
    ("content", "variable", "who"),
    [('[redaction]\ncontent = "metadata"', "", "x.toml:6"), ("", "metadata", "AGENTKIT_CONTENT")],
    ids=["file", "variable"],
)
def test_content_that_is_asked_for_and_not_told_is_warned_of(
    tmp_path: Path, content: str, variable: str, who: str
) -> None:
    text = f"[tracing]\ncontent = true\n{content}\n"
    warning = (
        "x.toml:4: tracing.content=true tells nothing because redaction.content is 'metadata' "
        f'({who}); say "full" there, or leave tracing.content out'
    )
    assert f"x.toml: ok {warning} " in checked(tmp_path, text, AGENTKIT_CONTENT=variable)
    shown = json.loads(checked(tmp_path, text, "--json", AGENTKIT_CONTENT=variable))
    assert (shown["ok"], shown["warnings"]) == (True, [warning])
    assert json.loads(checked(tmp_path, "[tracing]\ncontent = true\n", "--json"))["warnings"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["none.toml", "--check"],
            "agentkit: none.toml: cannot be read: No such file or directory; check the path",
        ),
        (["--template", "--json"], "--template refused beside FILE and other options; give it alone"),
    ],
    ids=["missing", "template"],
)
def test_wrong_usage_exits_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = agentkit("config", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_what_is_no_toml_is_a_fault_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[storage\n")
    result = agentkit("config", "--check", "x.toml", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("x.toml: not TOML: ")


def test_where_each_value_came_from_is_told(place: Path) -> None:
    result = agentkit(
        "config", "--json", cwd=place, AGENTKIT_LOG_DIR="elsewhere", AGENTKIT_CONFIG="good.toml"
    )
    told = json.loads(result.stdout)
    found = {each["key"]: (each["value"], each["from"]) for each in told["settings"]}
    assert found["storage.directory"] == ("elsewhere", "AGENTKIT_LOG_DIR")
    assert found["storage.rotation.keep"] == (10, "good.toml:8")
    assert found["storage.fsync"] == ("interval", "default")
    fixed = [key.name for key in KEYS if "*" not in key.name and not key.name.startswith("subscribers.")]
    assert set(fixed) <= set(found)


def test_of_variables_with_secrets_only_whether_they_are_set_is_told(tmp_path: Path) -> None:
    text = '[event_bus.subscribers]\n"agent.*" = ["slack"]\n[subscribers.slack]\nurl_env = "HOOK"\n'
    (tmp_path / "agentkit.toml").write_text(text)
    address = "https://hooks.example.com/services/hunter2"
    shown = agentkit("config", cwd=tmp_path, HOOK=address)
    assert '"HOOK" (set)' in shown.stdout
    for options in ([], ["--json"], ["--check"], ["--check", "--json"]):
        result = agentkit("config", *options, cwd=tmp_path, HOOK=address)
        assert result.returncode == 0
        assert "hunter2" not in result.stdout + result.stderr
    assert "HOOK is not set" in agentkit("config", "--check", cwd=tmp_path).stdout


def test_a_check_says_that_all_is_switched_off(place: Path) -> None:
    result = agentkit("config", "--check", "good.toml", cwd=place, AGENTKIT_DISABLED="true")
    assert result.stdout == "good.toml: ok\nswitched off by AGENTKIT_DISABLED: nothing is made\n"


# --- other commands


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_the_log_of_the_demo_is_written_without_content(tmp_path: Path, content: str) -> None:
    result = agentkit("demo", "--folder", "d", cwd=tmp_path, AGENTKIT_CONTENT=content)
    assert result.returncode == 0
    assert "sold more" in result.stdout  # what is shown is whole
    (log,) = (tmp_path / "d" / "logs").glob("*.jsonl")
    text = log.read_text()
    assert "sold more" not in text
    assert "report.md" not in text
    assert check_log([log]).fault_count == 0
    assert agentkit("show", str(log), cwd=tmp_path).returncode == 0


def test_the_demo_writes_no_log_where_all_is_switched_off(tmp_path: Path) -> None:
    result = agentkit("demo", "--folder", "d", cwd=tmp_path, AGENTKIT_DISABLED="1")
    assert result.returncode == 0
    assert result.stdout.endswith("log     none, since AGENTKIT_DISABLED is set\n")
    assert not (tmp_path / "d" / "logs").exists()


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [("AGENTKIT_CONTENT", "metdata", "metadata"), ("AGENTKIT_DISABLED", "yess", "yes")],
)
@pytest.mark.parametrize("command", ["demo", "config"])
def test_a_wrong_word_in_a_variable_is_refused(
    tmp_path: Path, command: str, variable: str, value: str, meant: str
) -> None:
    result = agentkit(command, cwd=tmp_path, given=None, **{variable: value})
    assert result.returncode == 2
    assert f"{variable}={value!r} refused because it is n" in result.stderr
    assert f"did you mean {meant!r}?" in result.stderr
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
    write_goldens({FAULTS: ["config", "--check", "bad.toml"]}, make)
