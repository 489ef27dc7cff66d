"""Getting vectors from the provider into the cache, and finding the texts to blame.

A call that is refused, or that the provider breaks over, says nothing of which of its
texts is at fault. Its halves are asked, and theirs, until it stands alone; all others are
in the cache by then. Nor does it say that it is a text's fault at all: a provider that is
out of credit refuses every text, and one that is broken has NaN for all of them. So no
text is blamed before the provider has answered another one after it, if need be our own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from embed_star.calling.gateway import ProviderGateway
from embed_star.calling.validation import Validator
from embed_star.coordination.cache import VectorCache
from embed_star.embed import text
from embed_star.embed.batching import batches, halves
from embed_star.embed.poison import PoisonCounter
from embed_star.errors import (
    InputRejected,
    InputSuspected,
    InputTooLong,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    TooManyTexts,
)
from embed_star.events import Emit, VectorsJudged, ignore_event
from embed_star.providers.base import Vectors

log = structlog.get_logger(__name__)

Item = tuple[str, str]
"""The hash of a text, and the text."""

REFUSED_IN_A_ROW = 12
"""After so many refusals without an answer the provider is asked for our own text again: it
may have begun to refuse everybody. One text to blame among 2,048, the most a batch may
have, is alone by then."""

THROTTLED_TOGETHER = 2
"""429s to a call before its texts are asked apart: that many are a busy provider's."""

THROTTLED_ALONE = 5
"""429s to a text alone, with answers to our own right before, until it is set aside. From
one to the next a lock of its row ends."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """What every purchase needs."""

    calls: ProviderGateway
    cache: VectorCache
    validator: Validator
    suspects: PoisonCounter
    throttled: PoisonCounter
    """Texts that got a 429, and how often in a row."""
    batch_max_tokens: int
    most_s: float
    """No call is begun after so long: Redis would hand the task to another worker, too."""
    emit: Emit = ignore_event
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
    put_off: set[str] = field(default_factory=set)
    """Text hashes that got a 429 alone: to be tried again later."""
    _alone: list[Item] = field(default_factory=list)
    _unproved: dict[str, str] = field(default_factory=dict)
    """As `refused`, of those after which no other text was answered yet."""
    _asked_canary: bool = False
    _answered: bool = False
    """Whether any text was."""
    _in_a_row: int = 0
    """Calls without a usable vector since the last answer."""
    _unsure: bool = False
    """Whether nothing had been answered before the last refusal."""

    def make(self, texts: Mapping[str, str]) -> None:
        """Embed `texts` (hash → text) into the cache; what cannot be is in `refused`.

        Raises what `ProviderGateway.embed` raises but what is said of these texts, and
        ProviderUnavailable when it takes too long. What was paid for by then is kept.
        A text that is neither in the cache nor in `refused` then is blamed for nothing.
        """
        noted = self.buyer.suspects.counts(texts)
        slow = {
            one
            for one, times in self.buyer.throttled.counts(texts).items()
            if times >= THROTTLED_TOGETHER and one not in noted
        }
        for group in self._groups(
            [item for item in texts.items() if item[0] not in noted.keys() | slow]
        ):
            self._ask(group)
        # Last: each time, the provider may break. No neighbour has to wait for that.
        for item in [*((one, texts[one]) for one in noted), *self._alone]:
            self._ask_alone(item)
        if slow:
            self._ask_canary()  # a 429 to it is everybody's
            for group in self._groups([(one, texts[one]) for one in slow]):
                self._ask_apart(group)
        if self._unproved:
            self._ask_canary()
        if blamed := slow & self.refused.keys():
            self.buyer.throttled.clear(*blamed)

    def _groups(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """`items` in calls."""
        return list(
            batches(
                items,
                max_rows=int(min(max(1, len(items)), self.buyer.calls.most_texts)),
                max_cost=self.buyer.batch_max_tokens,
                cost=lambda item: text.estimate_tokens(item[1]),
            )
        )

    def _ask(self, group: Sequence[Item]) -> None:
        if len(group) > self.buyer.calls.most_texts:
            self._ask_singly(group)
            return
        try:
            self._call(group)
        except InputRejected as error:
            self._halve_refused(group, error)
        except InputSuspected:
            self._halve_suspected(group)
        except TooManyTexts:
            self._ask_singly(group)

    def _ask_singly(self, group: Sequence[Item]) -> None:
        for item in group:
            self._ask([item])

    def _halve_refused(self, group: Sequence[Item], why: InputRejected) -> None:
        """Embed what can be of `group`, which was refused as a whole.

        One such text among n is found in 2·log₂n + 1 calls at most, the first included, and
        two for our own text: after the first refusal, and after the last when nothing
        was answered since. A text that came alone is asked for twice.
        """
        if len(group) == 1:
            self._refuse(group[0], why)
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
        except TooManyTexts:
            self._ask_singly(group)
        else:
            # So it is in the right half, which need not be asked as a whole again; but a
            # text that is left over is asked alone: there may only have been too many.
            if len(right) > 1:
                self._halve_refused(right, why)
            else:
                self._ask(right)

    def _refuse(self, item: Item, why: InputRejected) -> None:
        """Blame `item`, refused alone, as soon as another text is answered.

        Where none had been before, the provider may have refused everybody, and just have
        stopped to: it is asked once more then, and blamed at once.
        """
        if not self._unsure:
            self._unproved[item[0]] = _reason_of(why)
            return
        self._unsure = False
        try:
            self._call([item])
        except InputRejected as error:
            self._set_aside(item[0], _reason_of(error))
        except InputSuspected:
            self._halve_suspected([item])

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
                self._refuse(item, error)
            except InputSuspected as error:
                failures, reason = suspects.add(one), error.reason
                if not self.buyer.calls.is_beyond_chance(failures):
                    continue
                self.refused[one] = reason
                log.error("row_fails_provider", text_hash=one, reason=reason, failures=failures)
            suspects.clear(one)
            return

    def _ask_apart(self, group: Sequence[Item]) -> None:
        """Embed what can be of `group`, which got 429 time after time; nobody else waits.

        Our own text was just answered, so there is no limit that all have reached: halves
        are asked at once. A text that gets 429 alone is put off, to be set aside in the end.
        """
        try:
            self._call(group, apart=True)
        except ProviderThrottled as error:
            if not error.answered:
                raise
            if len(group) > 1:
                for half in halves(group):
                    self._ask_apart(half)
                return
            self._put_off(group[0], str(error))
        except InputRejected as error:
            self._halve_refused(group, error)
        except InputSuspected:
            self._halve_suspected(group)
        except TooManyTexts:
            self._ask_singly(group)

    def _put_off(self, item: Item, why: str) -> None:
        one = item[0]
        times = self.buyer.throttled.add(one) - THROTTLED_TOGETHER
        if times < THROTTLED_ALONE:
            self.put_off.add(one)
            log.warning("row_throttled", text_hash=one, reason=why, times=times)
        else:
            self._unproved[one] = "too_long"
            log.error("row_throttled_for_good", text_hash=one, reason=why, times=times)

    def _call(self, group: Sequence[Item], *, apart: bool = False) -> None:
        """One call for `group`; what came of it is kept before another may begin.

        Raises InputRejected only when the provider has answered our own text, be it before.
        """
        self._check_time()
        hashes, calls = [one for one, _ in group], self.buyer.calls
        try:
            with calls.slot():
                vectors = calls.embed([one for _, one in group], self.before_each, apart=apart)
                bad = self._keep(hashes, vectors)
        except InputRejected:
            self._unsure = not self._answered
            self._doubt()
            raise
        except ProviderThrottled as error:
            if error.answered and not apart:
                with suppress(RedisUnavailable):
                    self.buyer.throttled.add_together(hashes)
            raise
        if apart:
            self.buyer.throttled.clear(*hashes)
        self._judge(hashes, vectors, bad)

    def _keep(self, hashes: Sequence[str], vectors: Vectors) -> dict[str, str]:
        """Cache the vectors that can be used; the others' reasons by hash."""
        canary = self.buyer.calls.canary
        good, bad = {}, {}
        reasons = self.buyer.validator.judge(vectors)
        for one, vector, reason in zip(hashes, vectors, reasons, strict=True):
            usable = canary.mend(vector, reason) if reason else vector
            if usable is None:
                bad[one] = reason
            else:
                good[one] = usable
        final = Counter(reason for reason in bad.values() if not self._is_open(reason))
        self.buyer.emit(VectorsJudged(len(good), final))
        self.buyer.cache.put_many(good)
        return bad

    def _is_open(self, reason: str) -> bool:
        """Whether a vector refused for `reason` may be one that its server does not normalise."""
        return reason == "magnitude" and self.buyer.calls.canary.normalises is None

    def _judge(self, hashes: Sequence[str], vectors: Vectors, bad: dict[str, str]) -> None:
        """Say whose fault `bad` is, of the answer that was just kept."""
        if len(bad) < len(hashes):
            self._hear()
        odd = [row for row, one in enumerate(hashes) if self._is_open(bad.get(one, ""))]
        if odd:
            self._ask_canary()
            bad = {one: reason for one, reason in bad.items() if reason != "magnitude"}
            bad |= self._keep([hashes[row] for row in odd], vectors[odd])
        self._unproved |= bad
        if len(bad) == len(hashes):
            self._doubt()

    def _doubt(self) -> None:
        """Nothing came of a call. Make sure, now and then, that it is not so for all texts."""
        self._in_a_row += 1
        if not self._asked_canary or self._in_a_row > REFUSED_IN_A_ROW:
            self._ask_canary()

    def _ask_canary(self) -> None:
        """As `ProviderGateway.ask_canary`."""
        self._check_time()
        with self.buyer.calls.slot():
            self.buyer.calls.ask_canary(self.before_each)
        self._asked_canary = True
        self._hear()

    def _hear(self) -> None:
        """The provider has answered some text: what it would not answer before was its fault."""
        self._answered = True
        self._in_a_row = 0
        for one, reason in self._unproved.items():
            self._set_aside(one, reason)
        self._unproved.clear()

    def _set_aside(self, one: str, reason: str) -> None:
        self.refused[one] = reason
        log.warning("row_set_aside", text_hash=one, reason=reason)

    def _check_time(self) -> None:
        if self.buyer.clock() > self.until:
            raise ProviderUnavailable("the batch takes too long and goes on later")


def _reason_of(error: InputRejected) -> str:
    return "too_long" if isinstance(error, InputTooLong) else "rejected"
