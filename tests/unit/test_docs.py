"""The documentation names what exists: commands, options, settings, make targets, files.

And the other way round: each command and each make target is named in it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from embed_star.cli.main import COMMANDS, cli
from embed_star.settings import RETIRED, RootSettings, Settings

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
DOCUMENTS = [
    path
    for path in (README, CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md")))
    if path.exists()
]

SETTINGS = {name.upper() for name in (*Settings.model_fields, *RootSettings.model_fields)}
SETTINGS_PAGE = CHECKOUT / "docs" / "settings.md"
"""It names the settings of earlier versions, too."""
OTHER_VARIABLES = dict.fromkeys(
    ("SURREAL_BIN", "SURREAL_USER", "SURREAL_PASS"), "embed_star/devstack/database.py"
) | {
    "FLOWER_ENABLE_EVENTS": "docker-compose.yml",
    "FIRST_SEED": "Makefile",
    "ENGINES_DIR": "tests/engines/docker.py",
    "KUBERNETES_BIN": "tests/engines/conftest.py",
}
"""What is no setting, and the file that reads it."""
LIBRARIES_VARIABLES = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SURREAL_HNSW_CACHE_SIZE"}
"""What OpenSSL, requests and SurrealDB read."""
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
NOT_SHELL = {"surql", "sql", "json", "yaml", "toml", "python", "text", "mermaid"}
SHELL_ENDS = {"|", "||", "&&", ";", "&", ">", ">>"}

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")


class Code(NamedTuple):
    """What a document shows as code: lines of shell blocks, and spans within sentences."""

    lines: list[str]
    spans: list[str]

    @property
    def all(self) -> list[str]:
        return self.lines + self.spans


def code_of(markdown: str) -> Code:
    fences = [(language, body) for _, language, body in FENCE.findall(markdown)]
    lines = [line for name, body in fences if name not in NOT_SHELL for line in body.splitlines()]
    spans = [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", markdown))]
    return Code(lines, spans)


def words_after(program: str, text: str) -> Iterator[list[str]]:
    """The arguments of each call of `program` in a line of shell."""
    without_comment = re.sub(r"\s#.*", "", text)
    for rest in re.split(rf"(?<![\w./-]){re.escape(program)}\s+", without_comment)[1:]:
        try:
            words = shlex.split(rest)
        except ValueError:  # a quote that ends elsewhere
            words = rest.split()
        yield list(takewhile(lambda word: word not in SHELL_ENDS, words))


def options_of(command: click.Command) -> set[str]:
    """Its options, and those of its subcommands."""
    own = {"--help"}.union(*([*param.opts, *param.secondary_opts] for param in command.params))
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(options_of, below))


def command_named(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


ALL_OPTIONS = options_of(cli).union(*(options_of(command_named(name)) for name in COMMANDS))


def command_faults(code: Code) -> Iterator[str]:
    for text in code.all:
        for words in words_after("embed-star", text):
            if not words:
                continue
            if words[0].startswith("-"):
                allowed = options_of(cli)
            elif words[0] in COMMANDS:
                allowed = options_of(command_named(words[0]))
            else:
                yield f"no command: embed-star {words[0]}"
                continue
            for word in words:
                option = word.partition("=")[0]
                if re.match(r"--?[a-z]", option) and option not in allowed:
                    yield f"no option: embed-star {words[0]} {option}"
    for span in code.spans:
        if re.match(r"--[a-z]", span) and re.split(r"[ =]", span)[0] not in ALL_OPTIONS:
            yield f"no command has the option: {span}"


def setting_faults(code: Code, path: Path) -> Iterator[str]:
    known = SETTINGS | LIBRARIES_VARIABLES | OTHER_VARIABLES.keys()
    if path == SETTINGS_PAGE:
        known |= RETIRED.keys()
    named = {span.partition("=")[0] for span in code.spans}
    named |= {name for text in code.all for name in re.findall(r"\b([A-Z]\w*)=", text)}
    for name in sorted(filter(VARIABLE.fullmatch, named)):
        if name not in known:
            yield f"no setting: {name}"


def make_targets(code: Code) -> set[str]:
    """The targets that calls of make name."""
    return {
        word
        for text in code.all
        if re.match(r"(?:\$ )?make ", text)
        for words in words_after("make", text)
        for word in words
        if "=" not in word and not word.startswith("-")
    }


def link_faults(markdown: str, path: Path) -> Iterator[str]:
    for target in (one or other for one, other in LINK.findall(FENCE.sub("", markdown))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve()
        if not linked.exists():
            yield f"no file: {target}"
        elif anchor:
            text = linked.read_text(encoding="utf-8") if file else markdown
            if anchor not in anchors(text):
                yield f"no heading: {target}"


def anchors(markdown: str) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def faults(markdown: str, path: Path) -> list[str]:
    code = code_of(markdown)
    unknown = sorted(make_targets(code) - TARGETS)
    return [
        *command_faults(code),
        *setting_faults(code, path),
        *(f"no target: make {name}" for name in unknown),
        *link_faults(markdown, path),
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_what_exists(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), path) == []


def test_other_variables_are_read_where_it_says() -> None:
    for name, file in OTHER_VARIABLES.items():
        read = rf'"{name}"|\b{name}:|\$\({name}\)'
        assert re.search(read, (CHECKOUT / file).read_text(encoding="utf-8"))


@pytest.fixture
def documented() -> Code:
    """The code of all documents together."""
    if not README.exists():
        pytest.skip("README.md is not there yet: it names what no other document does")
    codes = [code_of(path.read_text(encoding="utf-8")) for path in DOCUMENTS]
    return Code([one for code in codes for one in code.lines], [s for c in codes for s in c.spans])


def test_every_command_is_documented(documented: Code) -> None:
    calls = [words for text in documented.all for words in words_after("embed-star", text)]
    assert set(COMMANDS) - {words[0] for words in calls if words} == set()


def test_every_make_target_is_documented(documented: Code) -> None:
    assert TARGETS - make_targets(documented) == set()


@pytest.mark.parametrize(
    "markdown",
    [
        "Run `embed-star watch`, `embed-star search 'a b' -k 3 --language=Go`.",
        "```sh\nA=1 embed-star status --json | head  # embed-star nothing\n```",
        "`embed-star --version`, `--dry-run`, `DB_PASS`, `DB_PASS=x`, `SURREAL_BIN`",
        "`make test`, make haste, `make PYTHON=python3.12 demo`, `.embed-star/local.env`",
        "# The one\n[a](test_docs.py) [b](#the-one) [c](https://example.org/x)",
        "```surql\nSELECT * FROM embed-star nonsense\n```",
    ],
)
def test_a_right_document_has_no_faults(markdown: str) -> None:
    assert faults(markdown, Path(__file__)) == []


@pytest.mark.parametrize(
    ("markdown", "fault"),
    [
        ("`embed-star wach`", "no command: embed-star wach"),
        ("```console\n$ embed-star wach\n```", "no command: embed-star wach"),
        ("`embed-star watch --jsn`", "no option: embed-star watch --jsn"),
        ("`embed-star\nstatus -k 3`", "no option: embed-star status -k"),
        ("`--drie-run`", "no command has the option: --drie-run"),
        ("`DB_PASSWORD`", "no setting: DB_PASSWORD"),
        ("1. a\n\n   ```sh\n   DB_PASSWORD=x\n   ```", "no setting: DB_PASSWORD"),
        ("`make tests`", "no target: make tests"),
        ("[a](none.md)", "no file: none.md"),
        ('<img src="none.svg">', "no file: none.svg"),
        ("[a](#none)", "no heading: #none"),
    ],
)
def test_a_wrong_document_s_fault_is_named(markdown: str, fault: str) -> None:
    assert faults(markdown, Path(__file__)) == [fault]
