"""Reading the settings, with every fault in one sentence for people."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from embed_star.errors import ConfigError
from embed_star.settings.declared import SECRETS_DIR_MEANING
from embed_star.settings.fields import setting
from embed_star.settings.model import Settings
from embed_star.settings.sources import ENV_FILE, SECRETS_DIR, FromEnvironment


class RootSettings(FromEnvironment):
    """SurrealDB's root user; read by `embed-star migrate --bootstrap` and nothing else."""

    model_config = SettingsConfigDict(
        env_file=(ENV_FILE,), extra="ignore", frozen=True, env_ignore_empty=True
    )

    root_db_user: str = setting("root", "root user, for migrate --bootstrap only", "name")
    root_db_pass: SecretStr = setting(SecretStr(""), "password of ROOT_DB_USER", "text")
    secrets_dir: str = setting(SECRETS_DIR, SECRETS_DIR_MEANING, "path")


def load_root_settings() -> RootSettings:
    """Read the root user. Raises ConfigError when the password is not set."""
    root = RootSettings()
    if not root.root_db_pass.get_secret_value():
        raise ConfigError("settings: ROOT_DB_PASS is not set, and --bootstrap needs it")
    return root


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; `overrides` win over the environment.

    Raises ConfigError with every fault in one message. Values are not repeated in it:
    one of them may be a secret in the wrong variable.
    """
    try:
        return Settings.read(**overrides)
    except ValidationError as error:
        faults = [_fault(dict(one)) for one in error.errors(include_url=False, include_input=False)]
        raise ConfigError("settings: " + "; ".join(faults)) from None


def _fault(error: dict[str, Any]) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "settings"
    if error["type"] == "missing":
        return (
            f"{name} is not set ({Settings.model_fields[name.lower()].description}): put it into "
            "the environment, a .env file here or a file in SECRETS_DIR, or run this where "
            "`embed-star up` is running"
        )
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} {text[0].lower()}{text[1:]}"
