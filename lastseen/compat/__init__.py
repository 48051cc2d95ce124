"""Drop-ins for the predecessors: each with its familiar calls, on the engine."""
