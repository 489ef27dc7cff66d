"""The models of the provider `local`, a module each: its `PACKAGES`, and how to `load` it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embed_star.providers.base import Vectors

Encode = Callable[[Sequence[str]], Vectors]
"""Gives the vectors of texts, in order. Safe to call from several threads."""
