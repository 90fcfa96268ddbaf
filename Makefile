# `make demo` and `make test` set up everything they need in .venv; python >= 3.11 is all they ask for.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One BLAS thread: at the sizes here it is several times faster than two, and results do not depend on it.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test docs lint types public-types format clean

demo: $(VENV)/.installed-demo
	$(BIN)/certnet demo --out out --force

test: $(VENV)/.installed-test lint types
	$(BIN)/python -m pytest -n 2

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy
	$(BIN)/mypy --disable-error-code misc benchmarks

# not part of `make test`: pyright fetches Node.js where there is none
public-types: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pyright[nodejs]"
	$(BIN)/pyright --ignoreexternal --verifytypes certnet

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "certnet needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plot]"
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plot,torch,onnx,mosek,qp,dask,parquet,docs,dev]"
	@touch $@ $(VENV)/.installed-demo

clean:
	rm -rf $(VENV) out docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
