"""Runs as OpenTelemetry spans and metrics, live and of logs."""
