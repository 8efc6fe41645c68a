"""Imports go down only (ARCHITECTURE.md, "The floors")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up: a module may import those of lower floors only.
LOOP_FLOORS = (
    {"errors", "forks", "ids", "interrupts", "lazy_names", "late", "records"},
    {"steering"},
    {"values", "file_reach", "body_threads", "line_diff"},
    {"content", "usage", "clock", "credentials", "differences", "run_context", "trace_context"},
    {"pricing", "call_patterns", "run_context_filter"},
    {"price_list", "retry", "models", "models.protocol", "events.base"},
    {"events.run", "events.work", "price_book"},
    {"events"},
    {"stamping", "transcript", "compaction_plans", "open_calls"},
    {"batches", "digest", "tool_context"},
    {"observers", "state"},
    {"endings"},
    {"registry"},
    {"emitter", "file_reading"},
    {
        "tool_arguments",
        "models.sse",
        "models.anthropic_usage",
        "models.anthropic_failures",
        "models.anthropic_parameters",
        "models.anthropic_post",
        "models.anthropic_drain",
        "models.http_chunks",
    },
    {"models.current_request", "models.sdk_spans"},
    {"tool_schema", "models.scripted", "models.anthropic_wire", "models.anthropic_interrupt"},
    {"models.anthropic_async_chunks"},
    {
        "models.anthropic_blocks",
        "models.anthropic_cache",
        "models.anthropic_transport",
    },
    {"tools", "models.anthropic_stream", "limits"},
    {"purse", "compaction_strategies", "permissions", "file_changes", "stand_ins"},
    {"compaction", "previews"},
    {"commands"},
    {"signals", "models.anthropic", "settings", "testing_messages", "file_viewing", "file_writing"},
    {"moves", "closing", "steps", "execution", "intake", "testing_server", "compacting"},
    {"aside", "calls", "streaming", "lineage", "child_spending", "live_bodies", "sdk_values"},
    {"resuming", "scope_records", "scope_telling"},
    {"scope_calls", "scope_requests", "scope_state"},
    {"scope_facts"},
    {"scopes"},
    {"requests", "recordings"},
    {"machine", "models.recorded_replies", "models.replay", "family"},
    {"driver_settings", "recorded_signals"},
    {"telling", "following", "unpriced"},
    {"shell"},
    {"driver", "aio", "replaying"},
    {"children"},
    {"agent", "testing"},
    {"__init__"},
)
REPORTING_FLOORS = (
    {"comparisons", "percentiles", "timestamps"},
    {
        "__init__",
        "terminal",
        "log",
        "log.segments",
        "log.descriptors",
        "log.locks",
        "accounting",
        "process_ends",
        "records",
        "records.bounded_http",
        "records.patterns",
        "records.recent_runs",
        "records.settled_requests",
        "records.topics",
        "conformance",
        "conformance.book",
        "conformance.fingerprints",
        "redaction",
        "redaction.masking",
        "redaction.rule",
        "redaction.secret_keys",
    },
    {"toml_source"},
    {"conformance.runs", "conformance.exchanges", "conformance.requests", "conformance.digests"},
    {"conformance.transcript", "conformance.calls", "conformance.numbers"},
    {"conformance.session", "conformance.findings", "log.places", "log.uploaded"},
    {
        "redaction.header_rules",
        "redaction.keyed_values",
        "redaction.personal_rules",
        "redaction.own_patterns",
    },
    {"redaction.named_values"},
    {"redaction.secret_rules"},
    {"redaction.rule_set"},
    {"redaction.text_stream"},
    {"redaction.json_stream"},
    {"redaction.broken_json"},
    {"redaction.scrubbing"},
    {
        "codec",
        "page",
        "log.objects",
        "log.packing",
        "log.syncing",
        "usage",
        "transcript",
        "ledger",
        "inner",
        "logging",
    },
    {"straight", "batch_lines"},
    {"schema", "log.lines", "log.upkeep", "wording", "composite", "policy", "buffered", "event_queue"},
    {
        "log.inputs",
        "log.rotate",
        "log.turns",
        "delivery",
        "records.bridges",
        "records.subscriptions",
        "records.webhook_templates",
    },
    {
        "log.part",
        "log.remote_log",
        "log.spool",
        "channel",
        "records.courier",
        "records.run_metrics",
    },
    {"log.remote", "log.tail", "records.dispatcher", "records.prometheus_metrics"},
    {"log.write"},
    {"log.sources", "log.stream", "redaction.redactor"},
    {"log.blocks", "log.follow", "jsonl", "records.webhook", "redaction.content_marks", "redaction.reporter"},
    {"log.read"},
    {
        "records",
        "records.reading",
        "records.direct",
        "records.open_sessions",
        "records.session_budget",
        "records.session_context",
        "records.session_summary",
        "records.usage_entries",
    },
    {"records.numbering", "records.instrumenting", "records.request_report", "records.session_span"},
    {
        "records.store",
        "records.invocation_metric",
        "records.parallelism",
        "records.report_figures",
        "records.step_records",
        "records.tool_records",
    },
    {
        "records.aggregate",
        "records.ended_runs",
        "records.recorded",
        "records.step_fold",
        "records.step_summary",
        "records.open_telling",
    },
    {"records.report_runs"},
    {
        "records.invocations",
        "records.report",
        "records.decisions",
        "records.step_runs",
        "records.tool_recorder",
        "records.profiler",
        "records.usage_store",
    },
    {"records.audit", "records.step_log"},
    {"stdout", "conformance.check", "redaction.findings"},
    {"alerts", "alerts.samples", "alerts.units"},
    {"alerts.alert", "alerts.metrics"},
    {"alerts.rule", "alerts.windows"},
    {"alerts.unjudged", "alerts.rules_file"},
    {"alerts.judging"},
    {"alerts.evaluation", "alerts.log_order"},
    {"alerts.reporter"},
    {"analysis", "analysis.run_diff_alignment", "analysis.run_lineage"},
    {"analysis.run_diff_values"},
    {"analysis.run_diff_outline"},
    {
        "analysis.run_diff_parts",
        "analysis.run_diff_figures",
        "analysis.run_diff_reading",
        "analysis.run_diff_steps",
    },
    {"analysis.run_diff"},
    {"analysis.run_diff_rules"},
    {"analysis.time_use_sweep"},
    {"analysis.time_use_run"},
    {"analysis.time_use", "analysis.time_use_groups"},
    {"analysis.cache_breaks_causes", "analysis.cache_breaks_items", "analysis.cache_breaks_money"},
    {"analysis.cache_breaks_requests"},
    {"analysis.cache_breaks"},
    {
        "tracing",
        "tracing.dropped_deliveries",
        "tracing.fitting",
        "tracing.messages",
        "tracing.delivery",
        "tracing.otlp_endpoint",
        "tracing.provider_names",
        "tracing.run_claims",
        "tracing.sdk_logs",
        "tracing.spans",
        "tracing.withheld",
    },
    {
        "tracing.attribute",
        "tracing.otlp_exchange",
        "tracing.otlp_settings",
        "tracing.own_attributes",
    },
    {"tracing.facts", "tracing.openinference", "tracing.otlp_exporters"},
    {"tracing.conventions", "tracing.otlp_meters"},
    {"tracing.content", "tracing.fold_moments", "tracing.scope"},
    {"tracing.adopting", "tracing.fold_runs"},
    {"tracing.fold"},
    {"tracing.api_spans", "tracing.export_resource", "tracing.log_spans", "tracing.metrics"},
    {"tracing.otlp", "tracing.otlp_json", "tracing.otlp_resource", "tracing.perfetto"},
    {"tracing.otlp_provider"},
    {"wire", "wire.credentials", "wire.event_streams", "wire.writing"},
    {"wire.bodies", "wire.client_keys", "wire.exchange", "wire.messages"},
    {"wire.reading"},
    {"wire.curl", "wire.records", "wire.request_diff", "wire.taps"},
    {"wire.capture", "wire.sdk", "wire.transports"},
    {"testing", "testing.call_order", "testing.expected", "testing.run_text", "testing.safe_names"},
    {"testing.normal_form", "testing.recorded_runs", "testing.sequences"},
    {"testing.failures"},
    {"testing.golden_logs"},
    {"testing.kept_logs", "testing.recorded_events"},
    {"pytest_plugin"},
    {"analysis.debug_draft", "analysis.debug_step", "analysis.debug_store", "analysis.listed_session"},
    {
        "analysis.debug_difference",
        "analysis.debug_state",
        "analysis.debug_summary",
        "analysis.debug_titles",
    },
    {"analysis.debug_editing", "analysis.debug_session"},
    {"analysis.debug_records"},
    {"analysis.debug_reading"},
    {"analysis.debug_replay"},
    {"analysis.debug_fork"},
    {
        "configuration",
        "configuration.kinds",
        "configuration.registry",
        "configuration.subscribers",
    },
    {"configuration.faults", "configuration.keys"},
    {"configuration.environment", "configuration.template", "configuration.validation"},
    {"tracing.capture"},
    {"tracing.reporter"},
    {"configuration.finding"},
    {"configuration.settings"},
    {"configuration.shared_values"},
    {"configuration.checks"},
    {"configuration.observers"},
    {"configuration.configured"},
    {"cli"},
    {"cli.drawing", "cli.open_runs", "cli.progress"},
    {
        "cli.agents",
        "cli.allowance",
        "cli.allowed_calls",
        "cli.diff_lines",
        "cli.cache_tables",
        "cli.debug_page",
        "cli.interruptions",
        "cli.question_screen",
        "cli.reading",
        "cli.redaction_options",
        "cli.report_json",
        "cli.report_tables",
        "cli.retries",
        "cli.run_log",
        "cli.session_option",
        "cli.time_bars",
        "cli.told_runs",
        "cli.whole_output",
        "cli.wire_views",
    },
    {
        "cli.approvals",
        "cli.check_rules",
        "cli.debug_console",
        "cli.diff_drawing",
        "cli.export_source",
        "cli.file_agent",
        "cli.session_table",
    },
    {"cli.answering", "cli.export_files", "cli.export_otlp", "cli.replay", "cli.showing"},
    {
        "cli.cache",
        "cli.check",
        "cli.config",
        "cli.cost",
        "cli.debug",
        "cli.demo",
        "cli.diff",
        "cli.export",
        "cli.report",
        "cli.run",
        "cli.scan",
        "cli.schema",
        "cli.scrub",
        "cli.show",
        "cli.time",
        "cli.wire",
    },
    {"cli.resume", "cli.__main__"},
)
PACKAGE_ITSELF = "__init__"


def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted name within it."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        found[name if name == PACKAGE_ITSELF else name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, *, lazily: bool) -> set[str]:
    """Return the project's modules that a file imports: at its top, or anywhere but for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    nodes = ast.walk(tree) if lazily else iter(tree.body)
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agentkit_"):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.startswith("agentkit_"))
    return names


@pytest.mark.parametrize(
    ("package", "floors"), [("agentkit_loop", LOOP_FLOORS), ("agentkit_reporting", REPORTING_FLOORS)]
)
def test_imports_go_down_only(package: str, floors: tuple[set[str], ...]) -> None:
    height = {name: number for number, floor in enumerate(floors) for name in floor}
    known = modules(package)
    assert sorted(set(known) - set(height)) == [], "modules that stand on no floor"
    assert sorted(set(height) - set(known)) == [], "floors that name no module"
    for name, path in known.items():
        for target in imported(path, lazily=False):
            inner = target.removeprefix(f"{package}.")
            if target.startswith(f"{package}.") and inner in known and inner != name:
                assert height[inner] < height[name], f"{name} imports {inner}, which is not below it"


def test_the_loop_never_imports_reporting() -> None:
    for path in modules("agentkit_loop").values():
        assert not any(name.startswith("agentkit_reporting") for name in imported(path, lazily=True)), path


def test_the_rules_look_at_events_alone_and_not_with_the_loops_own_eyes() -> None:
    allowed = {"content", "errors", "events", "usage", "values"}
    for path in sorted((ROOT / "agentkit_reporting" / "conformance").glob("*.py")):
        modules_used = {
            name.split(".")[1] for name in imported(path, lazily=True) if name.startswith("agentkit_loop.")
        }
        assert modules_used <= allowed, path


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "agentkit_loop").rglob("*.py")) + sorted((ROOT / "agentkit_reporting").rglob("*.py")),
    ids=str,
)
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, node.name
