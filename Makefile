# make demo | make test | make lint: each makes .venv with pip if it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-slow lint clean

help:
	@echo "make demo   reconstruct the sample CT and MR from each layer; results in demo_output/"
	@echo "make test   the tests, without the slow ones"
	@echo "make lint   ruff and mypy"

demo: $(READY)
	$(BIN)/medrecon demo demo_output --overwrite

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first: the rest then takes the one that is there.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e ".[test]" -c constraints.txt
	touch $@

$(VENV)/.lint: $(READY)
	$(PIP) -e ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) demo_output
