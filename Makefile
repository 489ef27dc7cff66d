# `make demo` and `make test` work from a bare checkout with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint bench load lock clean

help:
	@echo "make demo   the whole way on example data: no Docker, no key"
	@echo "make test   the tests"
	@echo "make lint   ruff and mypy"
	@echo "make bench  throughput and latency, on this machine"
	@echo "make load   rows at a steady rate for two minutes; a table and a picture"
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

test: $(STAMP)
	@$(BIN)/python -m pytest

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python -m bench

load: $(STAMP)
	@$(BIN)/python -m bench load

# Needs uv: one file for Python 3.11 to 3.13, with hashes and without an index.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	  --group dev --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock

clean:
	rm -rf $(VENV) .embed-star .load .mypy_cache .ruff_cache .pytest_cache
