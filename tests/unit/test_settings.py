"""Settings: all faults in one message, no value in it, rules between them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embed_star import services, timings
from embed_star.calling import validation
from embed_star.errors import ConfigError
from embed_star.produce import vector_index
from embed_star.providers.catalogue import PROVIDERS
from embed_star.providers.http import deadline
from embed_star.services import backends, calling
from embed_star.settings import (
    RETIRED,
    RootSettings,
    Settings,
    load_root_settings,
    load_settings,
    misspelt,
    retired_names,
)
from embed_star.settings.model import KEYS
from embed_star.timings import LOCK_MARGIN_S

CANARY = "sk-canary-41d7"

FAULTY = {
    "DB_URL": f"http://{CANARY}",
    "DB_USER": f"{CANARY}\n; REMOVE USER root",
    "DB_NAMESPACE": f" {CANARY}",
    "DB_DATABASE": f"{CANARY}\u202e" * 30,
    "DB_POOL_SIZE": CANARY,
    "DB_TIMEOUT_S": "-1",
    "REDIS_URL": f"redis://:{CANARY}\u2100@host",
    "CACHE_URL": f"memcached://{CANARY}",
    "REDIS_TIMEOUT_S": "inf",
    "EMBEDDING_PROVIDER": CANARY,
    "EMBEDDING_DIMENSIONS": "65537",
    "OLLAMA_URL": f"redis://host:{CANARY}",
    "OPENAI_BASE_URL": f"http://host:{CANARY}/v1",
    "OPENAI_API_KEY": f"{CANARY} \u201c",
    "TEXT_FIELDS": f"description,{CANARY}",
    "BATCH_SIZE": "0",
    "MONITORING_HOST": CANARY,
    "LOCK_TTL_S": "nan",
    "BREAKER_OPEN_S": CANARY,
    "TRACING_SAMPLE_RATIO": "1.5",
    "LOG_LEVEL": CANARY,
    "TRACING_ENDPOINT": f"ftp://{CANARY}",
}


@pytest.fixture(autouse=True)
def _alone(
    clean_environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No environment and no .env but the test's own."""
    monkeypatch.chdir(tmp_path)


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in ({"DB_PASS": "x"} | environment).items():
        monkeypatch.setenv(name, value)
    return load_settings()


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(monkeypatch, **environment)
    return str(caught.value)


class TestFaults:
    def test_are_named_all_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in FAULTY.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError) as caught:
            load_settings()
        message = str(caught.value)
        assert "\n" not in message
        for name in (*FAULTY, "DB_PASS"):
            assert re.search(rf"\b{name} ", message), name
        assert CANARY not in message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("name", sorted(FAULTY))
    def test_are_named_one_by_one_without_the_value(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        message = refusal(monkeypatch, **{name: FAULTY[name]})
        assert message.startswith(f"settings: {name} ")
        assert CANARY not in message
        others = [other for other in Settings.model_fields if f"; {other.upper()} " in message]
        assert others == [], "one fault makes one remark"

    @pytest.mark.parametrize("name", sorted(Settings.model_fields))
    def test_a_secret_in_the_wrong_variable_is_not_repeated(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("DB_PASS", "x")
        monkeypatch.setenv(name.upper(), CANARY)
        message = ""
        try:
            load_settings()
        except ConfigError as error:
            message = str(error)
        assert CANARY not in message

    def test_a_missing_password_is_explained(self) -> None:
        with pytest.raises(ConfigError, match=r"^settings: DB_PASS is not set \(password of"):
            load_settings()

    def test_an_empty_one_counts_as_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "DB_PASS" in refusal(monkeypatch, DB_PASS="")

    @pytest.mark.parametrize(
        "fields", ["", ",", "a,,b", "a;b", "A", "a.b.c.d.e", "a b", "`a`", "$after", "a[0]", "*"]
    )
    def test_field_names_are_names(self, monkeypatch: pytest.MonkeyPatch, fields: str) -> None:
        with pytest.raises(ConfigError, match="TEXT_FIELDS"):
            load_settings(db_pass="x", text_fields=fields)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DB_URL", "ws://"),
            ("DB_URL", "127.0.0.1:8000"),
            ("REDIS_URL", "redis://host:0"),
            ("REDIS_URL", "redis://host:65536"),
            ("REDIS_URL", "unix:///run/redis.sock"),  # Celery's broker knows no such URL
            ("OLLAMA_URL", "http://[::1"),
        ],
    )
    def test_urls_are_urls(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        assert f"{name} must be a URL" in refusal(monkeypatch, **{name: value})


class TestRules:
    def test_a_lock_outlives_a_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        call = {"PROVIDER_TOTAL_TIMEOUT_S": "60"}
        assert "LOCK_TTL_S must be at least" in refusal(monkeypatch, **call, LOCK_TTL_S="69")
        made = settings(monkeypatch, **call, LOCK_TTL_S=str(60 + LOCK_MARGIN_S))
        assert made.lock_ttl_s == 70

    def test_redis_does_not_hand_out_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task = {"PROVIDER_TOTAL_TIMEOUT_S": "30"}
        message = refusal(monkeypatch, **task, VISIBILITY_TIMEOUT_S="62")
        assert "VISIBILITY_TIMEOUT_S must be more than twice" in message
        made = settings(monkeypatch, **task, VISIBILITY_TIMEOUT_S="77")
        assert made.visibility_timeout_s == 77
        # A task's longest call and pause, twice, is less.
        assert made.timings.call_s + made.timings.retry_backoff_max_s < 77 / 2

    def test_the_grace_lets_a_call_finish(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert settings(monkeypatch).timings.grace_s == 30 + LOCK_MARGIN_S
        assert settings(monkeypatch, SHUTDOWN_GRACE_S="0").timings.grace_s == 0
        assert settings(monkeypatch, SHUTDOWN_GRACE_S="299").timings.grace_s == 299
        message = refusal(monkeypatch, SHUTDOWN_GRACE_S="300")
        assert "SHUTDOWN_GRACE_S must be less than VISIBILITY_TIMEOUT_S = 300" in message
        assert "SHUTDOWN_GRACE_S" in refusal(monkeypatch, SHUTDOWN_GRACE_S="-0.5")

    @pytest.mark.parametrize(
        ("provider", "key"), [(key.removesuffix("_api_key"), key.upper()) for key in KEYS]
    )
    def test_hosted_providers_need_a_key(
        self, monkeypatch: pytest.MonkeyPatch, provider: str, key: str
    ) -> None:
        chosen = {
            "EMBEDDING_PROVIDER": provider,
            "EMBEDDING_MODEL": "some-model",
            "EMBEDDING_DIMENSIONS": "8",
        }
        assert f"{key} is needed" in refusal(monkeypatch, **chosen)
        made = settings(monkeypatch, **chosen, **{key: CANARY})
        assert CANARY not in repr(made)
        assert CANARY not in str(made.model_dump())

    def test_another_openai_needs_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings(monkeypatch, EMBEDDING_PROVIDER="openai", OPENAI_BASE_URL="http://vllm:8000/v1")

    def test_another_model_needs_its_dimensions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other = {"EMBEDDING_PROVIDER": "ollama", "EMBEDDING_MODEL": "other"}
        assert "EMBEDDING_DIMENSIONS is needed" in refusal(monkeypatch, **other)
        assert settings(monkeypatch, **other, EMBEDDING_DIMENSIONS="3").dimensions == 3

    def test_a_known_model_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = {"EMBEDDING_PROVIDER": "local", "EMBEDDING_MODEL": "wordllama-l2-supercat"}
        assert settings(monkeypatch, **known).dimensions == 256
        assert settings(monkeypatch, **known, EMBEDDING_DIMENSIONS="64").dimensions == 64

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_each_provider_has_a_model_or_needs_one(
        self, monkeypatch: pytest.MonkeyPatch, provider: str
    ) -> None:
        chosen = {"EMBEDDING_PROVIDER": provider, **{key.upper(): "k" for key in KEYS}}
        facts = PROVIDERS[provider]
        if facts.default_model:
            made = settings(monkeypatch, **chosen)
            default = facts.models[facts.default_model]
            assert (made.model, made.dimensions) == (default.name, default.dimensions)
        else:
            assert "EMBEDDING_MODEL is needed" in refusal(monkeypatch, **chosen)


class TestSources:
    def test_the_environment_wins_over_env_files(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".embed-star").mkdir()
        (tmp_path / ".embed-star" / "local.env").write_text(
            "DB_PASS=local\nDB_USER=local\nDB_DATABASE=local\n"
        )
        (tmp_path / ".env").write_text("DB_USER=dotenv\nDB_DATABASE=dotenv\nUNKNOWN=1\n")
        monkeypatch.setenv("DB_DATABASE", "environment")
        made = load_settings()
        assert made.db_pass.get_secret_value() == "local"
        assert (made.db_user, made.db_database) == ("dotenv", "environment")
        assert load_settings(db_database="argument").db_database == "argument"

    def test_an_empty_variable_is_none_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = settings(monkeypatch, BATCH_SIZE="", TEXT_FIELDS="", REDIS_URL="")
        assert (made.batch_size, made.redis_url) == (None, "redis://127.0.0.1:6379/0")

    def test_lists_and_urls_are_tidied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = settings(monkeypatch, TEXT_FIELDS=" name , owner.login ", OLLAMA_URL="http://o:1/")
        assert made.text_fields == ("name", "owner.login")
        assert made.ollama_url == "http://o:1"

    def test_the_root_user_is_read_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="ROOT_DB_PASS is not set"):
            load_root_settings()
        monkeypatch.setenv("ROOT_DB_PASS", CANARY)
        assert load_root_settings().root_db_user == "root"
        assert CANARY not in repr(load_root_settings())
        assert "root_db_pass" not in Settings.model_fields

    def test_settings_do_not_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match="frozen"):
            settings(monkeypatch).batch_size = 5  # type: ignore[misc]


class TestSecretFiles:
    @pytest.fixture
    def secrets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An empty directory that SECRETS_DIR names."""
        folder = tmp_path / "secrets"
        folder.mkdir()
        monkeypatch.setenv("SECRETS_DIR", str(folder))
        return folder

    def test_hold_a_setting_each(self, secrets: Path) -> None:
        (secrets / "db_pass").write_text("from a file\n")
        (secrets / "REDIS_URL").write_text("redis://:password@redis:6379/0\n")
        (secrets / "unknown").write_text("of somebody else")
        made = load_settings()
        assert made.db_pass.get_secret_value() == "from a file"
        assert made.redis_url == "redis://:password@redis:6379/0"

    def test_may_be_links_as_kubernetes_makes_them(self, secrets: Path) -> None:
        (secrets / "..2026").mkdir()
        (secrets / "..2026" / "DB_PASS").write_text("linked")
        (secrets / "..data").symlink_to("..2026")
        (secrets / "DB_PASS").symlink_to("..data/DB_PASS")
        assert load_settings().db_pass.get_secret_value() == "linked"

    def test_are_read_after_all_other_sources(
        self, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("db_pass", "db_user", "db_database"):
            (secrets / name).write_text("file")
        (tmp_path / ".env").write_text("DB_USER=dotenv\n")
        monkeypatch.setenv("DB_DATABASE", "environment")
        made = load_settings()
        assert made.db_pass.get_secret_value() == "file"
        assert (made.db_user, made.db_database) == ("dotenv", "environment")

    def test_empty_ones_count_as_not_there(self, secrets: Path) -> None:
        (secrets / "db_pass").write_text("x")
        (secrets / "openai_api_key").write_text("\n")
        (secrets / "batch_size").write_text("")
        assert load_settings().batch_size is None
        (secrets / "db_pass").write_text("")
        with pytest.raises(ConfigError, match="DB_PASS is not set"):
            load_settings()

    def test_hold_the_root_users_password_too(self, secrets: Path) -> None:
        (secrets / "root_db_pass").write_text("root's")
        assert load_root_settings().root_db_pass.get_secret_value() == "root's"

    def test_a_fault_in_one_is_named_without_the_value(self, secrets: Path) -> None:
        (secrets / "db_pass").write_text("x")
        (secrets / "redis_url").write_text(CANARY)
        with pytest.raises(ConfigError, match=r"^settings: REDIS_URL must be") as caught:
            load_settings()
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize("load", [load_settings, load_root_settings])
    def test_one_that_is_no_text_is_one_sentence(
        self, secrets: Path, load: Callable[[], object]
    ) -> None:
        for name in ("db_pass", "root_db_pass"):
            (secrets / name).write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match=r"DB_PASS in SECRETS_DIR cannot be read"):
            load()

    def test_one_that_may_not_be_read_is_named(
        self, secrets: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (secrets / "db_pass").write_text("x")

        def refuse(path: Path, *_: object, **__: object) -> str:
            raise PermissionError(13, "Permission denied", str(path))

        # Tests may run as root, who may read everything.
        monkeypatch.setattr(Path, "read_text", refuse)
        with pytest.raises(ConfigError, match=r"the file of DB_PASS in SECRETS_DIR"):
            load_settings()

    def test_a_directory_that_is_named_must_be_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = refusal(monkeypatch, SECRETS_DIR="/nonexistent/secrets")
        assert message == "settings: SECRETS_DIR names no directory"


CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("embed_star", "tasks")
    for path in (CHECKOUT / folder).rglob("*.py")
    if path.name != "retired.py"
]


def strings(path: Path) -> Iterator[str]:
    """All strings of a module, with those of its docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


class TestRetired:
    """Names that were settings in earlier versions."""

    def test_are_no_setting_and_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {name.lower() for name in RETIRED}
        assert not names & (Settings.model_fields.keys() | RootSettings.model_fields.keys())
        usual = settings(monkeypatch)
        assert settings(monkeypatch, **dict.fromkeys(RETIRED, CANARY)) == usual

    @pytest.mark.parametrize("name", RETIRED)
    def test_are_named_with_what_holds_instead(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        assert retired_names() == {}
        monkeypatch.setenv(name, CANARY)
        assert retired_names() == {name: RETIRED[name]}
        monkeypatch.setenv(name, "")
        assert retired_names() == {}

    def test_are_found_wherever_settings_are(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = tmp_path / "secrets"
        folder.mkdir()
        (folder / "live_queries").write_text("false")
        (folder / "POLL_INTERVAL_S").write_text("")
        (folder / "..data").symlink_to("gone")
        (tmp_path / ".env").write_text(f"hnsw_min_rows=0\nSECRETS_DIR={folder}\nEMPTY=\n")
        (tmp_path / ".embed-star").mkdir()
        (tmp_path / ".embed-star" / "local.env").write_text("TOGETHER_BASE_URL=http://x\n")
        monkeypatch.setenv("BREAKER_WINDOW_S", "1")
        found = {"LIVE_QUERIES", "HNSW_MIN_ROWS", "TOGETHER_BASE_URL", "BREAKER_WINDOW_S"}
        assert set(retired_names()) == found

    def test_are_not_looked_for_in_a_folder_that_may_not_be_listed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(path: Path) -> Iterator[Path]:
            raise PermissionError(13, "Permission denied", str(path))

        # Tests may run as root, who may list everything.
        monkeypatch.setattr(Path, "iterdir", refuse)
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
        monkeypatch.setenv("LIVE_QUERIES", "false")
        assert retired_names() == {"LIVE_QUERIES": RETIRED["LIVE_QUERIES"]}

    def test_are_not_taken_for_misspelt_ones(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("".join(f"{name}=1\n" for name in RETIRED))
        assert misspelt() == {}

    def test_nobody_is_told_to_set_them(self) -> None:
        present = [
            *map(str.upper, Settings.model_fields),
            *map(str.upper, RootSettings.model_fields),
        ]
        for path in SOURCES:
            for text in strings(path):
                assert not set(re.findall(r"[A-Z][A-Z0-9_]+", text)) & RETIRED.keys(), path
                for family in re.findall(r"\b([A-Z][A-Z0-9_]*_)\*", text):
                    known = any(name.startswith(family) for name in present)
                    assert known or not any(name.startswith(family) for name in RETIRED), path

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DB_CONNECTION_MAX_AGE_S", timings.CONNECTION_MAX_AGE_S),
            ("DB_CONFLICT_RETRIES", backends.CONFLICT_RETRIES),
            ("PROVIDER_MAX_RESPONSE_MB", deadline.RESPONSE_BYTES >> 20),
            ("PROVIDER_SEARCH_SHARE", calling.SEARCH_SHARE),
            ("PROVIDER_THROTTLED_PAUSE_S", timings.THROTTLED_PAUSE_S),
            ("IN_FLIGHT_WINDOW_S", timings.IN_FLIGHT_WINDOW_S),
            ("RETRY_BACKOFF_S", timings.RETRY_BACKOFF_S),
            ("RETRY_BACKOFF_MAX_S", timings.RETRY_BACKOFF_MAX_S),
            ("BREAKER_FAILURE_RATE", calling.FAILURE_RATE),
            ("BREAKER_MIN_REQUESTS", calling.MIN_REQUESTS),
            ("BREAKER_WINDOW_S", timings.BREAKER_WINDOW_S),
            ("POLL_INTERVAL_S", timings.POLL_INTERVAL_S),
            ("RECONCILE_PAGE_ROWS", services.RECONCILE_PAGE_ROWS),
            ("CACHE_LOCAL_ENTRIES", backends.CACHE_LOCAL_ENTRIES),
            ("VALIDATE_MAGNITUDE_MIN", validation.MAGNITUDE_MIN),
            ("VALIDATE_MAGNITUDE_MAX", validation.MAGNITUDE_MAX),
            ("VALIDATE_ZERO_RATIO_MAX", validation.ZERO_RATIO_MAX),
            ("HNSW_MIN_ROWS", vector_index.MIN_ROWS),
            ("LIVENESS_TIMEOUT_S", timings.LIVENESS_TIMEOUT_S),
            ("TOGETHER_BASE_URL", PROVIDERS["together"].address),
        ],
    )
    def test_have_the_value_that_is_told(self, name: str, value: float | str) -> None:
        shown = value if isinstance(value, str) else f"{value:.9g}"
        assert re.fullmatch(rf"it is {re.escape(shown)}([,; ].*)?", RETIRED[name])


@pytest.mark.usefixtures("clean_environment")
def test_names_that_are_nearly_settings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert misspelt() == {}
    lines = ["BATCH_SZE=5", "DB_URL=ws://x", "root_db_pass=x", "FLOWER_PORT=1", "WORKERS=4"]
    (tmp_path / ".env").write_text("\n".join([*lines, "EMBEDING_MODEL=x"]))
    assert misspelt() == {"BATCH_SZE": "BATCH_SIZE", "EMBEDING_MODEL": "EMBEDDING_MODEL"}


@pytest.mark.parametrize("name", ["DB_PASSWORD", "REDIS_HOST", "PATH", "OPENAI_API_BASE"])
def test_what_is_somebody_elses_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"{name}=x")
    assert misspelt() == {}
