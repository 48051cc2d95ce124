"""The engine in a process: opening, loading, composing, background work, duties."""
