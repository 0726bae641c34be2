# `make run` and `make test` are all that a fresh machine needs; both set up what they use, once.

PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
BIN := .venv/bin
# The environment is whole as it comes from its lock (nvidia-pytriton asks for a NumPy that is not in it), hence --no-deps.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode

PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist loadgroup

.PHONY: run test test-long setup setup-test lint format lock bench clean image test-kubeflow

run: setup
	$(BIN)/trilha run flights

test: setup-test
	$(PYTEST)

# Servers that go away in the middle, runs that are killed in turn at every step, lifecycles through a browser.
test-long: setup-test
	$(PYTEST) -m long

setup: .venv/installed .venv/project
setup-test: .venv/installed-dev .venv/project

lint: setup-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup-test
	$(BIN)/python benchmarks/report.py

# With Docker or podman; needs no `make setup`.
IMAGE ?= trilha:dev
image:
	deploy/images/build.sh $(IMAGE)

# What the image has in it, and the lifecycle of `flights` in its containers against the one on this machine.
test-kubeflow: setup-test image
	$(BIN)/pytest -m image tests/deploy/test_image.py

# Stops the services first: their processes would outlive their state.
clean:
	-$(BIN)/trilha down
	rm -rf .venv .trilha

.venv/uv: requirements-setup.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14))' || \
	  { echo "error: $$($(PYTHON) --version) at $$(command -v $(PYTHON)); accepted: Python 3.11 to 3.13;" \
	         "next: install one, then: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make environments; next: apt-get install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-setup.lock
	@touch $@

.venv/installed: requirements.lock .venv/uv
	$(INSTALL) --require-hashes -r requirements.lock
	@touch $@

.venv/installed-dev: requirements-dev.lock .venv/uv
	$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@ .venv/installed

# The project itself, as an editable install: the folders here are what runs.
.venv/project: pyproject.toml .venv/uv
	$(INSTALL) --no-build-isolation --no-index --editable .
	@$(BIN)/python -m compileall -q components flows
	@touch $@

# Locks are made on purpose, never on the way: the same versions everywhere, with hashes, naming no registry.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
# Every extra but torch, whose 5 GB would make each setup of the tests wait; its tests run where it is installed.
TESTED := aws azure cluster examples gcp jupyter kafka keras postgres sources traces xgboost
lock: .venv/uv
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --group dev $(TESTED:%=--extra %) --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra aws --extra azure --extra cluster --extra gcp --extra kafka --extra postgres --extra sources --extra traces --constraint requirements.lock \
	  --output-file deploy/images/requirements.lock
	printf 'uv\nhatchling\neditables\n' | $(COMPILE) - --output-file requirements-setup.lock
