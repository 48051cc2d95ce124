"""A log in an SQLite file: the only code that imports `eventsourcing`."""
