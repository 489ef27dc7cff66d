"""The text of a file: finds its encoding, and makes all line ends the same."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from embed_star.importing.packing import Peeked

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 4096


def text_of(stream: Peeked) -> Iterator[str]:
    r"""The text in pieces, without a byte order mark. In a file with lone `\r`, they become `\n`.

    The encoding is UTF-8, unless the beginning looks like UTF-16 or UTF-32. A byte that is
    not UTF-8 becomes a lone surrogate, which makes its row a bad one.
    """
    encoding = _encoding(stream.head)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    is_first, has_old_ends = True, False
    while True:
        chunk = stream.read()
        text = decoder.decode(chunk, final=not chunk)
        if is_first:
            text = text.removeprefix("\ufeff")
            end = text.find("\r")
            has_old_ends = 0 <= end < len(text) - 1 and "\n" not in text[: end + 2]
            is_first = False
        yield text.replace("\r", "\n") if has_old_ends else text
        if not chunk:
            return


def decoded(data: bytes) -> str:
    """A whole text, in whatever encoding it seems to be; empty when it is binary data."""
    encoding = _encoding(data)
    if encoding != "utf-8":
        text = data.decode(encoding, "replace")
    else:
        text = Western().read(data.decode(encoding, "surrogateescape"))
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "" if "\0" in text else text.removeprefix("\ufeff")


def _encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # Names of fields are ASCII: without a mark, it shows in where the zeros are.
    sample = head[:_SAMPLE_BYTES]
    if sample.count(0) * 4 < len(sample):
        return "utf-8"
    zeros = "".join("0" if sample[at::4].count(0) * 8 > len(sample) else "x" for at in range(4))
    found = {"000x": "utf-32-be", "x000": "utf-32-le", "0x0x": "utf-16-be", "x0x0": "utf-16-le"}
    return found.get(zeros, "utf-8")


class Western:
    """Decides once whether a text is Windows-1252 instead of UTF-8, and decodes it so.

    For tables only: spreadsheets use the encoding of the machine's language, while JSON is
    UTF-8 by its standard.
    """

    def __init__(self) -> None:
        self.is_western: bool | None = None
        """None until the first letter beyond ASCII."""

    def read(self, piece: str) -> str:
        """Decode the next piece of text from `text_of`."""
        if piece.isascii():
            return piece
        if self.is_western is None:
            bad = sum("\udc80" <= one <= "\udcff" for one in piece)
            self.is_western = bad > sum(one > "\x7f" for one in piece) - bad
        return _western(piece) if self.is_western else piece


def _western(piece: str) -> str:
    raw = piece.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:  # it has five bytes without a letter
        return raw.decode("latin-1")
