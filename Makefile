# Everything needs only Python >= 3.11, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BACKENDS := $(VENV)/.backends
PICTURES := $(filter-out examples/_% examples/quickstart.py,$(wildcard examples/*.py))
EVERYWHERE := tests/test_contract.py tests/kerasdl

.PHONY: help demo examples test test-full test-backends coverage-zoo mutation lint format bench clean

help:
	@echo "make demo       train, export and verify a model on real data"
	@echo "make examples   the pictures of the documentation, drawn anew"
	@echo "make test       the tests (under 15 minutes on two cores)"
	@echo "make test-full  the tests and the long proofs"
	@echo "make test-backends  the training side on TensorFlow, JAX and PyTorch"
	@echo "make coverage-zoo   all of Keras' layers and ops, by three exporters (five minutes)"
	@echo "make mutation   break every update rule and count the tests that see it"
	@echo "make lint       ruff and mypy"
	@echo "make format     let ruff rewrite the sources, and write the README's list"
	@echo "make bench      the benchmarks, side by side with the peers"
	@echo "make clean      remove the virtual environment and what was built"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BACKENDS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,backends]'
	@touch $@

demo: $(READY)
	$(BIN)/python examples/quickstart.py

examples: $(READY)
	@for program in $(PICTURES); do \
		echo "$$program"; $(BIN)/python $$program || exit 1; \
	done

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-full: $(READY)
	$(BIN)/python -m pytest

test-backends: $(BACKENDS)
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m "not slow" $(EVERYWHERE)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m "not slow" $(EVERYWHERE)
	KERAS_BACKEND=torch $(BIN)/python -m pytest -m "not slow" $(EVERYWHERE)

coverage-zoo: $(READY)
	$(BIN)/python tools/coverage_zoo.py

mutation: $(READY)
	$(BIN)/python tools/mutation.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kerasdl export kerasdl_cli

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tools/readme_objects.py

bench: $(READY)
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/optimizer_step.py
	$(BIN)/python benchmarks/sparse_step.py --rounds 3

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
