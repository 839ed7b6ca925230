# `make run`: the whole job on digits.  `make test`: every check.  `make docs`: the site, in site/.
# Each sets up what is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test docs setup clean

run: setup
	$(BIN)/tp-train
	$(BIN)/tp-export
	$(BIN)/tp-sim --snr 0:20

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist worksteal

# Strict: a link that leads nowhere fails.
docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

setup: .venv/installed

# Written last, so that an interrupted installation is taken up again.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,sim,sentences,dev]'
	touch .venv/installed

.venv/docs-installed: .venv/installed
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	touch .venv/docs-installed

clean:
	rm -rf .venv .cache .hypothesis .pytest_cache .ruff_cache build dist site *.egg-info
	rm -rf export/web/node/node_modules tests/web/node_modules
