"""A chat recording, replayed into a log."""
