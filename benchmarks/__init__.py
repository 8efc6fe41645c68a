"""Benchmarks: `python -m benchmarks [NAME…] [--quick] [--json]`.

Each row is a ratio against a reference that is measured in the same run, ours and the reference in turns
(A B A B …), by the median of the rounds, in CPU time of this process.
"""
