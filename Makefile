# Everything runs from .venv. Needs Python 3.11, 3.12 or 3.13, make, and a package index that pip can reach.
PYTHON    ?= $(shell .ci/find-python 3.11 3.13 3.12)
PYTHON313 ?= $(shell .ci/find-python 3.13)
VENV      := .venv
VENV313   := .venv313
BIN       := $(VENV)/bin
PYTEST    := $(BIN)/python -m pytest
WORKERS   ?= 2
N         ?= 20
CASES     ?= 2000

# Python 3.11 has pins of its own: JAX 0.10 is the last for it.
PINS      := 'import sys; print("constraints/py311.txt" if sys.version_info < (3, 12) else "constraints/py313.txt")'
INSTALL   := -m pip install --quiet --disable-pip-version-check
SOURCES   := jobs service worker meshyard migrations benchmarks examples tests
# Suites with a target of their own; `make test` leaves them out.
FAULTS    := tests/faults tests/end_to_end/test_interrupted.py \
             $(patsubst %,tests/worker/test_%.py,faults seeded_faults agent_with_service child_resumed user_code)
APART     := $(addprefix --ignore=,$(FAULTS) tests/fuzz tests/repository)
# Files that take minutes go first, so that no core is idle while the other does the last one.
LONGEST   := tests/end_to_end tests/worker tests/conformance tests/jobs/programs
# What depends on the versions of Python and JAX, and the whole way once.
PROGRAMS  := $(patsubst %,tests/jobs/programs/test_%.py,builders train transformer mcmc outdated)
SMALLER   := $(PROGRAMS) tests/conformance tests/storage $(addprefix tests/end_to_end/test_,\
             interrupted.py::test_training_killed_twice_ends_with_the_same_bits $(addprefix whole_way.py::test_,\
             a_sampling_job_leaves_a_posterior a_checkpoint_comes_home_whole_in_every_form))
# Tests of the service that meet no database, or no more of it than others do.
STORELESS := $(addprefix --ignore=tests/service/,$(patsubst %,test_core_%.py,body openapi serving signals) \
             $(patsubst %,data/test_%.py,archives bad_rows catalog files))

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types imports catalog containers repository bench serve work conformance faults fuzz \
        test-postgresql test-py313 stack clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Put everything into .venv (quick when nothing changed)

$(VENV)/.ready: pyproject.toml constraints/py311.txt constraints/py313.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c "$$($(BIN)/python -c $(PINS))" -e '.[service,worker,test,dev]'
	@touch $@

demo: setup ## Train, be killed, resume, sample, download, restore: the whole way, checked
	$(BIN)/python examples/demo.py

test: setup ## Run the tests (the fault and fuzz suites have targets of their own)
	$(PYTEST) -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(APART) $(LONGEST) tests

check: format lint types imports catalog containers repository ## All that CI checks without running the service

format: setup ## Is the code formatted?
	$(BIN)/ruff format --check .

lint: setup ## Ruff with all rules; shellcheck
	$(BIN)/ruff check .
	$(BIN)/shellcheck .ci/run .ci/find-python tests/stack/check.sh

types: setup ## Pyright, strict outside the numerical code
	$(BIN)/pyright

imports: setup ## Who may import whom
	$(BIN)/lint-imports --no-cache

catalog: setup ## Is the committed catalog what the installed libraries give?
	$(BIN)/python -m jobs.programs.catalog --check

containers: setup ## Dockerfile and compose files, without an engine
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml

repository: setup ## Links in the documents, dependencies, pins, imports of the base install
	$(PYTEST) -q tests/repository

bench: setup ## Measure this project beside its peers and print the tables
	$(BIN)/python -m benchmarks

serve: setup ## Run the service on 127.0.0.1:8642
	$(BIN)/meshyard serve

work: setup ## Run a worker for it (CPU_DEVICES=8 for virtual devices)
	$(BIN)/meshyard work $(if $(CPU_DEVICES),--cpu-devices $(CPU_DEVICES))

faults: setup ## Kill at N random points of each kind and compare bit for bit (N=20); break the rest on purpose
	MESHYARD_FAULT_POINTS=$(N) $(PYTEST) -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/faults/test_kills.py $(FAULTS)

conformance: setup ## Train every model of the catalog on every mesh in every format
	MESHYARD_CONFORMANCE=full $(PYTEST) -q -n $(WORKERS) --dist loadfile tests/conformance

fuzz: setup ## Send CASES generated requests to every route (CASES=2000)
	MESHYARD_FUZZ_CASES=$(CASES) $(PYTEST) -q tests/fuzz

test-postgresql: setup ## The service's tests on PostgreSQL
	MESHYARD_TEST_DATABASE=postgresql $(PYTEST) -q -n $(WORKERS) --dist loadfile $(STORELESS) tests/service

test-py313: $(VENV313)/.ready ## A smaller run on Python 3.13 and the newest JAX
	$(VENV313)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile $(SMALLER)

$(VENV313)/.ready: pyproject.toml constraints/py313.txt
	@test -n "$(PYTHON313)" || { echo "No Python 3.13 found. Name one: make test-py313 PYTHON313=/path/to/python3.13" >&2; exit 1; }
	test -x $(VENV313)/bin/python || $(PYTHON313) -m venv $(VENV313)
	$(VENV313)/bin/python $(INSTALL) -c constraints/py313.txt -e '.[service,worker,test]'
	@touch $@

stack: ## Bring the compose stack up with three workers, check it, take it down (needs Docker)
	docker compose up -d --build --scale worker=3
	sh tests/stack/check.sh; code=$$?; docker compose down -v; exit $$code

clean: ## Remove what was built here, the virtual environments too
	rm -rf $(VENV) $(VENV313) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
