"""Every security test sees a clean environment and works in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.isolation import isolated


@pytest.fixture(scope="module", autouse=True)
def isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with isolated(tmp_path_factory.mktemp("cwd")):
        yield
