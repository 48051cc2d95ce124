"""Settings from files, the environment, profiles and the command line."""
