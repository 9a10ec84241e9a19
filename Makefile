# Everything sets itself up: `make demo`, `make test`. Needs Python >= 3.11 and nothing else.

PYTHON ?= python3
SA21 := .venv
SA20 := .venv-sqlalchemy20
# A pip that knows dependency groups.
PIP := pip install --quiet --disable-pip-version-check
TESTED := pyproject.toml setup.cfg

.PHONY: demo test lint test-sqlalchemy21 test-sqlalchemy20 test-long format clean

demo: $(SA21)/.demo
	$(SA21)/bin/python -m examples.shop

test: lint test-sqlalchemy21 test-sqlalchemy20

lint: $(SA21)/.test
	$(SA21)/bin/ruff check
	$(SA21)/bin/ruff format --check
	$(SA21)/bin/mypy
	$(SA21)/bin/lint-imports

# The newest of everything, orjson among it; the package as it lies here.
test-sqlalchemy21: $(SA21)/.test
	$(SA21)/bin/python -m pytest

# SQLAlchemy 2.0 and no extras; the package as it would be installed from an index.
test-sqlalchemy20: $(SA20)/.test
	$(SA20)/bin/python -m $(PIP) --force-reinstall --no-deps .
	$(SA20)/bin/pytest

test-long: $(SA21)/.test
	$(SA21)/bin/python -m pytest -m "long or not long"

format: $(SA21)/.test
	$(SA21)/bin/ruff check --fix
	$(SA21)/bin/ruff format

clean:
	rm -rf $(SA21) $(SA20) build dist *.egg-info

$(SA21)/.pip $(SA20)/.pip: %/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $*
	$*/bin/python -m $(PIP) --upgrade "pip>=25.1"
	touch $@

$(SA21)/.demo: $(SA21)/.pip $(TESTED)
	$(SA21)/bin/python -m $(PIP) --editable . --group demo
	touch $@

$(SA21)/.test: $(SA21)/.demo
	$(SA21)/bin/python -m $(PIP) --upgrade "SQLAlchemy>=2.1,<2.2" --group lint
	touch $@

$(SA20)/.test: $(SA20)/.pip $(TESTED)
	$(SA20)/bin/python -m $(PIP) . "SQLAlchemy>=2.0.30,<2.1" --group test
	touch $@
