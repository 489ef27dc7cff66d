"""What a search gives, and what it may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embed_star.embed.passages import Passage
from embed_star.errors import ConfigError
from embed_star.models import MAX_HITS
from embed_star.search.names import NameMatch
from embed_star.store.tables.passages import README


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search, and why it is there."""

    repo: Mapping[str, Any]
    """The repo's fields; `id` is its record."""
    score: float
    """Cosine similarity of its vector and the query's, in [-1, 1]."""
    name: NameMatch | None = None
    """How its name matches the query; None where only its meaning does."""
    passage: Passage | None = None
    """The passage of its README whose meaning is that near; None where its own text's is."""

    @property
    def reason(self) -> str:
        """Why it is there, for people."""
        meaning = "meaning of its README" if self.passage else "meaning"
        return f"{self.name.value}; {meaning}" if self.name else meaning

    def to_dict(self) -> dict[str, Any]:
        """What `--explain --json` prints of it, with the row's own values.

        `passage` is there only if a passage of its README was found. The README itself is left
        out: `embed-star get` prints it.
        """
        own = {name: value for name, value in self.repo.items() if name != README}
        score = round(self.score, 6)
        why = {"name": self.name.name.lower() if self.name else None, "cosine": score}
        found = {"score": score, "why": why, "repo": own}
        if self.passage:
            found["passage"] = {"heading": self.passage.heading, "text": self.passage.body}
        return found


def check_count(k: int) -> None:
    """Raise ConfigError unless `k` answers may be asked for."""
    if not 1 <= k <= MAX_HITS:
        raise ConfigError(f"a search gives 1 to {MAX_HITS:,} answers, not {k:,}")
