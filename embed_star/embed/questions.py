"""What a bisection asks the provider: groups of texts, and their halves. Pure functions."""

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
    """How a group is asked."""

    TOGETHER = auto()
    """As one of many."""
    AGAIN = auto()
    """A text that was refused before anything was answered: once more."""
    ALONE = auto()
    """A text at which the provider has failed: until there is no doubt."""
    APART = auto()
    """Texts that got 429 time after time: nobody else waits for them."""


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
        """Of the texts."""
        return [one for one, _ in self.items]

    @property
    def texts(self) -> list[str]:
        """For the call."""
        return [one for _, one in self.items]


def grouped(
    items: Sequence[Item], mode: Mode, *, most_texts: float, max_tokens: int
) -> list[Question]:
    """`items` in calls of at most so many texts and estimated tokens."""
    groups = batches(
        items,
        max_rows=int(min(max(1, len(items)), most_texts)),
        max_cost=max_tokens,
        cost=lambda item: text.estimate_tokens(item[1]),
    )
    return [Question(group, mode) for group in groups]


def halved(group: Sequence[Item], why: InputRejected) -> Question:
    """The first half of `group`, at least two texts that were refused as a whole."""
    left, right = halves(group)
    return Question(left, rest=right, why=why)


def in_two(group: Sequence[Item], mode: Mode) -> list[Question]:
    """Both halves of `group`."""
    return [Question(half, mode) for half in halves(group)]


def singly(question: Question) -> list[Question]:
    """A question for each text of `question`, its rest included."""
    return [Question([item]) for item in (*question.items, *question.rest)]
