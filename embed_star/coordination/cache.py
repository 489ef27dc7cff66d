"""The cache of vectors: in this process (LRU with TTL), and in Redis (TTL).

It also carries vectors from `embed_batch` to `store_embeddings`: messages hold only the hash
of each text.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, cast

import numpy as np
import redis
from cachetools import TTLCache
from numpy.typing import NDArray

from embed_star.coordination.client import redis_errors
from embed_star.events import CacheRead, Emit, ignore_event

Vector = NDArray[np.float32]
_CHECKSUM_BYTES = 4


class CacheBackend(Protocol):
    """Short-lived bytes by name, shared by all processes. Raises RedisUnavailable.

    `memory.MemoryCacheBackend` does the same within one process.
    """

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """The bytes under each of `names`, in order; None where there are none."""

    def set_many(self, blobs: Mapping[str, bytes], ttl_s: float) -> None:
        """Keep `blobs` (name → bytes) for `ttl_s`, replacing earlier ones."""


class RedisCacheBackend:
    """A `CacheBackend` in Redis. Each call is one round trip."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        with redis_errors("read the cache"):
            return cast("list[bytes | None]", self._client.mget(names))

    def set_many(self, blobs: Mapping[str, bytes], ttl_s: float) -> None:
        ttl_ms = round(ttl_s * 1000)
        with redis_errors("write the cache"):
            pipe = self._client.pipeline(transaction=False)
            for name, blob in blobs.items():
                pipe.set(name, blob, px=ttl_ms)
            pipe.execute()


class VectorCache:
    """Vectors of one space, by text hash. Thread-safe.

    An entry is a CRC-32 and the little-endian float32 values. A damaged entry, or one of
    another length, is a miss. Names contain the space and the server, so vectors of two models
    never mix, nor those of two servers whose models have the same name.
    """

    def __init__(
        self,
        backend: CacheBackend,
        prefix: str,
        dimensions: int,
        *,
        source: str = "",
        ttl_s: float,
        local_entries: int,
        local_ttl_s: float,
        emit: Emit = ignore_event,
    ) -> None:
        """`prefix` is that of the space. `source` names the server that makes the vectors."""
        self._backend = backend
        self._space = prefix
        self.source = source
        self._dimensions = dimensions
        self._ttl_s = ttl_s
        self._emit = emit
        self._lock = threading.Lock()
        self._local: TTLCache[str, Vector] = TTLCache(local_entries, local_ttl_s)

    def get_many(self, hashes: Iterable[str]) -> dict[str, Vector]:
        """The cached vectors among `hashes`. Raises RedisUnavailable.

        Vectors that this process holds are found without Redis.
        """
        wanted = list(dict.fromkeys(hashes))
        return self._with_fetched(wanted, self._held(wanted))

    def get_from(self, source: str, hashes: Iterable[str]) -> dict[str, Vector]:
        """As `get_many`, for vectors that another server (`source`) has made."""
        if source in ("", self.source):
            return self.get_many(hashes)
        return self._fetch(list(dict.fromkeys(hashes)), source)

    def get_shared(self, hashes: Iterable[str]) -> dict[str, Vector]:
        """As `get_many`, and makes sure that all found vectors are in Redis.

        Redis may have lost a vector that this process still holds. The process that is to
        store it would not find it.
        """
        wanted = list(dict.fromkeys(hashes))
        held = self._held(wanted)
        self.put_many(held)
        found = self._with_fetched(wanted, held)
        self._emit(CacheRead(len(found), len(wanted) - len(found)))
        return found

    def put_many(self, vectors: Mapping[str, Vector]) -> None:
        """Keep `vectors` (hash → shape (dimensions,)). Raises RedisUnavailable.

        This process keeps them even then, so that a retry here does not pay again.
        """
        if not vectors:
            return
        self._keep(vectors)
        blobs = {self.name(one, self.source): _pack(vector) for one, vector in vectors.items()}
        self._backend.set_many(blobs, self._ttl_s)

    def check_writes(self) -> None:
        """Raise RedisUnavailable unless Redis accepts writes now.

        A Redis can be readable only: when its memory or disk is full, or on a replica.
        """
        self._backend.set_many({f"{self._space[:-1]}.written": b""}, 1.0)  # no vector's name

    def _held(self, hashes: Iterable[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        with self._lock:
            for one in hashes:
                with suppress(KeyError):  # `in` first is no help: its time may end in between
                    found[one] = self._local[one]
        return found

    def _with_fetched(self, hashes: Iterable[str], held: Mapping[str, Vector]) -> dict[str, Vector]:
        """`held`, and the other vectors of `hashes` that Redis has."""
        fetched = self._fetch([one for one in hashes if one not in held], self.source)
        self._keep(fetched)
        return {**held, **fetched}

    def _fetch(self, hashes: Sequence[str], source: str) -> dict[str, Vector]:
        if not hashes:
            return {}
        raw = self._backend.get_many([self.name(one, source) for one in hashes])
        return {
            one: vector
            for one, blob in zip(hashes, raw, strict=True)
            if blob is not None and (vector := self._unpack(blob)) is not None
        }

    def name(self, text_hash: str, source: str) -> str:
        """The name in Redis of the vector that the server `source` made of this text."""
        return f"{self._space}{source}:{text_hash}"

    def _keep(self, vectors: Mapping[str, Vector]) -> None:
        with self._lock:
            if self._local.maxsize:
                self._local.update(vectors)

    def _unpack(self, blob: bytes) -> Vector | None:
        if len(blob) != _CHECKSUM_BYTES + 4 * self._dimensions:
            return None
        body = blob[_CHECKSUM_BYTES:]
        if zlib.crc32(body) != int.from_bytes(blob[:_CHECKSUM_BYTES], "little"):
            return None
        return np.frombuffer(body, dtype="<f4").astype(np.float32, copy=False)


def _pack(vector: Vector) -> bytes:
    body = vector.astype("<f4", copy=False).tobytes()
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body
