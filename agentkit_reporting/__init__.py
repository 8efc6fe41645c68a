"""Reporters for agentkit's events: a terminal, a JSONL log, usage and cost, the transcript.

Each name is loaded when it is first asked for, so that a program pays only for what it uses.

PYTEST_DONT_REWRITE: a distribution with a pytest plugin is marked for its assertion rewriting, which warns of what
was imported before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit_reporting.accounting import Account, account_of
    from agentkit_reporting.alerts.alert import Alert
    from agentkit_reporting.alerts.reporter import AlertReporter
    from agentkit_reporting.alerts.rule import AlertRule
    from agentkit_reporting.alerts.rules_file import AlertRulesError, read_alert_rules
    from agentkit_reporting.analysis.cache_breaks import CacheBreaks
    from agentkit_reporting.analysis.cache_breaks_causes import BreakCause
    from agentkit_reporting.analysis.cache_breaks_requests import CacheRequest, CacheSession, CacheTotals
    from agentkit_reporting.analysis.debug_difference import DebugDifference, FieldChange, MissingStep
    from agentkit_reporting.analysis.debug_fork import DebugFork, write_fork
    from agentkit_reporting.analysis.debug_replay import DebugReplay
    from agentkit_reporting.analysis.debug_state import DebugState, OpenCall
    from agentkit_reporting.analysis.debug_step import DebugStep
    from agentkit_reporting.analysis.debug_summary import DebugSummary
    from agentkit_reporting.analysis.listed_session import ListedSession
    from agentkit_reporting.analysis.run_diff import ComparedRun, RunDiff, diff_runs
    from agentkit_reporting.analysis.run_diff_figures import RunMetric
    from agentkit_reporting.analysis.run_diff_parts import (
        CallPair,
        Changes,
        ComparedCall,
        Divergence,
        SettingChange,
        TextPair,
    )
    from agentkit_reporting.analysis.run_diff_rules import DiffRule, RuleVerdict
    from agentkit_reporting.analysis.run_diff_values import TextChange, ValueChange
    from agentkit_reporting.analysis.time_use import TimeUse
    from agentkit_reporting.analysis.time_use_run import RunTime, ToolTime
    from agentkit_reporting.buffered import BufferedReporter
    from agentkit_reporting.channel import ChannelReceiver, ChannelReporter
    from agentkit_reporting.codec import DecodeError, decode_event, encode_event
    from agentkit_reporting.composite import CompositeReporter
    from agentkit_reporting.configuration.configured import Configured, configure
    from agentkit_reporting.configuration.faults import ConfigurationFault, InvalidConfigurationError
    from agentkit_reporting.configuration.registry import register_observer, register_subscriber
    from agentkit_reporting.conformance.check import check_log
    from agentkit_reporting.conformance.findings import Conformance, Fault, SessionCheck
    from agentkit_reporting.event_queue import ChannelFullError, Overflow
    from agentkit_reporting.jsonl import JsonlReporter
    from agentkit_reporting.ledger import CostComponent, CostLedger, LedgerEntry, LedgerGroup
    from agentkit_reporting.log.read import BadLine, LogReader, read_events
    from agentkit_reporting.log.remote import Uploads
    from agentkit_reporting.log.rotate import Rotation
    from agentkit_reporting.logging import LoggingReporter
    from agentkit_reporting.percentiles import Percentiles
    from agentkit_reporting.policy import PolicyReporter
    from agentkit_reporting.records.aggregate import MetricsAggregate, compute_aggregate
    from agentkit_reporting.records.audit import AuditLedger, DecisionEntry, DecisionTrail
    from agentkit_reporting.records.bridges import forward_topics
    from agentkit_reporting.records.dispatcher import EventDispatcher
    from agentkit_reporting.records.invocation_metric import InvocationMetric
    from agentkit_reporting.records.invocations import InvocationMetricsCollector
    from agentkit_reporting.records.profiler import SessionProfiler
    from agentkit_reporting.records.prometheus_metrics import PrometheusMetrics
    from agentkit_reporting.records.reading import RecordReader, read_records
    from agentkit_reporting.records.session_budget import BudgetNotice, SessionBudget
    from agentkit_reporting.records.session_context import current_session
    from agentkit_reporting.records.session_span import SessionSpan
    from agentkit_reporting.records.session_summary import SessionSummary
    from agentkit_reporting.records.step_log import (
        LlmCallStep,
        RunSteps,
        StepHeader,
        StepLog,
        StepRuns,
        StepSummary,
        ToolCallStep,
    )
    from agentkit_reporting.records.store import RecordStore
    from agentkit_reporting.records.subscriptions import DispatchFailure, Subscription
    from agentkit_reporting.records.tool_recorder import ToolRecorder
    from agentkit_reporting.records.tool_records import ToolRecord
    from agentkit_reporting.records.topics import PayloadError, TopicPayload
    from agentkit_reporting.records.usage_entries import UsageEntry, UsageView
    from agentkit_reporting.records.usage_store import UsageStore
    from agentkit_reporting.records.webhook import WebhookSink
    from agentkit_reporting.records.webhook_templates import (
        PAGERDUTY_URL,
        WebhookTemplate,
        pagerduty_template,
        slack_template,
    )
    from agentkit_reporting.redaction.content_marks import ContentRedactor
    from agentkit_reporting.redaction.own_patterns import OwnPattern
    from agentkit_reporting.redaction.redactor import Redactor
    from agentkit_reporting.redaction.reporter import RedactingReporter
    from agentkit_reporting.schema import event_schema
    from agentkit_reporting.stdout import StdoutReporter
    from agentkit_reporting.testing.expected import matching
    from agentkit_reporting.testing.golden_logs import GoldenLogs
    from agentkit_reporting.testing.recorded_events import RecordedEvents
    from agentkit_reporting.tracing.reporter import TracingReporter
    from agentkit_reporting.transcript import TranscriptReporter
    from agentkit_reporting.usage import RequestUsage, UsageReporter, UsageTotals
    from agentkit_reporting.wire.capture import WireCapture

__all__ = [
    "PAGERDUTY_URL",
    "Account",
    "Alert",
    "AlertReporter",
    "AlertRule",
    "AlertRulesError",
    "AuditLedger",
    "BadLine",
    "BreakCause",
    "BudgetNotice",
    "BufferedReporter",
    "CacheBreaks",
    "CacheRequest",
    "CacheSession",
    "CacheTotals",
    "CallPair",
    "Changes",
    "ChannelFullError",
    "ChannelReceiver",
    "ChannelReporter",
    "ComparedCall",
    "ComparedRun",
    "CompositeReporter",
    "ConfigurationFault",
    "Configured",
    "Conformance",
    "ContentRedactor",
    "CostComponent",
    "CostLedger",
    "DebugDifference",
    "DebugFork",
    "DebugReplay",
    "DebugState",
    "DebugStep",
    "DebugSummary",
    "DecisionEntry",
    "DecisionTrail",
    "DecodeError",
    "DiffRule",
    "DispatchFailure",
    "Divergence",
    "EventDispatcher",
    "Fault",
    "FieldChange",
    "GoldenLogs",
    "InvalidConfigurationError",
    "InvocationMetric",
    "InvocationMetricsCollector",
    "JsonlReporter",
    "LedgerEntry",
    "LedgerGroup",
    "ListedSession",
    "LlmCallStep",
    "LogReader",
    "LoggingReporter",
    "MetricsAggregate",
    "MissingStep",
    "OpenCall",
    "Overflow",
    "OwnPattern",
    "PayloadError",
    "Percentiles",
    "PolicyReporter",
    "PrometheusMetrics",
    "RecordReader",
    "RecordStore",
    "RecordedEvents",
    "RedactingReporter",
    "Redactor",
    "RequestUsage",
    "Rotation",
    "RuleVerdict",
    "RunDiff",
    "RunMetric",
    "RunSteps",
    "RunTime",
    "SessionBudget",
    "SessionCheck",
    "SessionProfiler",
    "SessionSpan",
    "SessionSummary",
    "SettingChange",
    "StdoutReporter",
    "StepHeader",
    "StepLog",
    "StepRuns",
    "StepSummary",
    "Subscription",
    "TextChange",
    "TextPair",
    "TimeUse",
    "ToolCallStep",
    "ToolRecord",
    "ToolRecorder",
    "ToolTime",
    "TopicPayload",
    "TracingReporter",
    "TranscriptReporter",
    "Uploads",
    "UsageEntry",
    "UsageReporter",
    "UsageStore",
    "UsageTotals",
    "UsageView",
    "ValueChange",
    "WebhookSink",
    "WebhookTemplate",
    "WireCapture",
    "account_of",
    "check_log",
    "compute_aggregate",
    "configure",
    "current_session",
    "decode_event",
    "diff_runs",
    "encode_event",
    "event_schema",
    "forward_topics",
    "matching",
    "pagerduty_template",
    "read_alert_rules",
    "read_events",
    "read_records",
    "register_observer",
    "register_subscriber",
    "slack_template",
    "write_fork",
]

_HOMES = {
    "DebugSummary": "analysis.debug_summary",
    "ListedSession": "analysis.listed_session",
    "Account": "accounting",
    "Alert": "alerts.alert",
    "AlertReporter": "alerts.reporter",
    "AlertRule": "alerts.rule",
    "AlertRulesError": "alerts.rules_file",
    "AuditLedger": "records.audit",
    "BadLine": "log.read",
    "BreakCause": "analysis.cache_breaks_causes",
    "BudgetNotice": "records.session_budget",
    "BufferedReporter": "buffered",
    "CallPair": "analysis.run_diff_parts",
    "Changes": "analysis.run_diff_parts",
    "CacheBreaks": "analysis.cache_breaks",
    "CacheRequest": "analysis.cache_breaks_requests",
    "CacheSession": "analysis.cache_breaks_requests",
    "CacheTotals": "analysis.cache_breaks_requests",
    "ChannelFullError": "event_queue",
    "ChannelReceiver": "channel",
    "ChannelReporter": "channel",
    "ComparedCall": "analysis.run_diff_parts",
    "ComparedRun": "analysis.run_diff",
    "CompositeReporter": "composite",
    "ConfigurationFault": "configuration.faults",
    "Configured": "configuration.configured",
    "Conformance": "conformance.findings",
    "ContentRedactor": "redaction.content_marks",
    "CostComponent": "ledger",
    "CostLedger": "ledger",
    "DebugDifference": "analysis.debug_difference",
    "DebugFork": "analysis.debug_fork",
    "DebugReplay": "analysis.debug_replay",
    "DebugState": "analysis.debug_state",
    "DebugStep": "analysis.debug_step",
    "DecisionEntry": "records.audit",
    "DecisionTrail": "records.audit",
    "DecodeError": "codec",
    "DiffRule": "analysis.run_diff_rules",
    "DispatchFailure": "records.subscriptions",
    "Divergence": "analysis.run_diff_parts",
    "EventDispatcher": "records.dispatcher",
    "Fault": "conformance.findings",
    "GoldenLogs": "testing.golden_logs",
    "FieldChange": "analysis.debug_difference",
    "InvalidConfigurationError": "configuration.faults",
    "InvocationMetric": "records.invocation_metric",
    "InvocationMetricsCollector": "records.invocations",
    "JsonlReporter": "jsonl",
    "LedgerEntry": "ledger",
    "LedgerGroup": "ledger",
    "LlmCallStep": "records.step_log",
    "LogReader": "log.read",
    "LoggingReporter": "logging",
    "MetricsAggregate": "records.aggregate",
    "MissingStep": "analysis.debug_difference",
    "OpenCall": "analysis.debug_state",
    "Overflow": "event_queue",
    "OwnPattern": "redaction.own_patterns",
    "PAGERDUTY_URL": "records.webhook_templates",
    "PayloadError": "records.topics",
    "Percentiles": "percentiles",
    "PolicyReporter": "policy",
    "PrometheusMetrics": "records.prometheus_metrics",
    "RecordReader": "records.reading",
    "RecordStore": "records.store",
    "RecordedEvents": "testing.recorded_events",
    "RedactingReporter": "redaction.reporter",
    "Redactor": "redaction.redactor",
    "RequestUsage": "usage",
    "Rotation": "log.rotate",
    "RuleVerdict": "analysis.run_diff_rules",
    "RunDiff": "analysis.run_diff",
    "RunMetric": "analysis.run_diff_figures",
    "RunSteps": "records.step_log",
    "RunTime": "analysis.time_use_run",
    "SessionBudget": "records.session_budget",
    "SessionCheck": "conformance.findings",
    "SessionProfiler": "records.profiler",
    "SessionSpan": "records.session_span",
    "SessionSummary": "records.session_summary",
    "SettingChange": "analysis.run_diff_parts",
    "StdoutReporter": "stdout",
    "StepHeader": "records.step_log",
    "StepLog": "records.step_log",
    "StepRuns": "records.step_log",
    "StepSummary": "records.step_log",
    "Subscription": "records.subscriptions",
    "TextChange": "analysis.run_diff_values",
    "TextPair": "analysis.run_diff_parts",
    "TimeUse": "analysis.time_use",
    "ToolCallStep": "records.step_log",
    "ToolRecord": "records.tool_records",
    "ToolRecorder": "records.tool_recorder",
    "ToolTime": "analysis.time_use_run",
    "TopicPayload": "records.topics",
    "TracingReporter": "tracing.reporter",
    "TranscriptReporter": "transcript",
    "Uploads": "log.remote",
    "UsageEntry": "records.usage_entries",
    "UsageReporter": "usage",
    "UsageStore": "records.usage_store",
    "UsageTotals": "usage",
    "UsageView": "records.usage_entries",
    "ValueChange": "analysis.run_diff_values",
    "WebhookSink": "records.webhook",
    "WebhookTemplate": "records.webhook_templates",
    "WireCapture": "wire.capture",
    "account_of": "accounting",
    "check_log": "conformance.check",
    "compute_aggregate": "records.aggregate",
    "configure": "configuration.configured",
    "current_session": "records.session_context",
    "decode_event": "codec",
    "diff_runs": "analysis.run_diff",
    "encode_event": "codec",
    "event_schema": "schema",
    "forward_topics": "records.bridges",
    "matching": "testing.expected",
    "pagerduty_template": "records.webhook_templates",
    "read_alert_rules": "alerts.rules_file",
    "read_events": "log.read",
    "read_records": "records.reading",
    "register_observer": "configuration.registry",
    "register_subscriber": "configuration.registry",
    "slack_template": "records.webhook_templates",
    "write_fork": "analysis.debug_fork",
}
"""Name: the module of this package that it lives in."""


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - only for what is asked for

    return import_module("agentkit_loop.lazy_names").loaded(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
