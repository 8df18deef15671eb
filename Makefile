# Common Space. `make` lists what can be made.

PYTHON ?= python3
PIP_FLAGS ?=
CHAPTER ?=
WHAT ?=
LIMIT ?= 1800
LAB_FLAGS ?=

VENV := .venv
PY := $(VENV)/bin/python
START := $(shell date +%s)
ONE := $(if $(CHAPTER),--chapter $(CHAPTER))

# The same threads and numerical kernels for everything that is run here.
PINS := tools/pins.env $(wildcard tools/pins.$(shell uname -m).env)
include $(PINS)
export $(shell sed -n 's/^\([A-Z0-9_]*\)=.*/\1/p' $(PINS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup data run test lab notebooks evidence bench stubs doctor lint format clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(VENV)/.ready  ## build .venv with all that the course needs (PYTHON=python3.12, PIP_FLAGS=...)

$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not on this machine. Debian: apt-get install python3 python3-venv; or name one: make $(MAKECMDGOALS) PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo "$(PYTHON) cannot build virtual environments. Debian: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV): some minutes, once."
	@rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -e '.[course,bert,bench,dev]' -c constraints.txt $(PIP_FLAGS)
	@touch $@

data: setup  ## get the data of the default runs: emoji, their names and groups
	$(PY) data_scripts/get_emoji.py

run: setup data  ## execute the chapters and solutions into build/ (CHAPTER=01 for one)
	@$(PY) -m tools.run_notebooks $(ONE) --limit $(LIMIT) --since $(START)

test: setup data  ## run every test (CHAPTER=01 compares the outputs of that chapter alone)
	@$(PY) -m tools.run_tests $(ONE) --since $(START)

lab: setup data  ## open the chapters in JupyterLab (LAB_FLAGS=...)
	$(PY) -m jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/chapters $(LAB_FLAGS)

notebooks: setup data  ## run the notebooks and keep their outputs, for the commit (CHAPTER=01 for one)
	@$(PY) -m tools.run_notebooks --in-place $(ONE) --limit $(LIMIT) --since $(START)

evidence: setup data  ## run the chapters at full size, record results/ and the README's tables (CHAPTER=01 for one)
	@$(PY) -m tools.evidence $(ONE)

bench: setup  ## time the library beside its peers at equal results, and record it (WHAT=cca for one)
	@for file in $(if $(WHAT),benchmarks/bench_$(WHAT).py,$(sort $(wildcard benchmarks/bench_*.py))); do $(PY) $$file || exit 1; done

stubs: setup  ## cut the exercises' stubs from the solutions into the chapters
	@$(PY) -m tools.stubs

doctor: setup  ## say what is well on this machine and what mends the rest
	@$(VENV)/bin/commonspace doctor

lint: setup  ## look for mistakes in the code and the notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup  ## lay out the code and the notebooks
	$(PY) -m ruff format .

clean:  ## remove what was built; .venv and the cache of data stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
