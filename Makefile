# The front door. Each target sets up what it needs in .venv, from nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
PYTHONS ?= $(PYTHON) # in which `make release` tries the wheel
VENV := .venv
BIN := $(VENV)/bin
# Nothing is compiled ahead: most of what is installed is never imported.
PIP_INSTALL := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-exhaustive test-all test-oldest check check-code check-docs docs site release viewer viewer-check mutants format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV)/base.stamp ## make a phantom head CT, segment it, leave the picture in demo/
	$(BIN)/bleedmap demo -o demo --overwrite

# One file's tests stay in one process, so that what they share is made once; files come in their own order, because
# those with the fewest tests, which would come last, take longest.
# Compiled bytecode is kept even where the environment says not to: hundreds of processes load the same modules.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/dev.stamp ## run the tests, less the exhaustive ones
	$(PYTEST) -m "not exhaustive"

test-exhaustive: $(VENV)/dev.stamp ## run the exhaustive tests alone: whole matrices and ways, full reports, benchmarks
	$(PYTEST) -m exhaustive

test-all: test test-exhaustive ## run all tests

# torch stays as pinned: an old one would be the build for NVIDIA GPUs, of several GB.
test-oldest: ## run the tests with the oldest libraries that pyproject.toml allows, in .venv-oldest
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	sed -nE '/^release = /q; /torch/d; s/^ +"([a-z0-9-]+)(\[[a-z]+\])?>=([0-9.]+)".*/\1==\3.*/p' pyproject.toml > .venv-oldest/oldest.txt
	grep '^torch==' constraints.txt >> .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-oldest/oldest.txt --editable '.[test]'
	PATH=$(CURDIR)/.venv-oldest/bin:$$PATH OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist loadfile -m "not exhaustive"

check: check-code check-docs ## lint, format, types, import contracts, docs; `make -j2 check` checks code and docs side by side

check-code: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/check_site.py

docs: $(VENV)/dev.stamp ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

site: $(VENV)/dev.stamp ## build the documentation as pages with a search: open site/index.html
	$(BIN)/zensical build --strict

viewer: viewer/node_modules ## build the reading page of `bleedmap serve` again (needs Node 20)
	cd viewer && npm run build

viewer-check: viewer/node_modules ## build the reading page elsewhere: are the committed files the same?
	cd viewer && npm run check

viewer/node_modules: viewer/package-lock.json
	cd viewer && npm ci --ignore-scripts --no-audit --no-fund

release: $(VENV)/dev.stamp ## build wheel and source archive twice, compare, install, list every part and licence: dist/
	$(PIP_INSTALL) --editable '.[release]'
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python packaging/release.py --python $(PYTHONS)

mutants: $(VENV)/dev.stamp ## put small faults into the numerical and clinical code: which does no test notice? (40 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/support/matrices/mutants.py

format: $(VENV)/dev.stamp ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the targets made
	rm -rf $(VENV) .venv-oldest demo dist site mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "bleedmap needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/base.stamp
