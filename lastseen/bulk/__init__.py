"""Appending many events to a log in order, resumably: for copies, imports and replays."""
