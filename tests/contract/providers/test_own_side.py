"""Providers over HTTP: what is wrong on this side of the call, proxies and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from embed_star.errors import EmbedStarError, ProviderConfigError, ProviderUnavailable
from tests.contract.providers.conftest import Make
from tests.support.http_proxy import HTTPProxy
from tests.support.scripted_provider import ScriptedProvider

FAR = "https://llm.invalid"
NEAR = "http://llm.invalid"


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)


def failure(make: Make, name: str, url: str) -> EmbedStarError:
    """The error of a call, once it is sure that it is one sentence and shows no password."""
    with pytest.raises(EmbedStarError) as caught:
        make(name, url).embed(["x"])
    message = str(caught.value)
    assert caught.value.__cause__ is None
    assert "\n" not in message
    assert "hidden" not in message
    assert "broke off its answer" not in message
    return caught.value


@pytest.mark.parametrize("url", [FAR, NEAR])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
def test_a_socks_proxy_without_its_package_says_what_to_install(
    name: str, url: str, scheme: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://u:hidden@127.0.0.1:9")
    error = failure(make, name, url)
    assert type(error) is ProviderConfigError
    assert "pip install PySocks" in str(error)
    assert "llm.invalid into NO_PROXY" in str(error)


@pytest.mark.parametrize("proxy", ["foo://127.0.0.1:9", "http://", "http://127.0.0.1:abc"])
def test_a_proxy_that_is_no_url_is_a_fault_of_the_configuration(
    name: str, proxy: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = failure(make, name, FAR)
    assert type(error) is ProviderConfigError
    assert str(error).startswith("the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not a URL")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_missing_certificate_bundle_is_named_with_its_variable(
    name: str, variable: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "none.pem"))
    error = failure(make, name, "https://127.0.0.1:9")
    assert type(error) is ProviderConfigError
    assert variable in str(error)


def test_an_empty_certificate_bundle_is_named_with_its_variable(
    name: str,
    make: Make,
    server: ScriptedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "empty.pem"
    bundle.write_text("no certificate\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    error = failure(make, name, server.url.replace("http:", "https:"))
    assert type(error) is ProviderConfigError
    assert "REQUESTS_CA_BUNDLE" in str(error)


@pytest.mark.parametrize("url", [FAR, NEAR])
@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("403 Forbidden", ProviderConfigError, "the proxy refuses to connect to llm.invalid"),
        ("407 Proxy Authentication Required", ProviderConfigError, "user:password@host"),
        ("503 Service Unavailable", ProviderUnavailable, "through the proxy (HTTP 503); check"),
        ("502 Bad Gateway", ProviderUnavailable, "through the proxy (HTTP 502); check"),
    ],
)
def test_a_proxy_that_refuses_is_told_from_the_provider(
    name: str,
    url: str,
    status: str,
    kind: type[EmbedStarError],
    words: str,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = b"<html>denied</html>"
    answer = f"HTTP/1.1 {status}\r\ncontent-length: {len(page)}\r\n\r\n".encode() + page
    with HTTPProxy(answer) as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, proxy.url.replace("://", "://u:hidden@"))
        error = failure(make, name, url)
        assert type(error) is kind
        assert words in str(error)
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("url", [FAR, NEAR])
@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n"], ids=["reset", "garbage"])
def test_a_proxy_that_breaks_is_named_with_its_variable(
    name: str, url: str, answer: bytes, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HTTPProxy(answer) as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        error = failure(make, name, url)
    assert type(error) is ProviderUnavailable
    assert "proxy" in str(error)
    assert "HTTPS_PROXY" in str(error)


def test_no_proxy_is_named_where_none_is(make: Make, server: ScriptedProvider) -> None:
    server.script(fault="reset")
    with pytest.raises(ProviderUnavailable, match="broke off its answer"):
        make("openai").embed(["x"])
