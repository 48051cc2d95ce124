"""lastseen in the place of a web framework's own sessions."""
