# The front door of the study. `make` alone lists what there is. Works with GNU make 3.81 (macOS).

VENV ?= .venv
EXPERIMENT ?= accuracy
PORT ?= 8000
PINS := requirements.lock pyproject.toml tools/venv.sh

PY := $(VENV)/bin/python
# The report needs no torch: the light environment builds it, unless the full one is there and up to date.
LIGHT := $(shell if [ -e $(VENV)/.stamp ] && [ -z "$$(find $(PINS) -newer $(VENV)/.stamp)" ]; \
	then echo $(VENV); else echo .venv-report; fi)
HTML := book/_build/html

export PARAMS
.DEFAULT_GOAL := help
.PHONY: help book report smoke run results check-results readme plan serve dist doctor lock \
	test test-all test-browser test-oldest check format clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- the study

book: $(VENV)/.stamp ## run what is missing on this machine, then build the report
	@$(PY) -m sparsestudy run --missing-local --jobs 2
	@$(PY) -m sparsestudy report

report: $(LIGHT)/.stamp ## build the report alone, from the datasets that are here (no torch, no weights)
	@$(LIGHT)/bin/python -m sparsestudy report

smoke: $(VENV)/.stamp ## run the smoke study on this machine, what of it is missing or stale
	@$(PY) -m sparsestudy run --missing-local --smoke --jobs 2

run: $(VENV)/.stamp ## run with your own parameters: NAME=mine PARAMS="{lengths: [2048]}" or PARAMS_FILE=my.yaml
	@test -n "$(NAME)" || { echo "error: give the run a name: make run NAME=mine PARAMS=\"{lengths: [2048]}\"" >&2; exit 2; }
	@$(PY) -m sparsestudy run --experiment $(EXPERIMENT) --name "$(NAME)" \
		$(if $(PARAMS_FILE),--params-file "$(PARAMS_FILE)",--params "$$PARAMS") \
		$(if $(WORKERS),--workers $(WORKERS))

results: $(VENV)/.stamp ## make a published run again: NAME=smollm2
	@test -n "$(NAME)" || { echo "error: name the published run: make results NAME=smollm2" >&2; exit 2; }
	@$(PY) -m sparsestudy run notebooks/params/$(EXPERIMENT)/$(NAME).yaml $(if $(WORKERS),--workers $(WORKERS))

check-results: smoke ## say whether this machine repeats the published results; fails on a real difference
	@$(PY) -m sparsestudy check-results

readme: $(LIGHT)/.stamp ## write the figure and the findings of README.md again, from the published data
	@$(LIGHT)/bin/python -m sparsestudy readme

plan: $(LIGHT)/.stamp ## say for every run: fresh, stale or missing, and why
	@$(LIGHT)/bin/python -m sparsestudy plan

serve: $(LIGHT)/.stamp ## show the built report at http://127.0.0.1:8000 (PORT=...)
	@test -e $(HTML)/index.html || { echo "error: there is no report yet; make report builds it." >&2; exit 2; }
	@$(LIGHT)/bin/python -m http.server --bind 127.0.0.1 --directory $(HTML) $(PORT)

dist: report ## zip the report and the published datasets into dist/, with checksums
	@$(LIGHT)/bin/python tools/dist.py

doctor: $(LIGHT)/.stamp ## versions against the supported ranges, device, disk, cache, browser
	@$(LIGHT)/bin/python -m sparsestudy doctor

# ---- its tests

# Each process holds torch and a small model, about 1 GB: no more than 4. Work is dealt out as it is done, because
# a few files take most of the time. The full tests run one by one: they start, interrupt and kill whole runs.
SPREAD := -n auto --maxprocesses 4 --dist worksteal

test: $(VENV)/.stamp ## every law at reduced sizes (a few minutes)
	@$(PY) -m pytest $(SPREAD) -m "not slow and not browser and not gpu"

test-all: test-full test-oldest ## full sizes, kills, the oldest supported transformers, the browser

.PHONY: test-full
test-full: $(VENV)/.stamp
	@$(PY) -m sparsestudy report
	@SPARSESTUDY_TEST_SIZE=full $(PY) -m pytest

test-browser: $(VENV)/.stamp ## build the report and open it in headless Chromium
	@$(PY) -m sparsestudy report
	@$(PY) -m pytest -m browser

test-oldest: .venv-oldest/.stamp ## the fast tests with the oldest supported transformers
	@SPARSESTUDY_OLDEST=1 .venv-oldest/bin/python -m pytest $(SPREAD) -m "not slow and not browser and not gpu"

check: $(VENV)/.stamp ## lint, format and types; changes nothing
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(VENV)/.stamp ## put imports and layout right
	@$(PY) -m ruff check --fix --exit-zero --quiet .
	@$(PY) -m ruff format .

# ---- the environment

lock: $(VENV)/.stamp ## write requirements.lock and environment.yml from pyproject.toml (UPGRADE=1: newest)
	@$(PY) tools/lock.py $(if $(UPGRADE),--upgrade)

$(VENV)/.stamp: $(PINS)
	@tools/venv.sh $(VENV) full

.venv-report/.stamp: $(PINS)
	@tools/venv.sh .venv-report report

.venv-oldest/.stamp: $(VENV)/.stamp tools/venv.sh
	@BASE=$(VENV) tools/venv.sh .venv-oldest oldest

clean: ## remove what was built; datasets, weights and environments stay
	rm -rf book/_build book/_generated dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

distclean: clean ## also remove the environments
	rm -rf .venv .venv-report .venv-oldest *.egg-info
