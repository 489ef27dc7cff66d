"""Faults of Celery and Kombu that we work around, one a file.

Each file names the fault, the upstream issue if there is one, and the condition under which
the file can be deleted. Celery has no other place for most of these changes than its own
classes and registries, so they are made once for the process; applying one twice changes
nothing, and other apps of the process merely get the corrected behaviour.
"""
