"""The local stack: every process of embed_star on one machine, without Docker.

`LocalStack` (stack.py) is the whole; `LocalServers` (servers.py) only Redis and SurrealDB.
Workers and beat are started as programs: Celery is not imported here.
"""
