"""Stands in for prometheus-adapter: Kubernetes' API of external metrics, with one metric."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.engines.kubernetes import ADDRESS, Node

GROUP = "external.metrics.k8s.io"
VERSION = f"{GROUP}/v1beta1"
PLACE = {"name": "external-metrics", "namespace": "kube-system"}


class ExternalMetric:
    """A metric, whose value the test sets; `asked` is how often an autoscaler wanted it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0
        self.asked = 0

    def answer(self, path: str) -> dict[str, Any] | None:
        """What the API says at `path`."""
        if path == f"/apis/{VERSION}":
            return {"kind": "APIResourceList", "groupVersion": VERSION, "resources": []}
        if not path.startswith(f"/apis/{VERSION}/namespaces/") or not path.endswith(self.name):
            return None
        self.asked += 1
        item = {
            "metricName": self.name,
            "metricLabels": {},
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "value": str(self.value),
        }
        return {
            "kind": "ExternalMetricValueList",
            "apiVersion": VERSION,
            "metadata": {},
            "items": [item],
        }


@contextmanager
def external_metric(node: Node, name: str, folder: Path) -> Iterator[ExternalMetric]:
    """The API with this metric, for the API server of the node, while the block lasts."""
    metric = ExternalMetric(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = metric.answer(self.path.partition("?")[0])
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found or {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        server.socket = _certified(folder).wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        objects = yaml.safe_dump_all(_objects(server.server_address[1]))
        node.kubectl("apply", "-f", "-", stdin=objects)
        try:
            node.kubectl("wait", "--for=condition=available", f"apiservice/v1beta1.{GROUP}")
            yield metric
        finally:
            node.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=objects)
            server.shutdown()
            thread.join()


def _certified(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody signed: the API server is told not to look."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=external-metrics")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    subprocess.run(["openssl", "req", *kind, *made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _objects(port: int) -> list[dict[str, Any]]:
    """A service whose one end is this process, and the API that it serves."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": PLACE,
            "spec": {"ports": [{"port": 443, "targetPort": port}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": PLACE,
            "subsets": [{"addresses": [{"ip": ADDRESS}], "ports": [{"port": port}]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"v1beta1.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": "v1beta1",
                "service": {**PLACE, "port": 443},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
