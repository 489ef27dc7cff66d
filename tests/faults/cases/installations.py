"""Two installations meet on one Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.faults.fault import Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.command_line import CELERY
from tests.support.fleet import Tenant
from tests.support.servers import local_servers


@fault(51, "two installations with the same names and settings on one Redis", workers=1)
def two_installations(scene: Scene) -> Steps:
    """A database of the same name, with the same keys, on a server of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        local_servers(Path(folder), redis=False) as servers,
    ):
        database = {
            name: value
            for name, value in servers.environment.items()
            if name.startswith("DB_") and name != "DB_DATABASE"
        }
        neighbour = Tenant(servers, scene.provider, {**scene.tenant.env, **database}, cold=True)
        try:
            assert neighbour.lab.services.installation != scene.lab.services.installation
            worker = neighbour.start("neighbour-worker", *CELERY, "worker", "-n", "neighbour@%h")
            producer = neighbour.producer()
            neighbour.lab.write(
                {key: {"full_name": f"neighbour/{key}"} for key in ("leader", *range(40))}
            )
            yield Step.BROKEN
            yield Step.MENDED
            neighbour.lab.await_quiet()
            report = neighbour.lab.report()
            report.assert_kept()
            assert report.embedded == 41
            assert not worker.ended.is_set()
            assert not producer.ended.is_set()
        finally:
            neighbour.close()
