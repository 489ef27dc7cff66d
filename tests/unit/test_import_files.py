"""Files as people have them, through `embed-star import FILE --dry-run` and the reader."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_star.cli import import_
from embed_star.errors import InputFileError
from embed_star.importing import BadLine, Row, packing, parse_maps, read_rows, walking
from embed_star.importing.names import canonical, full_name_in
from embed_star.importing.window import Window


def read(data: bytes | str, **maps: str) -> list[Row | BadLine]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_rows(io.BytesIO(raw), name="stars", maps=maps))


def keys(data: bytes | str, **maps: str) -> list[str]:
    rows = read(data, **maps)
    assert not [row for row in rows if isinstance(row, BadLine)], rows
    return [row.repo.key for row in rows if isinstance(row, Row)]


def fields(data: bytes | str, **maps: str) -> dict[str, Any]:
    (row,) = read(data, **maps)
    assert isinstance(row, Row), row
    return row.repo.fields


def left_out(data: bytes | str) -> dict[int, tuple[str, ...]]:
    return {row.line: row.left_out for row in read(data) if isinstance(row, Row)}


def run(file: Path, *args: str) -> Result:
    return CliRunner().invoke(import_.command, [str(file), "--dry-run", *args])


# gh and GraphQL

GH_REPO_LIST = {
    "id": "R_kgDOA",
    "name": "b",
    "nameWithOwner": "A/b",
    "owner": {"id": "MDQ6", "login": "A"},
    "description": "d",
    "stargazerCount": 5,
    "forkCount": 2,
    "watchers": {"totalCount": 4},
    "primaryLanguage": {"name": "Go"},
    "repositoryTopics": [{"name": "x"}, {"name": "y"}],
    "licenseInfo": {"key": "mit", "name": "MIT License", "nickname": ""},
    "pushedAt": "2024-01-01T00:00:00Z",
    "isArchived": False,
    "isFork": True,
    "isPrivate": False,
    "isTemplate": False,
    "hasIssuesEnabled": True,
    "homepageUrl": "",
    "defaultBranchRef": {"name": "main"},
    "diskUsage": 30,
    "url": "https://github.com/A/b",
    "viewerHasStarred": True,
}


def test_gh_repo_list_has_the_rest_api_s_names() -> None:
    assert fields(json.dumps([GH_REPO_LIST])) == {
        "node_id": "R_kgDOA",
        "name": "b",
        "full_name": "A/b",
        "owner": {"id": "MDQ6", "login": "A"},
        "description": "d",
        "stargazers_count": 5,
        "forks_count": 2,
        "subscribers_count": 4,
        "language": "Go",
        "topics": ["x", "y"],
        "license": {"key": "mit", "name": "MIT License", "nickname": ""},
        "pushed_at": "2024-01-01T00:00:00Z",
        "archived": False,
        "fork": True,
        "private": False,
        "is_template": False,
        "has_issues": True,
        "homepage": "",
        "default_branch": "main",
        "size": 30,
        "html_url": "https://github.com/A/b",
        "viewerHasStarred": True,
    }


def test_gh_search_repos_has_them_too() -> None:
    row = {"fullName": "A/b", "stargazersCount": 5, "language": "Go", "openIssuesCount": 1}
    row |= {"isDisabled": False, "hasWiki": True, "createdAt": "2024", "watchersCount": 5}
    assert fields(json.dumps([row])) == {
        "full_name": "A/b",
        "stargazers_count": 5,
        "language": "Go",
        "open_issues_count": 1,
        "disabled": False,
        "has_wiki": True,
        "created_at": "2024",
        "watchers_count": 5,
    }


@pytest.mark.parametrize(
    "topics",
    [
        ["x", "y"],
        [{"name": "x"}, {"name": "y"}],
        [{"topic": {"name": "x"}}, {"topic": {"name": "y"}}],
        {"nodes": [{"topic": {"name": "x"}}, {"topic": {"name": "y"}}]},
        {"edges": [{"node": {"topic": {"name": "x"}}}, {"node": {"topic": {"name": "y"}}}]},
        "x, y",
    ],
)
def test_topics_may_have_any_form(topics: Any) -> None:
    row = {"nameWithOwner": "a/b", "repositoryTopics": topics}
    assert fields(json.dumps(row))["topics"] == ["x", "y"]


def test_an_object_is_no_address() -> None:
    row = {"full_name": "a/b", "github": {"synced": True}}
    assert fields(json.dumps(row)) == row


def test_a_rest_row_keeps_all_its_names() -> None:
    row = {"full_name": "a/b", "forks": 1, "forks_count": 1, "watchers": 2, "watchers_count": 2}
    row |= {"open_issues": 0, "open_issues_count": 0, "url": "https://api.github.com/repos/a/b"}
    row |= {"html_url": "https://github.com/a/b", "myField": 1}
    assert fields(json.dumps(row)) == row


NODES = [
    {"nameWithOwner": "a/b", "stargazers": {"totalCount": 7}},
    {"name": "d", "owner": {"login": "c"}},
]
EDGES = [{"starredAt": "2024", "cursor": "x", "node": node} for node in NODES]
PAGE = {"pageInfo": {"hasNextPage": True, "endCursor": "x"}, "totalCount": 2}
WRAPS = {
    "plain": NODES,
    "edges": {"edges": EDGES},
    "viewer": {
        "data": {"viewer": {"login": "me", "starredRepositories": {**PAGE, "edges": EDGES}}}
    },
    "nodes": {"data": {"viewer": {"name": "Me", "repositories": {"nodes": NODES, **PAGE}}}},
    "search": {
        "data": {"search": {"nodes": [None, {}, {"node": {}}, *NODES]}, "rateLimit": {"cost": 1}}
    },
    "errors": {"errors": [{"message": "m", "locations": [{"line": 1}]}], "data": {"nodes": NODES}},
    "rest": {"total_count": 2, "incomplete_results": False, "items": NODES},
    "aliases": {"data": {"r0": NODES[0], "r1": NODES[1]}},
    "repository": {"data": {"a": {"repository": NODES[0]}, "b": {"repository": NODES[1]}}},
    "an export": {"name": "My list", "owner": "me", "exported": 1, "stars": NODES},
    "by language": {"Go": [NODES[0]], "C": {"deep": {"deeper": [[NODES[1]]]}}},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("between", ["", "\n", ",\n"])
def test_any_object_may_wrap_the_repositories(
    wrap: str, indent: int | None, pages: int, between: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = between.join([json.dumps(WRAPS[wrap], indent=indent)] * pages)
    assert keys(text) == ["a/b", "c/d"] * pages
    assert keys(f"[{','.join([json.dumps(WRAPS[wrap])] * pages)}]") == ["a/b", "c/d"] * pages
    monkeypatch.setattr(packing, "CHUNK_BYTES", 11)
    assert keys(text) == ["a/b", "c/d"] * pages


def test_wrapped_rows_keep_when_they_were_starred_and_their_line() -> None:
    rows = read(json.dumps(WRAPS["viewer"], indent=1))
    assert [row.repo.fields["starred_at"] for row in rows if isinstance(row, Row)] == ["2024"] * 2
    text = json.dumps(WRAPS["viewer"], indent=1).split("\n")
    assert [text[row.line - 1].strip() for row in rows] == ["{", "{"]


@pytest.mark.parametrize("wrap", [{"total_count": 0, "items": []}, {"data": {"s": {"nodes": []}}}])
def test_a_page_with_nothing_in_it_is_no_fault(wrap: Any) -> None:
    assert read(json.dumps(wrap)) == []


@pytest.mark.parametrize(
    ("value", "keys_told"),
    [
        ({"data": None, "errors": [{"message": "no"}]}, "its keys are data, errors"),
        ({"message": "Bad credentials", "status": "401"}, "its keys are message, status"),
        ({"items": [{"title": "x"}]}, "its keys are title"),
        ([{"title": "x", "labels": [{"name": "l"}]}], "its keys are title, labels"),
    ],
)
def test_what_holds_no_repository_is_told_by_its_keys(value: Any, keys_told: str) -> None:
    (row,) = read(json.dumps(value))
    assert isinstance(row, BadLine)
    assert "full_name is missing" in row.reason
    assert keys_told in row.reason
    assert "--map full_name=KEY" in row.reason


def test_a_bad_row_in_a_wrapped_list_is_no_other_s_matter() -> None:
    items = [{"full_name": "a/b"}, {"x": 1}, {"full_name": "c"}, {"full_name": "c/d"}]
    rows = read(json.dumps({"items": items}, indent=0))
    assert [type(row) for row in rows] == [Row, BadLine, BadLine, Row]
    assert [row.line for row in rows] == [3, 6, 9, 12]


def test_a_long_answer_streams() -> None:
    """60 MB inside of three objects, in the memory of a few rows."""
    row = json.dumps({"full_name": "a/b", "d": "x" * 5900}).encode()

    class Answer(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 10_000
            self.head = b'{"data":{"search":{"repositoryCount":9,"nodes":['

        def read(self, size: int = -1) -> bytes:
            if self.head:
                head, self.head = self.head, b""
                return head
            if self.left:
                self.left -= 50
                return b",".join([row] * 50) + (b"," if self.left else b"]}}}")
            return b""

    tracemalloc.start()
    try:
        count = sum(isinstance(one, Row) for one in read_rows(Answer(), name="a"))  # type: ignore[arg-type]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak_bytes < 16 * 1024 * 1024


def test_nesting_beyond_reason_is_one_sentence() -> None:
    with pytest.raises(InputFileError, match="nested deeper than 64 levels"):
        read('{"a":[' * 100 + "]}" * 100)


# Texts one after another


@pytest.mark.parametrize(
    "text",
    [
        '{"full_name":"a/b"}{"full_name":"c/d"}{"full_name":"e/f"}',
        '{"full_name":"a/b"} {"full_name":"c/d"},{"full_name":"e/f"},\n',
        '\ufeff{"full_name":"a/b"}\n\ufeff{"full_name":"c/d"}\n{"full_name":"e/f"}',
        '[{"full_name":"a/b"}]\ufeff[{"full_name":"c/d"}]\n\ufeff{"full_name":"e/f"}',
        '\x1e{"full_name":"a/b"}\n\x1e{"full_name":"c/d"}\n\x1e{"full_name":"e/f"}\n',
        '{"full_name":"a/b"}\r\n\r\n{"full_name":"c/d"}\r\n{"full_name":"e/f"}\r\n',
        '{"full_name":"a/b"}\r{"full_name":"c/d"}\r{"full_name":"e/f"}\r',
        '{"full_name":"a/b"}\n{\n"full_name":\n"c/d"}\n[{"full_name":"e/f"}]',
        '{"full_name":"a/b"}\n{"items":[{"full_name":"c/d"}]}{"full_name":"e/f"}\n',
    ],
)
def test_objects_may_follow_one_another(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys(text) == ["a/b", "c/d", "e/f"]
    monkeypatch.setattr(packing, "CHUNK_BYTES", 24)
    assert keys(text) == ["a/b", "c/d", "e/f"]


def test_a_broken_object_on_a_line_of_several_costs_itself() -> None:
    rows = read('{"full_name":"a/b"}{"full_name":}{"full_name":"c/d"}')
    assert [type(row) for row in rows] == [Row, BadLine, Row]


def test_a_record_that_was_cut_ends_at_the_next_separator() -> None:
    rows = read('\x1e{"full_name":"a/b"}\n\x1e{"full_name":"c/\x1e{"full_name":"e/f"}\n')
    assert [type(row) for row in rows] == [Row, BadLine, Row]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
repos = st.builds(
    lambda n, rest: {**rest, "full_name": f"own/r{n}"},
    st.integers(0, 99),
    st.dictionaries(texts, values, max_size=4),
)
nests = st.recursive(
    repos,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "items", "x", '"\\{[']), inner, min_size=1, max_size=3
        )
    ),
    max_leaves=8,
)


def repos_in(value: Any) -> list[str]:
    """What is to be found, by the whole value that `json.loads` gives."""
    if isinstance(value, dict) and "full_name" in value:
        return [value["full_name"]]
    inner = value.values() if isinstance(value, dict) else value
    return [name for one in inner for name in repos_in(one)]


@settings(deadline=None)
@given(
    st.lists(nests, min_size=1, max_size=4),
    st.sampled_from(["", " ", "\n", ",\n", "\x1e", "\ufeff", "\r\n"]),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.integers(1, 40),
)
def test_the_walk_finds_what_json_finds(
    documents: list[Any], between: str, indent: int | None, ascii_only: bool, piece: int
) -> None:
    texts = [json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in documents]
    text = between.join(texts)
    expected = [name for one in texts for name in repos_in(json.loads(one))]
    for by_lines in (False, True):
        pieces = (text[at : at + piece] for at in range(0, len(text), piece))
        rows = list(walking.json_rows(Window(pieces), {}, "f", by_lines=by_lines))
        assert [one.repo.fields["full_name"] for one in rows if isinstance(one, Row)] == expected


@settings(deadline=None)
@given(
    st.lists(nests, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from('{}[]",:x\n\\')), max_size=3),
    st.integers(1, 40),
)
def test_pieces_make_no_difference_to_broken_text(
    documents: list[Any], spoils: list[tuple[int, str]], piece: int
) -> None:
    text = "\n".join(map(json.dumps, documents))
    for at, char in spoils:
        text = text[: at % len(text)] + char + text[at % len(text) + 1 :]
    for by_lines in (False, True):
        pieces = (text[at : at + piece] for at in range(0, len(text), piece))
        broken = list(walking.json_rows(Window(pieces), {}, "f", by_lines=by_lines))
        assert broken == list(walking.json_rows(Window(iter([text])), {}, "f", by_lines=by_lines))


# Tables


@pytest.mark.parametrize(
    "header",
    [
        "full_name,x\na/b,1",
        "Full Name,x\na/b,1",
        "FULL_NAME,x\na/b,1",
        "nameWithOwner,x\na/b,1",
        "Name,x\na/b,1",
        "Repository,x\na/b,1",
        "repo,x\na/b,1",
        "repo,x\nhttps://github.com/a/b,1",
        "username,repo_name,x\na,b,1",
        "Owner,Name,x\na,b,1",
        "owner.login,name,x\na,b,1",
        "owner_login,Repository,x\na,b,1",
        "URL,x\nhttps://github.com/a/b,1",
        "html_url,x\nhttps://github.com/a/b.git/,1",
        "url,x\ngit@github.com:a/b.git,1",
        "clone_url,x\nssh://git@github.com/a/b.git,1",
        "Name,URL,x\nb,http://www.github.com/a/b/,1",
        '"Full Name";"x"\r\n"a/b";"1"\r\n',
        "full_name|x\na/b|1",
        "sep=;\nfull_name;x\na/b;1",
        '"sep=|"\r\nfull_name|x\r\na/b|1\r\n',
        "sep=\t\nfull_name\tx\na/b\t1",
        "full_name,x\ra/b,1\r",
        "full_name,x\na/b,1,,\n",
        "Repo Owner,Repo Name,x\na,b,1",
        "repository_owner;repository;x\na;b;1",
        "GitHub Link,x\nhttps://github.com/a/b,1",
        "GitHub Repo,x\na/b,1",
        "Project URL,x\nhttps://github.com/a/b,1",
        '"full_name", "x"\n"a/b", "1"\n',
        " full_name | x \n-----------+---\n a/b       | 1\n(1 row)\n\n",
        "+------+---+\n| Repo | x |\n+------+---+\n| a/b  | 1 |\n+------+---+\n1 row in set\n",
    ],
)
def test_columns_and_delimiters_may_have_many_forms(header: str) -> None:
    assert keys(header) == ["a/b"]
    assert fields(header)["x"] == "1"


def test_a_comma_after_a_space_and_a_quotation_mark_is_part_of_its_cell() -> None:
    assert fields('"Repo", "x", "y"\n"a/b", "1, 2", "3"\n')["x"] == "1, 2"


@pytest.mark.parametrize("name", ["Where", "code", "Source", "GH", "Homepage"])
def test_a_column_of_addresses_names_the_repositories_whatever_it_is_called(name: str) -> None:
    rows = "x,,1\nx,https://github.com/a/b,2\nx,https://github.com/c/d/,3\n"
    table = f"Title,{name},Docs\nx,https://github.com/e/f,https://x.org\n{rows}"
    found = read(table)
    assert [one.repo.key for one in found if isinstance(one, Row)] == ["e/f", "a/b", "c/d"]
    assert [one.line for one in found if isinstance(one, BadLine)] == [3]


@pytest.mark.parametrize(
    "table",
    [
        "https://github.com/a/b\nhttps://github.com/c/d\n",
        "Title,Where\nx,https://github.com/a/b\ny,https://example.org\n",
        "Title,Where\nx,and/or\n",
    ],
)
def test_a_column_of_anything_else_names_none(table: str) -> None:
    with pytest.raises(InputFileError):
        read(table)


@pytest.mark.parametrize(
    ("text", "full_name"),
    [
        ("https://github.com/a/b/tree/main/src?tab=readme#x", "a/b"),
        ("github.com/a/b", "a/b"),
        ("https://api.github.com/repos/a/b", "a/b"),
        ("https://git.example.org/api/v3/repos/a/b", "a/b"),
        ("git+https://github.com/a/b.git", "a/b"),
        ("git@git.example.org:a/b.git", "a/b"),
        ("https://git.example.org/a/b", "a/b"),
        ("https://github.com/a", None),
        ("https://github.com/topics/a", None),
        ("https://github.com/a/b/issues/3", None),
        ("https://gist.github.com/a/b", None),
        ("https://a.github.io/b", None),
        ("https://gitlab.com/group/sub/b", None),
        ("a", None),
        ("a/b c", None),
    ],
)
def test_a_url_names_its_repository(text: str, full_name: str | None) -> None:
    assert full_name_in(text) == full_name


@pytest.mark.parametrize(
    ("cell", "stars"),
    [
        ("12", 12),
        ("12.0", 12),
        ('"1,234"', 1234),
        ('"1,234,567"', 1_234_567),
        ("1 234", 1234),
        ("1.234.567", 1_234_567),
        ("12.3k", 12_300),
        ("1.2M", 1_200_000),
        *((nothing, None) for nothing in ["", r"\N", "NULL", "null", "None", "NaN", "N/A"]),
    ],
)
def test_numbers_are_read_in_many_spellings(cell: str, stars: int | None) -> None:
    assert fields(f"full_name,Stars\na/b,{cell}\n")["stargazers_count"] == stars


@pytest.mark.parametrize("cell", ["1.234", '"1,23"', "many", "1.5", "0x10", "9" * 25])
def test_what_is_no_number_or_may_be_two_is_left_out_and_its_row_kept(cell: str) -> None:
    (why,) = left_out(f"full_name,Stars\na/b,{cell}\n")[2]
    assert why.startswith("Stars is ")
    assert "stargazers_count" not in fields(f"full_name,Stars\na/b,{cell}\n")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[("t", True), ("TRUE", True), ("yes", True), ("1", True)],
        *[("f", False), ("No", False), ("0", False), (r"\N", None)],
    ],
)
def test_booleans_are_read_in_many_spellings(cell: str, value: bool | None) -> None:
    assert fields(f"full_name,isArchived\na/b,{cell}\n")["archived"] is value


@pytest.mark.parametrize(
    "cell", ['"x,y"', "x;y", "x|y", '"[""x"",""y""]"', "\"['x', 'y']\"", '"{x,y}"']
)
def test_a_cell_of_topics_is_split(cell: str) -> None:
    assert fields(f"full_name,Tags\na/b,{cell}\n")["topics"] == ["x", "y"]


def test_windows_1252_and_latin_1_are_read() -> None:
    text = "Full Name;Beschreibung;description\na/b;Größe;Prix : 5 €, “déjà vu”\n"
    row = fields(text.encode("cp1252"))
    assert (row["Beschreibung"], row["description"]) == ("Größe", "Prix : 5 €, “déjà vu”")
    old = text.replace("€", "e").replace("“", '"').replace("”", '"')
    assert fields(old.encode("latin-1"))["Beschreibung"] == "Größe"
    assert fields(text.encode())["description"] == "Prix : 5 €, “déjà vu”"


def test_one_wrong_byte_in_utf_8_makes_it_no_other_encoding() -> None:
    data = "full_name,description\na/b,déjà vu\nc/d,".encode() + b"\xff\n"
    assert left_out(data)[3] == (
        "description holds half a surrogate pair or a byte that is not UTF-8",
    )
    first, _ = read(data)
    assert isinstance(first, Row)
    assert first.repo.fields["description"] == "déjà vu"


def test_left_out_fields_are_counted_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    bad = "".join(f"a/r{n},many\n" for n in range(7))
    file.write_text(f"full_name,Stars\na/b,5\n{bad}c/d,6\n")
    result = run(file, "--json")
    assert result.exit_code == 0
    assert "9 rows" not in result.stderr
    assert (
        "Stars is not a whole number: left out of 7 rows that were kept (lines 3, 4, 5, 6, 7, …)"
        in result.stderr
    )
    summary = json.loads(result.stdout)
    assert (summary["read"], summary["bad"]) == (9, 0)
    assert summary["left_out"] == [
        {"reason": "Stars is not a whole number", "rows": 7, "lines": [3, 4, 5, 6, 7]}
    ]


# Encodings and compression

TEXT = '[{"full_name":"a/b","description":"Größe €"},\r\n{"full_name":"c/d"}]'
CSV = "full_name,description\r\na/b,Größe €\r\nc/d,x\r\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
@pytest.mark.parametrize(
    "text", [TEXT, CSV, '{"full_name":"a/b","description":"Größe €"}\n{"full_name":"c/d"}']
)
def test_every_unicode_encoding_is_read(
    encoding: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = read(text.encode(encoding))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.repo.fields["description"], second.repo.key) == ("Größe €", "c/d")
    if encoding.startswith("utf-16"):
        marked = "\ufeff" + text if encoding != "utf-16" else text
        assert read(marked.encode(encoding)) == [first, second]


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_files_by_what_they_are_and_not_by_name(packer: str, tmp_path: Path) -> None:
    pack = PACKERS[packer]
    file = tmp_path / "stars.json"
    file.write_bytes(pack(TEXT.encode("utf-16")))
    result = run(file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "2 rows read" in result.stdout
    rows = "".join(
        json.dumps({"full_name": f"a/r{n}", "d": f"{n}" * 99}) + "\n" for n in range(999)
    )
    assert len(rows) > packing.CHUNK_BYTES
    assert len(keys(pack(rows.encode()))) == 999
    assert len(keys(pack(rows.encode()) + pack(b'{"full_name":"c/d"}'))) == 1000, "cat a b"
    with pytest.raises(InputFileError, match="stars is compressed, and damaged or cut short"):
        keys(pack(rows.encode())[:-9])
    with pytest.raises(InputFileError, match="is compressed twice"):
        keys(pack(pack(b"[]")))


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_ends_with_the_cap_in_bounded_memory(
    packer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MAX_UNPACKED_BYTES", 16 * 1024**2)
    bomb = PACKERS[packer](b"[" + b" " * 18 * 1024**2)
    tracemalloc.start()
    try:
        with pytest.raises(
            InputFileError, match=r"stars unpacks to more than 0\.015625 GiB: if that"
        ):
            keys(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 * 1024**2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\x03\x04....", "is a zip archive, or an Excel workbook: unpack it, or save it as CSV"),
        (b"stars.json".ljust(257, b"\0") + b"ustar\x0000", "is a tar archive: unpack it"),
        (
            gzip.compress(b"s".ljust(257, b"\0") + b"ustar\x0000", mtime=0),
            "is a tar archive: unpack it",
        ),
        (b"PK\x05\x06".ljust(22, b"\0"), "is a zip archive with nothing in it: pack it anew"),
        (lzma.compress(b"{}", lzma.FORMAT_ALONE), "is packed with lzma: unpack it with xz -d"),
        (b"\x1f\x9d\x90..", "is packed with compress: unpack it with gzip -d"),
        (b"\x04\x22\x4d\x18..", "is packed with lz4: unpack it with lz4 -d"),
        (b"Obj\x01..", "is an Avro file: write it as JSON Lines or CSV"),
        (b"ARROW1\0\0..", "is an Arrow file: write it as JSON Lines or CSV"),
        (b'<?xml version="1.0"?><repos/>', "is XML: write it as JSON Lines or CSV"),
        (b"7z\xbc\xaf\x27\x1c..", "is a 7z archive: unpack it"),
        (b"PAR1....", "is a Parquet file: write it as JSON Lines or CSV"),
        (b"SQLite format 3\x00", "is a SQLite database: write its table as CSV"),
        (b"<!DOCTYPE html>\n<html>", "is a web page: save what the page shows"),
    ],
)
def test_other_files_are_told_what_to_do(data: bytes, why: str) -> None:
    with pytest.raises(InputFileError, match=why):
        read(data)


# Where nothing fits


def test_the_columns_that_were_found_are_named() -> None:
    with pytest.raises(
        InputFileError, match="its columns are Projekt, Sterne; if one of them"
    ) as told:
        read("Projekt;Sterne\na/b;5\n")
    assert str(told.value).endswith("say so with --map full_name=COLUMN")


@pytest.mark.parametrize(
    ("text", "maps"),
    [
        ("Projekt;Sterne\na/b;1,234\n", ["full_name=Projekt,stars=Sterne"]),
        ("Projekt;Sterne\na/b;1234\n", ["full_name=projekt", "stargazers_count = STERNE"]),
        ("wer,was,wieviel\na,b,1234\n", ["owner.login=wer,name=was,stars=wieviel"]),
        ('[{"p":{"voll":"a/b"},"z":[{"x":1}],"s":1234}]', ["full_name=p.voll,stars=s"]),
        ('{"p.q":"https://github.com/a/b","s":{"n":"1234"}}', ["full_name=p.q,stars=s.n"]),
        ('{"rows":[{"p":"a/b","s":1234}]}', ["full_name=p,stars=s"]),
        ('[{"at":1,"repo":{"p":"a/b","s":1234}}]', ["full_name=repo.p,stars=repo.s"]),
        ('[{"full_name":"a/b","stars":1,"mine":1234}]', ["stars=mine"]),
    ],
)
def test_map_says_which_field_is_which(text: str, maps: list[str], tmp_path: Path) -> None:
    row = fields(text, **parse_maps(tuple(maps)))
    assert (row["full_name"], row["stargazers_count"]) == ("a/b", 1234)
    file = tmp_path / "f"
    file.write_text(text)
    result = run(file, *(part for one in maps for part in ("--map", one)))
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--map", "sterne=x"], "--map knows no field 'sterne'; ours are archived, "),
        (["--map", "full_name"], "--map takes OURS=THEIRS, such as full_name=repo"),
        (["--map", "stars=a,stargazers_count=b"], "--map names the field stargazers_count twice"),
    ],
)
def test_a_map_of_an_unknown_field_is_refused(args: list[str], why: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("full_name\na/b\n")
    result = run(file, *args)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_map_of_a_missing_column_is_refused() -> None:
    with pytest.raises(InputFileError, match="has no column nope for --map: its columns are a, b"):
        read("a,b\n1,2\n", full_name="nope")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *[("nameWithOwner", "full_name"), ("Star Count", "stargazers_count")],
        *[("isFork", "fork"), ("pushedAt", "pushed_at"), ("Owner/Repo", "full_name")],
        *[("HAS-WIKI", "has_wiki"), ("myNote", "myNote")],
    ],
)
def test_names_are_compared_without_case_and_hyphens(theirs: str, ours: str) -> None:
    assert canonical(theirs) == ours


def test_a_map_that_no_row_has_is_told_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text('{"full_name":"a/b","x":null}\n{"full_name":"a/c"}\n{"no":1}\n')
    result = run(file, "--map", "stars=x.rating")
    assert isinstance(result.exception, InputFileError)
    assert str(result.exception) == f"{file} has no row with a value at x.rating, as --map says"
    assert f"{file}:3: full_name is missing" in result.stderr


# What others leave in a file


def test_an_event_is_about_its_repository_and_not_a_part_of_it() -> None:
    event = {
        "id": "9",
        "type": "WatchEvent",
        "actor": {"login": "z"},
        "repo": {"id": 7, "name": "a/b", "url": "https://api.github.com/repos/a/b"},
        "payload": {"action": "started"},
        "created_at": "2020-01-01T00:00:00Z",
    }
    row = {
        "github_id": 7,
        "name": "b",
        "url": "https://api.github.com/repos/a/b",
        "owner": {"login": "a"},
        "full_name": "a/b",
    }
    assert fields(json.dumps(event)) == row
    mapped = fields(json.dumps(event), starred_at="created_at")
    assert mapped == {**row, "starred_at": "2020-01-01T00:00:00Z"}


def test_a_column_for_each_topic_is_a_topic_each() -> None:
    assert fields("full_name,topics.0,topics.1,topics.2\na/b,x,y,\n")["topics"] == ["x", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "| full_name | description | stars |\n|:--|---|---:|\n| a/b | d e | 5 |\n| a/c | f | 6 |\n",
        " full_name | description | stars\n-----------+----+---\n a/b | d e | 5\n a/c | f | 6\n",
        "full_name|description|stars\na/b|d e|5\na/c|f|6\n",
        "full_name,description,stars\na/b,d e,5\n\ufefffull_name,description,stars\na/c,f,6\n",
        "full_name,description,stars\r\na/b,d e,5\r\nfull_name,description,stars\r\na/c,f,6\r\n",
    ],
)
def test_markdown_tables_and_joined_files_are_read(text: str) -> None:
    rows = [row.repo.fields for row in read(text) if isinstance(row, Row)]
    assert len(read(text)) == 2
    assert [(one["full_name"], one["description"], one["stargazers_count"]) for one in rows] == [
        ("a/b", "d e", 5),
        ("a/c", "f", 6),
    ]


@pytest.mark.parametrize(
    "text",
    ["cli/cli\tGitHub CLI\tpublic\ncli/go-gh\tx\tpublic\n", "https://github.com/a/b\n", "a/b\n"],
)
def test_a_table_without_a_header_is_told_to_have_one(text: str) -> None:
    with pytest.raises(InputFileError, match="its first line is a row already; put a line with"):
        read(text)


def test_a_link_in_markdown_names_its_repository() -> None:
    assert keys("| Repo |\n|---|\n| [b](https://github.com/a/b) |\n") == ["a/b"]
    assert keys("url\n<https://github.com/a/b>\n[x](https://github.com/a/c)\n") == ["a/b", "a/c"]


def test_a_row_that_names_no_repository_is_told_by_the_columns_of_its_file() -> None:
    (row,) = read("Link,,Notes\nhttps://github.com/topics/x,1,n\n")
    assert isinstance(row, BadLine)
    assert "its columns are Link, Notes; if one of them holds owner/name" in row.reason
    assert row.reason.endswith("say so with --map full_name=COLUMN")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x93NUMPY\x01\0", b"\x80\x04\x95\0\0"]
)
def test_bytes_that_are_no_text_are_not_shown_as_columns(data: bytes) -> None:
    with pytest.raises(InputFileError, match="is no text: save what is in it as JSON Lines or CSV"):
        read(data)


def test_bad_lines_are_told_when_the_file_breaks_off_after_them(tmp_path: Path) -> None:
    file = tmp_path / "f.gz"
    file.write_bytes(gzip.compress(b'{"no":1}\n' + b'{"full_name":"a/b"}\n' * 40_000)[:-9])
    result = run(file)
    assert isinstance(result.exception, InputFileError)
    assert f"{file}:1: full_name is missing" in result.stderr


@pytest.mark.parametrize(
    ("redirected", "told"),
    [
        ("- <&-", "embed-star: standard input is closed: hand a file in, or name one"),
        ("f.jsonl >/dev/full", "embed-star: no space is left where its output goes"),
    ],
)
def test_a_terminal_s_odd_ends_are_one_sentence(redirected: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"full_name":"a/b"}\n')
    script = f'"{sys.executable}" -m embed_star.cli.main import --dry-run {redirected}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, told + "\n")
