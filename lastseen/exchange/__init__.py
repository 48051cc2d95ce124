"""Sessions and histories as files: JSON Lines for people and scripts, Parquet for analysis, and back into a log."""
