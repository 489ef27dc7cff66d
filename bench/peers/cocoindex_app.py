"""What CocoIndex is run with: rows of a table, their vectors in another one.

Runs in an environment of its own, as `python cocoindex_app.py URL PROVIDER DIMENSIONS BATCH_ROWS`,
with COCOINDEX_DB set to its local state, and ends when its stdin does.
"""
# mypy: ignore-errors
# What it imports is only in the environment of the peers.

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import cocoindex as coco
import openai
from cocoindex.connectors import postgres

URL, PROVIDER, DIMENSIONS, BATCH_ROWS = *sys.argv[1:3], *map(int, sys.argv[3:5])
POOL = coco.ContextKey[asyncpg.Pool]("pool")
CLIENT = openai.AsyncOpenAI(base_url=PROVIDER, api_key="none")


@dataclass
class Row:
    id: int
    text: str


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    async with asyncpg.create_pool(URL) as pool:
        builder.provide(POOL, pool)
        yield


@coco.fn.as_async(batching=True, max_batch_size=BATCH_ROWS)
async def embed(texts: list[str]) -> list[list[float]]:
    answer = await CLIENT.embeddings.create(model="bench-model", input=texts, dimensions=DIMENSIONS)
    return [one.embedding for one in answer.data]


@coco.fn(memo=True)
async def embed_row(row: Row, table: postgres.TableTarget) -> None:
    table.declare_row(row={"id": row.id, "text": row.text, "embedding": await embed(row.text)})


@coco.fn
async def embed_rows() -> None:
    columns = {
        "id": postgres.ColumnDef(type="bigint", nullable=False),
        "text": postgres.ColumnDef(type="text"),
        "embedding": postgres.ColumnDef(type=f"vector({DIMENSIONS})", encoder=str),
    }
    schema = postgres.TableSchema(columns, ["id"])
    table = await postgres.mount_table_target(POOL, "repo_vectors", schema)
    source = postgres.PgTableSource(coco.use_context(POOL), table_name="repo", row_type=Row)
    await coco.mount_each(embed_row, source.fetch_rows().items(lambda row: row.id), table)


coco.App(coco.AppConfig(name="peers"), embed_rows).update_blocking()
sys.stdin.read()  # what it has used is read while it is there
