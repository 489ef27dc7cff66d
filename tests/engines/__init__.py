"""Real engines, and what the README and the runbooks say typed on them: `make check-engines`."""
