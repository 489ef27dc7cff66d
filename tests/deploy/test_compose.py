"""docker-compose.yml: valid, hardened, and true to the code."""

from __future__ import annotations

import re
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from flower.options import default_options

from embed_star.coordination.names import prefix_of
from embed_star.settings import RootSettings, Settings, load_settings
from tests.deploy.compose import APP, make_secrets, project, settings_of
from tests.deploy.tools import CHECKOUT, check, run
from tests.support.command_line import celery, embed_star
from tests.support.command_line import run as run_program

SETTINGS = {name.upper() for name in (*Settings.model_fields, *RootSettings.model_fields)}
ONE_SHOT = {"migrate", "volumes", "ollama-model"}
Service = dict[str, Any]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def services(loaded: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = loaded["services"]
    return found


def test_compose_understands_it(services: dict[str, Service]) -> None:
    assert set(APP) < set(services)
    by_profile = {profile for one in services.values() for profile in one.get("profiles", ())}
    assert by_profile == {"ollama", "monitoring"}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("services:", "servces:"),
        ("condition: service_healthy", "condition: service_happy"),
        ("mem_limit: 768m", "mem_limits: 768m"),
    ],
)
def test_of_that_check_what_is_wrong(tmp_path: Path, good: str, bad: str) -> None:
    text = (CHECKOUT / "docker-compose.yml").read_text()
    assert good in text
    (tmp_path / "docker-compose.yml").write_text(text.replace(good, bad, 1))
    assert run("compose-spec", "docker-compose.yml", cwd=tmp_path).returncode != 0


def test_the_yaml_is_tidy() -> None:
    check(
        "yamllint", "--strict", "docker-compose.yml", "k8s", "deploy/prometheus", "deploy/grafana"
    )


def test_what_services_name_is_defined(
    loaded: dict[str, Any], services: dict[str, Service]
) -> None:
    for name, one in services.items():
        assert set(one.get("networks", ())) <= set(loaded["networks"]), name
        assert {secret["source"] for secret in one.get("secrets", ())} <= set(loaded["secrets"])
        kept = {volume["source"] for volume in one.get("volumes", ()) if volume["type"] == "volume"}
        assert kept <= set(loaded["volumes"]), name
        for other in one.get("depends_on", ()):
            assert other in services, name
            # One that is in no profile must not wait for one that is.
            profiles = services[other].get("profiles", ())
            assert not profiles or one.get("profiles") == profiles, name
    for secret in loaded["secrets"].values():
        assert Path(secret["file"]).exists()


def test_every_container_is_hardened(services: dict[str, Service]) -> None:
    for name, one in services.items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in one, name
        assert "pids_limit" in one, name
        assert one["logging"]["options"]["max-size"], name
        assert not one.get("privileged"), name
        assert set(one.get("cap_add", ())) <= ({"CHOWN"} if name == "volumes" else set()), name
        assert (one.get("user", "") != "0:0") or name == "volumes", name
        assert all(v["read_only"] for v in one.get("volumes", ()) if v["type"] == "bind"), name


def test_the_applications_containers_are_nobody(services: dict[str, Service]) -> None:
    user = re.search(r"^USER (\S+)$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    assert {services[name]["user"] for name in APP} == {user[1]}
    assert {services[name]["image"] for name in APP} == {"embed-star:local"}


def test_images_have_exact_tags(services: dict[str, Service]) -> None:
    for name in set(services) - set(APP):
        image = services[name]["image"].partition("@")[0]
        assert re.fullmatch(r"docker\.io/[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?", image), image


def test_ports_are_open_to_this_machine_only(services: dict[str, Service]) -> None:
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert not any("ports" in services[name] for name in ("redis", "cache", "producer", "worker"))


def test_the_stores_have_a_network_without_a_way_out(
    loaded: dict[str, Any], services: dict[str, Service]
) -> None:
    assert loaded["networks"]["inside"]["internal"] is True
    assert set(services["redis"]["networks"]) == set(services["cache"]["networks"]) == {"inside"}


def test_what_stays_is_watched_and_started_in_order(services: dict[str, Service]) -> None:
    for name, one in services.items():
        assert ("healthcheck" in one) == (name not in ONE_SHOT), name
        assert one["restart"] == ("unless-stopped" if name not in ONE_SHOT else one["restart"])
    for name in ("producer", "worker", "beat"):
        conditions = {on: how["condition"] for on, how in services[name]["depends_on"].items()}
        assert conditions == {
            "migrate": "service_completed_successfully",
            "surrealdb": "service_healthy",
            "redis": "service_healthy",
            "cache": "service_healthy",
        }
    assert services["migrate"]["depends_on"]["surrealdb"]["condition"] == "service_healthy"


def test_the_image_is_built_once(services: dict[str, Service]) -> None:
    """Builds of one name at the same time fail now and then."""
    ours = {name for name, one in services.items() if one["image"] == "embed-star:local"}
    assert ours == set(APP)
    assert {name for name in services if "build" in services[name]} == {"migrate"}
    assert {services[name]["pull_policy"] for name in ours - {"migrate"}} == {"never"}
    assert services["migrate"]["pull_policy"] == "missing"


def test_what_compose_reads_of_env_makes_nothing_anew(services: dict[str, Service]) -> None:
    """`.env` is the application's, too: a line of it for this file would change every process."""
    text = (CHECKOUT / "docker-compose.yml").read_text()
    for name in set(re.findall(r"\$\{(\w+)", text)) - {
        name.upper() for name in Settings.model_fields
    }:
        for service in set(APP) - {"flower"}:
            assert services[service]["environment"][name] == "", (service, name)


def test_images_leave_no_volumes_behind(services: dict[str, Service]) -> None:
    """What an image declares as a volume is given one, or a tmpfs: else each start leaves one."""
    declared = {"surrealdb": {"/data", "/logs"}, "redis": {"/data"}}
    for name, one in services.items():
        image = one["image"].rpartition("/")[2].partition(":")[0]
        given = {volume["target"] for volume in one.get("volumes", ())}
        given |= {mount.partition(":")[0] for mount in one.get("tmpfs", ())}
        assert declared.get(image, set()) <= given, name


@pytest.mark.parametrize("name", APP)
def test_environments_are_settings(services: dict[str, Service], name: str) -> None:
    environment = services[name]["environment"]
    flower = {variable for variable in environment if variable.startswith("FLOWER_")}
    assert set(environment) - flower - {"WORKERS"} <= SETTINGS
    options = {option.replace("-", "_") for option in default_options._options}
    assert {variable.removeprefix("FLOWER_").lower() for variable in flower} <= options
    assert bool(flower - {"FLOWER_ENABLE_EVENTS"}) == (name == "flower")


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("name", APP)
def test_settings_and_secrets_make_a_whole(
    services: dict[str, Service], loaded: dict[str, Any], name: str
) -> None:
    given = settings_of({k: str(v) for k, v in services[name]["environment"].items()})
    given.pop("secrets_dir")
    for secret in services[name]["secrets"]:
        content = Path(loaded["secrets"][secret["source"]]["file"]).read_text().strip()
        setting = Path(secret["target"]).name
        if setting.upper() in SETTINGS - {"ROOT_DB_PASS"} and content:
            given[setting] = content
    made = load_settings(_env_file=None, **given)
    assert made.redis_url.endswith("@redis:6379/0")
    assert made.monitoring_port == 9090


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("provider", ["openai", "together", "ollama"])
def test_flower_asks_for_no_key(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """Whichever provider .env names for the others."""
    monkeypatch.setenv("EMBEDDING_PROVIDER", provider)
    monkeypatch.setenv("EMBEDDING_MODEL", "a-model")
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "768")
    for variable, value in services["flower"]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.delenv("SECRETS_DIR")
    monkeypatch.setenv("REDIS_URL", "redis://redis:6379/0")
    assert load_settings(_env_file=None).embedding_provider == "local"


def test_only_who_needs_a_secret_has_it(services: dict[str, Service]) -> None:
    has = {
        name: {secret["source"] for secret in one.get("secrets", ())}
        for name, one in services.items()
    }
    assert {name for name, secrets in has.items() if "root_db_pass" in secrets} == {"migrate"}
    assert has["flower"] == {"flower_password", "installation_id", "observer_redis_url"}
    assert has["celery-exporter"] == {"installation_id", "observer_redis_url"}
    for name in ("producer", "worker", "beat"):
        assert has[name] == {
            "db_pass",
            "installation_id",
            "redis_url",
            "cache_url",
            "openai_api_key",
            "together_api_key",
        }


@pytest.mark.parametrize("name", APP)
def test_command_lines_are_understood(services: dict[str, Service], name: str) -> None:
    program, *words = services[name]["command"]
    if program == "celery":
        assert words[:2] == ["-A", "embed_star"]
        done = celery(*words[2:], "--help", env={"DB_PASS": "x"})
    else:
        done = embed_star(*words, "--help")
    assert done.code == 0, done.err


def test_a_worker_has_the_time_that_it_may_take(services: dict[str, Service]) -> None:
    """The longest call, the wait for the rate limit, and what is written after it."""
    settings = load_settings(_env_file=None, db_pass="x")
    longest_s = settings.provider_total_timeout_s + settings.timings.rate_limit_wait_s
    assert services["worker"]["stop_grace_period"] in ("60s", "1m0s")
    assert longest_s + 5 < 60


def test_what_is_mounted_is_there(services: dict[str, Service]) -> None:
    for name, one in services.items():
        for volume in one.get("volumes", ()):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), (name, volume)


def test_prometheus_and_grafana_look_at_services(services: dict[str, Service]) -> None:
    config = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {
        (name, sd["port"])
        for job in config["scrape_configs"]
        for sd in job.get("dns_sd_configs", ())
        for name in sd["names"]
    }
    assert targets == {
        ("producer", 9090),
        ("worker", 9090),
        ("beat", 9090),
        ("celery-exporter", 9808),
    }
    assert {name for name, _ in targets} <= set(services)
    assert "--port=9808" in services["celery-exporter"]["command"]
    sources = CHECKOUT / "deploy/grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(sources.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load(
        (CHECKOUT / "deploy/grafana/provisioning/dashboards/embed_star.yml").read_text()
    )["providers"]
    mounted = {volume["target"] for volume in services["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


class TestSecrets:
    def test_are_made_once_and_kept(self, tmp_path: Path) -> None:
        folder = tmp_path / "secrets"
        first = make_secrets(folder)
        before = {path.name: path.read_text() for path in folder.iterdir()}
        second = make_secrets(folder)
        assert {path.name: path.read_text() for path in folder.iterdir()} == before
        assert "everything is there" in second
        for content in filter(None, before.values()):
            assert content.strip() not in first + second, "a secret was printed"
        passwords = [before[name] for name in before if name.endswith(("_pass", "_password"))]
        assert len(set(passwords)) == len(passwords) == 7
        assert all(len(password) >= 40 for password in passwords)

    def test_have_no_end_of_line(self, tmp_path: Path) -> None:
        """`kubectl create secret --from-file` keeps it, and SurrealDB takes it for a part of its
        root's password."""
        make_secrets(tmp_path)
        (tmp_path / "root_db_pass").write_text("from before\n")
        make_secrets(tmp_path)
        assert not [one.name for one in tmp_path.iterdir() if one.read_text()[-1:] == "\n"]

    def test_a_changed_password_is_followed(self, tmp_path: Path) -> None:
        make_secrets(tmp_path)
        (tmp_path / "redis_password").write_text("another\n")
        (tmp_path / "openai_api_key").write_text("sk-mine\n")
        make_secrets(tmp_path)
        assert ":another@" in (tmp_path / "redis_url").read_text()
        assert (tmp_path / "openai_api_key").read_text() == "sk-mine"

    def test_redis_users_are_of_one_installation(self, tmp_path: Path) -> None:
        make_secrets(tmp_path / "one")
        make_secrets(tmp_path / "two")
        names = [(tmp_path / at / "installation_id").read_text() for at in ("one", "two")]
        assert names[0] != names[1]
        load_settings(_env_file=None, db_pass="x", installation_id=names[0])
        users = (tmp_path / "one" / "redis_users.acl").read_text()
        prefix = prefix_of("gitstars", "stars", names[0])
        assert "INSTALLATION" not in users
        assert users.count("&embed_star:") == users.count(f"&{prefix}") > 0

    def test_are_kept_from_others(self, tmp_path: Path) -> None:
        folder = tmp_path / "secrets"
        make_secrets(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        # Containers read them as users of their own; the directory keeps this machine's out.
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}

    def test_what_containers_mount_is_readable_for_them(
        self, tmp_path: Path, services: dict[str, Service]
    ) -> None:
        """Whatever the umask was when the checkout was made."""
        shutil.copytree(CHECKOUT / "deploy", tmp_path / "deploy")
        for path in (tmp_path / "deploy").rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        run_program(sys.executable, str(tmp_path / "deploy/make_secrets.py")).assert_worked()
        folders = {
            Path(volume["source"]).parts[Path(volume["source"]).parts.index("deploy") + 1]
            for one in services.values()
            for volume in one.get("volumes", ())
            if volume["type"] == "bind"
        }
        for folder in folders:
            for path in (tmp_path / "deploy" / folder, *(tmp_path / "deploy" / folder).rglob("*")):
                wanted = 0o555 if path.is_dir() else 0o444
                assert path.stat().st_mode & wanted == wanted, path

    def test_are_not_for_git(self) -> None:
        assert "deploy/secrets/" in (CHECKOUT / ".gitignore").read_text().splitlines()
