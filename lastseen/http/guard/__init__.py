"""What stands before every request: who calls, from where, and how much."""
