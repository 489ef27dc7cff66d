"""Reading answers: vectors out of JSON, and the name of the model that answered.

What makes the whole answer useless raises; what is wrong with the values of one vector
becomes NaN, which validation sets aside for that row alone.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_star.errors import ProviderConfigError, ProviderProtocolError
from embed_star.providers.base import Vectors
from embed_star.providers.refusals import Endpoint

_VERSION = re.compile(r"(-v\d+|-\d{4}-\d{2}-\d{2}|-\d{8}|@[a-z0-9.-]+)")


def vectors_of(items: Sequence[Any], dimensions: int, endpoint: Endpoint) -> Vectors:
    """The matrix of `items`, each a list of numbers, base64 of float32, or nothing.

    A vector that is null or empty becomes a row of NaN, and so does an element that is
    no number. Raises ProviderConfigError for a vector of another length, and
    ProviderProtocolError for what is no vector at all or when all of several are empty.
    """
    vectors = np.full((len(items), dimensions), np.nan, dtype=np.float32)
    empty = 0
    for row, item in zip(vectors, items, strict=True):
        values = _values(item, endpoint)
        if not values.size:
            empty += 1
        elif values.size != dimensions:
            raise ProviderConfigError(
                f"{endpoint.label} answers vectors of length {values.size} for {endpoint.model}, "
                f"not {dimensions}; set EMBEDDING_DIMENSIONS={values.size} or another "
                "EMBEDDING_MODEL"
            )
        else:
            row[:] = values
    if empty == len(items) > 1:
        raise ProviderProtocolError(f"{endpoint.label} answered no vector for any text")
    return vectors


def _values(item: Any, endpoint: Endpoint) -> NDArray[np.float32]:
    if item is None:
        return np.empty(0, np.float32)
    if isinstance(item, str):
        return _unpack(item, endpoint)
    if not isinstance(item, list):
        raise ProviderProtocolError(f"{endpoint.label} answered something else than vectors")
    try:
        with np.errstate(over="ignore"):  # 1e39 is infinite as a float32: validation's matter
            values = np.array(item, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in item], dtype=np.float32)
    if values.ndim != 1:
        raise ProviderProtocolError(f"{endpoint.label} answered nested vectors")
    return values


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("inf")


def _unpack(text: str, endpoint: Endpoint) -> NDArray[np.float32]:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    except ValueError:  # no base64, not ASCII, or no multiple of four bytes
        raise ProviderProtocolError(
            f"{endpoint.label} answered a vector that is no base64 of float32"
        ) from None


def answered_model(answered: Any) -> str | None:
    """The name that the answer gives the model, harmless to print; None where it has none.

    What another name than the one asked for means is decided by vectors: see `canary`.
    """
    if not isinstance(answered, str) or not answered.strip():
        return None
    return re.sub(r"[^\w./:@+-]", "?", answered.strip())[:80]


def same_model(asked: str, answered: str) -> bool:
    """Whether two spellings name one model.

    Letters' case, an owner in front (`openai/…`) on one side only, `:latest`, and a
    version behind the name asked for (`-v2`, a date, `@001`) make no difference.
    `bge-small` and `bge-small-en`, `…-v1` and `…-v1.5`, or two owners, are different.
    """
    mine = asked.strip().lower().removesuffix(":latest")
    theirs = answered.strip().lower().removesuffix(":latest")
    name = mine.rpartition("/")[2]
    end = theirs.rfind(name) + len(name)
    if name in theirs and _VERSION.fullmatch(theirs, end):
        theirs = theirs[:end]
    return mine == theirs or mine.endswith("/" + theirs) or theirs.endswith("/" + mine)


def count_of(value: Any) -> int | None:
    """A count of tokens, None where the answer has no sensible one."""
    return value if type(value) is int and value >= 0 else None
