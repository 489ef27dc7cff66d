"""`python -m bench scale`: searches over a large table, exact and by each index."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from bench.scale import report
from bench.scale.measuring import Indexed, Measurer
from bench.scale.report import Scale
from bench.scale.table import made
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.embed import text
from embed_star.models import Space
from embed_star.services.store import Store
from embed_star.settings import Settings
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Database, Pool

DEFINITIONS = (
    "HNSW DIMENSION {dimensions} DIST COSINE TYPE F32",
    "DISKANN DIMENSION {dimensions} DIST COSINE TYPE F32",
)
"""The first is the one that `SurrealVectors.build_index` makes."""

_MORE_ROWS = 2_000
"""Written while the index is there."""


def main(arguments: list[str]) -> None:
    """Print the figures; with `--write`, put them into the document, too."""
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--index", action="append", help="a definition; default: several")
    parser.add_argument("--write", action="store_true", help="write docs/search-scale.md")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    many = made(options.rows + _MORE_ROWS)
    dimensions = many.vectors.shape[1]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServers(Path(folder), ServerOptions(engine="server", redis=False)) as servers,
    ):
        store = _store(servers, dimensions)
        many.write(store.database, store.space.table, range(options.rows))
        measurer = Measurer(store, many, options.rows, servers.processes["surrealdb"].pid)
        ratios = measurer.users_writes(100), measurer.users_writes(1)
        scale = Scale(options.rows, dimensions, many.origin, ratios)
        definitions = [one.format(dimensions=dimensions) for one in options.index or DEFINITIONS]
        for definition in ("", *definitions):
            console.print(f"· {definition or 'without an index'} …")
            scale.indexes.append(_measured(measurer, definition))
            console.print(report.table(scale.indexes[-1]))
            if options.write:
                report.write(scale)
    console.print(report.users_writes(scale))


def _measured(measurer: Measurer, definition: str) -> Indexed:
    return measurer.under(definition) if definition else measurer.without()


def _store(servers: LocalServers, dimensions: int) -> Store:
    """The schema in place, and a query may last."""
    given = servers.environment | servers.root_environment
    common = {"namespace": given["DB_NAMESPACE"], "database": given["DB_DATABASE"]}
    root = Target(
        given["DB_URL"], given["ROOT_DB_USER"], given["ROOT_DB_PASS"], **common, root=True
    )
    bootstrap(root, given["DB_USER"], given["DB_PASS"])
    target = Target(given["DB_URL"], given["DB_USER"], given["DB_PASS"], **common, timeout_s=600.0)
    fields = Settings.model_construct().text_fields
    space = Space("local", "measured", dimensions, text.text_version(fields, 512, ""))
    store = Store(Database(Pool(target)), space, tuple(fields))
    store.migrator.apply()
    store.spaces.ensure(space, fields)
    return store
