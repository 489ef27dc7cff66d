"""The questions of a bisection: groups of texts, and their halves. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from embed_star.embed import text
from embed_star.embed.batching import batches, halves
from embed_star.errors import InputRejected

Item = tuple[str, str]
"""The hash of a text, and the text."""


class Mode(Enum):
    """How a group of texts is asked."""

    TOGETHER = auto()
    """The usual way."""
    AGAIN = auto()
    """Once more, for a text that was refused before the provider had answered anything."""
    ALONE = auto()
    """Until there is no doubt, for a text at which the provider has failed."""
    APART = auto()
    """For texts that got several 429s: a 429 to them does not pause the fleet."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call for `items`."""

    items: Sequence[Item]
    mode: Mode = Mode.TOGETHER
    rest: Sequence[Item] = ()
    """The other half, still to be asked."""
    why: InputRejected | None = None
    """The refusal of both halves together."""

    @property
    def hashes(self) -> list[str]:
        """The hashes of the texts."""
        return [one for one, _ in self.items]

    @property
    def texts(self) -> list[str]:
        """The texts themselves."""
        return [one for _, one in self.items]


def grouped(
    items: Sequence[Item], mode: Mode, *, most_texts: float, max_tokens: int
) -> list[Question]:
    """`items` as questions of at most `most_texts` texts and `max_tokens` estimated tokens."""
    groups = batches(
        items,
        max_rows=int(min(max(1, len(items)), most_texts)),
        max_cost=max_tokens,
        cost=lambda item: text.estimate_tokens(item[1]),
    )
    return [Question(group, mode) for group in groups]


def halved(group: Sequence[Item], why: InputRejected) -> Question:
    """A question about the first half of `group`: two or more texts that were refused together."""
    left, right = halves(group)
    return Question(left, rest=right, why=why)


def in_two(group: Sequence[Item], mode: Mode) -> list[Question]:
    """A question about each half of `group`."""
    return [Question(half, mode) for half in halves(group)]
