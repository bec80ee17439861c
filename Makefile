# Every target sets up what it needs. The first run fetches packages and the Kubernetes binaries; later ones reuse them.
#
#   PYTHON=python3.12   the Python that .venv is made with (default: the first of 3.13, 3.12, 3.11 that works)
#   HTTPS_PROXY=URL     is respected by all downloads
#   PODLAB_MIRROR=URL   a server that has the Kubernetes and etcd releases under their official paths
#   TEST_JOBS=1         how many folders of tests run side by side (default: 2; most tests wait more than they compute)
#   EXTRAS=dev,spark    what is installed; with Spark (580 MB) its chapter is tested too
#   PODLAB_BINARIES=DIR a folder that has the binaries already

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?=
EXTRAS := dev
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# The long ones first, or the end would be theirs alone: one that waits beside one that computes. The others come last.
TESTS := $(wildcard $(addprefix tests/,cluster unit exercises notebooks sandbox))
TESTS += $(filter-out $(TESTS) %/__pycache__ %.py,$(wildcard tests/*))
TEST_JOBS ?= 2
# What `make test-kind` passes; each may be a file.
KIND_TESTS := tests/cluster tests/exercises/test_answers.py tests/conformance
# Which of them, as `pytest -k` takes it.
KIND_SELECT :=
# What `make test-plain` passes: pods and Services on the plain runtime; of volumes and clusters what differs there.
PLAIN_TESTS := tests/cluster/test_plain.py tests/cluster/test_pods.py tests/cluster/test_services_on_nodes.py
PLAIN_TESTS += tests/cluster/test_outer_names.py
PLAIN_TESTS += $(addprefix tests/cluster/test_volumes.py::test_,\
	a_claim_keeps_its_data_until_it_is_given_up trust_bundles_and_a_certificate_of_the_pods_own)
PLAIN_TESTS += $(addprefix tests/cluster/test_lifecycle.py::test_,\
	up_runs_the_control_plane_and_down_leaves_nothing stop_and_start_keep_every_object \
	a_killed_component_is_restarted_and_says_so two_clusters_side_by_side_do_not_know_each_other)

.PHONY: help lab test demo setup execute build check release bench conformance kind-lab test-kind test-plain test-cgroups lint constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

lab: setup ## Set up, start JupyterLab on the start page and the cluster behind it
	@$(BIN)/podlab lab $(ARGS)

test: setup ## Set up and pass all tests
	@rm -rf build/tests
	@printf '%s\n' $(TESTS) | xargs -P $(TEST_JOBS) -I FOLDER tools/test-folder FOLDER || { \
		printf '\n== What failed, with the errors (all of it is in build/tests)\n'; \
		grep -hE '^[a-z]+: (E   |FAILED |ERROR )' build/tests/*.log | cut -c1-300 | tail -n 60; exit 1; }

demo: setup ## The main job without a browser: cluster, lesson, graded class
	@$(BIN)/podlab demo $(ARGS)

setup: $(INSTALLED) ## Make .venv, install everything, get the Kubernetes binaries
	@$(BIN)/podlab binaries ensure --quiet

execute: setup ## Run every notebook unattended with papermill
	@$(BIN)/podlab execute $(ARGS)

build: $(INSTALLED) ## Generate notebooks/, source/, release/ and the cards of chapters from manuscript/
	@$(BIN)/podlab build

check: $(INSTALLED) ## Say what is stale, out of style, a broken link, given away, or never timed
	@$(BIN)/podlab check

release: $(INSTALLED) ## Generate release/ from source/ with nbgrader
	@$(BIN)/podlab release

bench: setup ## Measure one figure: make bench NAME=cluster-up
	@test -n "$(NAME)" || { echo "Say which: make bench NAME=..." >&2; ls benchmarks >&2; exit 2; }
	@file="benchmarks/$(NAME).py"; \
	test -f "$$file" || file="benchmarks/$$(printf %s "$(NAME)" | tr - _).py"; \
	test -f "$$file" || { echo "There is no benchmark $(NAME)." >&2; ls benchmarks >&2; exit 2; }; \
	$(BIN)/python "$$file" $(ARGS)

kind-lab: setup ## A real kind cluster's parts from package registries: node image, Docker (root, Debian)
	@cluster/kind-lab/lab build

test-kind: setup ## The cluster tests, answers and short conformance tests on a real kind cluster
	@mkdir -p build/tests
	@# Without the suite its tests would be passed over.
	@$(if $(filter tests/conformance%,$(KIND_TESTS)),$(BIN)/python cluster/conformance --build-only)
	@# The lab has no network, and its nodes are of Debian 12.
	@$(if $(filter-out tests/cluster/test_any_provider.py tests/conformance%,$(KIND_TESTS)),\
		$(BIN)/python tests/packages_for_kind.py)
	@cluster/kind-lab/lab with sh -c 'status=0; for tests in $(KIND_TESTS); do echo "== $$tests, on kind"; \
		PODLAB_TEST_PROVIDER=kind $(PYTEST) -q -rs $(if $(KIND_SELECT),-k "$(KIND_SELECT)") \
			--junitxml="build/tests/kind-$$(basename "$$tests" .py).xml" $$tests || status=1; done; exit $$status'

test-plain: setup ## The tests of pods where namespaces are refused, on the plain runtime
	@mkdir -p build/tests
	@PODLAB_TEST_RUNTIME=plain $(PYTEST) -q -rs --junitxml=build/tests/plain.xml $(PLAIN_TESTS)

test-cgroups: setup ## The tests of limits that the kernel keeps, under a kernel that is a program (user-mode Linux)
	@tools/own-kernel $(PYTEST) -q -rs -p no:cacheprovider --color=no --junitxml=build/tests/cgroups.xml \
		tests/sandbox/test_cgroups.py

conformance: setup ## Kubernetes' own test suite on the embedded cluster: make conformance ARGS=--short
	@$(BIN)/python cluster/conformance $(ARGS)

lint: $(INSTALLED) ## Check style, the direction of imports, and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

constraints: $(INSTALLED) ## Write constraints.txt from the versions in .venv
	@$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable --exclude podlab > constraints.new
	@{ sed -n '/^#/p' constraints.txt; cat constraints.new; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt; rm -f constraints.new

clean: ## Remove .venv and what tools left; clusters, caches and work/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt $(BIN)/python
	@$(BIN)/python -c 'import pip' 2>/dev/null || PYTHON="$(PYTHON)" tools/make-venv $(VENV)
	@echo "Installing Python packages into $(VENV) (the first time takes a few minutes)"
	@# Some versions of pip leave folders where they unpack: give them one that goes.
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && TMPDIR="$$scratch" \
		$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

$(BIN)/python:
	@PYTHON="$(PYTHON)" tools/make-venv $(VENV)
