# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Each writes benchmarks/results/NAME.json. Those of a GPU are run by hand where there is one.
BENCHMARKS := decode store score train stacked study search cache

.PHONY: setup demo readme-figures test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    render the toy world, cache it, search a head's settings, compare heads, draw figures"
	@echo "make test    run the tests"
	@echo "make setup   make .venv with everything in it"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks, and the table of them in the README"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt -e '.[toy,demo,test,lint,notebooks]'
	@touch $(READY)

# The main job on the toy world: render, cache, search, compare heads on the test split, draw.
demo: $(READY)
	$(BIN)/python -m lab.cache --dataset toy
	$(BIN)/python -m lab.study xpool_head --dataset toy --trials 4 --set seeds=1
	$(BIN)/python -m lab.study heads --dataset toy --set seeds=1 --set epochs=1 --set audio_epochs=1
	$(BIN)/python -m lab.figures --dataset toy --runs studies/runs/heads-toy/runs
	@echo "results: studies/runs/    figures: figures/    the store: features/toy-toy-midpoints-12.zarr"
	@echo "the page: $(BIN)/python -m lab.demo --dataset toy"

# The pictures in the README, as small PNGs, from what the demo leaves.
readme-figures: $(READY)
	$(BIN)/python -m lab.figures clips strips attention_truth --page --out docs --dataset toy \
		--runs studies/runs/heads-toy/runs --run softmax --run xpool-s1 --run mgfi-s1 --run cmfi-s1
	$(BIN)/python -m lab.demo --dataset toy --runs studies/runs/heads-toy/runs --captions 1 --export build/page
	$(BIN)/python tests/browser.py build/page/index.html docs/demo.png 'a=xpool-s1&b=mean'

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2  # two processes of two threads each would wait for each other

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/table.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
