# make demo: set up .venv and run the whole road on the embedded miniature.   make test: lint, types, tests.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SHARED := $(abspath $(or $(ADAPTERXL_SHARED),../shared))

.PHONY: demo test lint clean

# torch first: a failed or slow download of the largest package is then seen at once.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --use-pep517 -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/adapterxl demo --out out/demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two workers of one thread each: the suite is sized for a machine with two cores.
test: lint
	ADAPTERXL_SHARED="$(SHARED)" $(BIN)/python -m pytest -q -n 2

clean:
	rm -rf .venv out build *.egg-info .pytest_cache .mypy_cache .ruff_cache
