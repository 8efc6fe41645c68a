"""`[tracing]` of a configuration: spans and metrics over OTLP, by its keys, without a secret in the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from agentkit_loop import Agent
from agentkit_loop.testing import Reply, ScriptedModel
from agentkit_reporting import TracingReporter, configure
from agentkit_reporting.configuration.faults import InvalidConfigurationError
from agentkit_reporting.configuration.keys import key_named
from agentkit_reporting.tracing.conventions import ProfileName
from tests.otlp_receiver import OtlpReceiver, attributes_of

ROOT = Path(__file__).parent.parent.parent
PROMPT = "look for the zebra"

NO_PLACE = "refused because a secret does not belong into a file"
NAMED = "put it into an environment variable, and name that where there is a key for it"
NOT_SET = "refused because ZOO_KEY is not set in the environment; set it, or name another"
NOT_INSTALLED = "opentelemetry-exporter-otlp-proto-http is not installed"


def written(place: Path, text: str) -> Path:
    path = place / "agentkit.toml"
    head, table = ("", text) if text.startswith("[") or not text else (text, "")
    path.write_text(f"{head}[storage]\nlog = false\n{table}", encoding="utf-8")
    return path


def fault_of(place: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(InvalidConfigurationError) as caught:
        configure(written(place, text), environ=environ or {})
    (fault,) = caught.value.faults
    return fault.text


def run(path: Path, environ: Mapping[str, str]) -> None:
    with configure(path, environ=environ) as telemetry:
        settings = telemetry.agent_settings()
        with Agent(ScriptedModel([Reply(text="a zebra")]), **settings) as agent:
            agent.run(PROMPT)


def sent(place: Path, keys: str, environ: Mapping[str, str]) -> tuple[OtlpReceiver, list[dict[str, object]]]:
    """Return what arrives of a run: the receiver, and the attributes of each span."""
    with OtlpReceiver() as receiver:
        run(written(place, f'[tracing]\nendpoint = "{receiver.endpoint}"\n{keys}'), environ)
        return receiver, [attributes_of(span) for span in receiver.spans]


def test_a_run_is_sent_as_the_table_says(tmp_path: Path) -> None:
    keys = """
service_name = "zoo"
profile = "all"
[tracing.headers_env]
x-api-key = "ZOO_KEY"
"""
    receiver, spans = sent(tmp_path, keys, {"ZOO_KEY": " abc \n"})
    assert {span["gen_ai.operation.name"] for span in spans} == {"invoke_agent", "chat"}
    assert all("openinference.span.kind" in span for span in spans)
    (resource,) = {
        attributes_of(each.resource)["service.name"]
        for request in receiver.traces
        for each in request.resource_spans
    }
    assert resource == "zoo"
    assert {headers["x-api-key"] for headers in receiver.headers} == {"abc"}
    assert receiver.metrics


def test_an_endpoint_that_is_secret_is_named(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        path = written(tmp_path, '[tracing]\nendpoint_env = "ZOO_URL"\n')
        run(path, {"ZOO_URL": receiver.endpoint.replace("//", "//me:word@")})
        assert len(receiver.spans) == 2


def test_metrics_can_be_left_out(tmp_path: Path) -> None:
    receiver, spans = sent(tmp_path, "metrics = false", {})
    assert (len(spans), receiver.metrics) == (2, [])


@pytest.mark.parametrize(
    ("said", "variable", "is_told"),
    [("", "", False), ("content = true", "", True), ("content = true", "metadata", False)],
    ids=["default", "told", "not-told-by-the-variable"],
)
def test_what_was_said_is_told_only_where_all_allow_it(
    tmp_path: Path, said: str, variable: str, is_told: bool
) -> None:
    _, spans = sent(tmp_path, said, {"AGENTKIT_CONTENT": variable})
    assert (PROMPT in repr(spans)) is is_told


def test_content_of_the_redaction_table_is_obeyed(tmp_path: Path) -> None:
    _, spans = sent(tmp_path, 'content = true\n[redaction]\ncontent = "off"\n', {})
    assert PROMPT not in repr(spans)


def test_patterns_of_the_redaction_table_are_masked(tmp_path: Path) -> None:
    _, spans = sent(tmp_path, 'content = true\n[redaction.patterns]\nanimal = "zebra"\n', {})
    assert "look for the" in repr(spans)
    assert "zebra" not in repr(spans)


def test_an_observer_is_there_by_the_presence_of_the_table(tmp_path: Path) -> None:
    with configure(written(tmp_path, "[tracing]\nmetrics = false\n"), environ={}) as telemetry:
        assert telemetry.names == ("tracing",)
        assert type(telemetry["tracing"]) is TracingReporter
    for text in ("", "[tracing]\nenabled = false\n[tracing.headers_env]\nx = 'NOT_SET'\n"):
        assert configure(written(tmp_path, text), environ={}).names == ()


def test_its_own_policy_is_found_by_its_name(tmp_path: Path) -> None:
    text = '[tracing]\nmetrics = false\n[policies.observers.tracing]\npolicy = "ignore"\n'
    with configure(written(tmp_path, text), environ={}) as telemetry:
        assert telemetry.names == ("tracing",)


def test_where_reporting_is_switched_off_nothing_is_made_or_looked_for(tmp_path: Path) -> None:
    text = '[tracing]\n[tracing.headers_env]\nx-api-key = "NOT_SET"\n'
    assert configure(written(tmp_path, text), disabled=True, environ={}).names == ()


def test_the_profiles_are_those_of_the_reporter() -> None:
    assert key_named("tracing.profile").kind.choices == get_args(ProfileName)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[tracing]\nendpoint = "localhost:4318"\n',
            "tracing.endpoint: endpoint='localhost:4318' refused, which has no scheme; write 'http://localhost:4318'",
        ),
        (
            '[tracing]\nendpoint = "http://me:word@host"\n',
            f"tracing.endpoint {NO_PLACE}; {NAMED}, as in endpoint_env",
        ),
        (
            '[tracing]\nendpoint = "http://word@host"\n',
            f"tracing.endpoint {NO_PLACE}; put it into an environment variable, and name that as endpoint_env",
        ),
        (
            '[tracing]\nendpoint = "http://host"\nendpoint_env = "ZOO_URL"\n',
            "tracing.endpoint refused beside tracing.endpoint_env; give one of them",
        ),
        (
            '[tracing.headers_env]\nx-api-key = "ZOO_KEY"\n',
            f"tracing.headers_env.x-api-key {NOT_SET}",
        ),
        (
            '[tracing.headers_env]\nAuthorization = "Bearer abc"\n',
            f"tracing.headers_env.Authorization refused; {key_named('tracing.headers_env.*').kind.wanted}",
        ),
        (
            '[tracing.headers_env]\n"x api" = "ZOO_KEY"\n',
            (
                "tracing.headers_env.\"x api\": a header's name that begins with 'x' refused for a sign that HTTP does "
                "not allow; use letters, digits and '-'"
            ),
        ),
        (
            '[tracing.headers]\nAuthorization = "Bearer abc"\n',
            f"tracing.headers {NO_PLACE}; name an environment variable as 'headers_env'",
        ),
        (
            '[tracing]\nattributes = "all"\n',
            "tracing.attributes refused because there is no such key; did you mean 'profile'?",
        ),
        ("tracing = true\n", "tracing refused because it is true; write a table [tracing]"),
        ("tracing = [1]\n", "tracing refused because it is a list; write a table [tracing]"),
    ],
    ids=[
        "no-scheme",
        "password",
        "token",
        "two",
        "not-set",
        "literal",
        "header",
        "headers",
        "attributes",
        "switch",
        "list",
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    assert fault_of(tmp_path, text) == told


def test_a_header_that_http_has_not_is_not_shown(tmp_path: Path) -> None:
    text = '[tracing]\n[tracing.headers_env]\nx-api-key = "ZOO_KEY"\n'
    told = fault_of(tmp_path, text, {"ZOO_KEY": "to\nken"})
    assert told == (
        "tracing: the value of header 'x-api-key' refused; give a text of one line without spaces around it"
    )


CHECKED = """
import sys
from pathlib import Path
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.configuration.configured import checked_settings
blocked = sys.argv[2] == "without"
if blocked:
    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "opentelemetry":
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Missing())
settings, faults = checked_settings(sys.argv[1], {}, {})
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.trace"))]
try:
    faults.raise_all()
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ("with", ""),
        ("without", f"tracing refused because {NOT_INSTALLED}; install agentkit-loop[otel]"),
    ],
    ids=["with", "without"],
)
def test_a_check_loads_no_opentelemetry_and_says_what_is_missing(
    tmp_path: Path, installed: str, told: str
) -> None:
    path = written(tmp_path, "[tracing]\n")
    command = [sys.executable, "-c", CHECKED, str(path), installed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip().removeprefix(f"{path}:3: ") == told


@pytest.mark.parametrize(
    "value", ["localhost:4318", "grpc://me:word@host", "sk-secret word"], ids=["no-scheme", "grpc", "secret"]
)
def test_a_variable_that_holds_no_endpoint_is_named_and_not_shown(tmp_path: Path, value: str) -> None:
    assert fault_of(tmp_path, '[tracing]\nendpoint_env = "ZOO_URL"\n', {"ZOO_URL": value}) == (
        "tracing.endpoint_env refused because ZOO_URL holds no http(s) address that spans can be sent to; "
        "set it to one such as 'http://localhost:4318'"
    )
