"""In the place of an LRU session memory."""
