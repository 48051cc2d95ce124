"""An engine as a service: its process, its socket, its signals and its end."""
