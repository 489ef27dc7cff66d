"""Which base URLs a provider may have."""

from __future__ import annotations

import pytest

from embed_star.errors import ConfigError
from embed_star.providers.ssrf import check_base_url, is_refused

REFUSED = [
    "http://169.254.169.254/v1",
    "http://169.254.0.1",
    "http://169.254.169.254:8080/latest/meta-data",
    "http://169.254.169.254.",
    "http://2852039166",  # decimal
    "http://0xa9fea9fe",  # hexadecimal
    "http://0xA9.0xFE.0xA9.0xFE",
    "http://0251.0376.0251.0376",  # octal
    "http://025177524776",
    "http://169.254.43518",  # three parts
    "http://169.0xfea9fe",
    "http://user:pass@169.254.169.254/",
    "http://169%2e254%2e169%2e254",
    "http://\uff11\uff16\uff19.254.169.254",  # full-width digits
    "http://169\u3002254\u3002169\u3002254",  # ideographic full stops
    "http://[fe80::1]",
    "http://[fe80::1%25eth0]:11434",
    "http://[febf::1]",
    "http://[fd00:ec2::254]",
    "http://[fd00:0ec2:0:0:0:0:0:254]",
    "http://[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]",
    "http://[::169.254.169.254]",
    "http://[64:ff9b::a9fe:a9fe]",  # NAT64
    "http://[2002:a9fe:a9fe::]",  # 6to4
    "http://100.100.100.200",
    "http://metadata.google.internal/computeMetadata/v1",
    "http://METADATA.google.internal.",
    "http://metadata",
]

ALLOWED = [
    "http://127.0.0.1:11434",
    "http://localhost:8000/v1",
    "http://[::1]:11434",
    "http://0.0.0.0:11434",
    "http://10.1.2.3:8000/v1",
    "http://192.168.0.7",
    "http://172.20.0.2",
    "http://[fd12:3456::1]:8000",
    "http://ollama:11434",
    "https://api.openai.com/v1",
    "https://metadata.example.com/v1",
    "https://169.254.example.com",
    "http://2130706433",  # 127.0.0.1
]


@pytest.mark.parametrize("url", REFUSED)
def test_link_local_and_metadata_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL is a link-local or metadata"):
        check_base_url(url, "OPENAI_BASE_URL")


@pytest.mark.parametrize("url", ALLOWED)
def test_other_addresses_are_the_operators_choice(url: str) -> None:
    check_base_url(url, "OLLAMA_URL")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com", "begins with http"),
        ("example.com/v1", "begins with http"),
        ("http://", "begins with http"),
        ("http://[::1", "is not a URL"),
        ("http://host:port", "is not a URL"),
        ("https://example.com/v1?key=secret", r"before any \?"),
        ("https://example.com/v1#top", r"before any \?"),
    ],
)
def test_what_is_no_base_url_is_refused_without_repeating_it(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_base_url(url, "OLLAMA_URL")
    assert str(caught.value).startswith("OLLAMA_URL")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["", "a" * 5000, "\x00", "%", "::::", "1.2.3.4.5", "[]"])
def test_nonsense_is_no_address(host: str) -> None:
    assert is_refused(host) is False
