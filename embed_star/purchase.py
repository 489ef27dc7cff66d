"""Getting vectors from the provider into the cache, and finding the texts to blame.

A call that is refused, or that the provider breaks over, says nothing of which of its
texts is at fault. Its halves are asked, and theirs, until it stands alone; all others are
in the cache by then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from embed_star import text
from embed_star.batching import batches, halves
from embed_star.cache import VectorCache
from embed_star.calls import Calls
from embed_star.errors import InputRejected, InputSuspected, InputTooLong, ProviderUnavailable
from embed_star.events import Emit, VectorsJudged, nobody
from embed_star.guards.suspects import Suspects
from embed_star.providers.base import Vectors
from embed_star.validation import Validator

log = structlog.get_logger(__name__)

Item = tuple[str, str]
"""The hash of a text, and the text."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """What every purchase needs."""

    calls: Calls
    cache: VectorCache
    validator: Validator
    suspects: Suspects
    batch_max_tokens: int
    most_s: float
    """No call is begun after so long: Redis would hand the task to another worker, too."""
    emit: Emit = nobody
    clock: Callable[[], float] = time.monotonic

    def purchase(self, before_each: Callable[[], None]) -> Purchase:
        """A purchase; `before_each` is called before each call and each probe."""
        return Purchase(self, before_each, until=self.clock() + self.most_s)


@dataclass(slots=True)
class Purchase:
    """The vectors of one batch. To be used once."""

    buyer: Buyer
    before_each: Callable[[], None]
    until: float
    refused: dict[str, str] = field(default_factory=dict)
    """Text hash → reason of those that cannot be embedded; to be trusted after an error, too."""
    _alone: list[Item] = field(default_factory=list)

    def make(self, texts: Mapping[str, str]) -> None:
        """Embed `texts` (hash → text) into the cache; what cannot be is in `refused`.

        Raises what `Calls.embed` raises but InputRejected and InputSuspected, and
        ProviderUnavailable when it takes too long. What was paid for by then is kept.
        """
        noted = self.buyer.suspects.counts(texts)
        for group in batches(
            [item for item in texts.items() if item[0] not in noted],
            max_rows=len(texts),
            max_cost=self.buyer.batch_max_tokens,
            cost=lambda item: text.estimate_tokens(item[1]),
        ):
            self._ask(group)
        # Last: each time, the provider may break. No neighbour has to wait for that.
        for item in [*((one, texts[one]) for one in noted), *self._alone]:
            self._ask_alone(item)

    def _ask(self, group: Sequence[Item]) -> None:
        try:
            self._call(group)
        except InputRejected as error:
            self._halve_refused(group, error)
        except InputSuspected:
            self._halve_suspected(group)

    def _halve_refused(self, group: Sequence[Item], why: InputRejected) -> None:
        """Embed what can be of `group`, which was refused as a whole.

        One such text among n is found in 2·log₂n + 1 calls at most, the first included.
        """
        if len(group) == 1:
            self.refused[group[0][0]] = _reason_of(why)
            return
        left, right = halves(group)
        try:
            self._call(left)
        except InputRejected as error:
            self._halve_refused(left, error)
            self._ask(right)
        except InputSuspected:
            self._halve_suspected(left)
            self._ask(right)
        else:
            # So it is in the right half, which need not be asked as a whole again; but a
            # text that is left over is asked alone: there may only have been too many.
            if len(right) > 1:
                self._halve_refused(right, why)
            else:
                self._ask(right)

    def _halve_suspected(self, group: Sequence[Item]) -> None:
        """Embed what can be of `group`, at which the provider failed.

        Unlike a refusal this may have been chance, so both halves are asked. One such text
        among n is alone after 3·⌈log₂n⌉ + 2 calls at most, probes included.
        """
        if len(group) == 1:
            self.buyer.suspects.add(group[0][0])
            self._alone.append(group[0])
            return
        for half in halves(group):
            self._ask(half)

    def _ask_alone(self, item: Item) -> None:
        """Ask a suspect until the provider answers, or there is no doubt that it never will.

        Two calls a time, seven times at most.
        """
        one, suspects = item[0], self.buyer.suspects
        failures, reason = suspects.counts([one]).get(one, 0), "crashes_provider"
        while True:
            try:
                self._call([item])
            except InputRejected as error:
                self.refused[one] = _reason_of(error)
            except InputSuspected as error:
                failures, reason = suspects.add(one), error.reason
                if not self.buyer.calls.is_beyond_chance(failures):
                    continue
                self.refused[one] = reason
                log.error("row_fails_provider", text_hash=one, reason=reason, failures=failures)
            suspects.clear(one)
            return

    def _call(self, group: Sequence[Item]) -> None:
        """One call for `group`; what came of it is kept before another may begin."""
        if self.buyer.clock() > self.until:
            raise ProviderUnavailable("the batch takes too long and goes on later")
        with self.buyer.calls.slot():
            vectors = self.buyer.calls.embed([one for _, one in group], self.before_each)
            self._keep([one for one, _ in group], vectors)

    def _keep(self, hashes: Sequence[str], vectors: Vectors) -> None:
        reasons = self.buyer.validator.judge(vectors)
        self.buyer.emit(VectorsJudged(reasons.count(""), Counter(filter(None, reasons))))
        verdicts = list(zip(hashes, reasons, strict=True))
        good = {one: vectors[i] for i, (one, reason) in enumerate(verdicts) if not reason}
        if good:
            self.buyer.cache.put_many(good)
        self.refused |= {one: reason for one, reason in verdicts if reason}


def _reason_of(error: InputRejected) -> str:
    return "too_long" if isinstance(error, InputTooLong) else "rejected"
