# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv first.
# Another interpreter or folder: make test PYTHON=python3.12 VENV=/somewhere/env

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.showtell-installed
OUT ?= demo
PRESET ?= cpu
COUNT ?= 500
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One torch thread for each test worker: two workers that take every core slow each other down.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

# glibc gives large blocks back at every step and fetches them again, which costs a training on a CPU much time.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967295 MALLOC_TRIM_THRESHOLD_=17179869184

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all lint format bench starter docs wheel wheel-check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

env: $(STAMP) ## make the environment in .venv

# torch goes first and pinned: left to the other packages' wishes, pip may fetch several GB of accelerator libraries.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("showtell needs Python 3.10 or later; $(PYTHON) is %d.%d: set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## edit pictures with the starter and draw a contact sheet
	$(BIN)/showtell demo --out $(OUT) --force

test: $(STAMP) ## run the default tests
	$(TEST_ENV) $(BIN)/python -m pytest

test-all: $(STAMP) ## run the slow tests as well
	$(TEST_ENV) $(BIN)/python -m pytest -m "not gpu"

lint: $(STAMP) ## style, types, and no torchvision
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ty check --python $(VENV)
	@$(BIN)/python -c 'import importlib.util as u, sys; sys.exit("torchvision is installed: it breaks transformers beside a CPU torch; uninstall it" if u.find_spec("torchvision") else 0)'

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## measure the starters on held-out scenes (COUNT=500)
	$(BIN)/showtell bench starter --count $(COUNT)

starter: $(STAMP) ## train the starter models from nothing, or go on in trained/ (PRESET=cpu|gpu|smoke)
	$(KEEP_MEMORY) $(BIN)/showtell train starter --preset $(PRESET) $(if $(wildcard trained/run),--resume)

docs: $(STAMP) ## build the documentation into site/
	$(BIN)/python tools/cli_reference.py --check
	$(BIN)/python tools/readme_figures.py --check
	$(BIN)/python tools/leaderboard.py --check
	$(BIN)/python tools/protocol_tables.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(STAMP) ## build dist/*.whl
	$(PIP) wheel --quiet --no-deps -w dist .

wheel-check: $(STAMP) ## install the wheel alone into a fresh environment and run the demo there
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(PIP) wheel --quiet --no-deps -w "$$dir" . && \
	$(PYTHON) -m venv "$$dir/env" && \
	"$$dir/env/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt torch && \
	"$$dir/env/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt "$$dir"/showtell-*.whl && \
	cd "$$dir" && env -u SHOWTELL_STARTERS -u PYTHONPATH env/bin/showtell demo --out demo

clean: ## remove what was built, not the environment
	rm -rf site dist demo .pytest_cache .ruff_cache .hypothesis
