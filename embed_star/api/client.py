"""`Client`: search, look up and enqueue from a Python program, by the commands' own use cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from threading import Lock
from typing import Any, Self, TypedDict, Unpack

import structlog

from embed_star.api.results import Details, Enqueued, Result
from embed_star.errors import ConfigError, UnknownRepo
from embed_star.models import Key, key_text
from embed_star.produce.announce import announce
from embed_star.search import Filters, Hit
from embed_star.services import Services
from embed_star.settings import Settings, load_settings
from embed_star.status import Report, report


class FilterOptions(TypedDict, total=False):
    """What a repository must meet to be found. None is as if it were left out."""

    language: str | None
    """Main language; upper and lower case are the same."""
    min_stars: int | None
    topic: str | None
    """One of its topics; those of GitHub are in lower case."""
    owner: str | None
    """Who owns it; upper and lower case are the same."""
    pushed_since: date | None
    """Pushed to on this day or later."""
    archived: bool | None
    """Whether it is archived: True or False."""


class Client:
    """One database and its provider, for as long as the program runs.

    ::

        with Client() as client:
            for found in client.search("a queue for background jobs", k=5):
                print(found.score, found.full_name)

    Settings are the commands' own, from the environment and `.env`; a keyword wins over them:
    `Client(db_url="ws://127.0.0.1:8000", db_pass="…")`. Nothing connects before the first call.
    After an outage the next call connects again. Threads may share a client; a forked child must
    make its own.

    Every error is an EmbedStarError whose text is one sentence. Each call may raise
    StoreUnavailable, SchemaError and StoreAuthError, as each command may.
    """

    def __init__(self, **settings: Any) -> None:
        """Raises ConfigError, in one sentence, for all settings that are wrong or unknown."""
        if unknown := sorted(settings.keys() - Settings.model_fields.keys()):
            raise ConfigError(f"settings: there is none that is called {' or '.join(unknown)}")
        if not structlog.is_configured():
            # By itself structlog prints to stdout, among what the program prints. This way
            # warnings go where the program sends those of `logging`, by default to stderr.
            structlog.stdlib.recreate_defaults(log_level=None)
        self._services: Services | None = Services(load_settings(**settings))
        self._is_checked = False
        self._lock = Lock()

    def search(
        self,
        query: str,
        k: int = 10,
        **filters: Unpack[FilterOptions],
    ) -> list[Result]:
        """The `k` repositories nearest in meaning to `query`, best first.

        A repository whose name the query is comes first. `filters` are those of
        `FilterOptions`, such as `language="Go"`. A query that was asked before costs no call of
        the provider. Raises ConfigError for an empty query and a `k` that is not from 1 to 1,000,
        and ProviderError or TransientError when the provider does not answer.
        """
        services = self._checked()
        return _results(services, services.search.find(query, k, Filters(**filters)))

    def similar(
        self,
        full_name: str,
        k: int = 10,
        **filters: Unpack[FilterOptions],
    ) -> list[Result]:
        """The `k` repositories most like `full_name` (owner/name), best first, without itself.

        `filters` are those of `FilterOptions`. Asks no provider. Raises UnknownRepo, whose `near`
        has names that may be meant, and NotEmbedded.
        """
        services = self._checked()
        return _results(services, services.similar.find(full_name, k, Filters(**filters)))

    def get(self, full_name: str) -> Details:
        """The repository `full_name` (owner/name), in upper or lower case, with its state.

        Raises UnknownRepo, whose `near` has names that may be meant.
        """
        return Details.of(self._checked().lookup.get(full_name))

    def enqueue(self, full_names: Iterable[str]) -> Enqueued:
        """Have these repositories looked at by the workers, before any backlog.

        A row without a current vector is embedded, and one that failed is tried again, although
        nothing about it has changed. For one whose vector is current nothing is paid. Names that
        no row has are no error: the answer lists them. Raises StoreAuthError when the user may
        not write.
        """
        names = [full_names] if isinstance(full_names, str) else list(full_names)
        services = self._checked()
        services.store.database.check_rights()
        found: dict[str, Key] = {}
        for name in names:
            with suppress(UnknownRepo):
                found[name] = services.lookup.repo(name)["id"].id
        announce(list(found.values()), services.store.outbox, services.store.failures)
        unknown = dict.fromkeys(name for name in names if name not in found)
        return Enqueued(tuple(found), tuple(unknown))

    def status(self) -> Report:
        """How far the embedding of all rows is. Redis may be down: `problems` says so.

        `workers` is None: they are not asked, since their answers would take a second.
        """
        return report(self._checked())

    def close(self) -> None:
        """Close all connections. A second call does nothing; any other one raises ConfigError."""
        with self._lock:
            services, self._services = self._services, None
        if services is not None:
            services.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self) -> Services:
        """The services of a database that fits them."""
        with self._lock:  # two threads must not both make the parts
            services = self._services
            if services is None:
                raise ConfigError("this client is closed: make another one")
            if not self._is_checked:
                services.store.check(to_write=False)
                services.search  # noqa: B018 - makes all that calls share
                self._is_checked = True
        if services.store.space_watch.is_retired():
            services.store.check(to_write=False)  # raises, and says what to change
        return services


def _results(services: Services, hits: Sequence[Hit]) -> list[Result]:
    """The hits, each with the date of its vector."""
    keys = [hit.repo["id"].id for hit in hits]
    dates = services.store.retrieval.dates(keys)
    return [Result.of(hit, dates.get(key_text(key))) for hit, key in zip(hits, keys, strict=True)]
