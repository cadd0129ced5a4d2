# Two commands do everything: `make repro` builds, `make test` checks. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# what the stages and the tests run is what stands in the environment, not what happens to be on the PATH
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
.DEFAULT_GOAL := help
.PHONY: help install repro serve ladder log test lint format ui plots clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	@echo "setting up $(VENV): about 2.5 GB, a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@# torch in one command with the rest: on its own, another package would bring a build of its choice
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

install: $(READY)  ## make the environment in .venv from requirements.lock

repro: $(READY)  ## from the text source to the evaluated assistant, then a summary (PRESET=smoke|laptop|gpu)
	@$(if $(PRESET),llmm preset $(PRESET))
	@dvc repro
	@python -m pipelines.summary

serve: repro  ## the same, where it is not done yet, and then the chat page
	@llmm serve

ladder: $(READY)  ## the milestones: experiments, then each check behind the one before it, then the board
	@dvc repro llmm/ladder/dvc.yaml; code=$$?; llmm log; llmm status; exit $$code

log: $(READY)  ## experiments_log.md and the other generated parts, from records, specs and metrics
	@llmm log
	@python -m pipelines.documents

test: $(READY)  ## units, properties, the whole pipeline at small size
	@# two processes side by side, one thread each; only here: a check of the ladder runs pytest without this plugin
	@python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: $(READY)  ## ruff and mypy
	@ruff format --check .
	@ruff check .
	@mypy

format: $(READY)  ## let ruff mend what it can
	@ruff format .
	@ruff check --fix .

ui: $(READY)  ## Prefect's page with both evaluation flows ready to run
	@python -m pipelines.ui

plots: $(READY)  ## dvc plots as a page that needs no network
	@python -m pipelines.plots_page
	@dvc plots show

clean:  ## remove what the pipeline made and unfinished work; the environment and DVC's cache stay
	rm -rf .work .prefect dvc_plots data/source.json data/corpus data/tokenizer data/tokens data/model data/adapter data/encoder data/index data/evaluations data/ladder/inputs
