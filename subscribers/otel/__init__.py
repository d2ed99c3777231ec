"""Export of the event log to OpenTelemetry: spans and log records as pure functions of events, delivered at least once.

Rules: only `encode.py` imports opentelemetry; spans and records are values without a clock.
"""
