"""Rows that change under our hands, and rows that nobody can embed."""

from __future__ import annotations

import math
from collections import Counter

from embed_star.models import key_text
from embed_star.values import RecordID
from tests.faults.fault import BATCH_ROWS, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.lab import example_row
from tests.support.scripted_answers import BAD_VECTORS


@fault(19, "rows are edited while they are in flight")
def edited_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for key in scene.user.keys[-4 * BATCH_ROWS :]:
        scene.user.edit(key)
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(20, "rows are deleted while they are in flight")
def deleted_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for key in scene.user.keys[-4 * BATCH_ROWS :]:
        scene.user.delete(key)
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(20, "rows are deleted and made again while they are in flight", edits=False)
def remade_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for key in scene.user.keys[-4 * BATCH_ROWS :]:
        scene.lab.delete(key)
        scene.lab.write({key: {**example_row(int(key)), "description": f"made again {key}"}})
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(27, "vectors of NaN, infinity, null, zero, constant", edits=False)
def bad_vectors(scene: Scene) -> Steps:
    rows = {
        f"bad{number}": {"full_name": f"x/bad{number}", "description": f"is-{kind}-vector"}
        for number, kind in enumerate(BAD_VECTORS)
    }
    scene.provider.script(**{kind: f"is-{kind}-vector" for kind in BAD_VECTORS})
    scene.lab.write(rows)
    yield Step.BROKEN
    yield Step.MENDED
    report = scene.lab.report()
    assert set(report.failed) == set(map(key_text, rows))
    assert report.embedded == report.rows - len(rows)


@fault(31, "one row in a batch of 64 is refused", workers=1, rows=0, env={"BATCH_SIZE": "64"})
def poison(scene: Scene) -> Steps:
    scene.provider.script(poison="is-poison")
    rows = {number: example_row(number) for number in range(64)}
    rows[17]["description"] = "is-poison"
    scene.lab.write(rows)
    yield Step.BROKEN
    yield Step.MENDED
    report = scene.lab.report()
    assert dict(report.failed) == {"17": "rejected"}
    assert report.embedded == 63
    # Of them, for our own text: two for the refusals, and the first of the space's life.
    assert len(scene.provider.ledger()) <= 2 * math.log2(64) + 1 + 3


@fault(
    32,
    "a description of 1 MB, and batches beyond the request's token limit",
    env={"BATCH_MAX_TOKENS": "20000", "BATCH_SIZE": "50"},
)
def too_long(scene: Scene) -> Steps:
    """The scripted provider counts a token for each four characters, as OpenAI roughly does."""
    megabyte = "words and more words " * 50_000
    long = "a rather long text " * 1000
    scene.lab.write({"megabyte": {"full_name": "x/megabyte", "description": megabyte}})
    scene.lab.write(
        {f"long{n}": {"full_name": f"x/long{n}", "description": long} for n in range(9)}
    )
    yield Step.BROKEN
    yield Step.MENDED
    report = scene.lab.report()
    assert report.failed == {}
    calls = [sum(map(len, one["texts"])) for one in scene.provider.ledger()]
    assert max(calls) <= 4 * 20_000
    cut = {text for text in report.paid if "x/megabyte" in text}
    assert len(cut) == 1
    assert len(cut.pop()) < 4 * 8000 + 100


@fault(33, "NUL, right-to-left, 4-byte and empty texts", edits=False)
def odd_texts(scene: Scene) -> Steps:
    odd = {
        "nul": "before\x00after",
        "rtl": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0645\u0631\u062d",
        "astral": "\U0001f469\U0001f3fd\u200d\U0001f680 \U0001d518\U0001d52b",
        "noncharacter": "\ufffe\uffff",
        "combining": "\u00e9" * 100,
        "ansi": "\x1b[31mred\nand a new line",
    }
    scene.lab.write({key: {"description": text} for key, text in odd.items()})
    scene.lab.write({"empty": {"description": ""}, "blank": {"description": " \n\t"}, "none": {}})
    yield Step.BROKEN
    yield Step.MENDED
    report = scene.lab.report()
    nothing = map(key_text, ("empty", "blank", "none"))
    assert report.failed == dict.fromkeys(nothing, "empty_text")
    asked = Counter(text for one in scene.provider.asked() for text in one["texts"])
    assert max(asked.values()) == 1


@fault(47, "a user's bulk load while workers run", rows=0)
def bulk_load(scene: Scene) -> Steps:
    """The user's connection tries nothing again: a conflict would fail it."""
    scene.provider.script(latency_ms=0)
    with scene.tenant.plain_connection() as connection:
        yield Step.BROKEN
        for page in range(10):
            keys = range(page * 200, page * 200 + 200)
            rows = [{"id": RecordID("repo", key), **example_row(key)} for key in keys]
            connection.query("INSERT INTO repo $rows RETURN NONE", {"rows": rows})
            connection.query(
                "UPDATE repo SET description += ', edited' WHERE stargazers_count >= $first",
                {"first": page * 200 + 190},
            )
    yield Step.MENDED


@fault(50, "rows whose keys and texts Python cannot hold")
def undecodable(scene: Scene) -> Steps:
    """Two of the keys are set aside. The third even the server cannot read again: it is deleted
    by its id, or nobody could walk the table."""
    far = "repo:[d'+20000-01-01T00:00:00Z']"
    for statement in (
        "CREATE repo:[1000000000y] SET description = 'a duration'",
        "CREATE repo:['at', d'2024-01-01T00:00:00.123456789Z'] SET description = 'a date'",
        "CREATE repo:latest SET description = time::maximum",
        "CREATE repo:longest SET description = [duration::max, <set>['b', 'a']]",
        "CREATE repo:[NULL, 'a'] SET description = 'with null'",
        f"CREATE {far} SET description = 'far away'",
    ):
        scene.lab.query(f"{statement} RETURN NONE")
    yield Step.BROKEN
    scene.await_logged("key_not_readable")
    assert len(scene.producers) == 1
    scene.kill(*scene.producers)
    scene.producer()
    scene.lab.query(f"DELETE {far} RETURN NONE")
    yield Step.MENDED
    report = scene.lab.report()
    odd = ("[1000000000y]", "['at', d'2024-01-01T00:00:00.123456789Z']")
    assert report.failed == dict.fromkeys(odd, "key_type")
    assert report.embedded == report.rows - len(odd)
    texts = {text for one in scene.provider.ledger() for text in one["texts"]}
    assert {"+262142-12-31T23:59:59.999999999Z", "with null"} <= texts
    assert "584942417355y3w5d7h15s999ms999µs999ns, {'a', 'b'}" in texts
