"""Normalises Redis URLs, since redis-py and Kombu read them differently.

They differ in `?db=2`, in a path that is not a number, and in every parameter that only one of
them knows. Both get the result of `normalised`, which they read alike.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode

DEFAULT_PORT = 6379

_SCHEMES = ("redis", "rediss")
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")
_CERTIFICATES = ("required", "optional", "none")
_NOT_A_URL = "must be a URL that begins with redis:// or rediss://"

_AUTHORITY = re.compile(
    r"(?:(?P<login>.*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d+))?"
)
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def normalised(url: str) -> str:
    """`url` with explicit host, port, database number, and parameters of TLS.

    Raises ValueError with a sentence that repeats no part of `url`.
    """
    scheme, separator, rest = url.strip().partition("://")
    if scheme.lower() not in _SCHEMES or not separator:
        raise ValueError(_NOT_A_URL)
    scheme = scheme.lower()
    _check_characters(rest)
    authority, path, query = _split(rest)
    match = _AUTHORITY.fullmatch(authority)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65_536:
        raise ValueError(f"{_NOT_A_URL}, with a host and perhaps its port")
    given = dict(parse_qsl(query, keep_blank_values=True))
    database = _database(path, given)
    parameters = _tls(scheme, given)
    login = f"{_login(match['login'])}@" if match["login"] else ""
    query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
    return f"{scheme}://{login}{match['host']}:{port}/{database}{query}"


def _check_characters(rest: str) -> None:
    if not rest.isascii() or any(one <= " " or one == "\x7f" for one in rest):
        raise ValueError(
            f"{_NOT_A_URL}, without spaces and with all that is not ASCII percent-encoded"
        )
    if "#" in rest:
        raise ValueError(_raw("#", "%23"))
    if _LOOSE_PERCENT.search(rest):
        raise ValueError(_raw("%", "%25"))


def _split(rest: str) -> tuple[str, str, str]:
    """Authority, path and query. Raises ValueError if a password with `/` or `?` splits them."""
    authority, slash, path = rest.partition("/")
    if "?" in authority:
        authority, _, query = rest.partition("?")
        if "@" in query and "@" not in authority:  # what comes before is no host yet
            raise ValueError(_raw("?", "%3F"))
        return authority, "", query
    path, mark, query = path.partition("?")
    if "@" in path or (mark and "@" in query and "@" not in authority):
        raise ValueError(_raw("/", "%2F"))
    return authority, path if slash else "", query


def _raw(character: str, encoded: str) -> str:
    return f"holds a raw {character}: in a user's name or password, write {encoded} for it"


def _login(login: str) -> str:
    user, colon, password = login.partition(":")
    return quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")


def _database(path: str, given: dict[str, str]) -> int:
    """The database number, from the path or from `db`, which is removed from `given`."""
    path = path.rstrip("/")
    named = given.pop("db", path or "0")
    if not re.fullmatch(r"\d{1,6}", named) or (path and path != named):
        raise ValueError("must end in the number of a database, such as /0, and name no other")
    return int(named)


def _tls(scheme: str, given: dict[str, str]) -> dict[str, str]:
    """The parameters of TLS, complete. Raises ValueError for any other parameter."""
    unknown = given.keys() - set(_TLS_PARAMETERS)
    if unknown or (given and scheme != "rediss"):
        raise ValueError(
            "has a parameter that is not known: there is db, and with rediss:// "
            f"{', '.join(_TLS_PARAMETERS)}; for time-outs there is REDIS_TIMEOUT_S"
        )
    if scheme != "rediss":
        return {}
    checked = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if checked not in _CERTIFICATES:
        raise ValueError(f"must have one of {', '.join(_CERTIFICATES)} as ssl_cert_reqs")
    if not all(given.values()):
        raise ValueError("has a parameter without a value")
    # Left to itself Kombu checks no certificate, and Celery's results refuse to begin.
    return {**given, "ssl_cert_reqs": checked}
