"""Stands in for Celery's exporter: its options, its paths, and its calls to the broker.

As the image does, it follows the events of tasks, and for each scrape it asks the workers for
their queues and Redis for the queues' lengths; `/health` only connects.
"""

import argparse
import json
import logging
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from celery import Celery

log = logging.getLogger("exporter")
parser = argparse.ArgumentParser()
parser.add_argument("--broker-url", default=os.environ.get("CE_BROKER_URL"))
parser.add_argument("--broker-transport-option", action="append", default=[])
parser.add_argument("--accept-content", default="json")
parser.add_argument("--retry-interval", type=int, default=0)
parser.add_argument("--queues", default="celery")
parser.add_argument("--default-queue-name", default="celery")
parser.add_argument("--port", type=int, default=9808)
given = parser.parse_args()

app = Celery(broker=given.broker_url)
app.conf.broker_transport_options = dict(one.split("=", 1) for one in given.broker_transport_option)
app.conf.accept_content = given.accept_content.split(",")
app.conf.task_default_queue = given.default_queue_name
seen = Counter()


def follow():
    """Count events of tasks by type and name, and begin anew when the connection fails."""

    def count(event):
        if event["type"].startswith("task-"):
            names[event["uuid"]] = event.get("name") or names.get(event["uuid"], "")
            seen[event["type"].replace("-", "_"), names[event["uuid"]]] += 1

    names = {}
    while True:
        try:
            with app.connection_for_read() as connection:
                app.events.Receiver(connection, handlers={"*": count}).capture()
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes on
            log.warning("%s %s", type(error).__name__, error)
            time.sleep(given.retry_interval)


def metrics():
    """The page of metrics; an error is one of the broker's."""
    inspect = app.control.inspect()
    inspect.stats()
    workers = Counter(
        queue["name"] for queues in (inspect.active_queues() or {}).values() for queue in queues
    )
    with app.connection_for_read() as connection:
        lengths = {
            queue: connection.default_channel.client.llen(queue)
            for queue in given.queues.split(",")
        }
    lines = [f'celery_queue_length{{queue_name="{q}"}} {n}' for q, n in lengths.items()]
    lines += [f'celery_active_worker_count{{queue_name="{q}"}} {workers[q]}' for q in lengths]
    lines += [f'celery_{t}_total{{name="{name}"}} {n}' for (t, name), n in seen.items()]
    return "".join(f"{line}\n" for line in lines)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/metrics":
                code, body = 200, metrics()
            else:
                with app.connection_for_read() as connection:
                    connection.ensure_connection(max_retries=3)
                code, body = 200, json.dumps("connected")
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes on
            log.warning("%s %s", type(error).__name__, error)
            code, body = 500, type(error).__name__
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


threading.Thread(target=follow, daemon=True).start()
ThreadingHTTPServer(("", given.port), Handler).serve_forever()
