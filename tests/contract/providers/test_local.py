"""The model inside this process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from embed_star.errors import ConfigError
from tests.contract.providers.conftest import Make, needs_wordllama


@needs_wordllama
@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_local_has_the_dimensions_that_it_carries(dimensions: int, make: Make) -> None:
    provider = make("local", embedding_dimensions=dimensions)
    web, http, cake = provider.embed(["web server", "http daemon", "chocolate cake"]).vectors
    assert web.shape == (dimensions,)
    assert np.linalg.norm(web) == pytest.approx(1, abs=1e-5)
    assert web @ http > web @ cake


def test_local_refuses_what_it_does_not_carry(make: Make) -> None:
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS must be one of 64, 128, 256"):
        make("local", embedding_dimensions=512)
    with pytest.raises(ConfigError, match="EMBEDDING_MODEL must be wordllama-l2-supercat"):
        make("local", embedding_model="bge-m3", embedding_dimensions=256)


def test_local_without_the_package_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'embed-star\[local\]'"):
        make("local")


@needs_wordllama
def test_local_is_loaded_once_and_leaves_logging_alone() -> None:
    program = """
import logging, threading
from concurrent.futures import ThreadPoolExecutor
from embed_star.providers.local import Local
import embed_star.providers.local as module
loads, load = [], module._load
module._load = lambda dimensions: loads.append(1) or load(dimensions)
provider = Local()
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda text: provider.embed([text]), "abcdefgh"))
assert len(loads) == 1, loads
assert not logging.getLogger().handlers
assert logging.getLogger().level == logging.WARNING
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@needs_wordllama
def test_local_gives_a_text_without_tokens_the_zero_vector(make: Make) -> None:
    empty, full = make("local").embed(["", "words"]).vectors
    assert not empty.any()
    assert full.any()
