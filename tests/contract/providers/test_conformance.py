"""What every provider must do, run over each of them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embed_star.errors import InputRejected
from embed_star.providers import PROVIDERS, catalogue
from embed_star.providers.base import Provider
from tests.contract.providers.conftest import DIMENSIONS, LOCAL_MODELS


def test_each_text_has_its_vector_in_the_order_of_the_texts(provider: Provider) -> None:
    texts = [f"repository {number} about {'graphs' * number}" for number in range(20)]
    vectors = provider.embed(texts).vectors
    assert vectors.shape == (20, provider.dimensions)
    assert vectors.dtype == np.float32
    assert len({row.tobytes() for row in vectors}) == 20
    for text, row in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(provider.embed([text]).vectors[0], row)


def test_a_vector_depends_on_its_text_alone(provider: Provider) -> None:
    texts = ["short", "a text of some more words than that", "long " * 150, "middle " * 40]
    forth, back = provider.embed(texts).vectors, provider.embed(texts[::-1]).vectors[::-1]
    np.testing.assert_array_equal(forth, back)
    np.testing.assert_array_equal(provider.embed(texts[:2]).vectors, forth[:2])


def test_vectors_are_finite_and_about_unit_length(provider: Provider) -> None:
    vectors = provider.embed(["a web framework", "a compiler"]).vectors
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=0.5)


def test_equal_texts_have_equal_vectors(provider: Provider) -> None:
    first, other, second = provider.embed(["same", "other", "same"]).vectors
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_all_of_unicode_is_taken(provider: Provider) -> None:
    texts = [
        "\x00",
        "مرحبا بالعالم",
        "😀" * 50,
        "e\u0301",
        "\u200b",
        "日本語のリポジトリ",
        '\r\n\t\\"',
    ]
    assert provider.embed(texts).vectors.shape == (len(texts), provider.dimensions)


def test_a_lone_surrogate_is_the_texts_fault(provider: Provider) -> None:
    with pytest.raises(InputRejected, match="lone surrogate"):
        provider.embed(["fine", "\ud800 broken"])


def test_a_long_text_is_taken(provider: Provider) -> None:
    texts = ["word " * 30_000, "short"]
    assert np.isfinite(provider.embed(texts).vectors).all()


def test_tokens_are_a_count_or_unknown(provider: Provider) -> None:
    tokens = provider.embed(["count these words"]).tokens
    assert tokens is None or tokens > 0


def test_threads_may_share_it(provider: Provider) -> None:
    texts = [f"text {number}" for number in range(32)]
    expected = provider.embed(texts).vectors
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: provider.embed([text]).vectors[0], texts))
    np.testing.assert_array_equal(np.array(rows), expected)


def test_a_provider_says_its_name_model_and_dimensions(provider: Provider) -> None:
    assert provider.name in PROVIDERS
    known = catalogue.PROVIDERS["local"].models
    assert provider.model in ("test-model", *LOCAL_MODELS)
    own = known[provider.model].dimensions if provider.name == "local" else DIMENSIONS
    assert provider.dimensions == own


def test_closing_twice_is_fine(provider: Provider) -> None:
    provider.embed(["x"])
    provider.close()
    provider.close()


def test_the_registry_has_exactly_the_names_of_the_setting() -> None:
    assert set(PROVIDERS) == set(catalogue.PROVIDERS)


def test_importing_the_registry_imports_no_provider() -> None:
    program = (
        "import sys, embed_star.providers\n"
        "heavy = {'requests', 'urllib3', 'wordllama', 'onnxruntime', 'numpy'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
