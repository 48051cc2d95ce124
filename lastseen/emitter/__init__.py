"""The emitter, for services that only write."""
