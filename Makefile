# `make demo` and `make test` work from a bare checkout with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Most of what tests, benchmarks and the fault lab start is Python: without its compiled files
# each process takes four times as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check check-tests test settings faults faults-report tools lint bench load pictures check-quality check-deploy engines check-engines runbooks secrets pin-images lock clean

help:
	@echo "make demo   the whole way on example data: no Docker, no key"
	@echo "make check  lint, types, and the tests that need no server: within a minute"
	@echo "make test   the tests"
	@echo "make faults the fault lab: every fault, and SEEDS=20 random mixtures of them"
	@echo "make faults-report  write the figures of the last run into docs/reliability.md"
	@echo "make tools  toxiproxy, for the fault lab (needs go)"
	@echo "make settings  write docs/settings.md and .env.example from the code"
	@echo "make lint   ruff and mypy"
	@echo "make bench  throughput and latency, on this machine"
	@echo "make load   rows at a steady rate for two minutes; a table and a picture"
	@echo "make pictures       draw the diagrams of docs/ from their texts"
	@echo "make check-quality  is the search as good as it was?"
	@echo "make check-deploy   image, Compose, Kubernetes, rules, dashboards"
	@echo "make engines        a shell with a real Docker engine and Compose"
	@echo "make check-engines  the README's Compose and Kubernetes sections, typed on real engines"
	@echo "make runbooks       the commands of each runbook, typed on a real stack"
	@echo "make secrets        the passwords for Compose and Kubernetes, in deploy/secrets/"
	@echo "make pin-images     add digests to the images that are named by tag"
	@echo "make lock   renew the lock file (needs uv)"
	@echo "make clean  remove the virtual environment, caches and local data"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "embed_star needs Python 3.11 to 3.13; name one: make PYTHON=python3.12")'
	@echo "installing into $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/embed-star demo

# Tests wait more than they compute: more processes than cores.
TEST_JOBS ?= 4
TESTS := --ignore=tests/deploy --ignore=tests/runbooks --ignore=tests/faults --ignore=tests/engines
test: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(TEST_JOBS) -m "not alone" $(TESTS)
	@$(BIN)/python -m pytest -q -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

# What can be known without a server, in less than a minute.
check: $(STAMP)
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint check-tests

check-tests: $(STAMP)
	@$(BIN)/python -m pytest -q -n 3 -m "not server" tests/unit tests/contract

# SEEDS=200 is the long run; FIRST_SEED=17 SEEDS=1 replays one mixture; ONLY is pytest's -k.
SEEDS ?= 20
FIRST_SEED ?= 0
JOBS ?= 3
ONLY ?=
faults: $(STAMP) tools
	@$(BIN)/python -m tests.faults --seeds $(SEEDS) --first $(FIRST_SEED) --jobs $(JOBS) --only "$(ONLY)"

faults-report: $(STAMP)
	@$(BIN)/python -m tests.faults --report

tools: .tools/server

.tools/server:
	@echo "building toxiproxy into .tools (once)"
	@GOBIN=$(CURDIR)/.tools go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0

settings: $(STAMP)
	@$(BIN)/python -m embed_star.settings >docs/settings.md
	@$(BIN)/python -m embed_star.settings --env >.env.example

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python -m bench

load: $(STAMP)
	@$(BIN)/python -m bench load

pictures: $(STAMP)
	@$(BIN)/python docs/pictures/draw.py

check-quality: $(STAMP)
	@$(BIN)/python -m bench quality --check

# Its tools are Debian packages (installed when run as root), Go programs and a few Python
# packages, all in .tools/ but the first.
.tools/.installed: deploy/tools/install deploy/locks/deploy.lock $(wildcard deploy/tools/pod-security/*)
	@PYTHON=$(PYTHON) deploy/tools/install .tools
	@touch $@

check-deploy: $(STAMP) .tools/.installed
	@$(BIN)/python -m pytest -q -n 3 tests/deploy tests/runbooks

# A real Docker engine, in namespaces of its own: needs root on Debian. ENGINES_DIR keeps what is
# downloaded and built.
engines: $(STAMP)
	@$(BIN)/python -m tests.engines

# One machine for each of the two, so that their rules for the network do not meet.
check-engines: $(STAMP)
	@$(BIN)/python -m tests.engines $(BIN)/python -m pytest -x -s -v --durations=0 tests/engines/test_compose.py
	@$(BIN)/python -m tests.engines $(BIN)/python -m pytest -x -s -v --durations=0 tests/engines/test_kubernetes.py tests/engines/test_production.py

runbooks: $(STAMP)
	@$(BIN)/python -m pytest tests/runbooks

secrets:
	@$(PYTHON) deploy/make_secrets.py

pin-images:
	@$(PYTHON) deploy/pin_images.py

# Needs uv: for Python 3.11 to 3.13, with hashes and without an index. The image gets a part
# of the same versions; what builds and checks it has locks of its own.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header
LOCKS := deploy/locks

lock:
	$(COMPILE) pyproject.toml --all-extras --group dev --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra local --extra flower --extra tracing --constraints requirements.lock \
	  --output-file $(LOCKS)/runtime.lock
	$(COMPILE) --group image --output-file $(LOCKS)/image.lock
	$(COMPILE) --group deploy --output-file $(LOCKS)/deploy.lock
	$(COMPILE) --group exporter --output-file $(LOCKS)/exporter.lock

clean:
	rm -rf $(VENV) .tools .faults.jsonl .embed-star .load .mypy_cache .ruff_cache .pytest_cache
