"""In the place of a session manager with time-outs and alerts: `from lastseen.compat.manager import SessionManager`."""

from lastseen.compat.manager.manager import SessionManager

__all__ = ["SessionManager"]
