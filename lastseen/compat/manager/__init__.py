"""In the place of a session manager with time-outs, metrics and alerts."""
