# Mistakes. `make` alone prints what there is to do; the two that matter are `make book` and
# `make test`. Each sets up what it needs, on a machine with only Python 3.11 or newer, git and make.

# Published numbers, "quick" (digits, trained from scratch, minutes) or "paper" (Appendix C).
PARAMETERS ?= published

# The Python that the private environment is made with: the first on the path that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { command -v $$python; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Kernels, papermill and jupyter-book are to be the environment's own, whatever the machine has.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
# The environment keeps its bytecode, whatever the machine says: without it each of some hundred
# processes compiles torch, scikit-learn and matplotlib anew, which takes longer than what it is for.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup book pdf teach notebooks test benchmarks format lock clean

help:  ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

book: $(INSTALLED)  ## execute the chapters and publish the book; PARAMETERS=quick|published|paper
	@$(BIN)/python book/build.py book --parameters "$(PARAMETERS)"

pdf: $(INSTALLED)  ## print the committed book to _build/mistakes.pdf (needs Chromium or Chrome)
	@$(BIN)/python book/build.py pdf

# The runs are those of `make book PARAMETERS=quick`.
teach: $(INSTALLED)  ## write notebooks for students, solutions, slides and a handout to teach/
	@MISTAKES_RUNS="$${MISTAKES_RUNS:-_build/quick/runs}" $(BIN)/mistakes teach

test: $(INSTALLED)  ## ruff, the rooms' order, then every test: library, doctests, chapters, published pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@# A thread for each core's process; files in the order of pyproject.toml, the longest first.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

benchmarks: $(INSTALLED)  ## time us against our peers, half an hour; benchmarks/results.md
	@$(BIN)/python -m benchmarks

notebooks: $(INSTALLED)  ## write notebooks/*.ipynb from their sources notebooks/*.py
	@$(BIN)/python book/build.py notebooks

format: $(INSTALLED)  ## lay out the code as ruff does
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(INSTALLED)  ## make the private environment .venv (the others do it when needed)

# uv itself if the machine has a working one, else a copy in .tools. A second run finds $(INSTALLED)
# newer than the files it depends on, and needs neither uv nor the network.
UV = $(shell uv --version >/dev/null 2>&1 && echo uv || echo .tools/bin/uv)
UV_READY = $(UV) --version >/dev/null 2>&1 || { echo "Getting uv…"; \
	"$(PYTHON)" -m venv .tools && \
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv; }

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. If it is not on the path:" \
		"make PYTHON=/path/to/python3"; exit 1; }
	@$(UV_READY)
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$(PYTHON)" $(VENV)
	$(UV) pip sync --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

lock:  ## write requirements.lock anew from pyproject.toml
	@$(UV_READY)
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-annotate --no-header --output-file requirements.lock

clean:  ## remove what was built (the environment stays)
	rm -rf _build
