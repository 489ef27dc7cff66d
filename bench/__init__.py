"""Benchmarks: whole processes on this machine, ratios within one run. `make bench`."""
