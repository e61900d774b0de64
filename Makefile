PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test lint clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## run the demonstration; its results go to demo-out/
	OMP_NUM_THREADS=1 $(RUN) examples/demo.py --out demo-out

test: $(VENV)/.installed ## run the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --durations 25

lint: $(VENV)/.installed ## check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean: ## remove what tools generate; .venv/ and runs/ stay
	rm -rf build dist demo-out docs/_build *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Installs once, and again only when the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "noisylearn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); this takes a few minutes"
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@# lava-nc states that it needs Python 3.10 and numpy 1; with noisylearn/backends/lava/compat.py it does not.
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-deps --ignore-requires-python lava-nc==0.10.0
	@touch $@
