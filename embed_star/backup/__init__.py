"""Backups of the processing state: a directory of checksummed files. See docs/backup.md."""
