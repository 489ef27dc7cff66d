"""Servers for all cases, one after the other; processes that see nothing of the developer's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.faults.cases")

from tests.faults.scene import Arena  # noqa: E402 - after its asserts are to be shown
from tests.support.isolation import isolated  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with isolated(tmp_path_factory.mktemp("cwd")):
        yield


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("arena")) as arena:
        yield arena


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep every n-th test where several processes share the work (`__main__.py`)."""
    number, _, jobs = os.environ.get("FAULTS_SHARD", "0/1").partition("/")
    items[:] = items[int(number) :: int(jobs)]
