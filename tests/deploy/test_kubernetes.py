"""The manifests of k8s/: valid, restricted, and true to the code."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from flower.options import default_options

from embed_star.coordination.names import celery_prefix_of, prefix_of
from embed_star.settings import RootSettings, Settings, load_settings
from tests.deploy import manifests as k8s
from tests.deploy.compose import make_secrets
from tests.deploy.manifests import Manifest
from tests.deploy.tools import CHECKOUT, check, run
from tests.support.command_line import celery, embed_star
from tests.support.command_line import run as run_program

SETTINGS = {name.upper() for name in (*Settings.model_fields, *RootSettings.model_fields)}
SECRET = "embed-star-secrets"
OURS = {"producer", "worker", "beat"}

IGNORED_SCORES = (
    "container-image-pull-policy",  # tags are exact, and one node has its image locally
    "container-security-context-user-group-id",  # Redis' image has its own user, 999
    "deployment-has-host-podantiaffinity",  # topologySpreadConstraints do it
    "deployment-strategy",  # Flower has one volume, and so no second pod beside the first
    "deployment-replicas",  # Flower, too
    "statefulset-has-poddisruptionbudget",  # of one pod: a budget would stop the drain
    "statefulset-has-host-podantiaffinity",
    "statefulset-has-servicename",  # it wants a name of pods, whose addresses change
)


@pytest.fixture(scope="module", params=k8s.VARIANTS)
def rendered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Manifest]:
    return k8s.render(request.param, tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return k8s.render("single-node", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return k8s.render("production", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return k8s.render(k8s.ALL, tmp_path_factory.mktemp("k8s"))


def schema_faults(rendered: list[Manifest], folder: Path) -> str:
    """What kubernetes-validate finds in what is Kubernetes' own."""
    file = folder / "rendered.yaml"
    own = [one for one in rendered if one["kind"] not in k8s.CUSTOM]
    file.write_text(k8s.dump(own))
    done = run("kubernetes-validate", "--strict", str(file))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def custom_fault(manifest: Manifest, folder: Path) -> int:
    """The exit code of jsonschema with the least that the kind must be."""
    schemas = yaml.safe_load((CHECKOUT / "tests/deploy/crds.yaml").read_text())
    schema = {**schemas[manifest["kind"]], "$defs": schemas["$defs"]}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = run("jsonschema", "-i", folder / "manifest.json", folder / "schema.json")
    return done.returncode


class TestSchemas:
    def test_kubernetes_own(self, rendered: list[Manifest], tmp_path: Path) -> None:
        assert schema_faults(rendered, tmp_path) == ""

    def test_of_that_check_what_is_wrong(self, single: list[Manifest], tmp_path: Path) -> None:
        for change in ({"replicas": "two"}, {"replica": 1}):
            wrong = copy.deepcopy(single)
            k8s.named(wrong, "Deployment", "producer")["spec"] |= change
            assert schema_faults(wrong, tmp_path), change

    def test_custom_kinds(self, rendered: list[Manifest], tmp_path: Path) -> None:
        for manifest in k8s.of_kind(rendered, *k8s.CUSTOM):
            assert custom_fault(manifest, tmp_path) == 0, manifest

    def test_examples_and_rules(self, tmp_path: Path) -> None:
        example = (CHECKOUT / "k8s/examples/external-secret.yaml").read_text()
        assert custom_fault(yaml.safe_load(example), tmp_path) == 0
        assert custom_fault(prometheus_rule(), tmp_path) == 0
        wrong = prometheus_rule()
        wrong["spec"]["groups"][0]["rules"][0]["exprs"] = "1"
        assert custom_fault(wrong, tmp_path) != 0


def configured(rendered: list[Manifest]) -> dict[str, str]:
    """The settings that all pods share."""
    (config,) = [
        one["data"]
        for one in k8s.of_kind(rendered, "ConfigMap")
        if one["metadata"]["name"].startswith("settings-")
    ]
    return dict(config)


def prometheus_rule() -> Manifest:
    text = run_program(sys.executable, str(CHECKOUT / "deploy/prometheus_rule.py")).assert_worked()
    loaded: Manifest = yaml.safe_load(text)
    return loaded


def test_the_operators_rules_are_prometheus_own() -> None:
    files = sorted((CHECKOUT / "deploy/prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert groups
    assert prometheus_rule()["spec"]["groups"] == groups


class TestPodSecurity:
    """Pod Security `restricted`, by the library that the API server uses."""

    def test_every_pod_keeps_it(self, rendered: list[Manifest]) -> None:
        done = run("pod-security", stdin=k8s.dump(rendered))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_the_namespace_enforces_it(self, rendered: list[Manifest]) -> None:
        labels = k8s.named(rendered, "Namespace", "embed-star")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert {one["metadata"].get("namespace") for one in rendered} <= {"embed-star", None}

    @pytest.mark.parametrize("where", ["producer", "migrate", "celery-exporter", "surrealdb"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda spec: spec["securityContext"].pop("runAsNonRoot"),
            lambda spec: spec["securityContext"].update(runAsUser=0),
            lambda spec: spec["securityContext"].pop("seccompProfile"),
            lambda spec: spec["securityContext"].update(seccompProfile={"type": "Unconfined"}),
            lambda spec: spec.update(hostNetwork=True),
            lambda spec: spec.update(hostPID=True),
            lambda spec: spec["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
            lambda spec: own(spec).pop("allowPrivilegeEscalation"),
            lambda spec: own(spec).update(privileged=True),
            lambda spec: own(spec).pop("capabilities"),
            lambda spec: own(spec)["capabilities"].update(add=["NET_ADMIN"]),
            lambda spec: spec["containers"][0].update(ports=[{"hostPort": 1, "containerPort": 1}]),
        ],
    )
    def test_a_field_that_is_changed_is_noticed(
        self, single: list[Manifest], where: str, change: Callable[[Any], object]
    ) -> None:
        wrong = copy.deepcopy(single)
        change(dict(k8s.pods(wrong))[where]["spec"])
        done = run("pod-security", stdin=k8s.dump(wrong))
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"/{where}: " in done.stdout

    def test_no_pod_at_all_is_noticed(self, single: list[Manifest]) -> None:
        assert run("pod-security", stdin=k8s.dump(k8s.of_kind(single, "Service"))).returncode == 2


def own(spec: Any) -> Any:
    """The security context of a pod's main container."""
    return spec["containers"][0]["securityContext"]


class TestHardening:
    def test_kube_score_is_content(self, rendered: list[Manifest]) -> None:
        ignored = [word for name in IGNORED_SCORES for word in ("--ignore-test", name)]
        options = ("--output-format", "ci", "--exit-one-on-warning", *ignored)
        done = run("kube-score", "score", *options, "-", stdin=k8s.dump(rendered))
        faults = [
            line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIP"))
        ]
        assert (done.returncode, faults) == (0, [])

    def test_no_pod_has_a_token(self, rendered: list[Manifest]) -> None:
        for name, template in k8s.pods(rendered):
            assert template["spec"]["automountServiceAccountToken"] is False, name
            assert template["spec"]["serviceAccountName"] == "embed-star", name
            assert template["spec"]["enableServiceLinks"] is False, name
            assert template["spec"]["priorityClassName"].startswith("embed-star-"), name

    def test_every_container_is_bounded_and_cannot_write(self, rendered: list[Manifest]) -> None:
        for name, template in k8s.pods(rendered):
            for one in k8s.containers(template):
                for kind in ("requests", "limits"):
                    wanted = {"cpu", "memory", "ephemeral-storage"}
                    assert set(one["resources"][kind]) == wanted, (name, kind)
                assert one["securityContext"]["readOnlyRootFilesystem"] is True, name

    def test_images_have_exact_tags(self, rendered: list[Manifest]) -> None:
        for name, template in k8s.pods(rendered):
            for one in k8s.containers(template):
                image = one["image"].partition("@")[0]
                exact = re.fullmatch(r"[\w.-]+/[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?", image)
                assert exact or image == "embed-star:local", (name, image)

    def test_the_network_is_closed_but_for_what_is_said(self, rendered: list[Manifest]) -> None:
        policies = k8s.of_kind(rendered, "NetworkPolicy")
        deny = k8s.named(policies, "NetworkPolicy", "default-deny")["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        opened = {}
        for name, template in k8s.pods(rendered):
            labels = template["metadata"]["labels"]
            opened[name] = {
                policy["metadata"]["name"]
                for policy in policies
                if selects(policy, labels) and "Egress" in policy["spec"]["policyTypes"]
            } - {"default-deny", "names"}
        # Only workers, and who types in the toolbox, reach out; Redis and SurrealDB reach nobody.
        assert opened.pop("worker") == {"provider", "to-stores"}
        assert opened.pop("toolbox") == {"provider", "to-stores"}
        assert all(found <= {"to-stores"} for found in opened.values())
        for store in ("redis", "cache", "surrealdb"):
            assert opened.get(store, set()) == set()
        rules = k8s.named(policies, "NetworkPolicy", "provider")["spec"]["egress"]
        assert "169.254.0.0/16" in rules[0]["to"][0]["ipBlock"]["except"]

    def test_what_may_speak_to_a_store_may_at_both_ends(self, single: list[Manifest]) -> None:
        """A policy that lets out is worth nothing where another one does not let in."""
        policies = k8s.of_kind(single, "NetworkPolicy")
        labels = {name: pod["metadata"]["labels"] for name, pod in k8s.pods(single)}
        stores = {"surrealdb": 8000, "redis": 6379, "cache": 6379}
        open_pairs = {
            (source, store)
            for source in labels
            for store, port in stores.items()
            if passes(policies, "Egress", labels[source], labels[store], port)
            and passes(policies, "Ingress", labels[store], labels[source], port)
        }
        everything = {
            (source, store) for source in (*OURS, "migrate", "toolbox") for store in stores
        }
        assert open_pairs == everything | {("flower", "redis"), ("celery-exporter", "redis")}


def passes(
    policies: list[Manifest], way: str, here: dict[str, str], there: dict[str, str], port: int
) -> bool:
    """Whether the pod `here` may exchange packets of this way with the pod `there`."""
    rules, peers = {"Egress": ("egress", "to"), "Ingress": ("ingress", "from")}[way]
    return any(
        port in [one["port"] for one in rule["ports"]]
        and any(
            "podSelector" in peer and k8s.selects(peer["podSelector"], there)
            for peer in rule[peers]
        )
        for policy in policies
        if way in policy["spec"]["policyTypes"] and selects(policy, here)
        for rule in policy["spec"].get(rules, ())
    )


def selects(policy: Manifest, labels: dict[str, str]) -> bool:
    return k8s.selects(policy["spec"]["podSelector"], labels)


class TestReferences:
    def test_selectors_fit_their_own_pods(self, rendered: list[Manifest]) -> None:
        for one in k8s.of_kind(rendered, "Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert k8s.selects(one["spec"]["selector"], labels), one["metadata"]["name"]
            for spread in one["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
                assert k8s.selects(spread["labelSelector"], labels), one["metadata"]["name"]

    def test_no_two_workloads_share_pods(self, rendered: list[Manifest]) -> None:
        for one in k8s.of_kind(rendered, "Deployment", "StatefulSet"):
            chosen = [
                name
                for name, template in k8s.pods(rendered)
                if k8s.selects(one["spec"]["selector"], template["metadata"]["labels"])
            ]
            assert chosen == [one["metadata"]["name"]]

    def test_everything_that_selects_finds_a_pod(self, rendered: list[Manifest]) -> None:
        for one in rendered:
            spec = one.get("spec", {})
            selector = {
                "Service": {"matchLabels": spec.get("selector")},
                "PodDisruptionBudget": spec.get("selector"),
                "PodMonitor": spec.get("selector"),
                "NetworkPolicy": spec.get("podSelector"),
            }.get(one["kind"])
            if selector is not None:
                found = [
                    template
                    for _, template in k8s.pods(rendered)
                    if k8s.selects(selector, template["metadata"]["labels"])
                ]
                assert found, one["metadata"]
                for port in self.ports(one):
                    named_ports = {
                        p["name"]
                        for t in found
                        for c in k8s.containers(t)
                        for p in c.get("ports", ())
                    }
                    assert port in named_ports, one["metadata"]

    @staticmethod
    def ports(one: Manifest) -> list[str]:
        if one["kind"] == "Service":
            return [port["targetPort"] for port in one["spec"]["ports"]]
        return [end["port"] for end in one["spec"].get("podMetricsEndpoints", ())]

    def test_everything_that_is_mounted_is_there(self, rendered: list[Manifest]) -> None:
        maps = {one["metadata"]["name"]: one for one in k8s.of_kind(rendered, "ConfigMap")}
        for name, template in k8s.pods(rendered):
            volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
            for one in k8s.containers(template):
                for mount in one.get("volumeMounts", ()):
                    claimed = template_claims(rendered, name)
                    assert mount["name"] in volumes or mount["name"] in claimed, (name, mount)
                for source in one.get("envFrom", ()):
                    assert source["configMapRef"]["name"] in maps, name
            for volume in volumes.values():
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in maps, (name, volume)

    def test_the_stores_names_stand_for_addresses_that_stay(self, single: list[Manifest]) -> None:
        """A pod has another one after it was deleted, which a name service tells much later."""
        for store in k8s.of_kind(single, "StatefulSet"):
            service = k8s.named(single, "Service", store["spec"]["serviceName"])
            assert service["spec"].get("clusterIP") != "None"

    def test_secrets_are_those_that_are_made(
        self, rendered: list[Manifest], tmp_path: Path
    ) -> None:
        make_secrets(tmp_path)
        made = {path.name for path in tmp_path.iterdir()}
        assert secret_keys(rendered) <= made

    def test_the_external_secret_has_all_that_production_needs(
        self, production: list[Manifest]
    ) -> None:
        example = yaml.safe_load((CHECKOUT / "k8s/examples/external-secret.yaml").read_text())
        assert example["spec"]["target"]["name"] == SECRET
        assert {one["secretKey"] for one in example["spec"]["data"]} == secret_keys(production)


def template_claims(rendered: list[Manifest], name: str) -> set[str]:
    return {
        claim["metadata"]["name"]
        for one in k8s.of_kind(rendered, "StatefulSet")
        if one["metadata"]["name"] == name
        for claim in one["spec"].get("volumeClaimTemplates", ())
    }


def secret_keys(rendered: list[Manifest]) -> set[str]:
    """The keys of the Secret that pods name."""
    found = set()
    for _, template in k8s.pods(rendered):
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] == SECRET
                found |= {item["key"] for item in volume["secret"]["items"]}
        for one in k8s.containers(template):
            for variable in one.get("env", ()):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["name"] == SECRET
                    found.add(reference["key"])
    return found


class TestTruth:
    """What the manifests name exists in the code."""

    def test_settings(self, rendered: list[Manifest]) -> None:
        assert set(configured(rendered)) <= SETTINGS
        options = {option.replace("-", "_") for option in default_options._options}
        for name, template in k8s.pods(rendered):
            if template["metadata"]["labels"].get("app.kubernetes.io/name") != "embed-star":
                continue
            for one in k8s.containers(template):
                for variable in one.get("env", ()):
                    known = variable["name"] in SETTINGS
                    flower = variable["name"].removeprefix("FLOWER_").lower() in options
                    assert known or (flower and name == "flower"), variable
            for volume in template["spec"]["volumes"]:
                for item in volume.get("secret", {}).get("items", ()):
                    assert item["path"] in SETTINGS or item["path"] == "flower_password"

    @pytest.mark.usefixtures("clean_environment")
    def test_settings_make_a_whole(self, rendered: list[Manifest], tmp_path: Path) -> None:
        given = {name.lower(): value for name, value in configured(rendered).items()}
        given |= {"db_pass": "x", "openai_api_key": "k", "secrets_dir": str(tmp_path)}
        made = load_settings(_env_file=None, **given)
        worker = k8s.named(rendered, "Deployment", "worker")["spec"]["template"]["spec"]
        grace_s = worker["terminationGracePeriodSeconds"]
        assert grace_s >= made.provider_total_timeout_s + made.timings.rate_limit_wait_s + 5

    @pytest.mark.usefixtures("clean_environment")
    @pytest.mark.parametrize("provider", ["local", "ollama", "openai", "together"])
    def test_each_pod_starts_with_its_own_secrets(
        self,
        rendered: list[Manifest],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        provider: str,
    ) -> None:
        """Flower has no key, and must not ask for the others' one."""
        config = {**configured(rendered), "EMBEDDING_PROVIDER": provider}
        if provider == "together":
            config |= {"EMBEDDING_MODEL": "a-model", "EMBEDDING_DIMENSIONS": "768"}
        seen = set()
        for name, template in k8s.pods(rendered):
            for one in k8s.containers(template):
                if one.get("command", [""])[0] not in ("celery", "embed-star"):
                    continue
                folder = tmp_path / f"{name}-{one['name']}"
                folder.mkdir()
                (volume,) = [v for v in template["spec"]["volumes"] if v["name"] == "secrets"]
                for item in volume["secret"]["items"]:
                    value = "redis://redis:6379/0" if item["path"].endswith("_URL") else "x"
                    (folder / item["path"]).write_text(value)
                given = {**config, **{v["name"]: v.get("value", "") for v in one.get("env", ())}}
                given["SECRETS_DIR"] = str(folder)
                with monkeypatch.context() as patch:
                    for variable, value in given.items():
                        patch.setenv(variable, value)
                    load_settings(_env_file=None)
                seen.add(name)
        assert seen == {*OURS, "flower", "migrate"}

    def test_commands(self, rendered: list[Manifest]) -> None:
        seen = set()
        for name, template in k8s.pods(rendered):
            for one in k8s.containers(template):
                program, *words = one.get("command", [""])
                if program not in ("celery", "embed-star") or tuple(words) in seen:
                    continue
                seen.add(tuple(words))
                if program == "celery":
                    assert words[:2] == ["-A", "embed_star"]
                    done = celery(*words[2:], "--help", env={"DB_PASS": "x"})
                else:
                    done = embed_star(*words, "--help")
                assert done.code == 0, (name, done.err)
        assert len(seen) == 6

    def test_ports_and_probes(self, rendered: list[Manifest]) -> None:
        # That both paths answer on a process that runs, tests/deploy/test_compose_runs.py shows.
        for name in OURS:
            (one,) = k8s.named(rendered, "Deployment", name)["spec"]["template"]["spec"][
                "containers"
            ]
            (port,) = one["ports"]
            assert port == {
                "name": "monitoring",
                "containerPort": Settings.model_fields["monitoring_port"].default,
            }
            paths = {
                probe: one[probe]["httpGet"]["path"]
                for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            }
            assert paths == {
                "startupProbe": "/livez",
                "livenessProbe": "/livez",
                "readinessProbe": "/readyz",
            }
            assert all(one[probe]["httpGet"]["port"] == "monitoring" for probe in paths)

    def test_the_schema_comes_before_the_rest(self, rendered: list[Manifest]) -> None:
        for name in OURS:
            template = k8s.named(rendered, "Deployment", name)["spec"]["template"]
            (init,) = template["spec"]["initContainers"]
            assert init["command"][:3] == ["embed-star", "migrate", "--wait"]
            assert init["image"] == template["spec"]["containers"][0]["image"]
        job = k8s.named(rendered, "Job", "migrate")["spec"]["template"]["spec"]
        bootstrap, (_, wait_s) = ["embed-star", "migrate", "--bootstrap"], init["command"][-2:]
        assert job["containers"][0]["command"] == [*bootstrap, "--wait", wait_s]
        root = [n for n, t in k8s.pods(rendered) if "root_db_pass" in str(t) and n != "surrealdb"]
        assert set(root) == {"migrate", "toolbox"}
        assert k8s.named(rendered, "CronJob", "toolbox")["spec"]["suspend"] is True

    def test_a_rollout_has_the_time_that_the_schema_may_take(
        self, rendered: list[Manifest]
    ) -> None:
        for name in OURS:
            spec = k8s.named(rendered, "Deployment", name)["spec"]
            (init,) = spec["template"]["spec"]["initContainers"]
            (app,) = spec["template"]["spec"]["containers"]
            probe = app["startupProbe"]
            start_s = probe["periodSeconds"] * probe["failureThreshold"]
            assert spec["progressDeadlineSeconds"] >= int(init["command"][-1]) + start_s + 60
        job = k8s.named(rendered, "Job", "migrate")["spec"]
        wait_s = int(job["template"]["spec"]["containers"][0]["command"][-1])
        assert job["activeDeadlineSeconds"] >= 2 * wait_s

    def test_commands_are_typed_in_the_main_container(self, rendered: list[Manifest]) -> None:
        """Else each `kubectl exec` says which one it took."""
        for name, template in k8s.pods(rendered):
            if "initContainers" in template["spec"]:
                annotations = template["metadata"]["annotations"]
                assert annotations["kubectl.kubernetes.io/default-container"] == "app", name

    def test_what_needs_an_operator_is_asked_for(
        self, single: list[Manifest], production: list[Manifest], operators: list[Manifest]
    ) -> None:
        """`kubectl apply` fails for a kind that the cluster does not know."""
        assert k8s.of_kind([*single, *production], *k8s.CUSTOM) == []
        kinds = {one["kind"] for one in k8s.of_kind(operators, *k8s.CUSTOM)}
        assert kinds == {"PodMonitor", "ScaledObject"}

    def test_only_what_the_operator_selects_has_its_label(self, operators: list[Manifest]) -> None:
        labelled = {
            one["kind"] for one in operators if "release" in one["metadata"].get("labels", {})
        }
        assert labelled == {"PodMonitor"}

    def test_the_claims_are_those_that_the_readme_names(self, single: list[Manifest]) -> None:
        sizes = {
            claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
            for claim in k8s.of_kind(single, "PersistentVolumeClaim")
        }
        sizes |= {
            one["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
            for one in k8s.of_kind(single, "StatefulSet")
            for claim in one["spec"].get("volumeClaimTemplates", ())
        }
        assert len(sizes) == 4
        text = " ".join((CHECKOUT / "README.md").read_text(encoding="utf-8").split())
        for name, size in sizes.items():
            assert f"`{name}` {size.replace('Gi', ' GiB')}" in text, name

    def test_there_is_never_a_second_beat(self, rendered: list[Manifest]) -> None:
        beat = k8s.named(rendered, "Deployment", "beat")["spec"]
        assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})

    def test_autoscalers_go_by_what_more_workers_would_help_with(
        self, rendered: list[Manifest]
    ) -> None:
        scalers = k8s.of_kind(rendered, "HorizontalPodAutoscaler", "ScaledObject")
        worker = k8s.named(rendered, "Deployment", "worker")["spec"]
        assert ("replicas" in worker) == (not scalers), "one of them says how many there are"
        for scaler in scalers:
            assert scaler["spec"]["scaleTargetRef"]["name"] == "worker"
            named_metrics = re.findall(r"embed_star_\w+", json.dumps(scaler))
            assert set(named_metrics) == {"embed_star_scaling_backlog_rows"}
        documented = (CHECKOUT / "docs/metrics.md").read_text()
        assert "| `embed_star_scaling_backlog_rows` |" in documented

    def test_prometheus_finds_the_jobs_that_rules_know(self, operators: list[Manifest]) -> None:
        config = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yml").read_text())
        jobs = {job["job_name"] for job in config["scrape_configs"]}
        monitors = k8s.of_kind(operators, "PodMonitor")
        relabelled = {
            rule["replacement"]
            for monitor in monitors
            for end in monitor["spec"]["podMetricsEndpoints"]
            for rule in end["relabelings"]
            if rule["targetLabel"] == "job"
        }
        assert relabelled == jobs

    def test_files_are_those_of_compose(self, single: list[Manifest]) -> None:
        data = [one["data"] for one in k8s.of_kind(single, "ConfigMap")]
        files = {name: text for one in data for name, text in one.items()}
        assert files["flowerconfig.py"] == (CHECKOUT / "deploy/flower/flowerconfig.py").read_text()
        for name in ("broker.conf", "cache.conf"):
            assert files[name] == (CHECKOUT / "deploy/redis" / name).read_text()
        (store,) = k8s.named(single, "StatefulSet", "surrealdb")["spec"]["template"]["spec"][
            "containers"
        ]
        compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
        assert store["args"] == compose["surrealdb"]["command"]
        assert store["image"] == compose["surrealdb"]["image"]
        exporter = k8s.named(single, "Deployment", "celery-exporter")["spec"]["template"]["spec"]
        prefix, *arguments = exporter["containers"][0]["args"]
        assert arguments == compose["celery-exporter"]["command"]
        assert (
            prefix.replace("$(INSTALLATION_ID)", "$$(cat /run/secrets/installation_id)")
            in (compose["celery-exporter"]["entrypoint"][2])
        )
        names = celery_prefix_of(prefix_of("gitstars", "stars", "$(INSTALLATION_ID)"))
        assert prefix == f"--broker-transport-option=global_keyprefix={names}"


def test_the_readmes_commands_name_what_is_there(single: list[Manifest]) -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "kubectl" in line]
    assert len(lines) >= 10
    for path in re.findall(r"(?:-k |--from-file=|python3 )(\S+)", "\n".join(lines)):
        # deploy/secrets is made by the command before.
        assert (CHECKOUT / path).exists() or path == "deploy/secrets", path
    there = {(one["kind"].lower(), one["metadata"]["name"]) for one in single}
    there |= {("deploy", name) for kind, name in there if kind == "deployment"}
    # Not paths such as deploy/secrets: those are checked above.
    for kind, name in re.findall(
        r"[ =](deploy|deployment|service|job|cronjob)/([\w-]+)(?=[ `]|$)", "\n".join(lines)
    ):
        assert (kind, name) in there, (kind, name)


def test_the_yaml_is_tidy() -> None:
    check("yamllint", "--strict", "k8s", "deploy/flower", "deploy/redis")
