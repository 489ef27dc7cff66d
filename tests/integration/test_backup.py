"""What was paid for is saved, put back where nothing stands, and not paid for again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from embed_star.backup import chunks, saving
from embed_star.backup.manifest import FAILURES, Manifest, read_manifest
from embed_star.backup.restoring import Restored, open_backup, verify_files
from embed_star.devstack.servers import LocalServers
from embed_star.embed.text import text_hash
from embed_star.errors import BackupError
from embed_star.models import Key, key_text
from embed_star.services import Services
from embed_star.settings import load_settings
from tests.conftest import DIMENSIONS, MakeWorld, fresh_database
from tests.support.scripted_answers import vector_for
from tests.support.world import World

KEYS: list[Key] = [
    *(3, -(2**63), 2**63 - 1, "a", "3", "⟨x⟩`", "it's", UUID(int=1)),
    *(["a", 1], ["a", [2, UUID(int=2)]], {"n": 1, "m": ["x"]}),
]


def save(world: World, directory: Path, *, vectors: bool = True) -> Manifest:
    return world.services.saver.save(directory, lambda *_: None, vectors=vectors)


def restore(world: World, directory: Path) -> dict[str, Restored]:
    """As the command does: checks first."""
    latest = world.store.migrator.latest
    manifest = open_backup(directory, world.services.space, latest)
    verify_files(directory, manifest, lambda _: None)
    return world.services.restorer.restore(directory, manifest, lambda *_: None)


def fill(world: World) -> None:
    """Rows with every type of key, one of them failed; all settled."""
    world.provider.rejects = lambda text: "poison" in text
    for number, key in enumerate(KEYS):
        world.write(key, full_name=f"owner/name{number}")
    world.write("poison", full_name="poison")
    world.settle()
    world.assert_current()


def comparable(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {key: {**one, "vector": one.get("vector")} for key, one in records.items()}


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and files of a few records."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 200)
    monkeypatch.setattr(saving, "page_rows", lambda _: 3)


@pytest.fixture
def saved(world: World, tmp_path: Path) -> Path:
    """A backup of `fill`."""
    fill(world)
    save(world, tmp_path / "backup")
    return tmp_path / "backup"


README = "".join(
    f"# Part {part}\n\n{'A sentence that is long enough to be kept, and more. ' * 9}{part}.\n\n"
    for part in ("one", "two", "three")
)


def passages(world: World, *keys: Key) -> list[dict[str, list[float]]]:
    """The vectors of each row, its own too, by the hashes of their texts."""
    states = world.store.passages.load([(key, 32) for key in keys])
    return [{one: list(vector) for one, vector in state.vectors.items()} for state in states]


class TestReadmes:
    @pytest.mark.usefixtures("small_files")
    def test_come_back_with_their_rows_and_are_not_paid_for_again(
        self, world: World, make_world: MakeWorld, tmp_path: Path
    ) -> None:
        for number, key in enumerate(KEYS):
            world.write(key, full_name=f"owner/name{number}", readme=README * (number % 3))
        world.write("readme", full_name="a/b", readme=README.replace("three", "four"))
        world.settle()
        rows, parts = world.vectors(), passages(world, *KEYS, "readme")
        assert {len(one) for one in parts} == {1, 4}
        save(world, tmp_path)
        world.lose_state()
        after = make_world()
        restore(after, tmp_path)
        assert comparable(after.vectors()) == comparable(rows)
        assert passages(after, *KEYS, "readme") == parts
        assert after.reconcile() == 0
        restore(after, tmp_path)
        assert after.store.passages.count() == world.store.passages.count()
        after.write("readme", readme=README.replace("three", "five"))
        after.settle()
        assert len(after.provider.paid) == 1
        after.assert_current()

    def test_one_that_is_written_meanwhile_is_saved_without_its_passages(
        self, world: World, make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.write(1, full_name="a/b", readme=README)
        world.settle()
        page = world.services.saver._records.page

        def slow(table: str, after: Key | None, rows: int) -> list[dict[str, Any]]:
            found = page(table, after, rows)
            if found and table == world.table:
                world.write(1, readme=README.replace("three", "four"))
                world.settle()
            return found

        monkeypatch.setattr(world.services.saver._records, "page", slow)
        save(world, tmp_path)
        world.lose_state()
        after = make_world()
        restore(after, tmp_path)
        assert after.store.passages.count() == 0
        assert after.reconcile() == 1
        after.settle()
        assert "a/b" not in after.provider.paid
        after.assert_current()


class TestRoundTrip:
    @pytest.mark.usefixtures("small_files")
    def test_records_of_every_key_come_back_as_they_were(
        self, world: World, make_world: MakeWorld, tmp_path: Path
    ) -> None:
        fill(world)
        vectors, failures = world.vectors(), world.failures()
        manifest = save(world, tmp_path)
        assert len(manifest.records(world.table)) > 1
        world.lose_state()
        after = make_world()
        done = restore(after, tmp_path)
        assert done == {FAILURES: Restored(written=1), world.table: Restored(written=len(KEYS))}
        assert comparable(after.vectors()) == comparable(vectors)
        assert after.failures() == failures
        assert after.locks() == {}

    def test_nothing_is_paid_for_again(
        self, saved: Path, world: World, make_world: MakeWorld
    ) -> None:
        world.lose_state()
        after = make_world()
        with after.unannounced():
            after.write("a", full_name="edited since")
            after.write("new", full_name="new since")
            after.delete("3")
        restore(after, saved)
        assert after.reconcile() == 3
        after.settle()
        assert after.provider.paid == {"edited since": 1, "new since": 1}
        after.assert_current()

    def test_restoring_twice_changes_nothing(
        self, saved: Path, world: World, make_world: MakeWorld
    ) -> None:
        world.lose_state()
        after = make_world()
        restore(after, saved)
        first = after.vectors()
        assert restore(after, saved) == {
            FAILURES: Restored(kept=1),
            world.table: Restored(kept=len(KEYS)),
        }
        assert after.vectors() == first

    def test_rows_may_come_after_the_restore(
        self, saved: Path, world: World, make_world: MakeWorld
    ) -> None:
        """The backup first, the rows by an import that fires the event."""
        world.lose_state()
        world.query("REMOVE TABLE repo")
        after = make_world()
        restore(after, saved)
        for number, key in enumerate(KEYS):
            after.write(key, full_name=f"owner/name{number}")
        after.write("poison", full_name="poison")
        after.settle()
        assert after.provider.calls == []
        after.assert_current()

    def test_without_vectors_they_are_computed_anew(
        self, world: World, make_world: MakeWorld, tmp_path: Path
    ) -> None:
        fill(world)
        assert save(world, tmp_path, vectors=False).records(world.table) == []
        world.lose_state()
        after = make_world()
        assert restore(after, tmp_path) == {FAILURES: Restored(written=1)}
        after.reconcile()
        after.settle()
        assert sum(after.provider.paid.values()) == len(KEYS)  # the failed row costs nothing
        after.assert_current()

    def test_an_old_space_comes_back_retired(
        self, world: World, make_world: MakeWorld, tmp_path: Path
    ) -> None:
        fill(world)
        newer = make_world(embedding_model="another-model")
        newer.reconcile()
        newer.settle()
        save(newer, tmp_path)
        newer.lose_state()
        after = make_world(embedding_model="another-model")
        restore(after, tmp_path)
        (states,) = after.query("SELECT record::id(id) AS id, state FROM embedding_space")
        assert {one["id"]: one["state"] for one in states} == {
            world.services.space.name: "retired",
            newer.services.space.name: "active",
        }
        assert after.reconcile() == 0
        back = make_world()  # the model is changed back
        back.provider.rejects = world.provider.rejects
        back.reconcile()
        back.settle()
        assert back.provider.paid == {}

    def test_an_empty_database_is_saved_and_restored(self, world: World, tmp_path: Path) -> None:
        manifest = save(world, tmp_path)
        assert [(one.records, one.files) for one in manifest.tables] == [(0, ()), (0, ())]
        assert restore(world, tmp_path) == {FAILURES: Restored(), world.table: Restored()}

    def test_vectors_are_float32_in_the_file(self, saved: Path, world: World) -> None:
        (file,) = read_manifest(saved).records(world.table)
        by_key = {
            key_text(one["id"].id): one for one in chunks.read_records(saved, file, DIMENSIONS)
        }
        wanted = vector_for("owner/name3", DIMENSIONS)
        assert by_key['"a"']["vector"].raw[-4:] == wanted.astype(">f4").tobytes()[-4:]


class TestBesideAFleet:
    def test_a_newer_vector_stays(self, saved: Path, world: World) -> None:
        world.write("a", full_name="newer")
        world.settle()
        assert restore(world, saved)[world.table] == Restored(kept=len(KEYS))
        assert world.vectors()['"a"']["text_hash"] == text_hash("newer")

    def test_a_newer_failure_gets_no_vector(self, saved: Path, world: World) -> None:
        world.write("a", full_name="poison now")
        world.settle()
        restore(world, saved)
        assert '"a"' not in world.vectors()
        world.assert_current()

    def test_a_healed_row_is_not_failed_again(self, saved: Path, world: World) -> None:
        world.write("poison", full_name="good now")
        world.settle()
        restore(world, saved)
        world.assert_current()

    def test_a_row_in_flight_is_left_to_its_run(self, saved: Path, world: World) -> None:
        world.query(f"DELETE {world.table}")
        world.write("a", full_name="newer")
        batch = world.claim()
        assert restore(world, saved)[world.table] == Restored(written=len(KEYS) - 1, in_flight=1)
        world.carry_out(batch)
        world.assert_current()

    def test_a_run_that_was_overtaken_still_writes(self, saved: Path, world: World) -> None:
        """It saw no vector, the backup's older one came, and the newer one replaces it."""
        world.query(f"DELETE {world.table}")
        world.write("a", full_name="newer")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.store.locks.release(["a"], batch.run_id)
        restore(world, saved)
        assert world.store.locks.acquire(["a"], batch.run_id, 60) == [True]
        world.save(batch, outcomes)
        assert world.vectors()['"a"']["text_hash"] == text_hash("newer")
        world.assert_current()

    def test_the_lock_lost_in_the_middle_changes_nothing(
        self, saved: Path, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.query(f"DELETE {world.table}")
        records = world.services.restorer._records
        add = records.add

        def late(table: str, rows: Any, locks: Any, token: str, *passages: Any) -> None:
            world.store.locks.release(["a"], token)
            assert world.store.locks.acquire(["a"], "another", 60) == [True]
            add(table, rows, locks, token, *passages)

        monkeypatch.setattr(records, "add", late)
        done = restore(world, saved)
        assert done[world.table] == Restored(in_flight=len(KEYS))
        assert world.vectors() == {}
        assert world.locks() == {'"a"': "another"}

    def test_a_walk_that_was_under_way_begins_anew(self, saved: Path, world: World) -> None:
        world.reconcile()
        assert not world.services.reconciler.due(3600)
        restore(world, saved)
        assert world.services.reconciler.due(3600)

    def test_saved_under_writes_each_record_is_whole(
        self, world: World, make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows are edited, added and deleted all the while; a reconcile mends the rest."""
        monkeypatch.setattr(saving, "page_rows", lambda _: 20)
        world.write_many(200)
        world.settle()
        stop, rounds = threading.Event(), 0

        def change() -> None:
            nonlocal rounds
            while not stop.is_set():
                rounds += 1
                for key in range(rounds % 7, 200, 7):
                    world.write(key, full_name=f"owner/name{key}", description=f"edit {rounds}")
                world.write(1000 + rounds, full_name=f"owner/new{rounds}")
                world.delete((rounds * 13) % 200)
                world.settle_some()

        writer = threading.Thread(target=change)
        writer.start()
        try:
            before = rounds
            for number in range(3):
                manifest = save(world, tmp_path / str(number))
            assert rounds > before, "nothing was written meanwhile"
        finally:
            stop.set()
            writer.join()
        world.settle()
        hashes = set()
        for file in manifest.records(world.table):
            for one in chunks.read_records(tmp_path / "2", file, DIMENSIONS):
                assert len(one["vector"].raw) == 3 + 5 * DIMENSIONS
                hashes.add(one["text_hash"])
        world.lose_state()
        after = make_world()
        restore(after, tmp_path / "2")
        after.reconcile()
        after.settle()
        after.assert_current()
        assert not hashes & {text_hash(one) for one in after.provider.paid}


class TestFromOneEngineToTheOther:
    @pytest.fixture
    def pair(
        self, surreal: LocalServers, gateway: LocalServers, redis_url: str, clean_environment: None
    ) -> Iterator[list[World]]:
        common = {
            "embedding_model": "test-model",
            "embedding_dimensions": DIMENSIONS,
            "redis_url": redis_url,
        }
        values = [{**common, **fresh_database(one)} for one in (surreal, gateway)]
        worlds = [World(load_settings(_env_file=None, **one)) for one in values]
        yield worlds
        for world in worlds:
            world.close()

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["3-to-2", "2-to-3"])
    def test_nothing_is_lost_or_paid_again(
        self, pair: list[World], order: tuple[int, int], tmp_path: Path
    ) -> None:
        source, target = pair[order[0]], pair[order[1]]
        fill(source)
        save(source, tmp_path)
        source.services.redis.flushall()
        with target.unannounced():
            for number, key in enumerate(KEYS):
                target.write(key, full_name=f"owner/name{number}")
            target.write("poison", full_name="poison")
        restore(target, tmp_path)
        assert target.reconcile() == 0
        target.assert_current()
        for key, one in source.vectors().items():
            np.testing.assert_array_equal(target.vectors()[key]["vector"], one["vector"])


class TestWhatIsRefused:
    def test_a_directory_that_is_none(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(BackupError, match="no directory"):
            restore(world, tmp_path / "none")

    def test_an_unfinished_backup(self, saved: Path, world: World) -> None:
        (saved / "manifest.json").unlink()
        with pytest.raises(BackupError, match="no finished backup"):
            restore(world, saved)

    def test_a_torn_file(self, saved: Path, world: World) -> None:
        (file, *_) = read_manifest(saved).files
        path = saved / file.name
        path.write_bytes(path.read_bytes()[:-1])
        self._refused_untouched(world, saved, "is torn")

    def test_a_changed_file(self, saved: Path, world: World) -> None:
        (file, *_) = read_manifest(saved).files
        path = saved / file.name
        path.write_bytes(bytes([*path.read_bytes()[:-1], 255]))
        self._refused_untouched(world, saved, "SHA-256")

    def test_a_missing_file(self, saved: Path, world: World) -> None:
        (*_, file) = read_manifest(saved).files
        (saved / file.name).unlink()
        self._refused_untouched(world, saved, "is missing")

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('"version": 2,', '"version": 3,', "newer format"),
            ('"migration": ', '"migration": 9', "install embed_star"),
            ('"test-model"', '"other-model"', "EMBEDDING_"),
            ('"sha256": "', '"sha256": "z', "damaged"),
            ('"name": "', '"name": "../', "damaged"),
            ('"table": "embedding_failure"', '"table": "repo"', "no space"),
            ('{\n  "format"', '"format"', "damaged"),
            ("embed_star backup", "another backup", "damaged"),
        ],
    )
    def test_a_manifest_of_something_else(
        self, saved: Path, world: World, old: str, new: str, said: str
    ) -> None:
        path = saved / "manifest.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        self._refused_untouched(world, saved, said)

    def test_a_directory_that_holds_something(self, saved: Path, world: World) -> None:
        with pytest.raises(BackupError, match="holds a backup already"):
            save(world, saved)
        (saved / "manifest.json").rename(saved / "notes.txt")
        with pytest.raises(BackupError, match=r"notes\.txt is in it"):
            save(world, saved)

    def test_an_unfinished_one_is_begun_anew(self, saved: Path, world: World) -> None:
        (saved / "manifest.json").unlink()
        before = {path.name for path in saved.iterdir()}
        save(world, saved)
        assert {path.name for path in saved.iterdir()} == {"manifest.json", *before}
        verify_files(saved, read_manifest(saved), lambda _: None)

    @staticmethod
    def _refused_untouched(world: World, directory: Path, said: str) -> None:
        world.query(f"DELETE {world.table}")
        with pytest.raises(BackupError, match=said):
            restore(world, directory)
        assert world.vectors() == {}


def test_a_backup_of_another_space_is_refused(
    saved: Path, make_world: MakeWorld, world: World
) -> None:
    other = make_world(embedding_model="another-model")
    with Services(other.settings) as services, pytest.raises(BackupError, match="another-model"):
        open_backup(saved, services.space, 99)
