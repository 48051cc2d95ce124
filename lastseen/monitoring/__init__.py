"""Metrics, readiness, traces and log lines."""
