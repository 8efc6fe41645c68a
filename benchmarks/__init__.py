"""Benchmarks: `python -m benchmarks [NAME…] [--quick] [--json]`.

Each row is a ratio against a reference that is measured in the same run, ours and the references in turns
(A B C A B C …), by the medians of the rounds, in CPU time of this process where the row does not say otherwise.
"""
