"""A provider within the test's process: `providers.base.Provider`, told what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import InputRejected
from embed_star.providers.base import Embeddings
from embed_star.providers.roles import Role
from tests.support.scripted_answers import vector_for


class InProcessProvider:
    """Vectors by `vector_for`, a ledger of what was asked, faults as they are ordered."""

    def __init__(self, dimensions: int, *, name: str = "local", model: str = "test-model") -> None:
        self.name = name
        self.model = model
        self.dimensions = dimensions
        self.calls: list[tuple[str, ...]] = []
        """The texts of each call, refused ones too."""
        self.roles: list[Role] = []
        """The role of each call."""
        self.paid: Counter[str] = Counter()
        """Texts that vectors were computed for, and how often; without our own."""
        self.rejects: Callable[[str], bool] = lambda _: False
        self.most_texts = 0
        """A call with more texts is refused as too large; 0: never."""
        self.says_too_many = False
        """Whether that refusal says why."""
        self.answers_as: str | None = None
        """The model's name in its answers."""
        self.bad: dict[str, float] = {}
        """Part of a text → what every element of its vector is."""
        self.errors: list[Exception] = []
        """Raised by the next calls, in order."""
        self.down: Exception | None = None
        """Raised by every call."""
        self.during: Callable[[Sequence[str]], None] = lambda _: None
        """Called in the middle of each call: what happens while a provider is at it."""

    @property
    def asked(self) -> list[tuple[str, ...]]:
        """As `calls`, without those for our own text."""
        return [call for call in self.calls if call != (PROBE_TEXT,)]

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        assert texts
        assert all(texts), "an empty text is never sent"
        self.calls.append(tuple(texts))
        self.roles.append(role)
        self.during(texts)
        if self.down is not None:
            raise self.down
        if self.errors:
            raise self.errors.pop(0)
        if any(map(self.rejects, texts)) or 0 < self.most_texts < len(texts):
            refusal = InputRejected("400: something in these texts")
            refusal.too_many = self.says_too_many and len(texts) > self.most_texts
            raise refusal
        self.paid.update(text for text in texts if text != PROBE_TEXT)
        vectors = np.stack([vector_for(text, self.dimensions) for text in texts])
        for part, value in self.bad.items():
            for row, text in enumerate(texts):
                if part in text:
                    vectors[row] = value
        return Embeddings(vectors, tokens=len(texts), model=self.answers_as)

    def abort(self) -> None:
        """Nothing to break off."""

    def close(self) -> None:
        """Nothing to release."""
