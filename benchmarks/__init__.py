"""Benchmarks: this engine beside a floor on the same work in the same run. `python -m benchmarks` prints them.

Machines are noisy, so what counts is the ratio of medians of interleaved repetitions; absolute figures are printed
beside.
"""
