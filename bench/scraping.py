"""Scrapes as Prometheus makes them, to see what they cost."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def scraped(ports: Iterable[int], *, every_s: float) -> Iterator[None]:
    """Scrape these ports of this machine while the block runs."""
    ended = threading.Event()
    targets = list(ports)

    def scrape() -> None:
        while not ended.wait(every_s):
            for port in targets:
                _get(port)

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _get(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"/metrics answered {answer.status}")
    finally:
        connection.close()
