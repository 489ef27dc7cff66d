"""Gets vectors from the provider into the cache, and finds the texts that it cannot embed.

A refused or failed call does not show which of its texts is at fault. So both halves are
asked, and their halves, until the bad text stands alone; by then all others are cached.
Nor does it show that a text is at fault at all: a provider without credit refuses every
text, and a broken one answers NaN to all. So no text is blamed before the provider has
answered another text after it, if necessary the canary.

It is over 300 lines since it is one algorithm, whose steps are read together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from embed_star.calling.gateway import ProviderGateway, Renewable
from embed_star.calling.validation import Validator
from embed_star.coordination.cache import VectorCache
from embed_star.embed.poison import PoisonCounter
from embed_star.embed.questions import Item, Mode, Question, grouped, halved, in_two
from embed_star.embed.refusals import Refusals, reason_of
from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputSuspected,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    TooManyTexts,
)
from embed_star.events import Emit, VectorsJudged, ignore_event
from embed_star.providers.base import Vectors

log = structlog.get_logger(__name__)

THROTTLED_TOGETHER = 2
"""429s to a call before its texts are asked apart: fewer are normal for a busy provider."""

THROTTLED_ALONE = 5
"""429s to a text asked alone, each right after an answer to the canary, before the text is set
aside. Between two of them a lock of its row ends."""


@dataclass(frozen=True, slots=True)
class BisectionResult:
    """The result for the texts of a batch, by their hashes. The vectors are in the cache.

    A text in none of `embedded`, `refused` and `put_off` is still to be embedded.
    """

    embedded: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Text hash → why it cannot be embedded."""
    put_off: frozenset[str] = frozenset()
    """Texts that got a 429 when asked alone. They are tried again later."""
    stopped: EmbedStarError | None = None
    """The error that ended the bisection early."""


@dataclass(frozen=True, slots=True)
class Bisector:
    """Embeds batches into the cache. Thread-safe."""

    gateway: ProviderGateway
    cache: VectorCache
    validator: Validator
    suspects: PoisonCounter
    throttled: PoisonCounter
    """Counts the 429s in a row of each text."""
    batch_max_tokens: int
    batch_texts: int
    """Texts of one call, at most: a row has more than one, if it has passages."""
    most_s: float
    """No call begins later than this: Redis would hand the task to another worker, too."""
    emit: Emit = ignore_event
    clock: Callable[[], float] = time.monotonic

    def begin(self, texts: Mapping[str, str], claim: Renewable) -> Bisection:
        """A bisection of `texts` (hash → text), whose rows `claim` holds."""
        return Bisection(self, texts, claim, until=self.clock() + self.most_s)


@dataclass(slots=True)
class Bisection:
    """The work on one batch. Call `run` once."""

    by: Bisector
    texts: Mapping[str, str]
    claim: Renewable
    until: float
    _questions: list[Question] = field(default_factory=list)
    """A stack: the last one is asked next."""
    _alone: list[Item] = field(default_factory=list)
    """Suspects. They are asked last, since each may crash the provider."""
    _slow: AbstractSet[str] = frozenset()
    """Texts with several 429s in a row. They are asked apart, after the suspects."""
    _asked_apart: bool = False
    _embedded: set[str] = field(default_factory=set)
    _refusals: Refusals = field(default_factory=Refusals)
    _put_off: set[str] = field(default_factory=set)

    def run(self) -> BisectionResult:
        """Embed the texts into the cache, as far as the provider, Redis and the time allow.

        An EmbedStarError that ends it early is returned as `stopped`, and not raised.
        """
        stopped: EmbedStarError | None = None
        try:
            self._plan()
            while question := self._next():
                texts, apart = question.texts, question.mode is Mode.APART
                try:
                    with self.by.gateway.embed(texts, self, apart=apart) as vectors:
                        bad = self._keep(question.hashes, vectors)
                except (InputRejected, InputSuspected, TooManyTexts, ProviderThrottled) as error:
                    self._failed(question, error)
                else:
                    self._succeeded(question, vectors, bad)
        except EmbedStarError as error:
            stopped = error
        embedded, put_off = frozenset(self._embedded), frozenset(self._put_off)
        return BisectionResult(embedded, self._refusals.proved, put_off, stopped)

    def renew(self) -> None:
        """As the claim's own; and raise ProviderUnavailable when the time for calls is over.

        The gateway asks before each call, and while the call waits for its place.
        """
        if self.by.clock() > self.until:
            raise ProviderUnavailable("the batch takes too long and goes on later")
        self.claim.renew()

    def _plan(self) -> None:
        """Decide which texts are asked together, alone and apart.

        Raises RedisUnavailable: without a cache, no call is made.
        """
        self.by.cache.check_writes()
        noted, throttled = self.by.suspects.counts_beside(self.by.throttled, self.texts)
        slow = {one for one, times in throttled.items() if times >= THROTTLED_TOGETHER}
        self._slow = slow - noted.keys()
        self._alone = [(one, self.texts[one]) for one in noted]
        self._push(*self._groups(self.texts.keys() - noted.keys() - self._slow))

    def _groups(self, hashes: AbstractSet[str], mode: Mode = Mode.TOGETHER) -> list[Question]:
        """Questions about the texts of `hashes`, in the order of the batch."""
        return self._in_groups([item for item in self.texts.items() if item[0] in hashes], mode)

    def _smaller(self, question: Question) -> list[Question]:
        """`question` and its rest in calls of as many texts as the provider takes by now."""
        return self._in_groups([*question.items, *question.rest], Mode.TOGETHER)

    def _in_groups(self, items: Sequence[Item], mode: Mode) -> list[Question]:
        most_texts = min(self.by.gateway.most_texts, self.by.batch_texts)
        return grouped(items, mode, most_texts=most_texts, max_tokens=self.by.batch_max_tokens)

    def _push(self, *questions: Question) -> None:
        """Ask these next, in this order."""
        self._questions.extend(reversed(questions))

    def _next(self) -> Question | None:
        """The next question; None when there are no more."""
        if not self._questions and self._alone:
            self._push(*(Question([item], Mode.ALONE) for item in self._alone))
            self._alone.clear()
        if not self._questions and self._slow and not self._asked_apart:
            self._asked_apart = True
            self._ask_canary()  # a 429 to it is everybody's
            self._push(*self._groups(self._slow, Mode.APART))
        if not self._questions:
            self._finish()
            return None
        question = self._questions.pop()
        if len(question.items) > self.by.gateway.most_texts:
            self._push(*self._smaller(question))
            question = self._questions.pop()
        return question

    def _finish(self) -> None:
        if self._refusals.unproved:
            self._ask_canary()
        if blamed := self._slow & self._refusals.proved.keys():
            self.by.throttled.clear(*blamed)

    def _succeeded(self, question: Question, vectors: Vectors, bad: dict[str, str]) -> None:
        if question.why and len(question.rest) > 1:
            # It is in the rest, then; but a text left over is asked: there may have been too many.
            self._push(halved(question.rest, question.why))
        elif question.rest:
            self._push(Question(question.rest))
        if question.mode is Mode.APART:
            self.by.throttled.clear(*question.hashes)
        self._judge(question.hashes, vectors, bad)
        if question.mode is Mode.ALONE:
            self.by.suspects.clear(*question.hashes)

    def _failed(self, question: Question, error: EmbedStarError) -> None:
        """Decide which questions replace a failed one. Raises a 429 that concerns other texts."""
        match error:
            case ProviderThrottled():
                self._after_429(question, error)
            case TooManyTexts():
                self._push(*self._smaller(question))
            case InputRejected():
                self._after_refusal(question, error)
            case InputSuspected():
                self._after_failure(question, error)

    def _after_refusal(self, question: Question, why: InputRejected) -> None:
        """Ask the halves of a refused group; note a text that was refused alone.

        One bad text among n is found in at most 2·log₂n + 1 calls, and two for the canary:
        after the first refusal, and after the last one if nothing was answered since.
        """
        unsure = not self._refusals.answered
        self._doubt()
        if question.rest:
            self._push(Question(question.rest))
        if len(question.items) > 1:
            self._push(halved(question.items, why))
            return
        (one,) = question.hashes
        if question.mode is Mode.AGAIN:
            self._refusals.set_aside(one, reason_of(why))
        elif unsure:
            # The provider may have refused everybody, and just have stopped to.
            self._push(Question(question.items, Mode.AGAIN))
        else:
            self._refusals.unproved[one] = reason_of(why)
        if question.mode is Mode.ALONE:
            self.by.suspects.clear(one)

    def _after_failure(self, question: Question, error: InputSuspected) -> None:
        """Ask both halves of a group at which the provider failed; count failures of a text alone.

        Unlike a refusal, this may have been chance. One bad text among n stands alone after at
        most 3·⌈log₂n⌉ + 2 calls, including probes. It is then asked until the provider answers
        or there is no doubt: two calls each time, at most seven times.
        """
        if question.rest:
            self._push(Question(question.rest))
        if len(question.items) > 1:
            self._push(*in_two(question.items, Mode.TOGETHER))
            return
        (one,) = question.hashes
        failures = self.by.suspects.add(one)
        if question.mode is not Mode.ALONE:
            self._alone += question.items
        elif not self.by.gateway.is_beyond_chance(failures):
            self._push(question)
        else:
            self._refusals.proved[one] = error.reason
            log.error("row_fails_provider", text_hash=one, reason=error.reason, failures=failures)
            self.by.suspects.clear(one)

    def _after_429(self, question: Question, error: ProviderThrottled) -> None:
        """Count a 429, and raise it unless only the texts of `question` get it.

        Texts are asked `APART` after an answer to the canary, so the rate limit of the fleet is
        not reached. A text that gets a 429 alone is put off, and finally set aside.
        """
        if question.mode is not Mode.APART or not error.answered:
            if error.answered:
                with suppress(RedisUnavailable):
                    self.by.throttled.add_together(question.hashes)
            raise error
        if len(question.items) > 1:
            self._push(*in_two(question.items, Mode.APART))
            return
        (one,) = question.hashes
        times = self.by.throttled.add(one) - THROTTLED_TOGETHER
        if times < THROTTLED_ALONE:
            self._put_off.add(one)
            log.warning("row_throttled", text_hash=one, reason=str(error), times=times)
        else:
            self._refusals.unproved[one] = "too_long"
            log.error("row_throttled_for_good", text_hash=one, reason=str(error), times=times)

    def _keep(self, hashes: Sequence[str], vectors: Vectors) -> dict[str, str]:
        """Cache the usable vectors. Returns why the others are bad, by hash."""
        canary = self.by.gateway.canary
        good, bad = {}, {}
        reasons = self.by.validator.judge(vectors)
        for one, vector, reason in zip(hashes, vectors, reasons, strict=True):
            usable = canary.mend(vector, reason) if reason else vector
            if usable is None:
                bad[one] = reason
            else:
                good[one] = usable
        final = Counter(reason for reason in bad.values() if not self._is_open(reason))
        self.by.emit(VectorsJudged(len(good), final))
        self.by.cache.put_many(good)
        self._embedded |= good.keys()
        return bad

    def _is_open(self, reason: str) -> bool:
        """Whether `reason` may only mean that the server does not normalise its vectors."""
        return reason == "magnitude" and self.by.gateway.canary.normalises is None

    def _judge(self, hashes: Sequence[str], vectors: Vectors, bad: dict[str, str]) -> None:
        if len(bad) < len(hashes):
            self._refusals.answer()
        odd = [row for row, one in enumerate(hashes) if self._is_open(bad.get(one, ""))]
        if odd:
            self._ask_canary()
            bad = {one: reason for one, reason in bad.items() if reason != "magnitude"}
            bad |= self._keep([hashes[row] for row in odd], vectors[odd])
        self._refusals.unproved |= bad
        if len(bad) == len(hashes):
            self._doubt()

    def _doubt(self) -> None:
        """After a call without a usable vector: check, now and then, that the canary gets one."""
        if self._refusals.nothing():
            self._ask_canary()

    def _ask_canary(self) -> None:
        self.by.gateway.ask_canary(self)
        self._refusals.answer(canary=True)
