# Every target does its own set-up: a machine with Python 3.11+, pip, make and git is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= quickstart

.PHONY: help setup quickstart test test-slow lint demo clean

help:
	@echo "make setup        install everything into $(VENV)"
	@echo "make quickstart   install, then train on the bundled notes and make sounds (about 12 minutes)"
	@echo "make test         install, lint, types, floors, tests (under 10 minutes)"
	@echo "make test-slow    the long tests"
	@echo "make lint         ruff, mypy, import-linter"
	@echo "make demo         the page in the browser, on the quickstart's model"
	@echo "make clean        remove the environment and the quickstart's output"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[soundfont,demo,evaluate,embeddings,track,export]" --group dev
	$(BIN)/python -m audio_vaegan.doctor --fix --quiet
	@touch $(STAMP)

setup: $(STAMP)

quickstart: $(STAMP)
	$(BIN)/audio-vaegan quickstart --out $(OUT)

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(STAMP)
	$(BIN)/audio-vaegan demo $(OUT)/run

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
