"""The refused texts of a batch: those that are blamed, and those that may be blamed."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from embed_star.errors import InputRejected, InputTooLong

log = structlog.get_logger(__name__)

REFUSED_IN_A_ROW = 12
"""Refusals in a row before the canary is sent again: the provider may have begun to refuse all
texts. By then, one bad text among 2,048, the most that a batch may have, stands alone."""


@dataclass(slots=True)
class Refusals:
    """Blames a text only after the provider has answered another one after it."""

    proved: dict[str, str] = field(default_factory=dict)
    """Text hash → why it cannot be embedded."""
    unproved: dict[str, str] = field(default_factory=dict)
    """Text hash → reason, for texts after which no other text was answered yet."""
    answered: bool = False
    """Whether the provider has answered any text."""
    _in_a_row: int = 0
    """Calls without a usable vector since the last answer."""
    _heard_canary: bool = False

    def answer(self, *, canary: bool = False) -> None:
        """Note that the provider answered a text: earlier refusals were the texts' fault."""
        self.answered = True
        self._heard_canary = self._heard_canary or canary
        self._in_a_row = 0
        for one, reason in self.unproved.items():
            self.set_aside(one, reason)
        self.unproved.clear()

    def nothing(self) -> bool:
        """Note a call without a usable vector. Returns whether to send the canary now."""
        self._in_a_row += 1
        return not self._heard_canary or self._in_a_row > REFUSED_IN_A_ROW

    def set_aside(self, one: str, reason: str) -> None:
        """Blame the text `one`."""
        self.proved[one] = reason
        log.warning("row_set_aside", text_hash=one, reason=reason)


def reason_of(error: InputRejected) -> str:
    """The failure reason of a text that was refused with `error`."""
    return "too_long" if isinstance(error, InputTooLong) else "rejected"
