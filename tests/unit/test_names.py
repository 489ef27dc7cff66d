"""How names match queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.search.names import MAX_CHARS, NameMatch, distance, read_name
from embed_star.store.tables.names import flat_name

FULL, NAME, CORE = NameMatch.FULL_NAME, NameMatch.NAME, NameMatch.CORE_NAME
TYPO, PREFIX, TWO_TYPOS = NameMatch.TYPO, NameMatch.PREFIX, NameMatch.TWO_TYPOS


@pytest.mark.parametrize(
    ("query", "full_name", "match"),
    [
        ("celery/celery", "celery/celery", FULL),
        ("celery celery", "celery/celery", FULL),
        ("Facebook React Native", "facebook/react-native", FULL),
        ("https://github.com/celery/celery", "celery/celery", FULL),
        ("github.com/celery/celery.git", "celery/celery", FULL),
        ("celery", "celery/celery", NAME),
        ("diff so fancy", "so-fancy/diff-so-fancy", NAME),
        ("scikit learn", "scikit-learn/scikit-learn", NAME),
        ("形態素", "someone/形態素", NAME),
        ("telescope", "nvim-telescope/telescope.nvim", CORE),
        ("surround", "tpope/vim-surround", CORE),
        ("chart", "chartjs/Chart.js", CORE),
        ("hyperfien", "sharkdp/hyperfine", TYPO),
        ("kafak", "apache/kafka", TYPO),
        ("xafka", "apache/kafka", TYPO),
        ("elastcsearch", "elastic/elasticsearch", TYPO),
        ("elasticserchh", "elastic/elasticsearch", TWO_TYPOS),
        ("elstcsearch", "elastic/elasticsearch", None),
        ("kube", "kubernetes/kubernetes", PREFIX),
        ("rq", "rq/rq", NAME),
        ("rq", "x/rqworker", None),
        ("kafk", "apache/kafak", None),  # short names are not guessed at
        ("redis", "x/radish", None),
        ("monjs", "x/mon", None),
        ("a queue for background jobs", "celery/celery", None),
        ("a queue for background jobs", "x/a-queue-for-background-jobs", NAME),
        ("a tool that watches files", "x/a-tool-that-watches-filez", None),
        ("celery", "", None),
        ("celery", "/", None),
    ],
)
def test_a_match(query: str, full_name: str, match: NameMatch | None) -> None:
    name = read_name(query)
    assert name is not None
    assert name.match(full_name) is match
    if match:
        found = flat_name(full_name)
        assert found in name.names or found.startswith(name.prefixes)


def test_the_kinds_have_an_order() -> None:
    ranked = sorted(NameMatch, key=lambda match: match.rank)
    assert ranked == [FULL, NAME, CORE, TYPO, PREFIX, TWO_TYPOS]


@pytest.mark.parametrize(
    "query", ["", " ", "!?", "🚀🚀", "/", "x" * (MAX_CHARS + 1), "x " * 50_000]
)
def test_what_names_nothing(query: str) -> None:
    assert read_name(query) is None


@pytest.mark.parametrize(
    ("one", "other", "errors"),
    [
        ("", "", 0),
        ("kafka", "kafka", 0),
        ("kafka", "kafak", 1),
        ("kafka", "kafk", 1),
        ("kafka", "xkafka", 1),
        ("kafka", "kefka", 1),
        ("kafka", "akfak", 2),
        ("kafka", "kfk", 2),
        ("kafka", "redis", 3),
        ("kafka", "kafkaesque", 3),
    ],
)
def test_a_distance_counts_typing_errors(one: str, other: str, errors: int) -> None:
    assert distance(one, other, 2) == errors
    assert distance(other, one, 2) == errors


names = st.text("abc1é", min_size=5, max_size=12)


@given(names, st.integers(0, 20), st.sampled_from("adrs"), st.sampled_from("abcz9"))
def test_every_single_error_is_among_the_candidates(
    name: str, at: int, kind: str, letter: str
) -> None:
    at %= len(name)
    typed = {
        "a": name[:at] + letter + name[at:],
        "d": name[:at] + name[at + 1 :],
        "r": name[:at] + letter + name[at + 1 :],
        "s": name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :],
    }[kind]
    if len(typed) < 5:
        return
    query = read_name(typed)
    assert query is not None
    assert query.match(f"owner/{name}") is not None
    # A letter that the name has and the query lacks may be of any script: only our own are tried.
    half = len(typed) // 2
    if name.isascii() or (len(typed) >= 8 and name[:half] == typed[:half]):
        assert name in query.names or name.startswith(query.prefixes)
