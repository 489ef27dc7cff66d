"""What `embed-star mcp` does without a server: the token, the missing extra, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import structlog
from mcp.server.mcpserver.exceptions import ToolError

from embed_star.cli.mcp import read_token
from embed_star.errors import ConfigError, StoreUnavailable
from embed_star.mcp.tools import _answered
from tests.support.command_line import EMBED_STAR, run
from tests.support.isolation import CHECKOUT

TOKEN = "t" * 40


class TestToken:
    def test_is_made_once_for_its_owner_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "new" / "token"
        token = read_token(file)
        assert len(token) >= 32
        assert file.stat().st_mode & 0o777 == 0o600
        assert read_token(file) == token
        assert read_token(tmp_path / "other") != token

    def test_may_be_written_by_hand(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n\n")
        file.chmod(0o600)
        assert read_token(file) == TOKEN

    @pytest.mark.parametrize(
        ("content", "mode", "said"),
        [
            (TOKEN, 0o644, "chmod 600"),
            (TOKEN, 0o620, "chmod 600"),
            ("", 0o600, "fewer than 32"),
            (TOKEN[:31], 0o600, "fewer than 32"),
            ("é" * 40, 0o600, "no plain text"),
        ],
    )
    def test_one_that_is_no_secret_is_refused(
        self, tmp_path: Path, content: str, mode: int, said: str
    ) -> None:
        file = tmp_path / "token"
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)
        with pytest.raises(ConfigError, match=said) as error:
            read_token(file)
        assert TOKEN[:31] not in str(error.value)
        assert file.read_text(encoding="utf-8") == content

    def test_a_place_where_none_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for place in (tmp_path / "file" / "token", tmp_path):
            with pytest.raises(ConfigError, match="cannot be read or made"):
                read_token(place)


class TestErrors:
    def test_ours_are_told_as_they_are(self) -> None:
        def fail() -> None:
            raise StoreUnavailable("SurrealDB does not answer: check DB_URL\x1b[2J")

        with pytest.raises(ToolError, match="SurrealDB does not answer") as error:
            _answered(fail)  # type: ignore[arg-type]
        assert "\x1b" not in str(error.value)

    def test_what_nobody_expected_is_named_in_the_log_and_not_told(self) -> None:
        def fail() -> None:
            raise ValueError("a row's secret words")

        with structlog.testing.capture_logs() as logs, pytest.raises(ToolError) as error:
            _answered(fail)  # type: ignore[arg-type]
        assert "secret" not in str(error.value)
        (line,) = logs
        assert line["error"] == "ValueError"
        assert "in fail" in line["place"]
        assert "secret" not in str(logs)


def test_without_the_package_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError(\"No module named 'mcp'\")")
    path = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
    done = run(*EMBED_STAR, "mcp", env={"PYTHONPATH": path, "DB_PASS": "x"}, cwd=tmp_path)
    done.assert_one_sentence("pip install 'embed-star[mcp]'")
    assert done.code == 2
    run(*EMBED_STAR, "mcp", "--help", env={"PYTHONPATH": path}, cwd=tmp_path).assert_worked()


def test_wrong_settings_are_named_before_anything_is_served(tmp_path: Path) -> None:
    done = run(*EMBED_STAR, "mcp", env={"DB_PASS": "x", "BATCH_SIZE": "many"}, cwd=tmp_path)
    done.assert_one_sentence("BATCH_SIZE")
    assert done.out == ""


def test_ctrl_c_ends_it_though_stdin_is_open(tmp_path: Path) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    with subprocess.Popen(
        [*EMBED_STAR, "mcp"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "DB_PASS": "x"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(hello) + "\n")
        process.stdin.flush()
        assert "embed-star" in process.stdout.readline()  # it serves
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
