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
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from embed_star.calling.gateway import ProviderGateway, Renewable
from embed_star.calling.validation import Validator
from embed_star.coordination.cache import VectorCache
from embed_star.embed.poison import PoisonCounter
from embed_star.embed.questions import Item, Mode, Question, grouped, halved, in_two, singly
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
"""429s to a call before its texts are asked apart: that many are a busy provider's."""

THROTTLED_ALONE = 5
"""429s to a text alone, with answers to our own right before, until it is set aside. From
one to the next a lock of its row ends."""


@dataclass(frozen=True, slots=True)
class BisectionResult:
    """What became of the texts of a batch, by their hashes; the vectors are in the cache.

    A text that is in none of the three waits, and is blamed for nothing.
    """

    embedded: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why each cannot be embedded."""
    put_off: frozenset[str] = frozenset()
    """They got a 429 alone, and are to be tried again later."""
    stopped: EmbedStarError | None = None
    """Why the bisection ended early."""


@dataclass(frozen=True, slots=True)
class Bisector:
    """Embeds batches into the cache. Thread-safe."""

    gateway: ProviderGateway
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

    def begin(self, texts: Mapping[str, str], claim: Renewable) -> Bisection:
        """The bisection of `texts` (hash → text), whose rows are held by `claim`."""
        return Bisection(self, texts, claim, until=self.clock() + self.most_s)


@dataclass(slots=True)
class Bisection:
    """The work on one batch. To be run once."""

    by: Bisector
    texts: Mapping[str, str]
    claim: Renewable
    until: float
    _questions: list[Question] = field(default_factory=list)
    """The next one last."""
    _alone: list[Item] = field(default_factory=list)
    """Suspects: asked last, since the provider may break each time."""
    _slow: AbstractSet[str] = frozenset()
    """Got 429 time after time: asked apart, after the suspects."""
    _asked_apart: bool = False
    _embedded: set[str] = field(default_factory=set)
    _refusals: Refusals = field(default_factory=Refusals)
    _put_off: set[str] = field(default_factory=set)

    def run(self) -> BisectionResult:
        """Embed the texts into the cache, as far as the provider, Redis and the time allow."""
        stopped: EmbedStarError | None = None
        try:
            self._plan()
            while question := self._next():
                self._check_time()
                texts, apart = question.texts, question.mode is Mode.APART
                try:
                    with self.by.gateway.embed(texts, self.claim, apart=apart) as vectors:
                        bad = self._keep(question.hashes, vectors)
                except (InputRejected, InputSuspected, TooManyTexts, ProviderThrottled) as error:
                    self._failed(question, error)
                else:
                    self._succeeded(question, vectors, bad)
        except EmbedStarError as error:
            stopped = error
        embedded, put_off = frozenset(self._embedded), frozenset(self._put_off)
        return BisectionResult(embedded, self._refusals.proved, put_off, stopped)

    def _plan(self) -> None:
        """Decide what is asked together, alone and apart. Nothing is paid without a cache."""
        self.by.cache.check_writes()
        noted = self.by.suspects.counts(self.texts)
        throttled = self.by.throttled.counts(self.texts)
        slow = {one for one, times in throttled.items() if times >= THROTTLED_TOGETHER}
        self._slow = slow - noted.keys()
        self._alone = [(one, self.texts[one]) for one in noted]
        self._push(*self._groups(self.texts.keys() - noted.keys() - self._slow))

    def _groups(self, hashes: AbstractSet[str], mode: Mode = Mode.TOGETHER) -> list[Question]:
        """Questions for the texts of `hashes`, in the order of the batch."""
        items = [item for item in self.texts.items() if item[0] in hashes]
        most_texts = self.by.gateway.most_texts
        return grouped(items, mode, most_texts=most_texts, max_tokens=self.by.batch_max_tokens)

    def _push(self, *questions: Question) -> None:
        """Ask these next, in this order."""
        self._questions.extend(reversed(questions))

    def _next(self) -> Question | None:
        """The next question; None when all is said."""
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
            self._push(*singly(question))
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
        """Decide what is asked instead. Raises a 429 that is not this text's alone."""
        match error:
            case ProviderThrottled():
                self._after_429(question, error)
            case TooManyTexts():
                self._push(*singly(question))
            case InputRejected():
                self._after_refusal(question, error)
            case InputSuspected():
                self._after_failure(question, error)

    def _after_refusal(self, question: Question, why: InputRejected) -> None:
        """One such text among n is found in 2·log₂n + 1 calls at most, and two for our own
        text: after the first refusal, and after the last when nothing was answered since."""
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
        """Unlike a refusal this may have been chance, so both halves are asked. One such text
        among n is alone after 3·⌈log₂n⌉ + 2 calls at most, probes included. Alone it is asked
        until the provider answers or there is no doubt: two calls a time, seven times at most.
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
        """Before texts are asked `APART`, our own was answered: no limit that all have reached.
        A text that gets 429 alone is put off, to be set aside in the end."""
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
        """Cache the vectors that can be used; the others' reasons by hash."""
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
        """Whether a vector refused for `reason` may be one that its server does not normalise."""
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
        """Nothing came of a call. Make sure, now and then, that it is not so for all texts."""
        if self._refusals.nothing():
            self._ask_canary()

    def _ask_canary(self) -> None:
        self._check_time()
        self.by.gateway.ask_canary(self.claim)
        self._refusals.answer(canary=True)

    def _check_time(self) -> None:
        if self.by.clock() > self.until:
            raise ProviderUnavailable("the batch takes too long and goes on later")
