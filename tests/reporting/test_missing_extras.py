"""What an extra brings is asked for when it is first needed, and its lack is one sentence that names it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "made", "extra"),
    [
        ("tenacity", "WebhookSink('https://host/secret')", "webhook"),
        ("prometheus_client", "PrometheusMetrics()", "prometheus"),
        ("opentelemetry", "TracingReporter()", "otel"),
    ],
)
def test_without_an_extra_the_error_names_it(module: str, made: str, extra: str) -> None:
    program = (
        f"import sys\nsys.modules[{module!r}] = None\nfrom agentkit_reporting import *\n"
        f"try: {made}\nexcept Exception as error: print(type(error).__name__, error, sep=': ')"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ConfigurationError: a ")
    assert said.endswith(f" is not installed; install agentkit-loop[{extra}]\n")
    assert said.count("\n") == 1
    assert "secret" not in said
