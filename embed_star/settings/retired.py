"""Names that are no settings: those of earlier versions, and misspelt ones.

They have no effect, and nothing fails because of them; people are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from embed_star.settings.loading import RootSettings
from embed_star.settings.model import Settings
from embed_star.settings.sources import ENV_FILE, LOCAL_ENV_FILE, SECRETS_DIR

RETIRED = {
    "DB_POOL_WAIT_S": "it is a third of DB_TIMEOUT_S",
    "DB_CONNECT_TIMEOUT_S": "it is a third of DB_TIMEOUT_S, and 5 at most",
    "DB_CONNECTION_MAX_AGE_S": "it is 1800",
    "DB_CONFLICT_RETRIES": "it is 8",
    "TOGETHER_BASE_URL": (
        "it is https://api.together.xyz/v1; for another address set EMBEDDING_PROVIDER=openai "
        "and OPENAI_BASE_URL"
    ),
    "PROVIDER_CONNECT_TIMEOUT_S": "it is a sixth of PROVIDER_TOTAL_TIMEOUT_S, and 5 at most",
    "PROVIDER_READ_TIMEOUT_S": "it is two thirds of PROVIDER_TOTAL_TIMEOUT_S",
    "PROVIDER_MAX_RESPONSE_MB": "it is 64, and more where BATCH_SIZE vectors need it",
    "PROVIDER_SEARCH_SHARE": "it is 0.05",
    "PROVIDER_THROTTLED_PAUSE_S": "it is 5",
    "EMBED_RATE_LIMIT": (
        "limit the fleet with PROVIDER_REQUESTS_PER_MINUTE, or running workers, until they end, "
        "with `celery -A embed_star control rate_limit embed_star.embed_batch 10/s`"
    ),
    "IN_FLIGHT_WINDOW_S": "it is 10",
    "RETRY_BACKOFF_S": "it is 1",
    "RETRY_BACKOFF_MAX_S": "it is 8, and less where VISIBILITY_TIMEOUT_S is short",
    "BREAKER_SUCCESSES": "it is the provider's default: openai 3, together 5, ollama 2",
    "BREAKER_FAILURE_RATE": "it is 0.5",
    "BREAKER_MIN_REQUESTS": "it is 20, and BREAKER_FAILURES where that is more",
    "BREAKER_WINDOW_S": "it is 60",
    "LIVE_QUERIES": "they are used where the server can",
    "POLL_INTERVAL_S": "it is 1",
    "RECONCILE_PAGE_ROWS": "it is 500",
    "CACHE_LOCAL_ENTRIES": "it is 4096",
    "CACHE_LOCAL_TTL_S": "it is CACHE_TTL_S, and 3600 at most",
    "VALIDATE_MAGNITUDE_MIN": "it is 0.1",
    "VALIDATE_MAGNITUDE_MAX": "it is 10",
    "VALIDATE_ZERO_RATIO_MAX": "it is 0.5",
    "HNSW_MIN_ROWS": "it is 10000; the index can no longer be switched off",
    "GITHUB_API_URL": "give `embed-star import --starred` the option --github-api",
    "LIVENESS_TIMEOUT_S": "it is 30",
}
"""Name → the end of a sentence: what holds instead, or what to do."""


def retired_names() -> dict[str, str]:
    """The names that are still set, in the environment, an env file or SECRETS_DIR → advice."""
    given = {name.upper() for name in _given()}
    return {name: advice for name, advice in RETIRED.items() if name in given}


def misspelt() -> dict[str, str]:
    """Names in `.env` that are nearly a setting → that setting.

    Other names are left alone: Compose reads the same file.
    """
    known = [name.upper() for name in (*Settings.model_fields, *RootSettings.model_fields)]
    given = map(str.upper, DotEnvSettingsSource(Settings, env_file=ENV_FILE).env_vars)
    return {
        name: near[0]
        for name in given
        if name not in (*known, *RETIRED) and (near := get_close_matches(name, known, 1, 0.85))
    }


def _given() -> Iterator[str]:
    """The names of all values that are set and not empty, in capitals or not."""
    environment = EnvSettingsSource(Settings).env_vars
    files = DotEnvSettingsSource(Settings, env_file=(LOCAL_ENV_FILE, ENV_FILE)).env_vars
    yield from (name for source in (environment, files) for name, value in source.items() if value)
    named = environment.get("secrets_dir") or files.get("secrets_dir") or SECRETS_DIR
    with suppress(OSError):  # a folder whose files may be read need not be one that may be listed
        yield from (path.name for path in Path(named).iterdir() if _has_content(path))


def _has_content(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:  # a file that may not be looked at sets nothing
        return False
