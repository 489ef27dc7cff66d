"""Every type of SurrealDB as a row's key and as its text, on both engines: no row is lost.

A type that Python or a message cannot hold costs its own row at most: as a text it is what
SurrealDB prints, as a key the row is noted as failed.
"""

from __future__ import annotations

import json

import pytest

from embed_star.api.results import Result
from embed_star.cli import hits as shown_hits
from embed_star.errors import StoreError
from embed_star.models import Lane
from embed_star.search import Filters
from embed_star.store.tables import repos
from embed_star.values import printed
from tests.conftest import MakeWorld
from tests.support.world import World

LITERALS = (
    *("NONE", "NULL", "true", "7", "-9223372036854775808", "1.0", "1.5f", "-0f", "1e300"),
    *("1f/0f", "0f/0f", "1dec", "1.50dec", "'text'", "''", "'a\\'b'", "'NULL'"),
    *("d'2024-01-01T00:00:00Z'", "d'2024-01-01T00:00:00.123456789Z'", "d'0001-01-01T00:00:00Z'"),
    *("1h30m", "5ns", "1000000000y", "duration::max", "0ns"),
    *("u'018f6c3e-1111-7222-8333-444455556666'", "'018f6c3e-1111-7222-8333-444455556666'"),
    *('<bytes>"hello"', "[1, [NULL, NONE, 'x']]", "[]", "{ a: 1, b: NULL }", "{}"),
    *("(1.5, -2.0)", "{ type: 'LineString', coordinates: [[1.0, 2.0], [3.0, 4.0]] }"),
    "{ type: 'GeometryCollection', geometries: [{ type: 'Point', coordinates: [1.0, 2.0] }] }",
    *("1..5", "1>..=5", "..", "'a'..", "<set>[3, 1, 2, 1]", "<set>[NULL]", "<set>[]"),
    *("owner:1", "owner:⟨a b⟩", "owner:[NULL, 1]", "owner:1..5", "type::table('owner')"),
    *("/a+b/", "|$x| $x + 1", "[[[[[[[[NULL]]]]]]]]"),
)
"""Some of them an engine cannot store in a key, or at all: those are left out there."""

BEYOND = ("time::maximum", "time::minimum", "d'+20000-01-01T00:00:00Z'")
"""Dates that Python has not."""

MIXED = "[1.5dec, <set>['b', 2.5], 1h, (1.0, 2.0), { a: .., `b c`: NULL }, owner:[1, 'x']]"

PRINTED_OTHERWISE_BY_2 = ('<bytes>"hello"', "1f/0f", "owner:⟨a b⟩", MIXED)


def created(world: World, key: str, value: str = "'name'") -> bool:
    """Write `repo:KEY`; whether the engine takes it."""
    try:
        world.query(f"CREATE repo:{key} SET full_name = 'x/y', description = {value} RETURN NONE")
    except StoreError:
        return False
    return True


def keys_of(world: World, table: str) -> list[str]:
    """The keys of a table as SurrealDB prints them, whatever they are."""
    (keys,) = world.query(f"SELECT VALUE <string>[record::id(id)] FROM {table}")
    return sorted(keys)


def assert_none_lost(world: World) -> None:
    """Each row is embedded or set aside for its key, and nothing is found twice."""
    world.settle()
    world.reconcile()
    world.settle()
    assert world.reconcile() == 0
    (reasons,) = world.query("SELECT VALUE reason FROM embedding_failure")
    assert set(reasons) <= {"key_type"}
    rows = keys_of(world, "repo")
    assert sorted(keys_of(world, world.table) + keys_of(world, "embedding_failure")) == rows


class TestKeys:
    @pytest.mark.parametrize("literal", LITERALS)
    def test_of_every_type_are_embedded_or_set_aside(self, world: World, literal: str) -> None:
        world.write_many(3)
        taken = [created(world, f"[{literal}]"), created(world, f"{{ a: {literal} }}")]
        if literal.startswith(("/", "|")) and world.store.database.version < (3,):
            assert all(taken)
            world.settle()  # the database cannot give such keys out: nobody could compare them
            assert world.store.failures.by_reason() == {"key_type": 2}
            assert world.reconcile() == 0
            return
        assert len(keys_of(world, "repo")) == 3 + sum(taken)
        assert_none_lost(world)
        assert {"[0]", "[1]", "[2]"} <= set(keys_of(world, world.table))

    def test_with_null_are_embedded(self, world: World) -> None:
        for key in ("[NULL, 'a']", "{ a: NULL }", "[NONE, 'a']", "[[NULL], 'NULL']"):
            assert created(world, key)
        world.settle()
        assert len(world.vectors()) == 4
        assert world.reconcile() == 0
        world.assert_current()

    def test_go_when_their_row_is_deleted(self, world: World) -> None:
        literals = [one for one in LITERALS if one[0] not in "/|"]
        for literal in literals:
            created(world, f"[{literal}]")
        world.settle()
        world.query("DELETE repo RETURN NONE")
        world.settle()
        assert keys_of(world, "embedding_failure") == keys_of(world, world.table) == []

    def test_that_no_event_announced_are_noted_by_a_reconcile(self, world: World) -> None:
        with world.unannounced():
            for literal in ("<set>[1]", "1h", "0f/0f", "1dec", "NULL"):
                created(world, f"[{literal}]")
        assert world.reconcile() == 5
        assert_none_lost(world)

    def test_are_walked_a_page_at_a_time(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=1)
        with world.unannounced():
            for literal in LITERALS:
                if literal[0] not in "/|":
                    created(world, f"[{literal}]")
        count = len(keys_of(world, "repo"))
        assert world.reconcile() == count > 40
        assert_none_lost(world)

    def test_walk_over_many_with_null_comes_to_an_end(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=100)
        with world.unannounced():
            world.query("FOR $n IN 0..600 { CREATE repo:[NULL, $n] SET full_name = 'x' }")
        assert world.reconcile() == 600
        assert world.store.outbox.counts()[Lane.BACKFILL] == 600

    def test_a_walk_that_does_not_advance_fails(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make_world(page_rows=2)
        world.write_many(3)
        world.settle()
        reconciler = world.services.reconciler
        first = reconciler.step(reconciler.begin())
        page = world.store.repos.page
        monkeypatch.setattr(world.store.repos, "page", lambda _after, rows: page(None, rows))
        with pytest.raises(StoreError, match="does not get past the row with the key 1"):
            reconciler.step(first)
        assert world.outbox() == []


class TestKeysThatTheServerCannotReadItself:
    """Server 3 stores a year beyond 9999 in a key, and then fails what comes by it."""

    @pytest.fixture
    def server(self, world: World) -> World:
        if world.store.database.version < (3,):
            pytest.skip("engine 2.3.10 has no such dates")
        return world

    @pytest.mark.parametrize("literal", BEYOND)
    def test_do_not_hide_the_others(self, server: World, literal: str) -> None:
        assert created(server, f"[{literal}]")
        server.write_many(3)
        assert created(server, f"{{ at: {literal} }}")
        server.settle()
        assert sorted(server.vectors()) == ["0", "1", "2"]
        assert server.failures() == {}  # it would be the table of failures that nobody can read

    @pytest.mark.parametrize("key", ['{ "": 1 }', '[{ a: { "": NONE } }]'])
    def test_with_a_field_without_a_name_stay_out_of_our_tables(
        self, server: World, key: str
    ) -> None:
        """Where one is, nobody can list or search the table any more."""
        server.write_many(3)
        assert created(server, key)
        server.settle()
        assert server.reconcile() == 0
        assert sorted(server.vectors()) == ["0", "1", "2"]
        assert server.failures() == {}
        assert len(server.services.search.find("name", 9, Filters())) == 3

    def test_are_passed_by_in_a_walk(self, server: World) -> None:
        with server.unannounced():
            created(server, "['a']")
            created(server, "[d'+20000-01-01T00:00:00Z']")
            created(server, "{ a: 1 }")
        assert server.reconcile() == 2
        server.settle()
        assert len(server.vectors()) == 2

    def test_fail_a_walk_that_cannot_pass_them(
        self, server: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(repos, "_MAX_SKIPPED", 0)
        created(server, "[d'+20000-01-01T00:00:00Z']")
        with pytest.raises(StoreError, match="delete, by its id, the row whose key"):
            server.reconcile()


class TestTexts:
    @pytest.mark.parametrize("literal", [*LITERALS, *BEYOND])
    def test_of_every_type_are_embedded(self, world: World, literal: str) -> None:
        world.write_many(3)
        if not created(world, "odd", literal):
            pytest.skip("this engine does not store it")
        assert created(world, "nested", f"['a', [{literal}]]")
        world.settle()
        assert sorted(world.vectors()) == ['"nested"', '"odd"', "0", "1", "2"]
        assert world.failures() == {}
        assert world.reconcile() == 0

    @pytest.mark.parametrize("literal", [*LITERALS, *BEYOND, MIXED])
    def test_are_printed_as_surrealdb_does(self, world: World, literal: str) -> None:
        try:
            # In a key, where a value is decoded exactly as it is.
            ((text, made),) = world.query(f"RETURN [<string>[{literal}], owner:[{literal}]]")
        except StoreError:
            pytest.skip("this engine does not give it out")
        if world.store.database.version < (3,) and literal in PRINTED_OTHERWISE_BY_2:
            pytest.skip("printed otherwise by 2.x")
        assert printed(made.id) == text

    @pytest.mark.parametrize(
        ("literal", "text"),
        [
            ("time::maximum", "+262142-12-31T23:59:59.999999999Z"),
            ("1000000000y", "1000000000y"),
            ("duration::max", "584942417355y3w5d7h15s999ms999µs999ns"),
            ("<set>['b', 'a']", "{'a', 'b'}"),
            ("1.50dec", "1.5"),
            ("1..=5", "1..=5"),
            ("(1.5, -2.0)", "(1.5, -2)"),
            ("/a+b/", "/a+b/"),
            ('<bytes>"hello"', "hello"),
            ("['a', <set>[1], 2.5]", "a, {1,}, 2.5"),
        ],
    )
    def test_of_types_that_python_has_not(self, world: World, literal: str, text: str) -> None:
        if world.store.database.version < (3,):
            text = {"1.5": "1.50", "{'a', 'b'}": "b, a", "a, {1,}, 2.5": "a, 1, 2.5"}.get(
                text, text
            )
        if not created(world, "odd", literal):
            pytest.skip("this engine does not store it")
        world.settle()
        assert list(world.provider.paid) == [f"x/y\n{text}"]


class TestAnswers:
    def test_with_values_that_python_cannot_hold(self, world: World) -> None:
        for number, literal in enumerate((*LITERALS, *BEYOND)):
            created(world, str(number), literal)
        world.settle()
        hits = world.services.search.find("name", 100, Filters())
        assert len(hits) > 40
        assert shown_hits.table(hits).row_count == len(hits)
        for hit in hits:
            shown = json.dumps(Result.of(hit).to_dict(), allow_nan=False)
            assert "Opaque" not in shown
            assert "CBOR" not in shown
