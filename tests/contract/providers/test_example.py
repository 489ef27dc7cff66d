"""The worked example of CONTRIBUTING.md keeps the contract of all providers."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from embed_star.errors import ProviderConfigError
from embed_star.providers import PROVIDERS as REGISTRY
from embed_star.providers import catalogue, create_provider
from embed_star.providers.base import Provider
from embed_star.providers.roles import Role
from embed_star.settings import Settings
from embed_star.settings.fields import Key, setting
from tests.contract.providers import test_conformance as conformance
from tests.contract.providers import test_faults as faults
from tests.contract.providers.conftest import DIMENSIONS, KEY, Make
from tests.support.scripted_provider import ScriptedProvider

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "provider"


class WithCohere(Settings):
    """The settings with the one more that the example needs."""

    cohere_api_key: Key = setting(SecretStr(""), "key for Cohere", "text")


def factory() -> Callable[[Any], Provider]:
    """What makes the example's provider, as the line in the registry would."""
    spec = importlib.util.spec_from_file_location("cohere_example", EXAMPLE / "cohere.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[Any], Provider] = module.cohere
    return made


@pytest.fixture
def make(server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """The provider as its line in the registry and its facts in the catalogue make it."""
    facts = catalogue._read((EXAMPLE / "catalogue.toml").read_text(encoding="utf-8"))["cohere"]
    monkeypatch.setattr("embed_star.providers.http.deadline.RESPONSE_BYTES", 1024 * 1024)
    monkeypatch.setitem(REGISTRY, "cohere", factory())
    made: list[Provider] = []

    def create(name: str, url: str = "", **changes: Any) -> Provider:
        facts_there = replace(facts, address=url or server.url)
        monkeypatch.setitem(catalogue.PROVIDERS, name, facts_there)
        values = {
            "db_pass": "x",
            "embedding_provider": name,
            "embedding_model": "test-model",
            "embedding_dimensions": DIMENSIONS,
            "cohere_api_key": KEY,
            "parallel_workers": 4,
        }
        made.append(create_provider(WithCohere.read(**(values | changes))))
        return made[-1]

    yield create
    for provider in made:
        provider.close()


@pytest.fixture
def name() -> str:
    return "cohere"


@pytest.fixture
def provider(name: str, make: Make) -> Provider:
    return make(name)


test_order = conformance.test_each_text_has_its_vector_in_the_order_of_the_texts
test_length = conformance.test_vectors_are_finite_and_about_unit_length
test_equal_texts = conformance.test_equal_texts_have_equal_vectors
test_unicode = conformance.test_all_of_unicode_is_taken
test_surrogates = conformance.test_a_lone_surrogate_is_the_texts_fault
test_long_texts = conformance.test_a_long_text_is_taken
test_tokens = conformance.test_tokens_are_a_count_or_unknown
test_threads = conformance.test_threads_may_share_it
test_closing = conformance.test_closing_twice_is_fine
test_faults = faults.test_each_fault_is_one_clear_error
test_waits = faults.test_a_429_carries_the_wait_of_its_retry_after
test_limits = faults.test_a_rate_limit_is_throttling_with_the_wait


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (EXAMPLE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = len((EXAMPLE / "cohere.py").read_text(encoding="utf-8").splitlines())
    assert lines <= 130
    assert f"[cohere.py](examples/provider/cohere.py), {lines} lines" in page
    facts = (EXAMPLE / "catalogue.toml").read_text(encoding="utf-8")
    assert facts in page.replace("\n   ", "\n")


def test_a_shorter_vector_is_asked_for_where_the_model_shortens(
    make: Make, server: ScriptedProvider
) -> None:
    make("cohere", embedding_model="embed-v4.0").embed(["x"])
    assert server.ledger()[-1]["options"]["output_dimension"] == DIMENSIONS


def test_a_missing_model_names_the_setting(make: Make, server: ScriptedProvider) -> None:
    server.script(fail_next=1, status=404, error={"message": "model 'nomic' not found"})
    with pytest.raises(ProviderConfigError, match=re.escape("set EMBEDDING_MODEL")):
        make("cohere").embed(["x"])


@pytest.mark.parametrize("role", Role)
def test_the_role_is_a_parameter(role: Role, make: Make, server: ScriptedProvider) -> None:
    make("cohere").embed(["x"], role)
    assert server.ledger()[-1]["options"]["input_type"] == f"search_{role}"
