"""Everything as `embed-star up` runs it, with the scripted provider in place of a real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from embed_star.devstack.database import Engine
from embed_star.devstack.servers import ServerOptions
from embed_star.devstack.stack import LocalStack
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import find_surreal

DIMENSIONS = 16

PROMPT_RECOVERY = {
    # Locks, leases and redelivery as short as the settings' own rules allow.
    "PROVIDER_TOTAL_TIMEOUT_S": "3",
    "LOCK_TTL_S": "13",
    "VISIBILITY_TIMEOUT_S": "12",
    "LEADER_LEASE_S": "2",
    "REDIS_TIMEOUT_S": "2",
}


def provider_environment(
    provider: ScriptedProvider, dimensions: int = DIMENSIONS
) -> dict[str, str]:
    """The settings that make `provider` the one that is asked."""
    return {
        "EMBEDDING_PROVIDER": "openai",
        "OPENAI_BASE_URL": provider.openai_url,
        "EMBEDDING_MODEL": "scripted-model",
        "EMBEDDING_DIMENSIONS": str(dimensions),
    }


@contextmanager
def whole_stack(
    folder: Path,
    *,
    engine: Engine = "server",
    workers: int = 1,
    env: Mapping[str, str] | None = None,
) -> Iterator[tuple[LocalStack, Lab]]:
    """All parts started and ready, nothing kept on disk; everything gone at the end."""
    if engine == "server":
        find_surreal()
    with ScriptedProvider("--dimensions", str(DIMENSIONS)) as provider:
        own = {**provider_environment(provider), "LOG_FORMAT": "json", **(env or {})}
        stack = LocalStack(
            folder / "data",
            workers=workers,
            engine=engine,
            servers=ServerOptions(memory=True),
            env=own,
        )
        with stack:
            stack.wait_ready()
            with Lab(stack.settings(), provider, {**own, **stack.environment}) as lab:
                yield stack, lab
