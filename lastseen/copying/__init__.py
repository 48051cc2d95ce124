"""A copy of a log in another log."""
