"""What the doctor says of a provider is what workers do with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import embed_star
from tests.support.fleet import Fleet, Tenant


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("doctor")) as fleet:
        yield fleet


@pytest.fixture
def tenant(fleet: Fleet) -> Iterator[Tenant]:
    fleet.provider.reset()
    tenant = fleet.tenant()
    yield tenant
    tenant.close()


def test_it_refuses_every_text(tenant: Tenant) -> None:
    error = {"error": {"message": "Budget!", "type": "budget_exceeded"}}
    tenant.provider.script(fail_next=-1, status=400, error=error)
    done = embed_star("doctor", env=tenant.env)
    assert done.code == 1
    assert "FAIL  provider" in done.out
    assert "(HTTP 400)" in done.out
    assert "so every row would be paused" in done.out


@pytest.mark.parametrize("kind", ["null_vector", "zero"])
def test_its_vectors_are_of_no_use(tenant: Tenant, kind: str) -> None:
    tenant.provider.script(**{kind: ""})
    done = embed_star("doctor", env=tenant.env)
    assert done.code == 1
    assert "our own text" in done.out


def test_it_does_not_normalise(tenant: Tenant) -> None:
    tenant.provider.script(norm=292.0)
    said = embed_star("doctor", env=tenant.env).assert_worked()
    assert "its vectors are of length 292: those beyond the limits are normalised" in said


def test_it_answers_as_another_model_and_then_as_a_third(tenant: Tenant) -> None:
    tenant.provider.script(model="model-a")
    assert "; it answers as model-a" in embed_star("doctor", env=tenant.env).assert_worked()
    worker = tenant.worker()
    tenant.lab.insert(3)
    tenant.dispatch()
    tenant.lab.await_quiet()
    worker.terminate()
    tenant.provider.script(model="model-b", salt="b")
    done = embed_star("doctor", env=tenant.env)
    assert done.code == 1
    assert "the model model-a has become model-b" in done.out


def test_settings_of_earlier_versions_are_named_and_are_no_failure(tenant: Tenant) -> None:
    old = {"LIVE_QUERIES": "false", "PROVIDER_READ_TIMEOUT_S": "7", "POLL_INTERVAL_S": ""}
    said = embed_star("doctor", env={**tenant.env, **old}).assert_worked()
    (line,) = [line for line in said.splitlines() if " settings " in line]
    assert line.startswith("ok ")
    assert "LIVE_QUERIES: they are used where the server can" in line
    assert "PROVIDER_READ_TIMEOUT_S: it is two thirds of PROVIDER_TOTAL_TIMEOUT_S" in line
    assert "POLL_INTERVAL_S" not in line
