# make demo    the whole path on this machine: raw data to report        make test    the whole suite, lint and types
# make setup   the environment both rest on, in .venv                    make faults  every injected fault, with a table
# make quick   the tests that are fast, in about a minute on two cores
# make benchmarks TOKENIZER=DIR    all figures that need no GPU, each with its goal (10 minutes on an idle core)
# make clean   remove what the demo and tests wrote

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: setup demo test quick check faults benchmarks clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}; run: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "setting up $(VENV) (torch, transformers, deepspeed and what the tests need)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
	@echo "$(VENV) is ready; activate it in every new shell: source $(VENV)/bin/activate"

demo: setup
	$(BIN)/python -m launch.demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

faults: setup
	$(BIN)/python -m pytest tests/train/faults --long-faults --fault-json faults.json

benchmarks: setup
	$(BIN)/python -m eval.benchmarks.cpu $(if $(TOKENIZER),--tokenizer $(TOKENIZER))

clean:
	rm -rf runs/demo_* shards/demo .pytest_cache .mypy_cache .ruff_cache
