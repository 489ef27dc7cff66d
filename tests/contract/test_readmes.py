"""READMEs against a real HTTP server on loopback; nothing sleeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from embed_star.cli import import_
from embed_star.errors import ConfigError, TransientError
from embed_star.importing import readmes
from embed_star.importing.github import RETRIES
from embed_star.importing.readmes import Readme, ReadmeClient, with_readmes
from embed_star.importing.repo import BadLine, Repo, Row
from embed_star.models import key_text
from embed_star.settings import Settings
from tests.support.github import Answer, Clock, GitHubStub
from tests.support.world import World
from tests.unit.test_import_command import MemorySink

TOKEN = "ghp_canary_" + "x" * 20
ETAG = 'W/"abc"'


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(stub: GitHubStub, clock: Clock) -> Iterator[ReadmeClient]:
    one = ReadmeClient(
        stub.url,
        TOKEN,
        max_wait_s=100,
        on_wait=lambda remaining_s, why: clock.shown.append((remaining_s, why)),
        clock=clock.time,
        sleep=clock.sleep,
        jitter=lambda: 1.0,
    )
    yield one
    one.close()


def rows(*names: str, **fields: Any) -> list[Row | BadLine]:
    return [
        Row(line, Repo(name.lower(), {"full_name": name, **fields}))
        for line, name in enumerate(names, 1)
    ]


def none_known(keys: Any) -> list[str]:
    return [""] * len(keys)


def fetched(found: Iterator[Row | BadLine]) -> list[dict[str, Any]]:
    return [one.repo.fields for one in found if isinstance(one, Row)]


class TestTheClient:
    def test_asks_for_the_text_and_keeps_the_etag(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer("# Tïtle\n".encode(), headers={"ETag": ETAG})]
        assert client.readme("Own/R.1") == Readme("# Tïtle\n", ETAG)
        path, headers = stub.asked[0]
        assert path == "/repos/Own/R.1/readme"
        assert headers["accept"] == "application/vnd.github.raw+json"
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert "if-none-match" not in headers

    def test_what_is_as_it_was_is_not_sent_again(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer(b"", 304)]
        assert client.readme("a/b", ETAG) is None
        assert stub.asked[0][1]["if-none-match"] == ETAG

    @pytest.mark.parametrize("etag", ["a", '"a"\r\nX-Evil: 1', '"' + "x" * 500 + '"'])
    def test_an_etag_that_is_none_is_not_sent(
        self, stub: GitHubStub, client: ReadmeClient, etag: str
    ) -> None:
        stub.answers = [Answer(b"text")]
        assert client.readme("a/b", etag) == Readme("text")
        assert "if-none-match" not in stub.asked[0][1]

    @pytest.mark.parametrize(
        "name", ["a", "a/..", "./b", "a/b?x", "a/b/c", "a/b#", "é/b", "a/b%2f"]
    )
    def test_a_name_that_github_cannot_have_is_not_asked_for(
        self, stub: GitHubStub, client: ReadmeClient, name: str
    ) -> None:
        found = client.readme(name)
        assert found
        assert "no such name" in found.failure
        assert not stub.asked

    def test_a_renamed_repository_is_followed(self, stub: GitHubStub, client: ReadmeClient) -> None:
        stub.answers = [
            Answer(status=301, headers={"Location": f"{stub.url}/repositories/7/readme"}),
            Answer(b"text"),
        ]
        assert client.readme("a/b") == Readme("text")

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ("Grüße".encode("utf-16"), "Grüße"),
            ("Grüße, all of you".encode("utf-16-le"), "Grüße, all of you"),
            ("Grüße".encode("cp1252"), "Grüße"),
            ("\ufeffGrüße".encode(), "Grüße"),
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00", ""),
            (b"", ""),
        ],
    )
    def test_any_encoding_is_text_and_binary_data_is_none(
        self, stub: GitHubStub, client: ReadmeClient, body: bytes, text: str
    ) -> None:
        stub.answers = [Answer(body, headers={"ETag": ETAG})]
        assert client.readme("a/b") == Readme(text, ETAG)

    def test_of_a_huge_one_the_beginning_is_read(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer(b"x" * 5_000_000)]
        found = client.readme("a/b")
        assert found
        assert len(found.text) == readmes.MAX_README_BYTES

    @pytest.mark.parametrize(
        ("headers", "waits_s"),
        [
            ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000090"}, 91),
            ({"Retry-After": "30"}, 30),
        ],
        ids=["primary", "secondary"],
    )
    def test_rate_limits_are_waited_for(
        self,
        stub: GitHubStub,
        client: ReadmeClient,
        clock: Clock,
        headers: dict[str, str],
        waits_s: float,
    ) -> None:
        stub.answers = [Answer(status=403, headers=headers), Answer(b"text")]
        assert client.readme("a/b") == Readme("text")
        assert clock.slept_s == waits_s

    @pytest.mark.parametrize("status", [403, 409, 451])
    def test_a_refusal_is_of_that_one_alone(
        self, stub: GitHubStub, client: ReadmeClient, status: int
    ) -> None:
        stub.answers = [Answer(status=status), Answer(b"text")]
        one, two = with_readmes(rows("a/b", "c/d"), client, none_known)
        assert isinstance(one, Row)
        assert one.left_out == (f"readme: GitHub answered {status} when asked for the README",)
        assert isinstance(two, Row)
        assert two.repo.fields["readme"] == "text"

    def test_a_refused_token_ends_it(self, stub: GitHubStub, client: ReadmeClient) -> None:
        stub.answers = [Answer(status=401)]
        with pytest.raises(ConfigError, match="refused GITHUB_TOKEN") as error:
            client.readme("a/b")
        assert TOKEN not in str(error.value)


class TestTheRows:
    def test_one_that_brings_its_readme_is_not_asked_for(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        bad = BadLine(2, "bad")
        given = [*rows("a/b", readme="its own"), bad]
        assert list(with_readmes(given, client, none_known)) == given
        assert not stub.asked

    def test_one_without_stays_as_it_is_and_loses_one_that_is_gone(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer(status=404)]
        assert fetched(with_readmes(rows("a/b"), client, none_known)) == [{"full_name": "a/b"}]
        gone = fetched(with_readmes(rows("a/b"), client, lambda keys: [ETAG for _ in keys]))
        assert gone == [{"full_name": "a/b", "readme": "", "readme_etag": ""}]

    def test_a_github_that_is_down_ends_it_after_a_few(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer(b"text"), Answer(status=502)]
        found = with_readmes(rows("a/1", "a/2", "a/3", "a/4"), client, none_known)
        assert all(isinstance(next(found), Row) for _ in range(3))
        with pytest.raises(TransientError, match="answered 502"):
            next(found)
        assert len(stub.asked) == 1 + readmes.FAILED_IN_A_ROW * (RETRIES + 1)

    def test_etags_are_looked_up_for_many_rows_at_once(
        self, stub: GitHubStub, client: ReadmeClient
    ) -> None:
        stub.answers = [Answer(b"", 304)]
        looked_up: list[int] = []

        def etags(keys: Any) -> list[str]:
            looked_up.append(len(keys))
            return [f'"{key}"' for key in keys]

        names = [f"a/{n}" for n in range(readmes.ROWS_AT_ONCE + 5)]
        assert len(fetched(with_readmes(rows(*names), client, etags))) == len(names)
        assert looked_up == [readmes.ROWS_AT_ONCE, 5]
        assert [one["if-none-match"] for _, one in stub.asked] == [f'"{name}"' for name in names]


class TestTheCommand:
    @pytest.fixture
    def sink(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> MemorySink:
        one = MemorySink()

        @contextmanager
        def open_sink(_settings: Settings) -> Iterator[MemorySink]:
            yield one

        monkeypatch.setattr(import_, "open_sink", open_sink)
        monkeypatch.setenv("DB_PASS", "made-up")
        monkeypatch.chdir(tmp_path)
        return one

    @pytest.fixture
    def run(self, stub: GitHubStub) -> Callable[..., Result]:
        def run(*args: str, stdin: str = "") -> Result:
            options = ["--github-api", stub.url, *args]
            return CliRunner().invoke(import_.command, options, input=stdin)

        return run

    def test_fetches_those_of_a_user_s_stars(
        self, stub: GitHubStub, sink: MemorySink, run: Callable[..., Result]
    ) -> None:
        starred = [{"starred_at": "2024", "repo": {"full_name": f"Own/R{n}"}} for n in range(2)]
        stub.answers = [
            Answer(starred),
            Answer(b"# One", headers={"ETag": '"1"'}),
            Answer(status=404),
        ]
        result = run("--starred", "me", "--readme")
        assert result.exit_code == 0, result.output
        assert "me's stars: 2 rows read, 2 written" in result.stdout
        assert sink.repos["own/r0"]["readme"] == "# One"
        assert "readme" not in sink.repos["own/r1"]
        assert stub.paths[1:] == ["/repos/Own/R0/readme", "/repos/Own/R1/readme"]

    def test_goes_on_where_it_was_stopped(
        self, stub: GitHubStub, sink: MemorySink, run: Callable[..., Result]
    ) -> None:
        file = "".join(json.dumps({"full_name": f"a/{n}"}) + "\n" for n in range(3))
        limit = Answer(status=429, headers={"Retry-After": "500"})
        stub.answers = [Answer(b"zero", headers={"ETag": '"0"'}), limit]
        result = run("-", "--readme", "--max-wait", "60", stdin=file)
        assert isinstance(result.exception, TransientError)
        assert "1 rows were written before this" in result.stderr
        assert sink.repos == {"a/0": {"full_name": "a/0", "readme": "zero", "readme_etag": '"0"'}}
        stub.answers = [Answer(b"", 304), Answer(b"one", headers={"ETag": '"1"'}), Answer(b"two")]
        stub.asked.clear()
        assert run("-", "--readme", stdin=file).exit_code == 0
        assert [headers.get("if-none-match") for _, headers in stub.asked] == ['"0"', None, None]
        assert [sink.repos[f"a/{n}"]["readme"] for n in range(3)] == ["zero", "one", "two"]

    def test_alone_it_is_for_the_rows_that_are_there(
        self, stub: GitHubStub, sink: MemorySink, run: Callable[..., Result]
    ) -> None:
        sink.repos = {"x": {"full_name": "Own/R", "stars": 3}}
        stub.answers = [Answer(b"text", headers={"ETag": '"1"'})]
        result = run("--readme", "--lane", "backfill")
        assert "repo: 1 rows read, 1 written" in result.stdout
        assert sink.repos["x"] == {
            "full_name": "Own/R",
            "stars": 3,
            "readme": "text",
            "readme_etag": '"1"',
        }
        assert sink.lanes == {1}

    def test_a_dry_run_asks_for_none(
        self, stub: GitHubStub, sink: MemorySink, run: Callable[..., Result]
    ) -> None:
        result = run("-", "--readme", "--dry-run", stdin='{"full_name":"a/b"}')
        assert (result.exit_code, stub.asked, sink.repos) == (0, [], {})
        assert run("--readme", "--dry-run").exit_code == 2


@pytest.mark.parametrize("make_world", ["server", "embedded"], indirect=True)
def test_the_database_knows_the_etags_and_the_rows(world: World) -> None:
    readmes = world.store.readmes  # type: ignore[attr-defined]
    world.write("a/b", full_name="A/B", readme="text", readme_etag='"1"')
    world.write("c/d", full_name="C/D", readme_etag='"lost its readme"')
    world.write(7, full_name="E/F", readme="its own")
    world.write("nameless", description="x")
    assert readmes.etags(["a/b", "c/d", 7, "none"]) == {key_text("a/b"): '"1"'}
    found, after = [], None
    while True:
        page, after = readmes.page(after, 2)
        found += page
        if after is None:
            break
    assert found == [(7, "E/F"), ("a/b", "A/B"), ("c/d", "C/D")]
