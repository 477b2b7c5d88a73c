# Everything a fresh machine needs: `make demo` shows the whole path, `make test` proves it.
# One virtual environment with all extras, made by whichever target runs first.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
BIN := $(VENV)/bin
DEMO := demo-out

.PHONY: demo test check stress bundled clean

$(INSTALLED): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,verify,dev]'
	touch $(INSTALLED)

## Generated photos → baseline and proposed → comparison → recognition → demo-out/report.html
demo: $(INSTALLED)
	$(BIN)/obelisk demo --out $(DEMO)

## The whole test suite, a few minutes
test: $(INSTALLED)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2

## Style, types, import direction
check: $(INSTALLED)
	$(BIN)/ruff check src tests tools
	$(BIN)/ruff format --check src tests tools
	$(BIN)/mypy
	$(BIN)/lint-imports

## What takes long: full-size tables, ten thousand mutated photos
stress: $(INSTALLED)
	$(BIN)/pytest -m stress --durations=0

## The model and gallery that come with the package, anew: make bundled DATA=a-gldv2-folder
bundled: $(INSTALLED)
	$(BIN)/python tools/bundled.py $(DATA) bundled-out

clean:
	rm -rf $(VENV) $(DEMO)
