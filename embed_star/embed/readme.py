"""What a README says, as sections of plain text, from Markdown, RST, AsciiDoc or HTML.

Badges, images, HTML, code, tables of contents and addresses are left out. Pure functions, in
linear time: every pattern here stops at the next bracket, and none goes back.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_CHARS = 100_000
"""Characters that are read: four times as many as all passages of a row hold."""

_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROLS = dict.fromkeys((*range(9), *range(14, 32), 127, 0xFEFF))
_SAMPLE = 4096
_FRONT_LINES = 200

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)[^<>]*>")
_WITHOUT_TEXT = frozenset({"pre", "script", "style", "svg", "head", "template"})
_BREAKING = re.compile(
    "address|article|blockquote|br|center|dd|details|div|dl|dt|figure|footer|header|hr|li|main|ol|"
    "p|section|summary|table|tbody|thead|tr|ul"
)
_CELLS = frozenset({"td", "th"})

_HEADING = re.compile(r"(#{1,6}|={1,6})[ \t]+(\S.*)$")
_UNDERLINE = re.compile(r"([=\-~^\"'#*+:._`])\1{2,}$")
_RULE = re.compile(r"([-*_])(?:[ \t]?\1){2,}$")
_ITEM = re.compile(r"(?:[-*+\u2022]|\d{1,9}[.)])[ \t]+")
_ANCHOR_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])[ \t]+\[[^\[\]]*\]\(#[^()]*\)$")
_DEFINITION = re.compile(r"\[[^\[\]]+\]:[ \t]*\S|:[\w-]+:(?:[ \t]|$)")
_DIRECTIVE = re.compile(r"\.\.[ \t]+([\w-]+)::[ \t]*(.*)$")
_SAYING = frozenset({"admonition", "attention", "caution", "danger", "hint", "important", "note"})
_SAYING |= {"seealso", "tip", "topic", "warning"}
_GRID = re.compile(r"[|+:=\-\s]+$")

_BADGE = re.compile(r"\[!\[[^\[\]]*+\](?:\([^()]*+\)|\[[^\[\]]*+\])\](?:\([^()]*+\)|\[[^\[\]]*+\])")
_IMAGE = re.compile(r"!\[[^\[\]]*+\](?:\((?:[^()]++|\([^()]*+\))*+\)|\[[^\[\]]*+\])")
_LINK = re.compile(r"\[([^\[\]]*+)\](?:\((?:[^()]++|\([^()]*+\))*+\)|\[[^\[\]]*+\])")
_ROLE = re.compile(r":[\w-]{1,40}:(?=`)")
_QUOTED = re.compile(r"`+([^`]*)`+_{0,2}")
_SUBSTITUTED = re.compile(r"\|[\w .-]{1,60}\|_{0,2}")
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s)>\]]+")
_SHORTCODE = re.compile(r":[a-z][a-z0-9_+-]{1,40}:")
_EMPHASIS = re.compile(r"\*{1,3}|_{2,3}|~~")
_NO_LETTERS = re.compile(r"[\W\d_]+")

_LEFT_OUT = re.compile(
    "contents|tableofcontents|toc|licen[cs]e|licensing|(?:our)?contributors|sponsors|backers|"
    "starhistory|stargazers(?:overtime)?|changelog"
)
"""Sections, by the letters of their titles, that say nothing of what a repository is for."""

_MAX_TITLE = 200


@dataclass(slots=True)
class Section:
    """The text under one heading."""

    path: tuple[str, ...]
    """The headings above it and its own, from the title on."""
    lines: list[str] = field(default_factory=list)
    """Its paragraphs, list items and rows of tables."""


def sections(readme: str) -> Iterator[Section]:
    """The sections of `readme` that have text, in order. None, where it is no text at all."""
    text = readme[:MAX_CHARS]
    if _is_binary(text[:_SAMPLE]):
        return
    text = _ENDS.sub("\n", text).translate(_CONTROLS).encode("utf-8", "ignore").decode()
    plain = html.unescape(_without_tags(_without_comments(_without_fences(text))))
    reader = _Reader()
    for line in plain.split("\n"):
        reader.read(line.rstrip().expandtabs(4))
        if reader.done is not None:
            yield reader.done
            reader.done = None
    reader.end()
    if reader.section.lines:
        yield reader.section


def _is_binary(sample: str) -> bool:
    odd = sum((one < " " and one not in "\t\n\r\f") or one == "\ufffd" for one in sample)
    return odd * 10 > len(sample)


def _without_fences(text: str) -> str:
    """`text` without front matter, and without blocks between ``` or ~~~."""
    lines = text.split("\n")
    if lines[0].strip() == "---":
        ends = (at for at, one in enumerate(lines[1:_FRONT_LINES], 1) if one.strip() == "---")
        lines = lines[next(ends, -1) + 1 :]
    kept, fence = [], ""
    for line in lines:
        bare = line.lstrip(" \t>")
        run = bare[: len(bare) - len(bare.lstrip(bare[:1]))] if bare[:1] in ("`", "~") else ""
        if fence:
            if run.startswith(fence) and not bare[len(run) :].strip():
                fence = ""
        elif len(run) >= 3 and run[0] not in bare[len(run) :]:
            fence = run
            kept.append("")
        else:
            kept.append(line)
    return "\n".join(kept)


def _without_comments(text: str) -> str:
    kept, at = [], 0
    while (begin := text.find("<!--", at)) >= 0:
        kept.append(text[at:begin])
        end = text.find("-->", begin + 4)
        if end < 0:
            return "".join(kept)
        at = end + 3
    return "".join([*kept, text[at:]])


def _without_tags(text: str) -> str:
    """`text` without HTML: its headings become Markdown's, and its blocks lines."""
    kept: list[str] = []
    title: list[str] | None = None  # the parts of an HTML heading
    at, skipped = 0, ""
    for tag in _TAG.finditer(text):
        closes, name = tag[1], tag[2].lower()
        between, at = text[at : tag.start()], tag.end()
        if skipped:
            skipped = "" if closes and name == skipped else skipped
            continue
        (kept if title is None else title).append(between)
        if name in _WITHOUT_TEXT:
            skipped = "" if closes else name
        elif len(name) == 2 and name[0] == "h" and name[1] in "123456":
            kept += _closed(title)
            title = None if closes else ["#" * int(name[1]) + " "]
        elif _BREAKING.fullmatch(name):
            (kept if title is None else title).append("\n")
        elif name in _CELLS:
            (kept if title is None else title).append(" ")
    kept += _closed(title)
    if not skipped:
        kept.append(text[at:])
    return "".join(kept)


def _closed(title: list[str] | None) -> list[str]:
    return [] if title is None else ["\n\n", " ".join("".join(title).split()), "\n\n"]


class _Reader:
    """Takes line after line, and makes sections of them."""

    def __init__(self) -> None:
        self.section = Section(())
        self.done: Section | None = None
        """The one before it, if it has text."""
        self._lines: list[list[str]] = []  # of the paragraph, each in parts
        self._levels: list[tuple[int, str]] = []
        self._underlines = "=-"  # in the order in which they are first seen
        self._left_out: int | None = None  # the level of a section that is left out
        self._was_blank = True
        self._in_list = False
        self._block_indent: int | None = None  # what is indented more belongs to a left-out block

    def read(self, line: str) -> None:
        bare = line.strip()
        if not bare:
            self._end_paragraph()
            self._was_blank = True
            return
        indent = len(line) - len(line.lstrip())
        if self._block_indent is not None:
            if indent > self._block_indent:
                return
            self._block_indent = None
        if self._was_blank and indent == 0 and not _ITEM.match(bare):
            self._in_list = False
        if self._was_blank and indent >= 4 and not self._in_list:
            return  # indented code
        if not self._is_markup(bare, indent):
            self._was_blank = False
            self._say(bare, indent)

    def end(self) -> None:
        self._end_paragraph()

    def _is_markup(self, bare: str, indent: int) -> bool:
        """Take a line that is no text."""
        if found := _HEADING.match(bare):
            self._begin(len(found[1]), found[2].rstrip("#= \t"))
        elif found := _UNDERLINE.match(bare):
            if len(self._lines) == 1 and len(self._lines[0]) == 1:
                if found[1] not in self._underlines:
                    self._underlines += found[1]
                self._begin(self._underlines.index(found[1]) + 1, self._lines.pop()[0])
        elif bare.startswith("..") and (bare == ".." or bare[2] in " \t"):
            directive = _DIRECTIVE.match(bare)
            self._end_paragraph()
            if not directive or directive[1].lower() not in _SAYING:
                self._block_indent = indent
            elif directive[2]:
                self._say(directive[2], indent)
        elif _ANCHOR_ITEM.match(bare):
            self._in_list = True
        elif not (_RULE.match(bare) or _DEFINITION.match(bare) or _GRID.match(bare)):
            return False
        return True

    def _begin(self, level: int, title: str) -> None:
        self._end_paragraph()
        self._in_list, self._was_blank = False, True
        if self._left_out is not None and level > self._left_out:
            return
        title = _inline(title)[:_MAX_TITLE].rstrip()
        letters = _NO_LETTERS.sub("", title).lower()
        self._left_out = level if _LEFT_OUT.fullmatch(letters) else None
        self._levels = [one for one in self._levels if one[0] < level]
        if title and self._left_out is None:
            self._levels.append((level, title))
            if self.section.lines:
                self.done = self.section
            self.section = Section(tuple(name for _, name in self._levels))

    def _say(self, bare: str, indent: int) -> None:
        if bare.endswith("::"):  # RST: what follows, indented, is code
            self._block_indent, bare = indent, bare[:-1]
        bare = bare.lstrip("> \t")
        is_item = _ITEM.match(bare)
        if is_item:
            self._in_list = True
            bare = bare[is_item.end() :].removeprefix("[ ] ").removeprefix("[x] ")
        is_row = bare.startswith("|") and bare.endswith("|")
        if is_row:
            bare = ", ".join(filter(None, (cell.strip() for cell in bare.split("|"))))
        said = _inline(bare)
        if not any(map(str.isalnum, said)):
            return
        if self._lines and not is_item and not is_row:
            self._lines[-1].append(said)
        else:
            self._lines.append([said])

    def _end_paragraph(self) -> None:
        if self._lines and self._left_out is None:
            self.section.lines += map(" ".join, self._lines)
        self._lines = []


def _inline(line: str) -> str:
    """The words of a line."""
    for pattern, instead in _INLINE:
        line = pattern.sub(instead, line)
    return " ".join(line.replace("\\", "").split())


_INLINE = (
    (_BADGE, ""),
    (_IMAGE, ""),
    (_LINK, r"\1"),
    (_ROLE, ""),
    (_QUOTED, r"\1"),
    (_SUBSTITUTED, ""),
    (_ADDRESS, ""),
    (_SHORTCODE, ""),
    (_EMPHASIS, ""),
)


def sentences(line: str) -> Iterator[str]:
    """The sentences of a line."""
    yield from filter(None, map(str.strip, _SENTENCE_END.split(line)))


_SENTENCE_END = re.compile(r"(?<=[.!?])\s|(?<=[\u3002\uff01\uff1f])")
