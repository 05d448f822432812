# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    render the toy world, cache it, search a head's settings, compare heads, draw figures"
	@echo "make test    run the tests"
	@echo "make setup   make .venv with everything in it"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks, with ratios and the limits of this machine"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt -e '.[toy,test,lint,notebooks]'
	@touch $(READY)

# The main job on the toy world: render, cache, search, compare heads on the test split, draw.
demo: $(READY)
	$(BIN)/python -m lab.cache --dataset toy
	$(BIN)/python -m lab.study xpool_head --dataset toy --trials 4
	$(BIN)/python -m lab.study heads --dataset toy
	$(BIN)/python -m lab.figures --dataset toy

test: $(READY)
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
