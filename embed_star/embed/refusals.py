"""The texts of a batch that are blamed, and those that may be."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from embed_star.errors import InputRejected, InputTooLong

log = structlog.get_logger(__name__)

REFUSED_IN_A_ROW = 12
"""After so many refusals without an answer the provider is asked for our own text again: it
may have begun to refuse everybody. One text to blame among 2,048, the most a batch may
have, is alone by then."""


@dataclass(slots=True)
class Refusals:
    """Blames no text before the provider has answered another one after it."""

    proved: dict[str, str] = field(default_factory=dict)
    """Text hash → why it cannot be embedded."""
    unproved: dict[str, str] = field(default_factory=dict)
    """As `proved`, of those after which no other text was answered yet."""
    answered: bool = False
    """Whether any text was."""
    _in_a_row: int = 0
    """Calls without a usable vector since the last answer."""
    _heard_canary: bool = False

    def answer(self, *, canary: bool = False) -> None:
        """The provider has answered a text: what it refused before was the texts' fault."""
        self.answered = True
        self._heard_canary = self._heard_canary or canary
        self._in_a_row = 0
        for one, reason in self.unproved.items():
            self.set_aside(one, reason)
        self.unproved.clear()

    def nothing(self) -> bool:
        """Nothing came of a call. Whether to make sure, now, that it is not so for all texts."""
        self._in_a_row += 1
        return not self._heard_canary or self._in_a_row > REFUSED_IN_A_ROW

    def set_aside(self, one: str, reason: str) -> None:
        """Blame the text."""
        self.proved[one] = reason
        log.warning("row_set_aside", text_hash=one, reason=reason)


def reason_of(error: InputRejected) -> str:
    """The failure reason of a text that is refused so."""
    return "too_long" if isinstance(error, InputTooLong) else "rejected"
