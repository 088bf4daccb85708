# make demo | make test | make lint | make docs: each makes .venv with pip if it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# a process of tests more than there are cores, since some wait, but no more than eight: each takes 1 GB
WORKERS := $(shell $(PYTHON) -c "import os; print(min(8, (os.cpu_count() or 1) + 1))")
PARALLEL := -n $(WORKERS) --dist worksteal
# Python keeps what it compiled: tests start hundreds of processes, which would compile the package anew each
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-slow test-all lint docs clean

help:
	@echo "make demo   reconstruct the sample CT and MR from each layer; results in demo_output/"
	@echo "make test   the tests, without the slow ones"
	@echo "make test-slow   the slow ones"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the documentation, in docs/_build/html"

demo: $(READY)
	$(BIN)/medrecon demo demo_output --overwrite

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m slow

test-all: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# torch comes first: the rest then takes the one that is there.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e ".[test]" -c constraints.txt
	touch $@

$(VENV)/.lint: $(READY)
	$(PIP) -e ".[dev]" -c constraints.txt
	touch $@

$(VENV)/.docs: $(READY)
	$(PIP) -e ".[docs]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) demo_output docs/_build
