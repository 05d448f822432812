# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := demo

.PHONY: setup demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    render a few clips, cache them, train a head, print its ranks"
	@echo "make test    run the tests"
	@echo "make setup   make .venv with everything in it"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks, with ratios and the limits of this machine"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt -e '.[test,lint,notebooks]'
	@touch $(READY)

# Colour-and-tone clips with random networks: it shows that every stage runs, and says that its numbers mean nothing.
demo: $(READY)
	$(BIN)/python -m lab.toy.clips --root $(DEMO)/clips --n 96
	$(BIN)/python -m lab.cache --dataset folder --root $(DEMO)/clips --clip random --panns cnn6:random --features $(DEMO)/features
	$(BIN)/python -m lab.study xpool_head --features $(DEMO)/features

test: $(READY)
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv $(DEMO) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
