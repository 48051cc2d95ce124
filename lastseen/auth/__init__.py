"""Callers, their scopes and their tokens."""
