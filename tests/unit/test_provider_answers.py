"""Vectors out of JSON, and spellings of a model's name."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from embed_star.errors import ProviderConfigError, ProviderProtocolError
from embed_star.providers.error_responses import Endpoint
from embed_star.providers.responses import (
    answered_model,
    count_of,
    in_order,
    same_model,
    vectors_of,
)

ENDPOINT = Endpoint("openai", "http://llm.example/v1", "OPENAI_BASE_URL", "bge-m3")


def packed(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("item", "row"),
    [
        ([1, 2.5], [1, 2.5]),
        (packed(1, 2.5), [1, 2.5]),
        (packed(1, float("nan")), [1, np.nan]),
        ([1, None], [1, np.nan]),
        ([1, "x"], [1, np.nan]),
        ([1, [2]], [1, np.nan]),
        ([1, {}], [1, np.nan]),
        ([1, float("inf")], [1, np.inf]),
        ([1, 1e39], [1, np.inf]),
        ([1, 10**400], [1, np.inf]),
        (None, [np.nan, np.nan]),
        ([], [np.nan, np.nan]),
        ("", [np.nan, np.nan]),
    ],
)
def test_a_bad_value_stays_in_its_row(item: Any, row: list[float]) -> None:
    vectors = vectors_of([[3, 4], item], 2, ENDPOINT)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.array([[3, 4], row], np.float32))


def packed_doubles(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f8").tobytes()).decode()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("seed", range(20))
def test_doubles_and_floats_are_told_apart(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).normal(size=64) * scale
    rounded = values.astype(np.float32)
    for doubles in (values, rounded.astype(np.float64)):
        (row,) = vectors_of([packed_doubles(*doubles)], 64, ENDPOINT)
        np.testing.assert_allclose(row, rounded, rtol=1e-6)
    (row,) = vectors_of([packed(*rounded)], 64, ENDPOINT)
    np.testing.assert_array_equal(row, rounded)
    # Twice as many floats take as many bytes: they are no doubles.
    with pytest.raises(ProviderConfigError, match="EMBEDDING_DIMENSIONS=64 "):
        vectors_of([packed(*rounded)], 32, ENDPOINT)


@pytest.mark.parametrize("values", [[0.5, -0.25, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
def test_doubles_of_few_digits_are_doubles(values: list[float]) -> None:
    (row,) = vectors_of([packed_doubles(*values)], 4, ENDPOINT)
    np.testing.assert_array_equal(row, np.array(values, np.float32))


def test_one_vector_in_a_list_of_its_own_is_that_vector() -> None:
    (row,) = vectors_of([[[1, 2]]], 2, ENDPOINT)
    np.testing.assert_array_equal(row, np.array([1, 2], np.float32))


NONE = object()


def data_of(*indexes: Any) -> list[dict[str, Any]]:
    return [
        {"embedding": place} | ({} if index is NONE else {"index": index})
        for place, index in enumerate(indexes)
    ]


@pytest.mark.parametrize(
    ("indexes", "order"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([2, 0, 1], [1, 2, 0]),
        ([NONE, 1, 2], [0, 1, 2]),
        ([1, NONE, 2], [1, 0, 2]),  # protobuf leaves out 0, wherever it stands
        ([2, 1, NONE], [2, 1, 0]),
        ([0, 1, NONE], [0, 1, 2]),
        ([NONE, NONE, NONE], [0, 1, 2]),
        ([None, None, None], [0, 1, 2]),
        ([None, 1, NONE], [0, 1, 2]),
        ([0.0, 1.0, 2.0], [0, 1, 2]),
        (["1", "0", "2"], [1, 0, 2]),
        (["1.0", "0.0", "2"], [1, 0, 2]),
        ([NONE], [0]),
    ],
)
def test_vectors_are_put_in_order(indexes: list[Any], order: list[int]) -> None:
    assert in_order(data_of(*indexes), len(indexes), ENDPOINT) == order


@pytest.mark.parametrize(
    "indexes",
    [
        [0, 0, 0],
        [1, 1, 1],
        [0, 1, 1],
        [1, 2, 3],
        [-1, 0, 1],
        [0, NONE, 1],  # neither its place nor the one that is left
        [NONE, 0, NONE],
        [0.5, 1, 2],
        [True, 0, 2],
        ["x", 0, 1],
        [[0], 1, 2],
        [float("nan"), 1, 2],
    ],
)
def test_indexes_that_contradict_are_no_answer(indexes: list[Any]) -> None:
    with pytest.raises(ProviderProtocolError, match="indexes are not 0 to 2, each once"):
        in_order(data_of(*indexes), 3, ENDPOINT)


@pytest.mark.parametrize("item", [[1], [1, 2, 3], packed(1, 2, 3), {"a": 1}, "no base64!"])
def test_one_that_is_no_vector_spoils_no_others(item: Any) -> None:
    one, odd = vectors_of([[1, 2], item], 2, ENDPOINT)
    np.testing.assert_array_equal(one, [1, 2])
    assert np.isnan(odd).all()


@pytest.mark.parametrize("item", [[1], [1, 2, 3], packed(1, 2, 3)])
def test_another_length_names_the_setting_and_the_length(item: Any) -> None:
    size = len(item) if isinstance(item, list) else 3
    with pytest.raises(ProviderConfigError, match=f"EMBEDDING_DIMENSIONS={size} "):
        vectors_of([item], 2, ENDPOINT)


@pytest.mark.parametrize(
    "items",
    [
        [{"a": 1}],
        [7],
        [True],
        ["no base64!"],
        ["AAA="],  # two bytes: no float
        ["\u00e9"],
        [[[1, 2], [3, 4]]],
        [None, []],
    ],
)
def test_what_is_no_vector_is_a_protocol_error(items: list[Any]) -> None:
    with pytest.raises(ProviderProtocolError):
        vectors_of(items, 2, ENDPOINT)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("text-embedding-3-small", "openai/text-embedding-3-small"),
        ("openai/text-embedding-3-small", "text-embedding-3-small"),
        ("text-embedding-ada-002", "text-embedding-ada-002-v2"),
        ("openai/text-embedding-ada-002", "text-embedding-ada-002-v2"),
        ("text-embedding-3-small", "text-embedding-3-small-2024-01-25"),
        ("text-embedding", "text-embedding@001"),
        ("BAAI/bge-m3", "baai/BGE-M3"),
        ("nomic-embed-text", "nomic-embed-text:latest"),
        ("nomic-embed-text:latest", "nomic-embed-text"),
        ("/models/bge-m3", "bge-m3"),
    ],
)
def test_spellings_of_one_model_are_the_same(asked: str, answered: str) -> None:
    assert same_model(asked, answered)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("text-embedding-3-small", "text-embedding-3-large"),
        ("text-embedding-3-small", "text-embedding-ada-002"),
        ("text-embedding-ada-002-v2", "text-embedding-ada-002"),
        ("bge-small", "bge-small-en"),
        ("nomic-embed-text-v1", "nomic-embed-text-v1.5"),
        ("nomic-embed-text", "nomic-embed-text:v1.5"),
        ("intfloat/e5", "other/e5"),
        ("e5", "my-e5"),
        ("bge-m3", "m3"),
    ],
)
def test_different_models_are_told_apart(asked: str, answered: str) -> None:
    assert not same_model(asked, answered)


def test_another_model_is_named_harmlessly() -> None:
    assert answered_model("evil\n\x1bname") == "evil??name"
    assert answered_model(" bge-m3 ") == "bge-m3"
    assert answered_model("x" * 1000) == "x" * 80


@pytest.mark.parametrize("answered", [None, "", " ", 7, []])
def test_an_answer_may_have_no_name(answered: Any) -> None:
    assert answered_model(answered) is None


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (7, 7), (-1, None), (True, None), ("7", None), (7.5, None)]
)
def test_a_count_is_a_whole_number_or_unknown(value: Any, count: int | None) -> None:
    assert count_of(value) == count
