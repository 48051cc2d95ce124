"""The doctor: examines a log, its snapshot and the machine from outside, and changes nothing."""
