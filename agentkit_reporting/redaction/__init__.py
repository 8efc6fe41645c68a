"""Redaction: secrets and personal data are taken out of events before a sink sees them (DESIGN section 6)."""
