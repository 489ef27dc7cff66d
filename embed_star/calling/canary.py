"""The canary: a text of our own, whose answers show what is wrong with the provider.

Nothing is wrong with that text. So an unusable vector is the provider's fault, not a row's.
A vector whose length is not 1 shows that this server does not normalise. A vector that
differs from the recorded one comes from another model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from embed_star.calling.validation import Validator, has_direction, is_unit, normalised
from embed_star.errors import EmbedStarError, ProviderConfigError
from embed_star.models import Space
from embed_star.providers.base import Embeddings
from embed_star.providers.responses import same_model
from embed_star.store.tables.spaces import Identity

log = structlog.get_logger(__name__)

Vector = NDArray[np.float32]

SAME_COSINE = 0.99
"""Least cosine of two vectors of one text by one model. Rounding and quantisation change a vector
less than that; vectors of two models have a cosine around 0."""

_ASKED_MAX = 4
"""Calls to make until the model in question answers, where a gateway has several models."""

_USELESS = {
    "not_finite": "holds NaN, infinity or nothing",
    "magnitude": "is too short or too long",
    "zeros": "is zero for the most part",
    "constant": "has the same value everywhere",
}


class Identities(Protocol):
    """The records of spaces: `store.tables.spaces.Spaces`, or in memory."""

    def identity(self, space: Space) -> Identity | None:
        """The recorded identity of the model of `space`; None if there is none yet."""

    def record_identity(self, space: Space, identity: Identity) -> None:
        """Record it, replacing an earlier one. A name without a vector replaces nothing."""


class Canary:
    """What one process knows about its provider's model. Thread-safe."""

    def __init__(self, validator: Validator, spaces: Identities, space: Space) -> None:
        self._validator = validator
        self._spaces = spaces
        self._space = space
        self._noting = threading.Lock()
        self._asking = threading.Lock()
        self._known: set[str] = set()  # names whose vectors are the space's
        self._normalises: bool | None = None

    @property
    def normalises(self) -> bool | None:
        """Whether the server normalises its vectors; None before it has answered the canary."""
        return self._normalises

    def mend(self, vector: Vector, reason: str) -> Vector | None:
        """A usable form of `vector`, which was refused for `reason`; None if there is none.

        Searches use the cosine, so only the direction counts: where the server does not
        normalise, a vector that is too long or too short is normalised here. Call it once
        `normalises` is known.
        """
        if self._normalises is False and reason == "magnitude" and has_direction(vector):
            return normalised(vector)
        return None

    def judge(self, answer: Embeddings) -> None:
        """Check the answer to the canary, and record what is new.

        The first answer in a space is recorded, and so is another name for the same model.
        Raises ProviderConfigError when the vector cannot be used, or comes from another model
        than the space's.
        """
        self.check(answer)
        self._identify(answer, proved=False)

    def check(self, answer: Embeddings) -> None:
        """Check the vector only, as `judge` does, whichever model it comes from."""
        vector: Vector = answer.vectors[0]
        (reason,) = self._validator.judge(answer.vectors)
        if reason == "magnitude" and not is_unit(vector) and has_direction(vector):
            reason = ""  # as long as this server makes them
        if reason:
            raise ProviderConfigError(
                f"the vector that {self._space.provider} gives our own text "
                f"{_USELESS[reason]} ({reason}), so it is no row's fault: start the server anew, "
                "or set EMBEDDING_MODEL to another model"
            )
        self._normalises = is_unit(vector)

    def compare(self, recorded: Identity, answer: Embeddings) -> None:
        """Raise ProviderConfigError when `answer` comes from another model than the recorded."""
        name = answer.model or ""
        if recorded.probe is not None:
            cosine = _cosine(recorded.probe, answer.vectors[0])
            if not cosine >= SAME_COSINE:  # NaN neither
                raise ProviderConfigError(self._change(recorded.model, name, cosine))
        elif name and name != recorded.model:
            raise ProviderConfigError(
                f"{self._space.provider} answers for the model {name}, and before for "
                f"{recorded.model}, of which nothing is known to compare; set EMBEDDING_MODEL to "
                "the model that it serves"
            )

    def accept(self, model: str | None, ask: Callable[[], Embeddings]) -> None:
        """Make sure that the model which answers as `model` is the space's model.

        `ask` sends the canary. It is called when the process meets a name that is not the
        recorded one, and once in a space's life. Raises ProviderConfigError when the model is
        another one, or varies from answer to answer; StoreUnavailable; and the errors of `ask`.
        """
        if model is None or model in self._known:
            return
        with self._asking:  # the other threads wait for the verdict
            if model in self._known:
                return
            expected = same_model(self._space.model, model)
            try:
                recorded = self._spaces.identity(self._space)
            except EmbedStarError:
                if expected:  # to be looked up at the next call
                    return
                raise
            if recorded is not None and recorded.model == model:
                self._known.add(model)
            elif recorded is None and expected:
                # The name first: what answers under another one by the time that our own
                # text is asked for must not pass for it.
                self._record(Identity(model))
                self._known.add(model)
            else:
                self._prove(model, ask, twice=recorded is None)
                return
            if recorded is None or recorded.probe is None:
                with suppress(EmbedStarError):  # no row is held up for this
                    self.judge(ask())

    def _prove(self, model: str, ask: Callable[[], Embeddings], *, twice: bool) -> None:
        """Raise unless `model` answers the canary with the recorded vector.

        Where none is recorded (`twice`), it must answer with the same vector twice.
        """
        if twice:
            first = self._answer_of(model, ask).vectors[0]
            answer = self._answer_of(model, ask)
            if not _cosine(first, answer.vectors[0]) >= SAME_COSINE:  # NaN neither
                raise ProviderConfigError(
                    f"{self._space.provider} answers for the model {model}, not "
                    f"{self._space.model}, with another vector for one text each time; set "
                    "EMBEDDING_MODEL to a model that it serves"
                )
        else:
            answer = self._answer_of(model, ask)
        self.check(answer)
        self._identify(answer, proved=True)
        self._known.add(model)

    def _answer_of(self, model: str, ask: Callable[[], Embeddings]) -> Embeddings:
        for _ in range(_ASKED_MAX):
            answer = ask()
            if answer.model == model:
                return answer
        raise ProviderConfigError(
            f"{self._space.provider} answers for several models under one name, {model} and "
            f"{answer.model or 'one without a name'} among them; set EMBEDDING_MODEL to one of them"
        )

    def _identify(self, answer: Embeddings, *, proved: bool) -> None:
        """Compare with the recorded identity, and record what is missing from it.

        A name that is not recorded must be the one that was asked for, or `proved`.
        """
        name = answer.model or ""
        with self._noting:
            try:
                recorded = self._spaces.identity(self._space)
            except EmbedStarError as error:
                log.warning("model_not_compared", reason=str(error))
                return
            before = recorded.model if recorded else self._space.model
            if recorded is not None:
                self.compare(recorded, answer)
            elif name and not proved and not same_model(before, name):
                return
            probe = recorded.probe if recorded else None
            if probe is None or name not in ("", before):
                # The first vector stays, so that many small changes are no great one.
                self._record(
                    Identity(name or before, answer.vectors[0] if probe is None else probe)
                )
            if name and not same_model(before, name):
                log.warning("model_has_another_name", was=before, answered=name)

    def _change(self, before: str, now: str, cosine: float) -> str:
        names = f"the model {before or self._space.model} has become {now or 'another one'}"
        if before == now:
            names = f"what answers as {now or self._space.model} has become another model"
        return (
            f"{names} at {self._space.provider}: its vector for our own text is not the recorded "
            f"one (cosine {cosine:.2f}), and vectors of two models do not mix; have it serve the "
            "model of before, or set EMBEDDING_MODEL to a name of the new one and run "
            "`embed-star migrate`"
        )

    def _record(self, identity: Identity) -> None:
        try:
            self._spaces.record_identity(self._space, identity)
        except EmbedStarError as error:  # a user who may only read
            log.warning("model_not_recorded", reason=str(error))


def _cosine(one: Vector, other: Vector) -> float:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        a, b = one.astype(np.float64), other.astype(np.float64)
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
