# `make demo` shows the whole path on a fresh machine, `make test` proves it.
# The target that runs first makes one virtual environment with the extras that they need.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
BIN := $(VENV)/bin
DEMO := demo-out

.PHONY: demo test check stress bundled lock clean

$(INSTALLED): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,verify,serve,cluster,dev]'
	touch $(INSTALLED)

## Rendered photos → baseline and proposed → comparison → recognition → demo-out/report.html
demo: $(INSTALLED)
	$(BIN)/obelisk demo --out $(DEMO)

## All tests but those of `make stress`; a few minutes on two cores
test: $(INSTALLED)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

## Style, types, direction of imports
check: $(INSTALLED)
	$(BIN)/ruff check src tests tools examples docs/*.py
	$(BIN)/ruff format --check src tests tools examples docs/*.py
	$(BIN)/mypy
	$(BIN)/lint-imports

## Tests that take long or measure speed and memory; they want a machine with nothing else to do
stress: $(INSTALLED)
	$(BIN)/pytest -m stress --durations=0 --override-ini=faulthandler_timeout=14400

## Remake the model and gallery that come with the package: make bundled DATA=a-gldv2-folder
bundled: $(INSTALLED)
	$(BIN)/python tools/bundled.py $(DATA) bundled-out

## Write the lock files anew from pyproject.toml and constraints.txt; needs uv
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --constraint constraints.txt \
	--no-emit-index-url --no-annotate --no-header --quiet
lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --all-extras --output-file requirements-all.lock

clean:
	rm -rf $(VENV) $(DEMO)
