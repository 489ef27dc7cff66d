"""The types of settings, with the checks of their values, and how a setting is declared.

No check repeats a value: it may be a secret in the wrong variable.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.config import JsonDict
from pydantic_settings import NoDecode

from embed_star.coordination import redis_url
from embed_star.providers import catalogue

_FIELD_PATH = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62}){0,3}")
_NAME_CHARACTERS = 255
AUTO = "auto"
"""A number that is chosen while working; as a value, None."""
_INSTALLATION = re.compile(r"[A-Za-z0-9_-]{1,64}")


def setting(default: Any, meaning: str, unit: str, note: str = "", **limits: Any) -> Any:
    """A field of the settings. `...` as the default: it must be set.

    `meaning` is for error messages and documents, `unit` and `note` are for documents only.
    """
    extra: JsonDict = {"unit": unit, "note": note}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def _check_url(value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # its words repeat the URL, password included
        good = False
    if not good:
        raise ValueError(
            f"must be a URL that begins with {' or '.join(s + '://' for s in schemes)}"
        )
    return value.rstrip("/")


def _websocket_url(value: str) -> str:
    if "@" in value:
        raise ValueError("must hold no user and password: DB_USER and DB_PASS are for that")
    return _check_url(value, ("ws", "wss"))


def _redis_url(value: str) -> str:
    return redis_url.normalised(value) if value else value


def _tracing_url(value: str) -> str:
    if "@" in value:
        raise ValueError("must hold no user and password")
    return _check_url(value, ("http", "https")) if value else value


def http_url(value: str) -> str:
    """`value` without a slash at its end. Raises ValueError for what is no such URL."""
    return _check_url(value, ("http", "https"))


def _ip_address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1, 0.0.0.0 or ::") from None
    return value


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("must not be empty")
    return value


def _name(value: str) -> str:
    odd = value != value.strip() or not value.isprintable()
    if odd or not 1 <= len(value) <= _NAME_CHARACTERS:
        raise ValueError(
            f"must be 1 to {_NAME_CHARACTERS} printable characters, with no space at its ends"
        )
    return value


def _installation(value: str) -> str:
    if value and not _INSTALLATION.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dashes and underscores")
    return value


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _field_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(map(_FIELD_PATH.fullmatch, value)):
        raise ValueError("must be field names such as description,owner.login")
    return value


def _key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not key.isascii() or any(character.isspace() for character in key):
        raise ValueError("holds a space or a character that no key has; paste it again")
    return value


def _auto(value: Any) -> Any:
    """None for `auto`."""
    if isinstance(value, str):
        if value.strip().lower() == AUTO:
            return None
        if not value.strip().lstrip("+-").isdecimal():
            raise ValueError(f"must be a whole number, or {AUTO}")
    return value


def _provider(value: str) -> str:
    if value not in catalogue.PROVIDERS:
        raise ValueError(f"must be one of {', '.join(catalogue.PROVIDERS)}")
    return value


Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600)]
Rows = Annotated[int, Field(ge=1, le=1_000_000)]
AutoInt = Annotated[int | None, BeforeValidator(_auto)]
WebSocketUrl = Annotated[str, AfterValidator(_websocket_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
TracingUrl = Annotated[str, AfterValidator(_tracing_url)]
HttpUrl = Annotated[str, AfterValidator(http_url)]
IPAddress = Annotated[str, AfterValidator(_ip_address)]
Password = Annotated[SecretStr, AfterValidator(_not_empty)]
Key = Annotated[SecretStr, AfterValidator(_key)]
Name = Annotated[str, AfterValidator(_name)]
InstallationId = Annotated[str, AfterValidator(_installation)]
ProviderName = Annotated[str, AfterValidator(_provider)]
FieldNames = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_field_names)
]
