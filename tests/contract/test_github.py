"""The starred client against a real HTTP server on loopback; nothing sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from embed_star.cli import import_
from embed_star.errors import ConfigError, EmbedStarError, TransientError
from embed_star.importing.github import RETRIES
from embed_star.importing.starred import StarredClient
from tests.support.github import Answer, Clock, GitHubStub
from tests.support.http_proxy import HTTPProxy

TOKEN = "ghp_canary_" + "x" * 20
REPOS = [
    {"starred_at": "2024-01-01", "repo": {"id": n, "full_name": f"Own/R{n}"}} for n in range(5)
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def other() -> Iterator[GitHubStub]:
    one = GitHubStub()
    yield one
    one.close()


@pytest.fixture
def starred(stub: GitHubStub, clock: Clock) -> Callable[..., list[Any]]:
    def ask(user: str = "me", token: str = "", max_wait_s: float = 3600) -> list[Any]:
        client = StarredClient(
            stub.url + "/",
            token,
            max_wait_s=max_wait_s,
            on_wait=lambda remaining_s, why: clock.shown.append((remaining_s, why)),
            clock=clock.time,
            sleep=clock.sleep,
            jitter=lambda: 1.0,
        )
        try:
            return list(client.starred(user))
        finally:
            client.close()
            client.close()

    return ask


Ask = Callable[..., list[Any]]


def test_every_page_is_read_in_order(stub: GitHubStub, starred: Ask) -> None:
    stub.answers = [
        Answer(REPOS[:2], headers=stub.next(2)),
        Answer(REPOS[2:4], headers={"Link": '</users/me/starred?page=3>; rel="next"'}),
        Answer(REPOS[4:], headers={"Link": f'<{stub.url}/x>; rel="prev"'}),
    ]
    assert starred() == REPOS
    assert stub.paths == [
        "/users/me/starred?per_page=100",
        "/users/me/starred?per_page=100&page=2",
        "/users/me/starred?page=3",
    ]
    _, headers = stub.asked[0]
    assert headers["accept"] == "application/vnd.github.star+json"
    assert "authorization" not in headers


def test_the_token_is_sent_with_every_page(
    stub: GitHubStub, starred: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    stub.answers = [Answer(REPOS[:1], headers=stub.next(2)), Answer(REPOS[1:2])]
    starred(token=TOKEN)
    assert [headers["authorization"] for _, headers in stub.asked] == [f"Bearer {TOKEN}"] * 2
    starred()
    assert "authorization" not in stub.asked[-1][1], "~/.netrc is not for this"


@pytest.mark.parametrize("way", ["link", "redirect"])
def test_no_other_host_is_asked(
    stub: GitHubStub, other: GitHubStub, starred: Ask, way: str
) -> None:
    if way == "link":
        stub.answers = [Answer(REPOS[:1], headers={"Link": f'<{other.url}/more>; rel="next"'})]
    else:
        stub.answers = [Answer(status=302, headers={"Location": f"{other.url}/more"})]
    with pytest.raises(ConfigError, match="refers to another host") as error:
        starred(token=TOKEN)
    assert not other.asked
    assert TOKEN not in str(error.value)


def test_a_renamed_user_is_followed_on_the_same_host(stub: GitHubStub, starred: Ask) -> None:
    stub.answers = [
        Answer(status=301, headers={"Location": f"{stub.url}/user/7/starred?per_page=100"}),
        Answer(REPOS),
    ]
    assert starred(token=TOKEN) == REPOS
    assert stub.asked[1][1]["authorization"] == f"Bearer {TOKEN}"


def test_redirects_and_pages_end(stub: GitHubStub, starred: Ask) -> None:
    stub.answers = [Answer(status=301, headers={"Location": "/users/me/starred"})]
    with pytest.raises(EmbedStarError, match="answered 301"):
        starred()
    assert len(stub.asked) == 6
    stub.answers = [Answer(REPOS, headers=stub.next(2))]
    with pytest.raises(TransientError, match="in a circle"):
        starred()


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("headers", "body", "waits_s"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000090"}, {}, 91),
        ({"Retry-After": "30"}, {}, 30),
        (
            {"Retry-After": "30", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000090"},
            {},
            30,
        ),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, {}, 60),
        ({"Retry-After": "soon"}, {}, 60),
        ({"Retry-After": "-5"}, {}, 60),
        ({"X-RateLimit-Remaining": "0"}, {}, 60),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1600000000"}, {}, 1),
        ({}, {"message": "You have exceeded a secondary rate limit"}, 60),
        # A clock that is an hour off: GitHub's own counts.
        (
            {
                "Date": "Tue, 14 Nov 2023 21:13:20 GMT",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": "1699996410",
            },
            {},
            11,
        ),
    ],
)
def test_rate_limits_are_waited_for(
    stub: GitHubStub,
    starred: Ask,
    clock: Clock,
    status: int,
    headers: dict[str, str],
    body: Any,
    waits_s: float,
) -> None:
    stub.answers = [Answer(body, status, headers), Answer(REPOS)]
    assert starred() == REPOS
    assert clock.slept_s == waits_s
    assert clock.shown[0] == (waits_s, "GitHub's rate limit is used up")
    assert clock.shown[1][0] == waits_s - 1, "the countdown is by the second"
    assert clock.shown[-1][0] == 0


def test_patience_is_for_each_page(stub: GitHubStub, starred: Ask, clock: Clock) -> None:
    limit = Answer(status=429, headers={"Retry-After": "50"})
    stub.answers = [limit, Answer(REPOS[:2], headers=stub.next(2)), limit, Answer(REPOS[2:])]
    assert starred(max_wait_s=60) == REPOS
    assert clock.slept_s == 100


@pytest.mark.parametrize("after", ["61", "99999999999999999999", "Tue, 14 Nov 2033 22:14:20 GMT"])
def test_too_long_a_wait_is_not_begun(
    stub: GitHubStub, starred: Ask, clock: Clock, after: str
) -> None:
    stub.answers = [Answer(status=429, headers={"Retry-After": after})]
    with pytest.raises(TransientError, match="--max-wait is 60: GITHUB_TOKEN raises the limit"):
        starred(max_wait_s=60)
    assert clock.slept_s == 0


def test_a_limit_that_never_ends_ends_the_patience(
    stub: GitHubStub, starred: Ask, clock: Clock
) -> None:
    stub.answers = [Answer(status=403, headers={"Retry-After": "0"})]
    with pytest.raises(TransientError, match="try again later"):
        starred(token=TOKEN, max_wait_s=100)
    assert clock.slept_s <= 100
    assert len(stub.asked) == 7  # waits of 1, 2, 4 … s


@pytest.mark.parametrize(
    "failure",
    [
        Answer(status=500),
        Answer(status=502, body=b"<html>"),
        Answer(b"<html>welcome to the hotel</html>"),
        Answer({"message": "a dict"}),
        Answer(b'[{"repo":'),
        Answer(b"[" * 100_000),
        Answer(b"\xff\xfe"),
        Answer(b"[1", cut=True),
        Answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
    ],
)
def test_failures_are_tried_again_and_then_told(
    stub: GitHubStub, starred: Ask, clock: Clock, failure: Answer
) -> None:
    stub.answers = [failure, failure, Answer(REPOS)]
    assert starred() == REPOS
    assert clock.slept_s == 3  # 1 + 2, with jitter at its most
    stub.answers = [failure]
    stub.asked.clear()
    with pytest.raises(TransientError, match=f"{RETRIES + 1} times in a row"):
        starred(token=TOKEN)
    assert len(stub.asked) == RETRIES + 1


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://u:hidden@127.0.0.1:9", "PySocks"),
        ("HTTPS_PROXY", "foo://127.0.0.1:9", "is not a URL"),
        ("REQUESTS_CA_BUNDLE", "/none/such.pem", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_what_is_wrong_on_this_side_is_one_sentence(
    clock: Clock, variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_proxies(monkeypatch)
    monkeypatch.setenv(variable, value)
    client = StarredClient("https://api.invalid", clock=clock.time, sleep=clock.sleep)
    with pytest.raises(ConfigError, match=words) as caught:
        list(client.starred("me"))
    assert caught.value.__cause__ is None
    assert "hidden" not in str(caught.value)
    assert clock.slept_s == 0, "waiting does not cure it"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_told(
    clock: Clock, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_proxies(monkeypatch)
    with HTTPProxy(b"HTTP/1.1 407 Who?\r\ncontent-length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        client = StarredClient(f"{scheme}://api.invalid", clock=clock.time, sleep=clock.sleep)
        with pytest.raises(ConfigError, match="the proxy asks for a user and a password"):
            list(client.starred("me"))


def test_a_proxy_that_resets_is_named_after_the_tries(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_proxies(monkeypatch)
    with HTTPProxy(b"") as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        client = StarredClient("https://api.invalid", clock=clock.time, sleep=clock.sleep)
        with pytest.raises(TransientError, match="proxy") as caught:
            list(client.starred("me"))
        assert len(proxy.asked) == RETRIES + 1
    assert "NO_PROXY" in str(caught.value)


def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


def test_an_api_that_cannot_be_reached_is_told(stub: GitHubStub, starred: Ask) -> None:
    stub.close()
    with pytest.raises(TransientError, match=r"could not be reached \(ConnectionError\)"):
        starred()


@pytest.mark.parametrize(
    ("status", "token", "why"),
    [
        (404, "", "has no user me"),
        (401, TOKEN, "refused GITHUB_TOKEN"),
        (401, "", "check GITHUB_TOKEN"),
        (403, TOKEN, "check GITHUB_TOKEN and its rights"),
        (418, "", "answered 418"),
    ],
)
def test_refusals_are_one_sentence_and_asked_once(
    stub: GitHubStub, starred: Ask, status: int, token: str, why: str
) -> None:
    stub.answers = [Answer({"message": "Not Found"}, status)]
    with pytest.raises(EmbedStarError, match=why) as error:
        starred(token=token)
    assert len(stub.asked) == 1
    assert TOKEN not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("user", ["", "..", "a/b", "me?x=1", "a b", "é"])
def test_what_is_no_user_name_is_not_asked_for(stub: GitHubStub, starred: Ask, user: str) -> None:
    with pytest.raises(ConfigError, match="--starred takes"):
        starred(user)
    assert not stub.asked


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} ", f"{TOKEN}é"])
def test_a_malformed_token_is_not_told(starred: Ask, token: str) -> None:
    with pytest.raises(ConfigError, match="GITHUB_TOKEN holds") as error:
        starred(token=token)
    assert "canary" not in str(error.value)


def test_a_huge_answer_is_not_read(
    stub: GitHubStub, starred: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_star.importing.github.MAX_ANSWER_BYTES", 1000)
    stub.answers = [Answer(b"[" + b" " * 100_000 + b"]")]
    with pytest.raises(ConfigError, match="answers too much"):
        starred()


def test_the_command_asks_github(
    stub: GitHubStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_PASS", "made-up")
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    stub.answers = [Answer([*REPOS, {"starred_at": "2024", "repo": None}])]
    result = CliRunner().invoke(
        import_.command, ["--starred", "me", "--github-api", stub.url, "--dry-run"]
    )
    assert result.exit_code == 1
    assert "me's stars: 6 rows read, none written (dry run), 0 duplicates, 1 bad" in result.stdout
    assert "me's stars:6: full_name is missing" in result.stderr
    assert stub.asked[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in result.output


@pytest.mark.parametrize("url", ["ftp://api.github.com", "http://[::1", "api.github.com"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    result = CliRunner().invoke(import_.command, ["--starred", "me", "--github-api", url])
    assert result.exit_code == 2
    assert "must be a URL that begins with http:// or https://" in result.stderr
