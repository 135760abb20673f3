# make demo: from a fresh machine to a fine-tuned model. make help: every target.

PYTHON ?= python3
VENV ?= .venv
# Installed where no GPU is: the default build of torch brings several GB of CUDA libraries with it.
TORCH_CPU ?= torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST ?=
# Each test's own work runs on one thread, so that several tests run side by side.
JOBS ?= 2

BIN := $(VENV)/bin
# Bytecode is made here, once: an environment that may not write it would compile the sources at each start, for ten seconds.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install dev demo test slow gpu format lint types wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## install into .venv and fine-tune a small model, in a few minutes
	$(BIN)/shardtune train trainer/recipes/demo.yaml

install: $(VENV)/.installed ## install the command into .venv

dev: $(VENV)/.dev ## install into .venv what the targets below need

test: $(VENV)/.dev ## the tests, JOBS at a time; more for pytest: make test PYTEST="-x -k lock"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST)

slow: $(VENV)/.dev ## the tests that take minutes each
	$(BIN)/python -m pytest -q -m "slow and not gpu" --timeout=1800 $(PYTEST)

gpu: $(VENV)/.dev ## the tests that need a CUDA device
	$(BIN)/python -m pytest -q -m gpu --timeout=1800 $(PYTEST)

format: $(VENV)/.dev ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(VENV)/.dev ## ruff, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev ## mypy
	$(BIN)/mypy

wheel: $(VENV)/.dev ## build the wheel and try it in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python .ci/wheel.py dist

clean: ## remove what the other targets made, but the runs
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find trainer tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making the environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is needed: apt install python3-venv"; exit 1; }
	@touch $@

# torch first, so that a machine without a GPU gets the small build and the range in pyproject.toml is then satisfied.
$(VENV)/.torch: $(VENV)/.made
	@if command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q '^GPU'; then \
	  echo "An NVIDIA GPU is here: torch comes with CUDA."; \
	elif $(BIN)/python -c 'from importlib.metadata import version; version("torch")' 2> /dev/null; then \
	  echo "torch is installed already."; \
	else \
	  echo "Installing torch for the CPU into $(VENV) (about one minute) ..."; \
	  open='import urllib.request; urllib.request.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)'; \
	  $(BIN)/python -c "$$open" 2> /dev/null && index="--extra-index-url $(TORCH_CPU_INDEX)"; \
	  $(PIP) $$index "$(TORCH_CPU)"; \
	fi
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@echo "Installing packages into $(VENV) (about two minutes the first time) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "Installing packages and the tools of the tests into $(VENV) (about two minutes the first time) ..."
	@$(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@
