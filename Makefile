PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PACKAGE := $(shell find noisylearn hardware_profiles -name '*.py' -o -name '*.toml')
TUTORIALS := $(patsubst docs/%.ipynb,build/site/%.md,$(wildcard docs/tutorials/*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs docs-serve docs-look docs-links site-pages clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## run the demonstration; its results go to demo-out/
	OMP_NUM_THREADS=1 $(RUN) examples/demo.py --out demo-out

test: $(VENV)/.installed ## run the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --durations 25

lint: $(VENV)/.installed ## check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(TUTORIALS) site-pages ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build

docs-serve: $(TUTORIALS) site-pages ## build the documentation, show it on http://127.0.0.1:8000 and follow changes
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs serve

docs-look: docs ## open the pages in Chromium: failed scripts, requests to other hosts, pages wider than a phone
	$(RUN) tools/look_at_site.py

docs-links: docs ## ask other hosts whether the pages that are linked to are there (needs a network)
	$(RUN) tools/outside_links.py

# Pages that the package states itself.
site-pages: $(VENV)/.installed
	@mkdir -p build/site/reference
	@$(RUN) -m typer noisylearn.cli utils docs --name noisylearn --title "Command line" \
		--output build/site/reference/cli.md >/dev/null
	@$(RUN) tools/site_pages.py build/site

# A tutorial is run again where it or the package changed; an error in it stops the build.
build/site/tutorials/%.md: docs/tutorials/%.ipynb $(PACKAGE) | $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m nbconvert --log-level WARN --to markdown --execute --output-dir $(@D) $<

clean: ## remove what tools generate; .venv/ and runs/ stay
	rm -rf build dist site demo-out *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
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
