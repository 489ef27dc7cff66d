"""Where settings come from: arguments, the environment, env files, secret files, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from embed_star.errors import ConfigError

LOCAL_ENV_FILE = ".embed-star/local.env"
"""Written by `embed-star up`: where its servers listen. `.env` and the environment win."""

ENV_FILE = ".env"
"""In the working directory."""

SECRETS_DIR = "/run/secrets"
"""Where Compose puts secrets, and where the manifests for Kubernetes mount them."""


class _SecretFiles(SecretsSettingsSource):
    """Files of SECRETS_DIR, each named as its setting; what comes before decides which directory.

    An empty file counts as not there, as an empty variable does. Raises ConfigError when a
    directory that was asked for is none, or a file cannot be read.
    """

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("secrets_dir")
        self.secrets_dir = Path(named or SECRETS_DIR)
        if not self.secrets_dir.is_dir():
            if self.secrets_dir != Path(SECRETS_DIR):
                raise ConfigError("settings: SECRETS_DIR names no directory")
            return {}
        try:
            found = super().__call__()
        except SettingsError:
            raise ConfigError(
                f"settings: the file of {self._reading.upper()} in SECRETS_DIR cannot be read: it "
                "must be text that the user of this process may read"
            ) from None
        return {name: value for name, value in found.items() if value}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        self._reading = field_name  # for the error; the one that arrives does not name it
        return super().get_field_value(field, field_name)


class FromEnvironment(BaseSettings):
    """Settings read from these sources."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del file_secret_settings
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls)
