"""`AsyncClient`: the same for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Self, Unpack

from embed_star.api.client import Client, FilterOptions
from embed_star.api.results import Details, Enqueued, Result
from embed_star.status import Report


class AsyncClient:
    """A `Client` whose calls are awaited, with the same arguments, results and errors.

    Each call runs on a thread of the loop's default executor, so it never blocks the loop. As
    many run at once as that has threads, and as DB_POOL_SIZE has connections. A call that is
    cancelled ends for its caller; its thread goes on until the answer is there.
    """

    def __init__(self, **settings: Any) -> None:
        """As `Client`."""
        self._client = Client(**settings)

    async def search(
        self,
        query: str,
        k: int = 10,
        **filters: Unpack[FilterOptions],
    ) -> list[Result]:
        """As `Client.search`."""
        return await asyncio.to_thread(self._client.search, query, k, **filters)

    async def similar(
        self,
        full_name: str,
        k: int = 10,
        **filters: Unpack[FilterOptions],
    ) -> list[Result]:
        """As `Client.similar`."""
        return await asyncio.to_thread(self._client.similar, full_name, k, **filters)

    async def get(self, full_name: str) -> Details:
        """As `Client.get`."""
        return await asyncio.to_thread(self._client.get, full_name)

    async def enqueue(self, full_names: Iterable[str]) -> Enqueued:
        """As `Client.enqueue`."""
        return await asyncio.to_thread(self._client.enqueue, full_names)

    async def status(self) -> Report:
        """As `Client.status`."""
        return await asyncio.to_thread(self._client.status)

    async def close(self) -> None:
        """As `Client.close`."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
