"""Reading files to import: formats, what is refused, and that nothing stops the rest."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.cli.import_pages import Summary, write_rows
from embed_star.errors import InputFileError
from embed_star.importing import BadLine, Row, normalise, packing, read_rows, to_row
from embed_star.models import Lane
from embed_star.store.client import codec

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=[]), max_size=8), inner)
    ),
    max_leaves=12,
)
names = st.sampled_from(["a/b", "Owner/Name", "", "a", "a b/c", None, 3, "é/ü", "a/b/c"])
repo_values = st.fixed_dictionaries(
    {},
    optional={
        "full_name": names,
        "id": st.integers(),
        "description": json_values,
        "owner": json_values,
    },
)


def read(data: bytes | str) -> list[Row | BadLine]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_rows(io.BytesIO(raw), name="stars"))


def keys(data: bytes | str) -> list[str]:
    return [row.repo.key for row in read(data) if isinstance(row, Row)]


def bad(data: bytes | str) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in read(data) if isinstance(row, BadLine)]


def fields(data: bytes | str) -> dict[str, Any]:
    (row,) = read(data)
    assert isinstance(row, Row), row
    return row.repo.fields


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    return value


# normalise


def test_fields_are_kept_as_they_are_and_the_key_is_lower_case() -> None:
    value = {
        "id": 7,
        "full_name": "Celery/Kombu",
        "description": None,
        "topics": ["x"],
        "owner": {"id": 1, "login": "Celery"},
        "created_at": "2009-04-24T00:00:00Z",
        "score": 1.5,
        "text": "with \u200f right to left",
    }
    repo = normalise(value)
    assert repo.key == "celery/kombu"
    assert repo.fields == {**{k: v for k, v in value.items() if k != "id"}, "github_id": 7}
    assert value["id"] == 7, "normalise must not change what it was given"


@pytest.mark.parametrize(
    ("value", "full_name"),
    [
        ({"name": "Kombu", "owner": {"login": "Celery"}}, "Celery/Kombu"),
        ({"full_name": None, "name": "b", "owner": {"login": "a"}}, "a/b"),
        ({"full_name": "", "name": "b", "owner": {"login": "a"}}, "a/b"),
        ({"full_name": "x/y", "name": "b", "owner": {"login": "a"}}, "x/y"),
        ({"starred_at": "2024", "repo": {"full_name": "x/y"}}, "x/y"),
    ],
)
def test_the_full_name_is_put_together_from_what_is_there(
    value: dict[str, Any], full_name: str
) -> None:
    repo = normalise(value)
    assert (repo.key, repo.fields["full_name"]) == (full_name.lower(), full_name)


def test_the_starred_form_keeps_when_it_was_starred() -> None:
    repo = normalise({"starred_at": "2024-01-01T00:00:00Z", "repo": {"full_name": "a/b", "id": 1}})
    assert repo.fields == {
        "full_name": "a/b",
        "github_id": 1,
        "starred_at": "2024-01-01T00:00:00Z",
    }


def test_an_exported_row_keeps_its_github_id() -> None:
    exported = {"id": "repo:⟨a/b⟩", "github_id": 7, "full_name": "a/b"}
    assert normalise(exported).fields == {"github_id": 7, "full_name": "a/b"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"full_name": "a/b", "description": "x\0y"}, "description holds a NUL character"),
        ([], "a row must be a JSON object, not a list"),
        (None, "a row must be a JSON object, not null"),
        ("a/b", "a row must be a JSON object, not a text"),
        ({}, "full_name is missing"),
        ({"name": "b", "homepage": "a"}, "full_name is missing"),
        ({"full_name": 3}, "full_name must be owner/name, not a number"),
        ({"full_name": "nameonly"}, "full_name must be owner/name"),
        ({"full_name": "a/b c"}, "full_name must be owner/name"),
        ({"full_name": "a/b\0"}, "full_name holds a NUL character"),
        ({"full_name": "a/" + "b" * 300}, "full_name must be owner/name"),
        ({"full_name": "a/b", "n": 2**63}, "n is an integer beyond 64 bits"),
        ({"full_name": "a/b", "n": -(2**63) - 1}, "n is an integer beyond 64 bits"),
        ({"full_name": "a/b", "n": [1, {"m": float("nan")}]}, "n.1.m is NaN or infinite"),
        ({"full_name": "a/b", "n": float("-inf")}, "n is NaN or infinite"),
        ({"full_name": "a/b", "topics": ["x", "\ud800"]}, "topics.1 holds half a surrogate"),
        ({"full_name": "a/b", "\ud800": 1}, "'\\ud800' is a field's name and not text"),
        ({"full_name": "a/b", "x": nested(32)}, "is nested deeper than 32 levels"),
        ({"full_name": "a/b", "x": {1, 2}}, "x is a set, which JSON does not have"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        normalise(value)


def test_the_largest_accepted_values_are_kept() -> None:
    value = {"full_name": "a/b", "n": 2**63 - 1, "m": -(2**63), "x": nested(31), "é": "😀"}
    assert normalise(value).fields == value


def test_reasons_hold_no_control_characters() -> None:
    row = to_row(1, {"full_name": "a/b", "\x1b[31m\n": float("nan")})
    assert isinstance(row, Row)
    assert row.left_out[0].isprintable()
    with pytest.raises(ValueError, match="is NaN") as caught:
        normalise({"full_name": "a/b", "\x1b[31m\n": float("nan")})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"full_name":"a/b","d":"\xff","e":1}', "d holds half a surrogate pair or a byte"),
        (rb'{"full_name":"a/b","d":"\ud800","e":1}', "d holds half a surrogate pair"),
        (rb'{"full_name":"a/b","d":["x","\u0000"],"e":1}', "a part of d holds a NUL character"),
        (b'{"full_name":"a/b","d":NaN,"e":1}', "d is NaN"),
        (b'{"full_name":"a/b","d":{"m":[1,-Infinity]},"e":1}', "a part of d is NaN or infinite"),
        (b'{"full_name":"a/b","d":1e999,"e":1}', "d is NaN or infinite"),
        (b'{"full_name":"a/b","d":18446744073709551615,"e":1}', "d is an integer beyond 64 bits"),
        (b'{"starred_at":NaN,"repo":{"full_name":"a/b","e":1}}', "starred_at is NaN"),
        (b'{"repo":{"nameWithOwner":"a/b","description":NaN,"e":1}}', "description is NaN"),
        (b'{"full_name":"a/b","d":' + b"[" * 40 + b"]" * 40 + b',"e":1}', "deeper than 32"),
        (rb'{"full_name":"a/b","\ud800":1,"e":1}', "'\\ud800' is a field's name and not text"),
    ],
)
def test_a_field_that_cannot_be_kept_is_left_out_and_its_row_kept(line: bytes, reason: str) -> None:
    (row,) = read(line + b"\n")
    assert isinstance(row, Row), row
    assert row.repo == ("a/b", {"full_name": "a/b", "e": 1})
    (said,) = row.left_out
    assert reason in said


def test_without_the_field_that_names_it_a_row_is_bad() -> None:
    said = "full_name is missing, and full_name holds a NUL character"
    assert bad(b'{"full_name":"a/b\\u0000","d":1}\n') == [(1, said)]


def test_the_summary_of_left_out_fields_is_bounded() -> None:
    summary = Summary("stars", "fresh", dry_run=True)
    rows = (to_row(at, {"full_name": "a/b", f"f{at}": float("nan")}) for at in range(1, 301))
    write_rows(rows, None, Lane.FRESH, summary)
    assert (summary.read, summary.bad) == (300, 0)
    assert len(summary.left_out) < 150
    assert sum(one.rows for one in summary.left_out) == 300


# JSON Lines


def test_bad_lines_do_not_stop_the_rest() -> None:
    data = '{"full_name":"a/b"}\n\n{"full_name":\n[1]\nnull\n{"full_name":"c/d"}'
    assert keys(data) == ["a/b", "c/d"]
    assert [line for line, _ in bad(data)] == [3, 4, 5]


def test_the_first_line_may_be_the_bad_one() -> None:
    assert bad('oops\n{"full_name":"a/b"}\n') == [(1, "not JSON: Expecting value (character 1)")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"full_name":"a/b","n":' + b"9" * 5000 + b"}", "integer beyond 64 bits"),
        (b'{"full_name":"a/b","n":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "deeper than 32"),
        (b'{"full_name":"a/b"}}', "not JSON: Extra data"),
    ],
)
def test_a_bad_line_is_told_with_its_reason(line: bytes, reason: str) -> None:
    ((number, said),) = bad(b'{"full_name":"x/y"}\n' + line + b"\n")
    assert (number, reason in said) == (2, True), said


def test_byte_order_marks_and_line_ends_do_not_matter() -> None:
    data = b'\xef\xbb\xbf{"full_name":"a/b"}\r\n{"full_name":"c/d","t":"x\xe2\x80\xa8y"}\r\n'
    assert keys(data) == ["a/b", "c/d"]


# Arrays


@pytest.mark.parametrize(
    "data",
    [
        '[{"full_name":"a/b"},{"full_name":"c/d"}]',
        '[{"full_name":"a/b"}][{"full_name":"c/d"}]',
        '[{"full_name":"a/b"}]\n[{"full_name":"c/d"}]\n[]\n',
        '[[{"full_name":"a/b"}],[{"full_name":"c/d"}]]',
        '\ufeff \n[\n  {\n    "full_name": "a/b"\n  },\n  {\n    "full_name": "c/d"\n  }\n]\n',
        '{\n  "full_name": "a/b"\n}\n{\n  "full_name": "c/d"\n}\n',
        '[{"full_name":"a/b","d":"}]{\\"["},{"full_name":"c/d","owner":{"login":"{"}}]',
    ],
)
def test_every_form_of_array_is_read(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys(data) == ["a/b", "c/d"]
    assert not bad(data)
    for chunk in (7, 16):  # so that chunks end at many places
        monkeypatch.setattr(packing, "CHUNK_BYTES", chunk)
        assert keys(data) == ["a/b", "c/d"]


def test_nothing_in_an_array_is_no_fault() -> None:
    assert read("[]") == []


@pytest.mark.parametrize(
    ("data", "good", "faults"),
    [
        (
            '[{"full_name":"a/b"},{"x":},{"full_name":"c/d"}]',
            ["a/b", "c/d"],
            [(1, "row 2: not JSON")],
        ),
        ("[1,{}]", [], [(1, "row 1: a row must"), (1, "row 2: full_name is missing")]),
        (
            '[\n{"full_name":"a/b"},\n{"full_name":"c/d"}',
            ["a/b", "c/d"],
            [(3, "ends inside an array")],
        ),
        ('[{"full_name":"a/b"},\n{"full_name":"c/', ["a/b"], [(2, "row 2: its { is never closed")]),
        (
            '[\n{"full_name":"a/b",\n{"full_name":"c/d"},\n{"full_name":"e/f"}\n]',
            ["c/d", "e/f"],
            [(2, "row 1: its { is never closed")],
        ),
        (
            '[\n {"full_name":"a/b\n },\n {"full_name":"c/d"}\n]',
            ["c/d"],
            [(2, "row 1: not JSON: Invalid control character")],
        ),
        ('[{"full_name":"a/b"}}, {"full_name":"c/d"}]', ["a/b", "c/d"], [(1, "row 2: a row must")]),
    ],
)
def test_bad_rows_of_arrays_are_told_with_their_lines(
    data: str, good: list[str], faults: list[tuple[int, str]]
) -> None:
    assert keys(data) == good
    said = bad(data)
    assert [line for line, _ in said] == [line for line, _ in faults]
    assert all(
        reason.startswith(start) for (_, reason), (_, start) in zip(said, faults, strict=True)
    )


# CSV


def test_csv_columns_become_typed_and_nested_fields() -> None:
    header = "id,full_name,owner.login,owner.id,owner.site_admin,stargazers_count,size,archived"
    data = f"{header},description,topics,pushed_at\n7,A/B,A,9,false,12,3.0,True,,a;b,2024-01-01\n"
    assert fields(data) == {
        "github_id": 7,
        "full_name": "A/B",
        "owner": {"login": "A", "id": 9, "site_admin": False},
        "stargazers_count": 12,
        "size": 3,
        "archived": True,
        "description": None,
        "topics": ["a", "b"],
        "pushed_at": "2024-01-01",
    }


@pytest.mark.parametrize(
    ("cell", "topics"),
    [
        ("", []),
        ("a", ["a"]),
        ("a; b ;c", ["a", "b", "c"]),
        ('"a,b,,c"', ["a", "b", "c"]),
        ('"[""a"", ""b c""]"', ["a", "b c"]),
        ("\"['a', 'b']\"", ["a", "b"]),
        ("[]", []),
    ],
)
def test_topics_of_a_csv_cell_are_split(cell: str, topics: list[str]) -> None:
    assert fields(f"full_name,topics\na/b,{cell}\n")["topics"] == topics


@pytest.mark.parametrize(
    "data",
    [
        b"full_name;x\r\na/b;1\r\n",
        b"full_name\tx\na/b\t1",
        b"\xef\xbb\xbffull_name,x\na/b,1\n",
        b'\n"full_name","x"\n"a/b","1"\n',
        b",full_name,x\n0,a/b,1\n",  # pandas' index has no name
        b"name,owner.login,x\nb,a,1\n",
    ],
)
def test_every_dialect_of_csv_is_read(data: bytes) -> None:
    assert (keys(data), fields(data)["x"]) == (["a/b"], "1")


def test_csv_faults_do_not_stop_the_rest() -> None:
    data = (
        "full_name,description,stargazers_count,fork\n"
        'a/b,"two\nlines",1,no\n'
        "c/d,x\n"
        "e/f,x,many,\n"
        "g/h,x,1,perhaps\n"
        '"i"j,x,1,\n'
        ",,,\n"
        'k/l,"open,1,\n'
        "m/n,x,1,\n"
        "o/p,x,1,\n"
    )
    assert keys(data) == ["a/b", "e/f", "g/h", "m/n", "o/p"]
    assert [(line, reason.partition(" (in")[0]) for line, reason in bad(data)] == [
        (4, "has 2 cells where the header has 4"),
        (7, "not CSV: ',' expected after '\"'"),
        (9, "not CSV: unexpected end of data"),
    ]


def test_a_cell_may_be_longer_than_csv_allows_by_default() -> None:
    assert (
        len(fields(f"full_name,description\na/b,{'x' * 1_000_000}\n")["description"]) == 1_000_000
    )


# What is too long, and what is no such file


@pytest.mark.parametrize(
    ("data", "good", "line"),
    [
        ('{"full_name":"a/b","d":"%s"}\n{"full_name":"c/d"}\n', ["c/d"], 1),
        ('[\n{"full_name":"a/b","d":"%s"},\n{"full_name":"c/d"}\n]', ["c/d"], 2),
        ('[{"full_name":"a/b"},{"full_name":"a/b","d":"%s', ["a/b"], 1),
        ("full_name,d\na/b,%s\nc/d,x\n", ["c/d"], 2),
        ('full_name,d\na/b,"%s"\nc/d,x\n', ["c/d"], 2),
    ],
)
def test_an_endless_row_is_refused(
    data: str, good: list[str], line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lines", "walking", "table"):
        monkeypatch.setattr(f"embed_star.importing.{module}.MAX_ROW_CHARS", 1000)
    monkeypatch.setattr(packing, "CHUNK_BYTES", 128)
    filled = data % ("x" * 1500)
    assert keys(filled) == good
    assert [number for number, _ in bad(filled)] == [line]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n\n", "is empty"),
        (b"hello\nworld\n", "is neither JSON Lines, nor a JSON array, nor CSV"),
        (b'"a/b"\n', "is neither"),
        (b"name,stars\nx,1\n", "nor CSV with a column full_name"),
        (b"\x1f\x8b\x08\x00", "is compressed, and damaged or cut short"),
        (b"PK\x03\x04...", "is a zip archive"),
        (b"full_name,x,x\n", "has more than one column x"),
        (b"full_name,owner,owner.login\n", "has a column owner beside owner.login"),
    ],
)
def test_a_file_of_something_else_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InputFileError, match=why) as error:
        read_rows(io.BytesIO(data), name="stars")
    assert str(error.value).startswith("stars ")


def test_a_stream_that_cannot_be_read_is_one_sentence() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(InputFileError, match="cannot read stars: Input/output error"):
        read_rows(Broken(), name="stars")  # type: ignore[arg-type]


def test_reading_is_lazy() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b'{"full_name":"a/b"}\n' * 100

    rows = read_rows(Endless(), name="stars")  # type: ignore[arg-type]
    assert all(isinstance(next(rows), Row) for _ in range(10_000))


# Properties


@given(json_values | repo_values)
def test_any_json_value_is_a_row_or_a_bad_line(value: object) -> None:
    row = to_row(1, value)
    assert isinstance(row, Row | BadLine)
    if isinstance(row, Row):
        codec.encode(row.repo.fields)
        assert row.repo.key == row.repo.fields["full_name"].lower()
        assert "id" not in row.repo.fields


@given(st.lists(repo_values, min_size=1, max_size=6), st.booleans())
def test_lines_and_arrays_say_the_same(values: list[Any], ascii_only: bool) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    as_lines = read("\n".join(texts).encode(errors="surrogatepass"))
    as_array = read(f"[{','.join(texts)}]".encode(errors="surrogatepass"))
    assert [row.line for row in as_lines] == list(range(1, len(values) + 1))
    assert [type(row) for row in as_lines] == [type(row) for row in as_array]
    for one, other in zip(as_lines, as_array, strict=True):
        if isinstance(one, Row) and isinstance(other, Row):
            assert one.repo == other.repo


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"{", b"full_name,x\n", b'[{"']))
def test_no_bytes_raise_anything_else(data: bytes, start: bytes) -> None:
    try:
        rows = read(start + data)
    except InputFileError:
        return
    assert all(isinstance(row, Row | BadLine) for row in rows)
