"""The fault lab: what breaks in practice, done to real processes, and five promises checked.

Read `fault.py` for what a case is, `cases/` for all of them, `runner.py` for what happens
around one, `tests/support/checker.py` for the promises. `make faults` runs it.
"""
