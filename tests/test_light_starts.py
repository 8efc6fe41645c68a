"""Importing stays light, and so do the commands that read logs: what must not be loaded, and no thread is started."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentkit_loop import Agent, ScriptedModel
from agentkit_reporting import JsonlReporter, stdout
from agentkit_reporting.cli import show

HEAVY = (
    "anthropic",
    "httpx2",
    "httpx",
    "pydantic",
    "genai_prices",
    "rich",
    "asyncio",
    "ssl",
    "http",
    "opentelemetry",
    "obstore",
    "urllib.request",
    "tenacity",
    "prometheus_client",
    "grpc",
    "google",
    "requests",
    "multiprocessing",
    "sqlite3",
    "subprocess",
    "unittest",
    "gzip",
    "zstandard",
)

OF_EVENTS = ("attrs", "msgspec", "logging", "json", "decimal", "hashlib", "pathlib", "urllib.parse")
"""What events, logs and reporters need, and a help text does not."""

OF_SOME = (
    # remote storage; a date in an answer of the provider
    "email",
    "tempfile",
    "shutil",
    "importlib.util",
    # what a log that is rotated or uploaded, and an agent that shortens its transcript, need
    "agentkit_reporting.log.rotate",
    "agentkit_reporting.log.remote",
    "agentkit_loop.compaction",
    # what is wrong, pseudonyms, a wrong name of an argument, an async answer for a synchronous agent
    "logging",
    "traceback",
    "hmac",
    "difflib",
    "concurrent.futures",
    # a request, whose SDK loads them as well
    "hashlib",
    "socket",
    "selectors",
    # nobody
    "random",
    "secrets",
)
"""What an agent, its model and its log wait for only where they need it."""


@pytest.mark.parametrize(
    "statement",
    [
        "import agentkit_loop, agentkit_reporting",
        "from agentkit_loop import Agent, LoopObserver, ScriptedModel, tool",
        "from agentkit_loop import AnthropicModel; AnthropicModel('m')",
        "from agentkit_reporting import JsonlReporter, UsageReporter, TranscriptReporter, read_events",
        "from agentkit_reporting import ChannelReporter, CompositeReporter, LoggingReporter, PolicyReporter",
        "from agentkit_reporting import AuditLedger, DebugReplay, StepLog",
        "import agentkit_reporting.cli.show, agentkit_reporting.cli.schema",
        "from agentkit_reporting import WireCapture; import agentkit_reporting.cli.wire",
        "from agentkit_reporting import EventDispatcher, PrometheusMetrics, WebhookSink, forward_topics",
        "from agentkit_reporting import AlertReporter, AlertRule, read_alert_rules",
        "from agentkit_reporting import TracingReporter",
        "from agentkit_reporting import configure, register_observer, register_subscriber",
        "import agentkit_reporting.cli.config",
        "import agentkit_reporting.cli.export, agentkit_reporting.tracing.otlp",
    ],
)
def test_importing_loads_nothing_heavy_and_starts_no_thread(statement: str) -> None:
    check = (
        f"{statement}\nimport sys, threading\n"
        f"print(sorted(name for name in {HEAVY!r} if name in sys.modules), threading.active_count())"
    )
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[] 1"


def test_an_agent_and_its_log_load_nothing_that_only_some_of_them_need() -> None:
    check = (
        "from agentkit_loop import Agent, AnthropicModel\nfrom agentkit_reporting import JsonlReporter, UsageReporter\n"
        "import sys\n"
        f"print(sorted(name for name in {(*HEAVY, *OF_SOME)!r} if name in sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_packages_themselves_load_nothing_of_ours_and_of_others() -> None:
    check = (
        "import sys, typing\nbefore = {*sys.modules}\nimport agentkit_loop, agentkit_reporting\n"
        "print(sorted({*sys.modules} - before))"
    )
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['agentkit_loop', 'agentkit_reporting']"


OF_THE_LOOP = ("agentkit_loop.agent", "agentkit_loop.driver")
"""What runs agents; who reads logs waits for none of it."""

OF_WRITERS = ("agentkit_reporting.jsonl", "agentkit_reporting.redaction")
"""What writes logs; who only shows one, the most common look at a log, waits for none of it."""

TABLES = {"cache", "diff", "report", "time"}
"""Commands that draw tables, with rich; the others do without it where nobody looks at a terminal."""


@pytest.mark.parametrize(
    "command",
    [
        "show --help",
        "show a.jsonl",
        "cache a.jsonl",
        "check a.jsonl",
        "cost a.jsonl",
        "debug a.jsonl",
        "diff a.jsonl b.jsonl",
        "export perfetto a.jsonl -o a.json",
        "replay a.jsonl",
        "report a.jsonl",
        "scan a.jsonl",
        "scrub a.jsonl -o scrubbed.jsonl",
        "time a.jsonl",
        "wire --help",
    ],
)
def test_a_command_that_reads_logs_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Agent(
            ScriptedModel(["So it is."]), observers=[JsonlReporter(tmp_path / f"{name}.jsonl")]
        ) as agent:
            agent.run("Is it?")
    arguments = command.split()
    heavy = sorted({*HEAVY, *OF_THE_LOOP} - ({"rich"} if arguments[0] in TABLES else set()))
    if command == "show a.jsonl":
        heavy += (*OF_SOME, *OF_WRITERS)
    check = (
        "import sys\nfrom agentkit_reporting.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print(code, sorted(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert ran.stderr.splitlines()[-1] == "0 []"


def test_a_help_text_waits_for_nothing_that_the_command_itself_needs() -> None:
    check = (
        "import sys\nfrom agentkit_reporting.cli import main\n"
        "try:\n    main(['show', '--help'])\nexcept SystemExit:\n"
        "    print(sorted(name for name in sys.modules if name.startswith('agentkit_')), file=sys.stderr)\n"
        f"    print(sorted(name for name in {(*HEAVY, *OF_EVENTS)!r} if name in sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    ours, others = ran.stderr.splitlines()
    assert others == "[]"
    assert ast.literal_eval(ours) == [
        "agentkit_loop",
        "agentkit_loop.errors",
        "agentkit_reporting",
        "agentkit_reporting.cli",
        "agentkit_reporting.cli.session_option",
        "agentkit_reporting.cli.show",
    ]


def test_the_least_width_in_the_help_text_is_that_of_the_reporter() -> None:
    width = next(option for option in show.command.params if option.name == "width")
    assert isinstance(width.type, click.IntRange)
    assert width.type.min == stdout.MIN_WIDTH


def test_a_model_of_the_provider_is_made_without_the_providers_sdk() -> None:
    made = "from agentkit_loop import AnthropicModel\nAnthropicModel('m')"
    check = f"import sys\n{made}\nprint('anthropic' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_a_submodule_is_there_when_it_is_asked_for() -> None:
    program = """
import agentkit_loop, agentkit_reporting
assert agentkit_loop.testing.EventRecorder and agentkit_loop.events.RunStarted and agentkit_reporting.jsonl
for package in (agentkit_loop, agentkit_reporting):
    try:
        package.Agnet
    except AttributeError as error:
        print(error)
    assert not any(hasattr(package, name) for name in ("a.b", "", ".", "__wrapped__", "é"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "module 'agentkit_loop' has no attribute 'Agnet'",
        "module 'agentkit_reporting' has no attribute 'Agnet'",
    ]
