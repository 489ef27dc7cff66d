"""What `embed-star doctor` tries: settings, database, Redis and provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.calling.validation import lengths
from embed_star.cli.starting import load_settings
from embed_star.coordination.client import (
    EVICTS,
    check_writes,
    eviction_policy,
    keeps_nothing,
    redis_errors,
    shown_url,
)
from embed_star.errors import (
    ConfigError,
    EmbedStarError,
    InputRejected,
    ProviderConfigError,
    SchemaError,
    StoreError,
    StoreUnavailable,
)
from embed_star.produce.vector_index import MIN_VERSION
from embed_star.providers.responses import same_model
from embed_star.services import Services
from embed_star.settings import misspelt, retired_names


def results() -> dict[str, tuple[bool, str]]:
    """Run all checks: name → whether it is well, and the sentence about it.

    Raises ConfigError when the settings cannot be read.
    """
    with Services(load_settings()) as services:
        checks: dict[str, Callable[[], str]] = {
            "database": lambda: _database(services),
            "schema": lambda: _schema(services),
            "redis": lambda: _redis(services),
            "provider": lambda: _provider(services),
        }
        wrong, retired = misspelt(), retired_names()
        if wrong or retired:  # no line when all are right
            checks = {"settings": lambda: _settings(wrong, retired), **checks}
        found = {name: _run(check) for name, check in checks.items()}
        if found["schema"][0] and (slow := _search(services)):
            found["search"] = (True, slow)  # a warning: no line when a search is quick
        return found


def _run(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except EmbedStarError as error:
        return False, str(error)


def _settings(wrong: Mapping[str, str], retired: Mapping[str, str]) -> str:
    """The advice about old names, which are no failure. Raises ConfigError for misspelt ones."""
    old = "; ".join(f"{name}: {advice}" for name, advice in retired.items())
    old = f"names that have no effect any more; remove them: {old}" if old else ""
    if not wrong:
        return old
    names = "; ".join(f"{name} is {meant}" for name, meant in wrong.items())
    raise ConfigError(f"names in .env that nothing reads: {names}{old and '; ' + old}")


def _database(services: Services) -> str:
    version = ".".join(map(str, services.store.database.version))
    return f"SurrealDB {version} at {services.settings.db_url}"


def _schema(services: Services) -> str:
    services.store.check()
    return f"space {services.space.name}"


SLOW_SEARCH_S = 1.0


def _search(services: Services) -> str:
    """What to do about searches that take longer than SLOW_SEARCH_S; empty: nothing."""
    with suppress(StoreError, StoreUnavailable):  # the database's checks report it
        taken_s = services.store.retrieval.exact_s()
        if taken_s is not None and taken_s > SLOW_SEARCH_S:
            what = "beat has the index built once the backlog is done: is it running?"
            if services.store.database.version < MIN_VERSION:
                what = "SurrealDB 3 has an index that makes it quick, 2.x has none"
            return f"every vector is compared, which takes about {taken_s:.1f} s a search: {what}"
    return ""


def _redis(services: Services) -> str:
    with redis_errors("answer a ping"):
        info = services.redis.info("server")
    services.check_redis()
    check_writes(services.redis)
    if policy := eviction_policy(services.redis):
        raise SchemaError(EVICTS.format(policy=policy))
    found = f"Redis {info['redis_version']} at {shown_url(services.settings.redis_url)}"
    if keeps_nothing(services.redis):
        found += "; without persistence: a restart costs what is under way a minute, and the cache"
    return found


def _provider(services: Services) -> str:
    """Embed the probe text, as workers do before they blame a row. Its failure pauses them."""
    space = services.space
    try:
        answer = services.provider.embed([PROBE_TEXT])
    except InputRejected as error:
        raise ProviderConfigError(
            f"{error}; it was our own text, so every row would be paused: check the account, the "
            "model and the settings of the provider"
        ) from error
    services.canary.check(answer)
    recorded = None
    with suppress(StoreError, StoreUnavailable):  # the database's checks report it
        recorded = services.store.spaces.identity(space)
    if recorded is not None:
        services.canary.compare(recorded, answer)
    found = f"{space.provider} {space.model}: {answer.vectors.shape[1]} dimensions"
    if answer.model and not same_model(space.model, answer.model):
        found += f"; it answers as {answer.model}"
    if services.canary.normalises is False:
        length = lengths(answer.vectors)[0]
        found += f"; its vectors are of length {length:.3g}: those beyond the limits are normalised"
    return found
