"""Alerts: rules over what events measure, judged as the events come or over a log."""
