"""The measure of search quality: its labels, its figures, its check, its command."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.quality import baseline, command, corpus, figures, needs, report, ways
from bench.quality.corpus import Corpus
from bench.quality.measuring import ALL, Measured, Remembering
from bench.quality.needs import Need
from embed_star.devstack import examples
from embed_star.providers.base import Provider
from embed_star.search import Filters, Mode
from embed_star.settings import Settings

FOLDER = Path(command.__file__).parent
LABELS = [FOLDER / "needs.jsonl", FOLDER / "examples.jsonl"]
EXAMPLES = examples.find("repos.jsonl")


def values(found: list[str], answers: dict[str, int]) -> dict[str, float]:
    return dict(zip(figures.METRICS, figures.judge(found, answers), strict=True))


def test_the_best_order_has_the_best_figures() -> None:
    judged = values(["a/best", "b/good", "c/wrong"], {"a/best": 2, "b/good": 1})
    assert judged == {"nDCG@10": 1, "hit@1": 1, "hit@5": 1, "MRR@10": 1}


def test_any_right_answer_is_a_hit_and_the_better_one_is_worth_more() -> None:
    judged = values(["b/good", "a/best"], {"a/best": 2, "b/good": 1})
    assert (judged["hit@1"], judged["MRR@10"]) == (1, 1)
    assert judged["nDCG@10"] == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


@pytest.mark.parametrize(
    ("place", "hit_1", "hit_5", "reciprocal"),
    [(1, 1, 1, 1), (2, 0, 1, 1 / 2), (5, 0, 1, 1 / 5), (6, 0, 0, 1 / 6), (11, 0, 0, 0)],
)
def test_the_place_of_the_first_right_answer(
    place: int, hit_1: float, hit_5: float, reciprocal: float
) -> None:
    found = [f"wrong/{number}" for number in range(1, 12)]
    found[place - 1] = "a/right"
    judged = values(found, {"a/right": 2})
    assert (judged["hit@1"], judged["hit@5"]) == (hit_1, hit_5)
    assert judged["MRR@10"] == pytest.approx(reciprocal)
    assert (judged["nDCG@10"] > 0) == (place <= 10)


def test_an_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    some = np.random.default_rng(1).integers(2, size=(200, len(figures.METRICS))).astype(float)
    first = figures.summed_up(some)
    assert first == figures.summed_up(some)
    for at, metric in enumerate(figures.METRICS):
        one = first[metric]
        assert one.mean == pytest.approx(some[:, at].mean())
        assert 0.02 < one.mean - one.low < 0.1
        assert 0.02 < one.high - one.mean < 0.1


def test_there_are_enough_needs_of_each_kind() -> None:
    kinds = Counter(need.kind for need in needs.read(FOLDER / "needs.jsonl"))
    assert set(kinds) == set(needs.KINDS)
    assert kinds["described"] >= 90
    assert sum(kinds.values()) >= 160
    assert len(needs.read(FOLDER / "examples.jsonl")) >= 36


@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.name)
def test_no_need_is_asked_twice_and_none_that_is_described_names_its_answer(path: Path) -> None:
    read = needs.read(path)
    assert len({need.query for need in read}) == len(read)
    for need in read:
        if need.kind in ("described", "language"):
            words = set(re.findall(r"[\w.+-]+", need.query.lower()))
            names = {answer.split("/")[1].lower() for answer in need.answers}
            assert not words & names, need


def test_every_right_answer_of_the_examples_can_be_found() -> None:
    read = corpus.read("examples", EXAMPLES, needs.read(FOLDER / "examples.jsonl"))
    assert len(read.rows) == 350


@pytest.mark.skipif(not corpus.RANKING.exists(), reason="the real rows are not beside the checkout")
def test_every_right_answer_over_the_real_rows_can_be_found() -> None:
    read = corpus.read("ranking.jsonl", corpus.RANKING, needs.read(FOLDER / "needs.jsonl"))
    assert len(read.rows) > 3_000


@pytest.mark.parametrize(
    "need",
    [
        Need("a web framework", "described", {"nobody/nothing": 2}),
        Need("a web framework", "filtered", {"django/django": 2}, Filters(language="Go")),
        Need("a web framework", "filtered", {"pallets/flask": 2}, Filters(min_stars=10**9)),
    ],
    ids=["not there", "another language", "too few stars"],
)
def test_a_label_that_no_search_could_find_is_refused(need: Need) -> None:
    with pytest.raises(ValueError, match="cannot find"):
        corpus.read("examples", EXAMPLES, [need])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"kind": "guessed", "answers": {"a/b": 2}}, "no known kind"),
        ({"kind": "described", "answers": {"a/b": 1}}, "grade 2"),
        ({"kind": "described", "answers": {"a/b": 2, "c/d": 3}}, "grade 2"),
        ({"kind": "described", "answers": {}}, "grade 2"),
    ],
)
def test_a_need_that_measures_nothing_is_refused(
    tmp_path: Path, fields: dict[str, object], fault: str
) -> None:
    path = tmp_path / "needs.jsonl"
    path.write_text(json.dumps({"query": "something", **fields}))
    with pytest.raises(ValueError, match=fault):
        needs.read(path)


def rows_of(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    fields = [
        {"full_name": "a/b", "description": " A thing. ", "language": "Go", "topics": ["x", "y"]},
        {"full_name": "c/d", "description": None, "stargazers_count": 7},
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in fields))
    return path


def test_the_texts_are_those_of_the_product(tmp_path: Path) -> None:
    read = corpus.read("rows", rows_of(tmp_path), [])
    assert Settings.model_fields["text_fields"].default == (
        "full_name",
        "description",
        "language",
        "topics",
    )
    assert read.texts == ["a/b\nA thing.\nGo\nx, y", "c/d"]


def test_filters_are_those_of_the_product(tmp_path: Path) -> None:
    read = corpus.read("rows", rows_of(tmp_path), [])
    assert read.passing(Filters()).tolist() == [True, True]
    assert read.passing(Filters(language="gO")).tolist() == [True, False]
    assert read.passing(Filters(min_stars=7)).tolist() == [False, True]
    assert read.passing(Filters(language="Go", min_stars=1)).tolist() == [False, False]


@pytest.fixture(scope="module")
def local_models() -> list[tuple[str, Remembering]]:
    """Each model as it is, but that the tests of this file ask it once for a text: 20 ms each."""
    pytest.importorskip("tokenizers", reason="needs the local model")
    return [(name, Remembering(make())) for name, make in ways.models()]


@pytest.fixture
def local(local_models: list[tuple[str, Remembering]]) -> Remembering:
    """The default one."""
    return local_models[0][1]


@pytest.fixture
def measured_once(
    local_models: list[tuple[str, Remembering]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command measures these."""
    made = [(name, partial(Remembering, one)) for name, one in local_models]
    monkeypatch.setattr(ways, "models", lambda: made)


@pytest.fixture
def small(tmp_path: Path) -> Corpus:
    """Some of the examples."""
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    go = [row for row in rows if row["language"] == "Go"]
    wanted = [row for row in rows if row["full_name"] in ("scrapy/scrapy", "gin-gonic/gin")]
    kept = {row["full_name"]: row for row in (*go[:20], *rows[:60], *wanted)}.values()
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    asked = [
        Need("crawl web sites and extract data", "described", {"scrapy/scrapy": 2}),
        Need("web framework", "filtered", {"gin-gonic/gin": 2}, Filters("go", 20_000)),
    ]
    return corpus.read("examples", path, asked)


def test_a_search_finds_and_filters(small: Corpus, local: Remembering) -> None:
    crawling, filtered = ways.search(small, local, Mode.VECTOR)
    assert "scrapy/scrapy" in crawling[:5]
    assert len(crawling) == figures.DEPTH
    by_name = {row["full_name"]: row for row in small.rows}
    assert filtered
    assert {by_name[name]["language"] for name in filtered} == {"Go"}


def test_a_name_with_a_typing_error_is_found_first(small: Corpus, local: Remembering) -> None:
    asked = [
        Need("scrpay", "typo", {"scrapy/scrapy": 2}, filters)
        for filters in (Filters(), Filters("go"))
    ]
    found, shut_out = ways.search(replace(small, needs=asked), local, Mode.HYBRID)
    assert found[0] == "scrapy/scrapy"
    assert "scrapy/scrapy" not in shut_out
    assert len(shut_out) == figures.DEPTH


def measured(hit_5: float, mrr: float, needs_of_kind: int = 100) -> Measured:
    by = {
        name: figures.Figure(mean, mean, mean)
        for name, mean in zip(figures.METRICS, (0.5, 0.5, hit_5, mrr), strict=True)
    }
    return Measured("rows", "model", "vector", {ALL: needs_of_kind}, {ALL: by})


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setattr(baseline, "FILE", tmp_path / "baseline.json")
    here = corpus.read("rows", rows_of(tmp_path), [])
    baseline.record([here], [measured(0.60, 0.50)])
    return here


@pytest.mark.parametrize("now", [(0.60, 0.50), (0.58, 0.48), (0.90, 0.90)])
def test_two_points_down_or_any_up_is_no_complaint(
    recorded: Corpus, now: tuple[float, float]
) -> None:
    assert baseline.complaints([recorded], [measured(*now)]) == []


@pytest.mark.parametrize(
    ("now", "metric"), [((0.579, 0.50), "hit@5"), ((0.60, 0.479), "MRR@10"), ((0, 0.5), "hit@5")]
)
def test_more_than_two_points_down_is_a_sentence(
    recorded: Corpus, now: tuple[float, float], metric: str
) -> None:
    (complaint,) = baseline.complaints([recorded], [measured(*now)])
    assert complaint.startswith(f"rows: {metric} of model, vector (all) fell from")


def test_a_model_that_is_no_longer_measured_is_a_sentence(recorded: Corpus) -> None:
    (complaint,) = baseline.complaints([recorded], [])
    assert "is no longer" in complaint


def test_figures_of_other_rows_are_not_compared(recorded: Corpus) -> None:
    other = replace(recorded, texts=["a/b\nAnother thing.", "c/d"])
    (complaint,) = baseline.complaints([other], [measured(0.9, 0.9)])
    assert "record them" in complaint


def test_a_kind_with_few_needs_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "FILE", tmp_path / "baseline.json")
    here = corpus.read("rows", rows_of(tmp_path), [])
    baseline.record([here], [measured(0.6, 0.5, needs_of_kind=49)])
    assert baseline.complaints([here], [measured(0.1, 0.1, needs_of_kind=49)]) == []


@pytest.mark.usefixtures("measured_once")
def test_the_command_measures_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--check", "--corpus", str(tmp_path / "none.jsonl")])
    told = capsys.readouterr().out
    assert "none.jsonl is not there: only the examples are measured" in told
    assert "search is as good as recorded" in told


@pytest.mark.usefixtures("measured_once")
def test_a_worse_search_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest_last(where: Corpus, provider: Provider) -> list[list[str]]:
        return [found[::-1] for found in ways.search(where, provider, Mode.VECTOR)]

    monkeypatch.setattr(ways, "WAYS", {"vector": nearest_last})
    with pytest.raises(SystemExit) as ended:
        command.main(["--check", "--corpus", str(tmp_path / "none.jsonl")])
    assert "fell from" in str(ended.value.code)


def test_a_file_that_is_no_corpus_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"full_name": "a/b"}\n')
    with pytest.raises(SystemExit, match=r"cannot measure: .* in other\.jsonl"):
        command.main(["--corpus", str(path)])


def test_the_page_has_the_recorded_figures() -> None:
    page = report.DOCUMENT.read_text(encoding="utf-8")
    table = page.split(report.BEGIN)[1].split(report.END)[0]
    for kept in json.loads(baseline.FILE.read_text(encoding="utf-8")).values():
        for name, kinds in kept["figures"].items():
            over_all = kinds[ALL]
            rows = [
                line for line in table.splitlines() if line.startswith(f"| {name} | **{ALL}** ")
            ]
            assert any(
                f" {over_all['hit@5']:.3f} " in row and f" {over_all['MRR@10']:.3f} " in row
                for row in rows
            )
