"""One reading of REDIS_URL: what the settings make of it, and what both libraries make of that."""

from __future__ import annotations

import re
import ssl
from typing import Any

import pytest
import redis
from kombu import Connection

from embed_star.coordination.redis_url import normalised
from embed_star.settings import load_settings
from tasks.app import create_app

TLS = "ssl_cert_reqs=required"


def as_redis_py(url: str) -> dict[str, Any]:
    return dict(redis.ConnectionPool.from_url(url).connection_kwargs)


def as_kombu(url: str) -> dict[str, Any]:
    """As its channel hands it to the client."""
    connection = Connection(url)
    channel = connection.transport.Channel.__new__(connection.transport.Channel)
    channel.connection = connection.transport
    channel.connection.client = connection
    params = kombu_params(channel)
    return {name: params.get(name) for name in ("host", "port", "db", "username", "password")}


def kombu_params(channel: Any) -> dict[str, Any]:
    pool = channel._connparams()
    pool.pop("connection_class", None)
    return dict(pool)


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h/", "redis://h:6379/0"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("REDIS://h:1/3/", "redis://h:1/3"),
        ("redis://h?db=2", "redis://h:6379/2"),
        ("redis://h:1/?db=2", "redis://h:1/2"),
        ("redis://h/2?db=2", "redis://h:6379/2"),
        ("redis://:p@h", "redis://:p@h:6379/0"),
        ("redis://u@h", "redis://u@h:6379/0"),
        ("redis://u:p%23%2F%3F%40%25@h:1/0", "redis://u:p%23%2F%3F%40%25@h:1/0"),
        ("redis://u:p@q:r@h:1/0", "redis://u:p%40q%3Ar@h:1/0"),
        ("redis://u:[p]+&=;!@h", "redis://u:%5Bp%5D%2B%26%3D%3B%21@h:6379/0"),
        ("redis://[::1]:1/0", "redis://[::1]:1/0"),
        ("redis://:p@[fe80::1]", "redis://:p@[fe80::1]:6379/0"),
        ("rediss://h", f"rediss://h:6379/0?{TLS}"),
        ("rediss://h/?ssl_cert_reqs=CERT_NONE", "rediss://h:6379/0?ssl_cert_reqs=none"),
        (
            "rediss://h/1?ssl_ca_certs=/a/b.pem",
            f"rediss://h:6379/1?ssl_ca_certs=%2Fa%2Fb.pem&{TLS}",
        ),
        (
            "rediss://:p@h?ssl_ca_certs=/a/@b",
            f"rediss://:p@h:6379/0?ssl_ca_certs=%2Fa%2F%40b&{TLS}",
        ),
    ],
)
def test_both_libraries_read_the_same(url: str, means: str) -> None:
    made = normalised(url)
    assert made == means
    assert normalised(made) == made
    one, other = as_redis_py(made), as_kombu(made)
    assert other["host"] == one["host"]
    assert (int(other["port"]), int(other["db"])) == (one["port"], one["db"])
    for name in ("username", "password"):
        assert (other[name] or None) == one.get(name)


@pytest.mark.parametrize("checked", ["required", "optional", "none"])
def test_certificates_are_checked_alike(
    monkeypatch: pytest.MonkeyPatch, clean_environment: None, checked: str
) -> None:
    url = f"rediss://h/0?ssl_cert_reqs={checked}&ssl_ca_certs=/ca.pem"
    settings = load_settings(_env_file=None, db_pass="x", redis_url=url, cache_url=url)
    wanted = {
        "required": ssl.CERT_REQUIRED,
        "optional": ssl.CERT_OPTIONAL,
        "none": ssl.CERT_NONE,
    }[checked]
    with create_app(settings) as app:
        results = app.backend.connparams
        broker = Connection(settings.redis_url).ssl
    assert results["ssl_cert_reqs"] == broker["ssl_cert_reqs"] == wanted
    assert results["ssl_ca_certs"] == broker["ssl_ca_certs"] == "/ca.pem"
    ours = redis.ConnectionPool.from_url(settings.redis_url).make_connection()
    assert ours.cert_reqs == wanted
    assert settings.cache_url == settings.redis_url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:a#b@h:1/0", "raw #: in a user's name or password, write %23"),
        ("redis://:a/b@h:1/0", "raw /: in a user's name or password, write %2F"),
        ("redis://:a/b?c@h:1/0", "raw /: in a user's name or password, write %2F"),
        ("redis://:a?b@h:1/0", "raw ?: in a user's name or password, write %3F"),
        ("redis://:a%b@h:1/0", "raw %: in a user's name or password, write %25"),
        ("redis://:a b@h:1/0", "without spaces"),
        ("redis://:ä@h:1/0", "not ASCII percent-encoded"),
        ("redis://h/abc", "must end in the number of a database, such as /0"),
        ("redis://h/-1", "must end in the number of a database"),
        ("redis://h/1/2", "must end in the number of a database"),
        ("redis://h/1?db=2", "must end in the number of a database, such as /0, and name no other"),
        ("redis://h?db=", "must end in the number of a database"),
        ("redis://h?socket_timeout=4", "there is db, and with rediss:// ssl_ca_certs"),
        ("redis://h?socket_timeout=4", "for time-outs there is REDIS_TIMEOUT_S"),
        ("redis://h?protocol=3", "has a parameter that is not known"),
        ("redis://h?ssl_cert_reqs=none", "has a parameter that is not known"),
        ("rediss://h?ssl_cert_reqs=maybe", "one of required, optional, none as ssl_cert_reqs"),
        ("rediss://h?ssl_check_hostname=false", "has a parameter that is not known"),
        ("rediss://h?ssl_ca_certs=", "has a parameter without a value"),
        ("redis://", "must be a URL"),
        ("redis://:p@", "must be a URL"),
        ("redis://h:0", "must be a URL"),
        ("redis://h:65536", "must be a URL"),
        ("redis://h:x", "must be a URL"),
        ("redis://::1", "must be a URL"),
        ("redis://one:1,two:2/0", "must be a URL"),
        ("redis:h", "must be a URL"),
        ("redis://one,two/0", "must be a URL"),
        ("redis://h;db=1", "must be a URL"),
        ("redis://h/0?db=0&db=1", "and name no other"),
        ("unix:///run/redis.sock", "must be a URL that begins with redis:// or rediss://"),
        ("redis+socket:///run/redis.sock", "must be a URL that begins with"),
        ("sentinel://h:26379/0", "must be a URL that begins with"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        normalised(url)
    assert "@h" not in str(caught.value)
