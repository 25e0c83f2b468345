"""The steps of `benchmarks/gpu_check.py`, and the report that they fill."""
