"""`python -m bench quality`: how well each model and way of searching finds what was meant."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench.quality import baseline, corpus, footprint, needs, report, ways
from bench.quality.corpus import Corpus
from bench.quality.measuring import measure
from embed_star.devstack import examples
from embed_star.errors import EmbedStarError

_HERE = Path(__file__).parent


def main(arguments: list[str]) -> None:
    """Print the figures; or compare them with the recorded ones, or record them."""
    parser = argparse.ArgumentParser(prog="python -m bench quality", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=corpus.RANKING, help="the real rows")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--check", action="store_true", help="exit 1 when a figure is worse than it was"
    )
    mode.add_argument(
        "--write", action="store_true", help="write docs/quality.md and the figures to compare with"
    )
    options = parser.parse_args(arguments)
    try:
        corpora = _corpora(options.corpus)
    except (EmbedStarError, ValueError) as error:
        sys.exit(f"cannot measure: {error}")
    results = [one for each in corpora for one in measure(each)]
    if options.check:
        _check(corpora, baseline.complaints(corpora, results), len(results))
        return
    Console(width=120).print(report.table(results))
    if options.write:
        rows = options.corpus if options.corpus.exists() else examples.find("repos.jsonl")
        named = enumerate(ways.models())
        costs = {model: footprint.of(number, rows) for number, (model, _) in named}
        baseline.record(corpora, results)
        report.write_into_docs(corpora, results, costs)


def _corpora(ranking: Path) -> list[Corpus]:
    """The real rows where they are, and the examples."""
    found = []
    if ranking.exists():
        found.append(corpus.read("ranking.jsonl", ranking, needs.read(_HERE / "needs.jsonl")))
    else:
        print(f"{ranking} is not there: only the examples are measured (--corpus names another)")
    rows = examples.find("repos.jsonl")
    found.append(corpus.read("examples", rows, needs.read(_HERE / "examples.jsonl")))
    return found


def _check(corpora: list[Corpus], complaints: list[str], measured: int) -> None:
    if complaints:
        sys.exit("\n".join(complaints))
    over = " and ".join(one.name for one in corpora)
    print(f"search is as good as recorded: {measured} models and ways over {over}")
