# One image for all processes: `docker run IMAGE embed-star watch`,
# `docker run IMAGE celery -A embed_star worker`, and so on.
#
# The bases are named by tag; `make pin-images` adds their digests where a registry can be
# reached. The runtime has no tags but `nonroot` and the like, so there it is the digest that
# pins. Both must have the same Python: 3.13, that of Debian 13.

FROM docker.io/library/python:3.13.9-slim-trixie AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Without pip: what installs is not shipped.
COPY deploy/locks/runtime.lock .
RUN python -m venv --without-pip /app/.venv \
 && python -m pip --python /app/.venv/bin/python install --no-deps --require-hashes -r runtime.lock

COPY deploy/locks/image.lock .
RUN python -m venv /build/tools \
 && /build/tools/bin/python -m pip install --no-deps --require-hashes -r image.lock

COPY pyproject.toml README.md LICENSE beat_schedule.py ./
COPY embed_star embed_star
COPY tasks tasks
COPY migrations migrations
COPY examples examples
RUN /build/tools/bin/hatchling build -t wheel -d /build/wheel \
 && python -m pip --python /app/.venv/bin/python install --no-deps --no-index /build/wheel/*.whl

# The software bill of materials, in the image beside what it lists.
RUN /build/tools/bin/cyclonedx-py environment /app/.venv/bin/python --output-reproducible \
    --of JSON --output-file /app/sbom.cdx.json

# Scripts begin with /app/.venv/bin/python: from here on that is the runtime's Python.
RUN ln -sf /usr/bin/python3.13 /app/.venv/bin/python \
 && ln -sf python /app/.venv/bin/python3 \
 && ln -sf python /app/.venv/bin/python3.13 \
 && sed -i 's|^home = .*|home = /usr/bin|' /app/.venv/pyvenv.cfg


FROM gcr.io/distroless/python3-debian13:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="embed_star" \
      org.opencontainers.image.description="Keeps a current embedding beside every GitHub repository in SurrealDB" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=builder /app /app

# Nothing is written but to /tmp, so the root may be read-only. Bytecode is in the image.
ENV PATH=/app/.venv/bin:/usr/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
EXPOSE 9090

# No shell, and none needed: the arguments name a program of /app/.venv/bin. No HEALTHCHECK
# either: what is healthy differs by process; docker-compose.yml and k8s/ say it for each.
ENTRYPOINT []
CMD ["embed-star", "--help"]
