# `make demo` and `make test` are all a fresh machine needs: each makes the virtual environment and installs first.
PYTHON ?= python3
VENV ?= .venv
SOURCE ?=
DRIVING ?=
OUTPUT ?= demo
BIN := $(VENV)/bin

.PHONY: demo test coverage clean

demo: $(VENV)/.demo
	$(BIN)/mmfa demo -o "$(OUTPUT)" $(if $(SOURCE),--source "$(SOURCE)") $(if $(DRIVING),--driving "$(DRIVING)")

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

# What of src/mmfa the tests run; below the floor in pyproject.toml it fails. It takes longer than `make test`.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmfa needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) demo
