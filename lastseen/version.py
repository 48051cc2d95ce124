"""The version of lastseen."""

__version__ = "0.1.0"
