"""Responses of providers: vectors out of JSON, and the name of the model.

An error is raised if the whole answer is useless. If only one vector is bad, its values
become NaN, and validation refuses that row alone.
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
from embed_star.providers.error_responses import Endpoint

_INDEX = re.compile(r"([0-9]{1,9})(?:\.0+)?")
_VERSION = re.compile(r"(-v\d+|-\d{4}-\d{2}-\d{2}|-\d{8}|@[a-z0-9.-]+)")


class WrongLength(ProviderConfigError):
    """The vectors have another length than the settings say.

    For the provider's module: it asks in another way, or raises this as a plain
    ProviderConfigError.
    """


def in_order(data: Any, count: int, endpoint: Endpoint) -> list[Any]:
    """The vectors of OpenAI's `data` by their `index`; raises ProviderProtocolError.

    A vector without an index has its position. If a single index is missing, it is 0, which
    some servers leave out (protobuf). Each of 0 to `count` - 1 must occur once.
    """
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ProviderProtocolError(
            f"{endpoint.label} answered no list of vectors; check {endpoint.url_setting}"
        )
    if len(data) != count:
        raise ProviderProtocolError(
            f"{endpoint.label} answered {len(data)} vectors for {count} texts", len(data)
        )
    given = [_index(item.get("index")) for item in data]
    if given.count(None) == 1 and 0 not in given:
        given[given.index(None)] = 0
    places = [place if index is None else index for place, index in enumerate(given)]
    if sorted(places) != list(range(count)):
        raise ProviderProtocolError(
            f"{endpoint.label} answered vectors whose indexes are not 0 to {count - 1}, each once"
        )
    by_index = dict(zip(places, data, strict=True))
    return [by_index[index].get("embedding") for index in range(count)]


def _index(value: Any) -> int | None:
    """An index as a number, None for a missing one, -1 for an invalid one."""
    if value is None:
        return None
    if isinstance(value, str) and (found := _INDEX.fullmatch(value)):
        return int(found[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else -1


def vectors_of(items: Sequence[Any], dimensions: int, endpoint: Endpoint) -> Vectors:
    """The matrix of `items`, each a list of numbers, base64 of floats, or nothing.

    A vector that is null or empty becomes a row of NaN, and so do an element that is no
    number, and beside vectors that fit, one of another length and what is no vector at
    all. Where none fits, raises WrongLength or ProviderProtocolError, the latter also when
    all of several are empty.
    """
    vectors = np.full((len(items), dimensions), np.nan, dtype=np.float32)
    misfit: WrongLength | ProviderProtocolError | None = None
    fitting = empty = 0
    for row, item in zip(vectors, items, strict=True):
        try:
            values = _values(item, dimensions, endpoint)
        except (WrongLength, ProviderProtocolError) as error:
            misfit = misfit or error
            continue
        if values.size:
            row[:] = values
            fitting += 1
        else:
            empty += 1
    if misfit is not None and not fitting:
        raise misfit
    if empty == len(items) > 1:
        raise ProviderProtocolError(f"{endpoint.label} answered no vector for any text")
    return vectors


def _values(item: Any, dimensions: int, endpoint: Endpoint) -> NDArray[np.float32]:
    """The numbers of one vector, none for an empty one. Raises as `vectors_of` does."""
    values = _numbers(item, dimensions, endpoint)
    if values.size not in (0, dimensions):
        raise WrongLength(
            f"{endpoint.label} answers vectors of length {values.size} for {endpoint.model}, "
            f"not {dimensions}; set EMBEDDING_DIMENSIONS={values.size} or another "
            "EMBEDDING_MODEL"
        )
    return values


def _numbers(item: Any, dimensions: int, endpoint: Endpoint) -> NDArray[np.float32]:
    if item is None:
        return np.empty(0, np.float32)
    if isinstance(item, str):
        return _unpack(item, dimensions, endpoint)
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list):
        item = item[0]  # one vector in a list of its own, as some pools of tokens are answered
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


def _unpack(text: str, dimensions: int, endpoint: Endpoint) -> NDArray[np.float32]:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        values = np.frombuffer(data, dtype="<f4")
    except ValueError:  # no base64, not ASCII, or no multiple of four bytes
        raise ProviderProtocolError(
            f"{endpoint.label} answered a vector that is no base64 of floats"
        ) from None
    if len(data) == 8 * dimensions and _is_doubles(data):
        values = np.frombuffer(data, dtype="<f8")
    return values.astype(np.float32, copy=False)


def _is_doubles(data: bytes) -> bool:
    """Whether the bytes hold 8-byte floats, not twice as many 4-byte floats.

    Halves of doubles look like no vector: the lower one is noise of any magnitude, or zero
    throughout. Pairs of floats look like no vector of doubles: all are tiny, or huge.
    """
    singles, doubles = np.frombuffer(data, "<f4"), np.frombuffer(data, "<f8")
    size = np.abs(singles)
    is_noise = not ((size == 0) | ((size > 1e-12) & (size < 1e9))).all()
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(doubles)
    return bool((is_noise or not singles[::2].any()) and 1e-3 < length < 1e6)


def answered_model(answered: Any) -> str | None:
    """The model's name in the answer, safe to print; None when it has none.

    If it is not the name that was asked for, `calling.canary` compares vectors.
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
    """A count of tokens; None when the answer has no plausible one."""
    return value if type(value) is int and value >= 0 else None
