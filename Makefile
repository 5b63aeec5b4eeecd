# make demo: set up .venv and run a small form of the whole story.   make test: lint, types, tests.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SHARED := $(abspath $(or $(ADAPTERXL_SHARED),../shared))

.PHONY: demo test lint clean data

# torch first: a failed or slow download of the largest package is then seen at once.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

# Before anything is installed: without the data there is nothing to show.
data:
	@test -d "$(SHARED)/models/xlmr-mini" -a -d "$(SHARED)/data" || { \
	  echo "error: no models/xlmr-mini and data in $(SHARED): set ADAPTERXL_SHARED to the folder that holds them" >&2; exit 1; }

demo: data $(STAMP)
	ADAPTERXL_SHARED="$(SHARED)" HF_HUB_OFFLINE=1 $(BIN)/adapterxl run recipes/demo.yaml --out out/demo
	@echo "report: out/demo/report.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two workers of one thread each: the suite is sized for a machine with two cores.
test: lint
	ADAPTERXL_SHARED="$(SHARED)" $(BIN)/python -m pytest -q -n 2

clean:
	rm -rf .venv out build *.egg-info .pytest_cache .mypy_cache .ruff_cache
