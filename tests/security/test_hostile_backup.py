"""A backup that somebody else wrote is data all the way: `restore` runs nothing of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import cbor2
import pytest

from embed_star.backup.manifest import PASSAGES
from embed_star.backup.plain import check_record, is_plain
from embed_star.backup.restoring import open_backup, verify_files
from embed_star.errors import BackupError, SchemaError, StoreError
from embed_star.models import Space
from embed_star.store.client import codec
from embed_star.store.client.quoting import quoted
from embed_star.values import RecordID
from tests.security.test_surrealql import schema
from tests.support.command_line import embed_star
from tests.support.world import World

HOSTILE = [
    "x; DELETE repo; DEFINE TABLE IF NOT EXISTS y",
    "x` SCHEMALESS; DELETE repo; DEFINE TABLE y; --",
    "x⟩'\n; DELETE repo; DEFINE TABLE ⟨y",
    "repo",
    "",
]
CODE = [
    cbor2.CBORTag(15, "{ DELETE repo }"),
    [{"deep": cbor2.CBORTag(15, "{ DELETE repo }")}],
    cbor2.CBORTag(49, [cbor2.CBORTag(50, 1), cbor2.CBORTag(15, "{ DELETE repo }")]),
    cbor2.CBORTag(7, "repo"),
]
"""What SurrealDB would run, or read as more than a value."""


@pytest.fixture
def backup(world: World, tmp_path: Path) -> Path:
    """A sound one, of two embedded rows and a failed one; the database has lost its vectors."""
    world.provider.rejects = lambda text: "poison" in text
    for name in ("canary", "other", "poison"):
        world.write(name, full_name=name)
    world.settle()
    world.services.saver.save(tmp_path / "backup", lambda *_: None, vectors=True)
    world.query(f"DELETE {world.table}; DELETE embedding_failure")
    return tmp_path / "backup"


def restore(world: World, directory: Path) -> None:
    """As the command does."""
    manifest = open_backup(directory, world.services.space, world.store.migrator.latest)
    verify_files(directory, manifest, lambda _: None)
    world.services.restorer.restore(directory, manifest, lambda *_: None)


def read(world: World) -> Any:
    """Every row and every table; whatever runs when a record is read runs now."""
    with suppress(StoreError):
        world.query(f"SELECT * FROM embedding_failure; SELECT * FROM {world.table}")
    (rows,) = world.query("SELECT id, full_name FROM repo")
    return rows, schema(world)


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each text in `value`."""
    if isinstance(value, str):
        yield where
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from leaves(inner, (*where, name))


def change(value: Any, where: tuple[Any, ...], new: Any) -> Any:
    """`value` with `new` at the end of that way."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = new
    return copy


GOOD = {"text_hash": "h", "vector": b"\0" * 8}


@pytest.mark.parametrize(
    "passages",
    [
        *("x", {}, ["x"], [{}], [GOOD] * 33, [{**GOOD, "text_hash": 1}], [{**GOOD, "vector": "x"}]),
        *([{**GOOD, "vector": b"\0" * 7}], [{**GOOD, "vector": None}]),
        *([{**GOOD, "more": one}] for one in CODE),
    ],
    ids=lambda passages: repr(passages)[:40],
)
def test_passages_that_are_none_are_refused(passages: Any) -> None:
    record = {"id": RecordID("t", 1), "vector": b"\0" * 8}
    check_record({**record, PASSAGES: [GOOD] * 32}, "t", 2)
    with pytest.raises(ValueError, match=r"record|passage"):
        check_record({**record, PASSAGES: passages}, "t", 2)


def test_each_text_of_a_manifest_stays_data(world: World, backup: Path) -> None:
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spaces"].append({**manifest["spaces"][0], "model": "second", "active": False})
    before = read(world)
    ways = list(leaves(manifest))
    assert ("spaces", 1, "provider") in ways
    assert len(ways) > 15
    refused = 0
    for where in ways:
        for words in HOSTILE:
            path.write_text(json.dumps(change(manifest, where, words)))
            try:
                restore(world, backup)
            except BackupError:
                refused += 1
            (rows, tables), (rows_before, tables_before) = read(world), before
            assert rows == rows_before, (where, words)
            strange = set(tables[0]) - set(tables_before[0])
            assert all(re.fullmatch(r"embedding_[a-z0-9_]+", one) for one in strange), words
    assert refused > len(ways)


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry-run", "for-good"])
@pytest.mark.parametrize("words", HOSTILE)
def test_the_command_refuses_a_provider_that_is_a_statement(
    world: World, backup: Path, words: str, options: list[str]
) -> None:
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spaces"].append({**manifest["spaces"][0], "provider": words})
    path.write_text(json.dumps(manifest))
    before = read(world)
    done = embed_star("restore", str(backup), *options, env=world.environment)
    if words == "repo":  # an identifier: a space like any other
        assert done.code == 0
    else:
        done.assert_one_sentence("damaged")
        assert read(world) == before


Change = Callable[[dict[str, Any], Any], object]
CHANGES: dict[str, Change] = {
    "reason": lambda one, new: one.update(reason=new),
    "text_hash": lambda one, new: one.update(text_hash=new),
    "space": lambda one, new: one.update(space=new),
    "a field of its own": lambda one, new: one.update(added=new),
    "a field's name": lambda one, new: one.update({str(new): 1}),
    "the link": lambda one, new: one.update(repo=new),
    "the link's table": lambda one, new: one.update(repo=RecordID(str(new) or "x", 1)),
    "id": lambda one, new: one.update(id=new),
    "the id's table": lambda one, new: one.update(id=cbor2.CBORTag(8, [new, "poison"])),
    "the key": lambda one, new: one.update(id=cbor2.CBORTag(8, [one["id"].table_name, new])),
    "within the key": lambda one, new: one.update(
        id=cbor2.CBORTag(8, [one["id"].table_name, [new, 1]])
    ),
    "vector": lambda one, new: one.update(vector=new),
    "all of it": lambda one, new: (one.clear(), one.update(x=new)),
}


def rewrite(directory: Path, file: str, mutate: Callable[[dict[str, Any]], object]) -> None:
    """Change each record of a file, and its checksum along."""
    path = directory / file
    records = []
    with gzip.open(path) as handle:
        decoder = cbor2.CBORDecoder(handle, tag_hook=codec.decode_tag)  # type: ignore[arg-type]
        with suppress(EOFError, cbor2.CBORDecodeError):
            while True:
                records.append(decoder.decode())
    for one in records:
        mutate(one)
    path.write_bytes(gzip.compress(b"".join(map(codec.encode, records))))
    manifest = json.loads((directory / "manifest.json").read_text())
    for table in manifest["tables"]:
        for saved in table["files"]:
            if saved["name"] == file:
                saved["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
                saved["bytes"] = path.stat().st_size
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("table", ["vectors", "failures"])
def test_each_value_of_a_record_stays_data(
    world: World, backup: Path, what: str, table: str
) -> None:
    name = world.table if table == "vectors" else "embedding_failure"
    file = f"{name}-00001.cbor.gz"
    before = read(world)
    sound = {path.name: path.read_bytes() for path in backup.iterdir()}
    as_text = cbor2.CBORTag(8, "repo:{ a: (DELETE repo) }")  # read as a record of another table
    for new in [HOSTILE[1], "", as_text, *CODE]:
        for path, content in sound.items():
            (backup / path).write_bytes(content)
        rewrite(backup, file, lambda one, new=new: CHANGES[what](one, new))  # type: ignore[misc]
        if new in CODE and what not in ("a field's name", "the link's table"):
            with pytest.raises(BackupError, match="cannot be read"):
                restore(world, backup)
        else:
            with suppress(BackupError):
                restore(world, backup)
        assert read(world) == before, (what, new)


def test_a_damaged_record_is_told_before_anything_is_written(world: World, backup: Path) -> None:
    file = f"{world.table}-00001.cbor.gz"
    rewrite(backup, file, lambda one: one.update(vector=one["vector"][:-4]))
    with pytest.raises(BackupError, match="cannot be read"):
        restore(world, backup)
    assert world.failures() == {}  # which are restored first


def test_plain_is_what_our_records_are_made_of() -> None:
    assert is_plain({"a": [1, 1.5, "x", None, True, b"", UUID(int=1), RecordID("repo", ["a"])]})
    for code in CODE:
        assert not is_plain([code])
        assert not is_plain(RecordID("repo", [code]))
        assert not is_plain({"a": {"b": code}})


@pytest.mark.parametrize("words", [one for one in HOSTILE if one != "repo"])
def test_no_space_has_a_name_that_is_no_identifier(words: str) -> None:
    good = Space("local", words, 8, words)
    assert good.table.replace("_", "").isalnum()
    with pytest.raises(ValueError, match="a-z"):
        Space(words, "m", 8, "v")
    with pytest.raises(ValueError, match="whole number"):
        Space("local", "m", words, "v")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a-z"):
        replace(good, provider=words)


@pytest.mark.parametrize("words", HOSTILE)
def test_a_record_of_embedding_space_is_data_too(world: World, words: str) -> None:
    """Whoever may write to the database may write into it."""
    world.write("canary", full_name="canary")
    world.query(
        "CREATE embedding_space:x SET provider = $words, model = 'm', dimensions = 8, "
        "text_version = 'v', text_fields = [$words], state = 'retired', table = $words",
        words=words,
    )
    before = read(world)
    with pytest.raises(SchemaError, match=r"embedding_space:x describes no embedding space"):
        world.store.spaces.known()
    world.store.check()
    assert read(world) == before


@pytest.mark.parametrize("words", [*HOSTILE[:-1], "a\\", "\\`", "select", "ünï ⟩code", "a.b"])
def test_a_quoted_name_is_that_name(world: World, words: str) -> None:
    world.write("canary", full_name="canary")
    before = read(world)
    world.query(f"UPDATE repo:canary SET {quoted(words)} = 7 RETURN NONE")
    (found,) = world.query("SELECT * FROM repo:canary")
    assert found[0][words] == 7
    assert read(world) == before
