"""Providers over HTTP: deadlines, and servers that cannot or must not be reached."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from embed_star.errors import ConfigError, ProviderConfigError, ProviderUnavailable
from embed_star.timings import Timings
from tests.contract.providers.conftest import URL_SETTINGS, Make
from tests.support.scripted_provider import ScriptedProvider

SILENT = r"silent for 0\.2 s, two thirds of PROVIDER_TOTAL_TIMEOUT_S"


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence ends a call after 0.2 s, however long all of it may take."""
    monkeypatch.setattr(Timings, "silence_s", 0.2)


@pytest.mark.parametrize("fault", ["drip", "drip_headers"])
def test_the_deadline_is_for_the_whole_call(
    name: str, fault: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(fault=fault, drip_s=0.02)
    provider = make(name, provider_total_timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=r"PROVIDER_TOTAL_TIMEOUT_S = 0\.3 s"):
        provider.embed(["x"])
    assert 0.3 <= time.monotonic() - began < 1.5


@pytest.mark.usefixtures("short_silence")
def test_a_silence_ends_the_call_earlier(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(fault="hang")
    provider = make(name, provider_total_timeout_s=5)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=SILENT):
        provider.embed(["x"])
    assert time.monotonic() - began < 2


@pytest.mark.usefixtures("short_silence")
def test_a_model_that_loads_longer_than_a_silence_may_last_is_not_cut_off_for_ever(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(loads_ms=600)  # and begins anew when whoever waits goes away, as Ollama does
    provider = make(name, provider_total_timeout_s=5)
    with pytest.raises(ProviderUnavailable, match=r"raise that if its model takes longer to load"):
        provider.embed(["x"])
    assert provider.embed(["x"]).vectors.shape == (1, 8)
    server.script(fault="hang")  # it has answered meanwhile: a silence is short again
    with pytest.raises(ProviderUnavailable, match=SILENT):
        provider.embed(["x"])


@pytest.mark.usefixtures("short_silence")
def test_a_silence_that_goes_on_names_the_whole_deadline(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(fault="hang")
    provider = make(name, provider_total_timeout_s=0.5)
    with pytest.raises(ProviderUnavailable, match=SILENT):
        provider.embed(["x"])
    with pytest.raises(
        ProviderUnavailable, match=r"PROVIDER_TOTAL_TIMEOUT_S = 0\.5 s; if its .*LOCK"
    ):
        provider.embed(["x"])


def test_a_slow_byte_at_the_end_of_the_deadline_does_not_add_a_read_timeout(
    make: Make, server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timings, "silence_s", 5.0)
    server.script(fault="drip", drip_s=0.25)
    provider = make("openai", provider_total_timeout_s=0.4)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="finish within PROVIDER_TOTAL_TIMEOUT_S"):
        provider.embed(["x"])
    assert time.monotonic() - began < 2


def test_a_call_to_a_server_that_reads_nothing_ends_and_says_so(name: str, make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # The time-out for connecting says nothing about how long an upload may take.
        provider = make(name, url, provider_total_timeout_s=0.75)
        began = time.monotonic()
        # The second where filling the buffers took longer than the rest of the time.
        said = r"(nothing for 0\.5 s, two thirds of|finish within) PROVIDER_TOTAL_TIMEOUT_S"
        with pytest.raises(ProviderUnavailable, match=said):
            provider.embed(["x" * 20_000_000])
        assert 0.5 <= time.monotonic() - began < 2


def test_a_port_where_nobody_listens_is_named_with_its_setting(name: str, make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnavailable, match=f"no connection; check {URL_SETTINGS[name]}"):
        make(name, f"http://127.0.0.1:{port}").embed(["x"])


def test_a_host_that_does_not_resolve_is_named_with_its_setting(name: str, make: Make) -> None:
    with pytest.raises(ProviderUnavailable, match=f"not resolve; check {URL_SETTINGS[name]}"):
        make(name, "http://no-such-host.invalid").embed(["x"])


def test_a_server_without_tls_is_named_with_its_setting(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_plain() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer_in_plain)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ProviderUnavailable, match=r"no trusted TLS .* OPENAI_BASE_URL"):
            make("openai", url).embed(["x"])
        thread.join()


def test_a_proxy_that_is_not_there_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ProviderUnavailable, match="through the proxy; check HTTP_PROXY"):
        make("ollama", "http://ollama.invalid").embed(["x"])


def test_metadata_addresses_are_refused_when_it_is_built(name: str, make: Make) -> None:
    with pytest.raises(ConfigError, match=f"{URL_SETTINGS[name]} is a link-local or metadata"):
        make(name, "http://2852039166")


def test_a_name_that_leads_to_a_metadata_address_gets_no_request(
    make: Make, server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No name server here answers with such an address, so its verdict is put in its place.
    monkeypatch.setattr(
        "embed_star.providers.http.deadline.is_refused", lambda host: "127." in host
    )
    with pytest.raises(ProviderConfigError, match="leads to a link-local"):
        make("openai").embed(["x"])
    assert server.ledger() == []
