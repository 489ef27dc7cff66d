"""What the code's own text must keep to: one way of imports, one reader of the environment,
and no query that is built from data."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    [*ROOT.glob("embed_star/**/*.py"), *ROOT.glob("tasks/**/*.py"), ROOT / "beat_schedule.py"]
)

CORE = {"errors", "models", "values", "events", "shutdown"}
PARTS = {"store", "coordination", "claims", "providers", "calling"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "values": set(),
    "models": {"values"},
    "events": {"models"},
    "shutdown": {"errors"},
    "start": set(),
    "timings": set(),
    # How a URL is read, what is known of providers.
    "settings": {"coordination", "errors", "providers", "timings"},
    "coordination": CORE,
    "store": CORE,
    "providers": CORE | {"settings"},  # each is made from the settings
    "claims": CORE | {"coordination", "store"},
    "calling": CORE | {"coordination", "providers", "store"},
    "embed": CORE | PARTS,
    "write": CORE | {"claims", "coordination", "store"},
    "produce": CORE | PARTS | {"embed"},
    "search": CORE | PARTS | {"embed"},
    "backup": CORE | {"store"},
    "importing": {"errors", "providers"},
    "observe": CORE | PARTS | {"embed"},
    "services": CORE
    | PARTS
    | {"backup", "embed", "observe", "produce", "search", "settings", "timings", "write"},
    "status": CORE | PARTS | {"services"},
    "api": CORE | PARTS | {"produce", "search", "services", "settings", "status"},
    "mcp": {"api", "embed", "errors", "observe", "status"},
    "devstack": {"errors", "settings", "store", "timings"},
    "celery": {"errors", "settings", "start", "tasks"},
    "beat_schedule": {"settings"},
}
"""Part of the package → the parts it may import. `cli` and `tasks` may import all but
each other's kind; nothing imports them, but for the process launchers."""

LAUNCHERS = {"embed_star/celery.py", "embed_star/cli/producer.py", "embed_star/cli/status.py"}
"""Besides tasks/: what starts a process that speaks Celery."""

ENVIRONMENT = {
    "embed_star/devstack/embedded/gateway.py": "its one password, which must not be an argument",
    "embed_star/observe/multiprocess.py": "sets what prometheus_client reads: its directory",
    "embed_star/providers/in_process/minilm.py": "sets what onnxruntime reads: no telemetry",
    "embed_star/devstack/environment.py": "what child processes inherit, and PATH",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "embed_star" and len(parts) > 1 else parts[0]


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    found = set()
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "embed_star":
            found.add(rest[0])
        elif first in ("tasks", "beat_schedule"):
            found.add(first)
    return found - {part_of(path), "__version__"}


def forbidden(path: Path) -> set[str]:
    """The parts that the module imports and may not."""
    part, found = part_of(path), parts_imported(path)
    if part == "tasks":
        return found & {"cli"}
    if part == "cli":
        return found & {"tasks", "celery"} if name_of(path) not in LAUNCHERS else set()
    # The package imports these lazily: see test_importing_the_package_is_cheap.
    allowed = {**ALLOWED, "__init__": {"api", "errors"}}
    assert part in allowed, f"say in ALLOWED what embed_star.{part} may import"
    return found - allowed[part]


def reads_environment(path: Path) -> bool:
    return any(name in ("os.environ", "os.getenv") for name in imports(path)) or any(
        isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        for node in nodes(path)
    )


def test_imports_go_one_way() -> None:
    assert {name_of(path): parts for path in SOURCES if (parts := forbidden(path))} == {}


def test_celery_stays_where_tasks_are() -> None:
    users = {
        name_of(path)
        for path in SOURCES
        if part_of(path) != "tasks"
        and {name.split(".")[0] for name in imports(path)} & {"celery", "kombu", "billiard"}
    }
    assert users <= LAUNCHERS


def test_the_environment_is_read_in_one_place() -> None:
    assert {name_of(path) for path in SOURCES if reads_environment(path)} <= set(ENVIRONMENT)


def test_importing_the_package_is_cheap() -> None:
    """Every command and worker imports it; what scripts use is imported when it is asked for."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import embed_star\n"
        "new = {name for name in set(sys.modules) - before\n"
        "       if name.split('.')[0] not in sys.stdlib_module_names}\n"
        "assert new == {'embed_star'}, new\n"
        "assert embed_star.Client.__module__ == 'embed_star.api.client'\n"
        "assert all(hasattr(embed_star, name) for name in embed_star.__all__)\n"
        "assert not hasattr(embed_star, 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_anything_registers_nothing() -> None:
    """No app, no settings, no connection: only `embed_star.celery` makes an app."""
    modules = [
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in SOURCES
        if part_of(path) != "celery" and path.name != "__main__.py"
    ]
    code = (
        "import importlib, sys, threading\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert 'embed_star.celery' not in sys.modules\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "from celery import _state\n"
        "assert _state.default_app is None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


INTERPOLATED = {
    "self._table": "a space's table, [a-z0-9_], as every Space sees to",
    "space.table": "the same",
    "self._values": "TEXT_FIELDS, quoted by store/client/quoting.py",
    "event_sql(fields)": "the same",
    "definition": "the same, in event_sql",
    "_mark(definition)": "letters and digits of a hash, in event_sql",
    "EVENT": "our constant",
    "is_repo": "one of two constants",
    "make": "the same",
    "there": "the same",
    "failure": "the same",
    "some": "the same, in event_sql",
    "after": "the same, in event_sql",
    "quoted_path(path)": "the same",
    "path": "the same, in event_sql and of TEXT_FIELDS",
    "source": "a parameter, a range of them (keyset.py), or a space's table and numbers",
    "TABLE": "a constant",
    "INDEX": "a constant",
    "FENCE": "a constant",
    "RETIRED": "a constant",
    "_LAST": "a constant",
    "_LOCKS": "a constant",
    "_VECTORS": "a constant",
    "_FAILURES": "a constant",
    "_FAILED": "a constant",
    "RELEASED": "a constant",
    "filters": "the constant, with or without a literal",
    "table": "one of our constants, in Connection.listen",
    "lane": "a number: `:d`",
    "'time::now()' if begins else 'begun'": "two constants",
    "'time::now()' if done else 'finished'": "two constants",
    "migration.sql": "a file of this program",
    "quoted(root.namespace)": "quoted by store/client/quoting.py",
    "quoted(root.database)": "the same",
    "quoted(user)": "the same",
    "quoted_text(password)": "the same: DEFINE USER takes no parameter",
    "user_sql(user, password)": "made of the two above",
    "_TRIALS[name]": "one of our constants",
    "_SAMPLE": "a constant",
    "FEW + 1": "a constant",
    "int(dimensions)": "a number",
    "where_all(passing)": "literals of store/tables/filters.py",
    "where_all(of_repo(passing))": "the same",
    "where": "the same",
    "space.passages_table": "a space's table, [a-z0-9_], as every Space sees to",
    "self._space.passages_table": "the same",
    "self._readme_hash": "one of two constants",
    "score": "one of two constants, in named",
    "span": "a literal with the number of a parameter, in named",
    "number": "a number",
    "NAMED_ROWS": "a constant",
    "_VECTOR": "a constant",
    "_vectors_sql(space)": "a space's table, and literals",
    "names.index_sql(space.table)": "the same",
}
"""Every expression that a query's text is built with, and why it is no data."""

COMPOSED = {"sql", "';'.join(run)", "';'.join(statements)", "''.join"}
"""Texts that are handed on, or made of literals and of what is allowed above."""


@functools.cache
def queries() -> dict[str, ast.FunctionDef]:
    """The functions of the store that send queries, or make their text."""
    return {
        f"{path.name}:{node.name}:{node.lineno}": node
        for path in sorted(ROOT.glob("embed_star/store/**/*.py"))
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef)
        and (node.name.endswith("_sql") or any(calls_of_query(node)))
    }


def calls_of_query(node: ast.AST) -> Iterator[ast.Call]:
    for inner in ast.walk(node):
        if (
            isinstance(inner, ast.Call)
            and isinstance(inner.func, ast.Attribute)
            and inner.func.attr == "query"
        ):
            yield inner


def without_messages(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes within, but for what is raised: an error's message is no query."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Raise):
            yield from without_messages(child)


def test_queries_are_not_built_from_data() -> None:
    for where, function in queries().items():
        for node in without_messages(function):
            if isinstance(node, ast.FormattedValue):
                text = ast.unparse(node.value)
                assert text in INTERPOLATED, f"{where} puts {text} into a query's text"
                if text == "lane":
                    assert node.format_spec is not None
                    assert ast.unparse(node.format_spec) == "f'd'"
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
                assert not isinstance(node.left, ast.Constant | ast.JoinedStr), where
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("format", "format_map", "replace"), where


def test_texts_of_queries_are_literals() -> None:
    for where, function in queries().items():
        for call in calls_of_query(function):
            text = call.args[0]
            literal = isinstance(text, ast.Constant | ast.JoinedStr)
            composed = ast.unparse(text) in COMPOSED or ast.unparse(text).startswith("''.join(")
            assert literal or composed, f"{where}: {ast.unparse(text)}"


def test_the_lists_above_hold_nothing_that_is_gone() -> None:
    used = {
        ast.unparse(node.value)
        for function in queries().values()
        for node in without_messages(function)
        if isinstance(node, ast.FormattedValue)
    }
    assert set(INTERPOLATED) == used
    assert {name_of(path) for path in SOURCES} >= LAUNCHERS | set(ENVIRONMENT)
    assert set(ALLOWED) | {"cli", "tasks", "__init__"} == {part_of(path) for path in SOURCES}
