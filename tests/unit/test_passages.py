"""What of a README becomes passages: its words under their headings, and nothing else."""

from __future__ import annotations

import hashlib

import pytest

from embed_star.embed import text
from embed_star.embed.passages import (
    PASSAGE_TOKENS,
    Passage,
    readme_hash,
    row_hash,
    split,
)
from embed_star.embed.readme import MAX_CHARS, sections
from embed_star.models import MOST_PASSAGES
from embed_star.search.results import Hit
from embed_star.values import RecordID

WORDS = "A queue for background jobs that keeps its promises"
LONG = " ".join(f"{WORDS}, number {n}." for n in range(9))


def said(readme: str, max_tokens: int = PASSAGE_TOKENS) -> str:
    return "\n".join(one.text for one in split(readme, max_tokens))


def test_each_section_that_is_long_enough_is_a_passage_with_its_headings() -> None:
    readme = f"# Celery\n\n{LONG}\n\n## Install\n\n{LONG}\n\n### From source\n\n{LONG}\n"
    found = split(readme, 10_000)
    assert [one.heading for one in found] == [
        "Celery",
        "Celery > Install",
        "Celery > Install > From source",
    ]
    assert all(one.text == f"{one.heading}\n{one.body}" for one in found)
    assert {one.body for one in found} == {LONG}


def test_short_sections_share_a_passage() -> None:
    (one,) = split(f"# Celery\n{WORDS}.\n## Install\n{WORDS}.\n", PASSAGE_TOKENS)
    assert one == Passage("Celery", f"{WORDS}.\nInstall\n{WORDS}.")


@pytest.mark.parametrize("max_tokens", [16, 100, 256, 8000])
def test_no_passage_is_longer_than_the_model_reads(max_tokens: int) -> None:
    readme = f"# {WORDS}\n\n{LONG * 20}\n\n{'x' * 5000}\n\n## {WORDS * 10}\n\n" + "漢字。" * 2000
    found = split(readme, max_tokens)
    assert len(found) > 3
    for one in found:
        assert len(one.text.encode()) <= min(max_tokens, PASSAGE_TOKENS) * text.BYTES_PER_TOKEN
        assert text.cut(one.text, max_tokens) == one.text


def test_a_row_has_so_many_passages_and_no_more() -> None:
    readme = "".join(f"# Part {n}\n\n{LONG} {n}\n\n" for n in range(200))
    assert len(split(readme, 8000)) == MOST_PASSAGES


def test_the_same_text_is_there_once() -> None:
    assert len(split(f"# One\n\n{LONG}\n\n" * 5, 8000)) == 1


def test_an_edit_changes_the_passages_of_its_section_alone() -> None:
    parts = [f"# Part {n}\n\n{LONG} {n}\n\n" for n in range(6)]
    before = {one.hash for one in split("".join(parts), 8000)}
    parts[2] = parts[2].replace("queue", "stack")
    after = {one.hash for one in split("".join(parts), 8000)}
    assert len(before - after) == len(after - before) == 1
    with_a_new_one = [f"# New\n\n{LONG} new\n\n", *parts]
    assert len({one.hash for one in split("".join(with_a_new_one), 8000)} - after) == 1


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("[![Build](https://x/y.svg)](https://ci/z) ![logo](a.png)\n{}", "{}"),
        ("[![Build][badge]][ci]\n{}\n\n[badge]: https://x/y.svg\n[ci]: https://z", "{}"),
        ("{} [see](https://a/b(c)d) and [that][1]\n\n[1]: https://b", "{} see and that"),
        ("{} at https://a.example/b?c=d and <https://e.example>", "{} at and"),
        ("**{}** with `code` and __more__ :tada:", "{} with code and more"),
        ("{}\n\n```python\nimport secret\n```\n", "{}"),
        ("{}\n\n~~~~\n```\nimport secret\n~~~~\n", "{}"),
        ("- {}\n\n  ```\n  import secret\n  ```\n", "{}"),
        ("{}:\n\n    import secret\n", "{}:"),
        ("{}\n\n```\nimport secret that nobody closed", "{}"),
        ("<!-- secret\n\n# secret -->{}<!-- secret", "{}"),
        ("<p align='center'><img src=x alt=secret>{}<br/>more</p>", "{} more"),
        ("{}<pre>secret</pre><script>secret</script><style>secret</style>", "{}"),
        ("{} &amp; more &lt;there&gt;", "{} & more <there>"),
        ("---\ntitle: secret\n---\n{}", "{}"),
        ("- [secret](#a)\n  - [secret](#b)\n\n{}", "{}"),
        ("| a | b |\n|---|:-:|\n| {} | c |", "a, b\n{}, c"),
        ("* {}\n* more\n1. other\n- [x] done", "{}\nmore\nother\ndone"),
        ("> {}\n> more", "{} more"),
        ("***\n\n{}\n\n---\n", "{}"),
        (".. image:: secret.png\n   :alt: secret\n\n{}", "{}"),
        ("{}::\n\n    import secret\n\nmore", "{}:\nmore"),
        (".. code-block:: python\n\n   import secret\n\n{}", "{}"),
        (".. note:: {}\n", "{}"),
        ("|secret| {} :ref:`there` and `that <https://a>`_", "{} there and that"),
        (".. |secret| image:: https://secret\n.. _secret: https://secret\n\n{}", "{}"),
        (":toc: secret\n\n{}", "{}"),
    ],
)
def test_only_words_are_left(markup: str, words: str) -> None:
    (one,) = split(markup.replace("{}", WORDS), 8000)
    assert one.body == words.replace("{}", WORDS)


@pytest.mark.parametrize(
    "readme",
    [
        f"# Title\n\n## Use it ##\n\n{LONG}",
        f"Title\n=====\n\nUse it\n------\n\n{LONG}",
        f"=====\nTitle\n=====\n\n*Use* it\n--------\n\n{LONG}",
        f"= Title\n\n== Use it\n\n{LONG}",
        f"<h1 align='center'>\n<img src=x>\nTitle</h1>\n<h2>Use <b>it</b></h2>\n{LONG}",
        f"# [Title](https://x) [![b](c)](d)\r\n\r\n## `Use` it\r\n\r\n{LONG}",
    ],
    ids=["atx", "setext", "rst", "asciidoc", "html", "linked"],
)
def test_headings_of_every_kind(readme: str) -> None:
    assert {one.heading for one in split(readme, 8000)} == {"Title > Use it"}


@pytest.mark.parametrize("title", ["Table of Contents", "📑 Contents", "TOC", "License", "LICENCE"])
def test_sections_that_say_nothing_are_left_out_with_what_is_below(title: str) -> None:
    readme = f"# Name\n\n{LONG}\n\n## {title}\n\nsecret {LONG}\n\n### Part\n\nsecret\n\n## Use\n\n"
    assert "secret" not in said(readme + LONG)
    assert {one.heading for one in split(readme + LONG, 8000)} == {"Name", "Name > Use"}


@pytest.mark.parametrize(
    "readme",
    [
        "",
        " \n\t\n",
        "```\nall of it is code\n```",
        "# Title\n\n## Another title, and no word below it\n",
        "[![a](b)](c)",
        "Too short.",
        "\x7fELF\x02\x01" + "\x00\x01\x02\x03" * 3000 + WORDS,
        "\ufffd" * 5000 + WORDS,
        "\x89PNG\r\n\x1a\n" + "\ufffd\x00a" * 3000,
        "<!-- " + WORDS * 100,
        "<script>" + WORDS * 100,
        "-" * 100_000,
        "| " * 100_000,
    ],
    ids=lambda readme: readme[:12].encode("unicode_escape").decode(),
)
def test_what_says_nothing_has_no_passage(readme: str) -> None:
    assert split(readme, 8000) == []


def test_what_was_decoded_wrongly_keeps_its_words() -> None:
    assert said("\ufeff" + LONG) == said(LONG)
    assert said(f"{LONG} \ud800\udc80 end") == said(f"{LONG}  end")
    assert "Ünïcödé" in said(f"Ünïcödé {LONG}")


@pytest.mark.parametrize(
    "unit", ["[a](", "![", "[![a](", "<a ", "<!--", "`", "<h1>", "# a\n", "a.\n", "x", "(x", "**"]
)
def test_five_million_characters_of_anything_are_read_to_a_bound(unit: str) -> None:
    found = split(unit * (5_000_000 // len(unit)), 256)
    assert len(found) <= MOST_PASSAGES


def test_what_is_beyond_the_bound_is_not_read() -> None:
    beyond = "\n" * MAX_CHARS + LONG
    assert list(sections(beyond)) == []
    assert len(list(sections(LONG + beyond))) == 1


def test_a_row_without_a_readme_has_the_hash_of_its_text() -> None:
    own = text.text_hash("a text")
    assert row_hash(own, readme_hash("")) == own
    hashes = {row_hash(one, readme_hash(two)) for one in (own, "other") for two in ("", "a", "b")}
    assert len(hashes) == 6
    assert readme_hash("ä") == hashlib.sha256("ä".encode()).hexdigest()


def test_a_hit_shows_the_passage_and_not_the_whole_readme() -> None:
    repo = {"id": RecordID("repo", 1), "full_name": "a/b", "readme": "word " * 1000}
    shown = Hit(repo, 0.5, passage=Passage("Use", "It counts words.")).to_dict()
    assert shown["repo"] == {"id": RecordID("repo", 1), "full_name": "a/b"}
    assert shown["passage"] == {"heading": "Use", "text": "It counts words."}
