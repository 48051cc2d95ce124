"""The engine in an event loop."""
