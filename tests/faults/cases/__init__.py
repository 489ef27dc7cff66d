"""The cases, a module for each thing that breaks."""
