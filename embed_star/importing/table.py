"""Tables such as CSV, with any delimiter and any known names of columns.

A column `owner.login` is a field inside `owner`. An unreadable cell is left out and its row
is kept, unless the cell names the repository.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from embed_star.errors import InputFileError
from embed_star.importing.cells import is_nothing, typed
from embed_star.importing.fields import Maps, is_repository
from embed_star.importing.lines import Lines, Replay
from embed_star.importing.names import (
    ADDRESSES,
    OWNER_NAMES,
    WHOLE_NAMES,
    full_name_in,
    targets,
)
from embed_star.importing.repo import (
    BadLine,
    Row,
    found_names,
    shown,
    text_fault,
    to_row,
    unnamed,
    with_left_out,
)
from embed_star.importing.window import MAX_ROW_CHARS

_DELIMITERS = ",;\t|"
_RULE = re.compile(r"[|+:\s-]*-{3}[|+:\s-]*")
"""The line under the header of a table in Markdown or from a terminal."""
_COUNT = re.compile(r"\(?\d+ rows?\b[^|]*")
_SAMPLED_ROWS = 20
_SAYS_WHICH = frozenset(("full_name", *WHOLE_NAMES, *OWNER_NAMES, *ADDRESSES))
"""Fields that name a repository. Their text is taken unchanged."""


@dataclass(frozen=True, slots=True)
class Header:
    """A table's header: its line and its columns."""

    line: int
    delimiter: str
    columns: tuple[str, ...]
    """Their names in the file."""
    fields: tuple[str, ...]
    """The field of each column, as a path; empty for a column without a name."""
    is_padded: bool = False
    """Whether spaces pad the cells, as in Markdown."""
    is_spaced: bool = False
    """Whether a space stands after each delimiter, and before quotation marks."""


def header_of(lines: Iterable[str], name: str, maps: Maps) -> Header | None:
    """The header of a table that begins with `lines`; None when they begin no table.

    Raises InputFileError when two columns are the same field, or when `maps` names a
    missing column.
    """
    delimiter = ""
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if rows and (first := rows[0][1].strip().strip('"').lower()).startswith("sep="):
        delimiter = first[4:5] or "\t"  # Excel's own line
        rows = rows[1:]
    if rows and _RULE.fullmatch(rows[0][1]):
        rows = rows[1:]  # the upper edge of a box, as MySQL draws it
    if not rows:
        return None
    number, line = rows[0]
    delimiter = delimiter or _delimiter(line)
    is_spaced = f'{delimiter} "' in line
    columns = _cells(line, delimiter, is_spaced=is_spaced)
    if not columns:
        return None
    fields = _fields(columns, name, maps)
    is_padded = delimiter == "|" and " |" in line
    header = Header(number, delimiter, tuple(columns), tuple(fields), is_padded, is_spaced)
    known = set(fields)
    if known & {"full_name", *ADDRESSES}:
        pass
    elif known & {*WHOLE_NAMES}:
        # A name alone may be `owner/name`, or not: the first row tells.
        if not known & {*OWNER_NAMES} and not _first_names_one(rows[1:], header):
            return None
    elif (column := _column_of_addresses(rows[1:], header)) is not None:
        fields[column] = "html_url"
        header = replace(header, fields=tuple(fields))
    else:
        return None
    _check_columns(columns, name)
    return header


def not_a_table(lines: Iterable[str]) -> str:
    """Why a file in no other format is no table either: a sentence about its first line."""
    line = next((line for line in lines if line.strip()), "")
    columns = _cells(line, _delimiter(line))
    if any(full_name_in(column) for column in columns):
        return (
            "its first line is a row already; put a line with the names of the columns before it, "
            "such as full_name,description"
        )
    return found_names(filter(None, columns), "column")


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=re.sub('"[^"]*"', "", line).count)


def _cells(line: str, delimiter: str, *, is_spaced: bool = False) -> list[str]:
    reader = csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=is_spaced)
    try:
        return [cell.strip() for cell in next(reader)]
    except (csv.Error, StopIteration):
        return []


def _fields(columns: list[str], name: str, maps: Maps) -> list[str]:
    mapped = {}
    for field, theirs in maps.items():
        found = [one for one in columns if one == theirs] or [
            one for one in columns if one.lower() == theirs.lower()
        ]
        if not found:
            raise InputFileError(
                f"{name} has no column {shown(theirs)} for --map: "
                f"{found_names(filter(None, columns), 'column')}"
            )
        mapped[found[0]] = field
    named = [one for one in columns if one and one not in mapped and one not in mapped.values()]
    by_name = targets(tuple(named), frozenset(mapped.values())) | mapped
    for column, field in by_name.items():
        if field.partition(".")[0] in by_name.values() and field.partition(".")[1]:
            by_name[column] = column  # there is a column for the whole of it
    return [by_name.get(one, "") for one in columns]


def _first_names_one(rows: list[tuple[int, str]], header: Header) -> bool:
    line = next((line for _, line in rows if not _RULE.fullmatch(line)), None)
    if line is None:
        return False
    cells = _cells(line, header.delimiter, is_spaced=header.is_spaced)
    return is_repository(dict(zip(header.fields, cells, strict=False)), {})


def _column_of_addresses(rows: list[tuple[int, str]], header: Header) -> int | None:
    """The first column with an address of a repository in each of the first rows that fill it.

    None if there is none, or if the header has an address itself, and so is a row.
    """
    if any(map(full_name_in, header.columns)):
        return None
    sample = (_cells(line, header.delimiter, is_spaced=header.is_spaced) for _, line in rows)
    whole = (cells for cells in sample if len(cells) == len(header.columns))
    for at, column in enumerate(zip(*islice(whole, _SAMPLED_ROWS), strict=True)):
        filled = [cell for cell in column if cell]
        if filled and all("://" in cell and full_name_in(cell) for cell in filled):
            return at
    return None


def _check_columns(columns: list[str], name: str) -> None:
    seen: set[str] = set()
    for column in filter(None, columns):
        if column in seen:
            raise InputFileError(f"{name} has more than one column {shown(column)}: leave one out")
        seen.add(column)
    for column in seen:
        outer = column.rpartition(".")[0]
        while outer:
            if outer in seen:
                raise InputFileError(
                    f"{name} has a column {shown(outer)} beside {shown(column)}: leave one out"
                )
            outer = outer.rpartition(".")[0]


def csv_rows(lines: Lines, header: Header) -> Iterator[Row | BadLine]:
    """The rows after the header.

    A quotation mark that is never closed would swallow all lines after it. They are read
    again, as rows.
    """
    csv.field_size_limit(MAX_ROW_CHARS)  # process-wide; the default of 131,072 is too short
    replay = Replay(lines)
    for _ in range(header.line):
        next(replay, None)
    reader = csv.reader(
        replay, delimiter=header.delimiter, strict=True, skipinitialspace=header.is_spaced
    )
    while True:
        line = replay.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            upto = f" (in a quoted cell, at line {replay.number})" if replay.number > line else ""
            yield BadLine(line, f"not CSV: {error}{upto}")
            replay.back()
        except ValueError as error:  # of Lines
            yield BadLine(replay.number, str(error))
        else:
            if header.is_padded:
                cells = [cell.strip() for cell in cells]
            if any(cells) and not _is_no_row(line, header, cells):
                yield _row(line, header, cells)


def _is_no_row(line: int, header: Header, cells: list[str]) -> bool:
    """Whether this is a rule, the count of rows that a terminal shows, or the header again, of a
    second file that was appended."""
    text = header.delimiter.join(cells)
    if (header.is_padded or line == header.line + 1) and _RULE.fullmatch(text):
        return True
    if header.is_padded and _COUNT.fullmatch(text):
        return True
    return len(cells) == len(header.columns) and all(
        cell.strip(" \t\r\n\ufeff") == name
        for cell, name in zip(cells, header.columns, strict=True)
    )


def _row(line: int, header: Header, cells: list[str]) -> Row | BadLine:
    columns = len(header.columns)
    if len(cells) > columns and not any(cell.strip() for cell in cells[columns:]):
        del cells[columns:]  # delimiters at a line's end
    if len(cells) != columns:
        return BadLine(line, f"has {len(cells)} cells where the header has {columns}")
    fields: dict[str, Any] = {}
    left_out = []
    for column, path, cell in zip(header.columns, header.fields, cells, strict=True):
        if not path:
            continue
        try:
            value = _value(path, cell)
        except ValueError as error:
            left_out.append(f"{shown(column)} {error}")
            continue
        *outer, last = path.split(".")
        inside = fields
        for part in outer:
            inside = inside.setdefault(part, {})
        inside[last] = value
    row = to_row(line, fields)
    if isinstance(row, BadLine) and row.reason == unnamed(fields):
        row = BadLine(line, unnamed(header.columns, "column"))
    if not left_out:
        return row
    if isinstance(row, BadLine):
        return BadLine(line, with_left_out(row.reason, left_out))
    return Row(line, row.repo, (*left_out, *row.left_out))


def _value(path: str, cell: str) -> Any:
    """The value of a field in a cell. Raises ValueError with the reason when it has none."""
    if fault := text_fault(cell):
        raise ValueError(fault)
    if path in _SAYS_WHICH:
        text = cell.strip()
        is_none = is_nothing(text) if path in ADDRESSES else text in ("", r"\N")
        return None if is_none else text
    value = typed(path, cell)
    # Spaces around a text are part of it, but for those of a name.
    return cell if isinstance(value, str) and not is_nothing(cell.strip()) else value
