# Everything sets itself up: `make demo`, `make test`, `make bench`. Needs Python >= 3.11 and nothing else.

PYTHON ?= python3
SA21 := .venv
SA20 := .venv-sqlalchemy20
LOWEST := .venv-lowest
BENCH := .venv-bench
# What the environments depend on: they are brought up to date when one of these changes.
SETUP := Makefile pyproject.toml setup.cfg
# The lower bounds of pyproject.toml, and the oldest urllib3 that will do.
BOUNDS := SQLAlchemy==2.0.30 requests==2.32.5 urllib3==2.2.0 tenacity==8.3.0 blinker==1.8.0 cryptography==44.0.0
# Twice quiet, or setuptools warns of what an editable installation is.
PIP := pip install -qq --disable-pip-version-check
# Where tests have their files: in memory, if there is room; they wait for the disk longer than they compute.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8000000 { print "/dev/shm" }')
ON_FILES := $(if $(IN_MEMORY),TMPDIR=$(IN_MEMORY))
# What runs together shows what it says when it ends, if this make can do so.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: demo test lint test-sqlalchemy21 test-sqlalchemy20 test-lowest test-long bench format clean
.PHONY: run-sqlalchemy21 run-sqlalchemy21-first run-sqlalchemy21-second run-stress
.PHONY: run-sqlalchemy20 run-sqlalchemy20-first run-sqlalchemy20-second
.PHONY: run-lowest run-lowest-first run-lowest-second
# Two builds in one tree would write to the same files; what only runs may run together.
ifndef TOGETHER
.NOTPARALLEL:
endif

demo: $(SA21)/.demo
	$(SA21)/bin/python -m examples.shop

# The halves of a suite, which take about as long.
first := tests/test_[a-h]*.py
second := tests/test_[!a-h]*.py

# Two at a time: they wait for databases and receivers more than they compute, and share none of them. In this order
# neither ends long before the other; where one fails, the rest is run all the same.
test: $(SA21)/.test $(SA20)/.test $(LOWEST)/.test
	$(call install-afresh,$(SA20))
	$(call install-afresh,$(LOWEST))
	$(MAKE) TOGETHER=yes --jobs=2 --keep-going $(SYNC) run-sqlalchemy21-first run-sqlalchemy20-first run-sqlalchemy21-second \
		run-lowest-first run-sqlalchemy20-second run-stress run-lowest-second lint

lint: $(SA21)/.test
	$(SA21)/bin/ruff check
	$(SA21)/bin/ruff format --check
	$(SA21)/bin/mypy
	$(SA21)/bin/lint-imports

# The newest SQLAlchemy, and orjson; the package as it lies here.
test-sqlalchemy21: $(SA21)/.test run-sqlalchemy21 run-stress

run-sqlalchemy21: run-sqlalchemy21-first run-sqlalchemy21-second

run-sqlalchemy21-first run-sqlalchemy21-second: run-sqlalchemy21-%:
	$(ON_FILES) $(SA21)/bin/python -m pytest -m "not long and not stress" $($*)

run-stress:
	$(ON_FILES) $(SA21)/bin/python -m pytest -m "not long and stress"

# What is tested on the newest and on the oldest, and asks nothing of what is between: requests and what is in them.
SENDING := $(foreach each,addresses dialect egress headers hostile proxy rebinding receivers send url verify,tests/test_$(each)%)

# The newest SQLAlchemy 2.0 and no extras; the package as it would be installed.
test-sqlalchemy20: $(SA20)/.test
	$(call install-afresh,$(SA20))
	$(MAKE) run-sqlalchemy20

run-sqlalchemy20: run-sqlalchemy20-first run-sqlalchemy20-second

run-sqlalchemy20-first run-sqlalchemy20-second: run-sqlalchemy20-%:
	$(ON_FILES) $(SA20)/bin/pytest -m "not long and not stress and not pure" -k "not (machine and mariadb)" \
		$(filter-out $(SENDING),$(wildcard $($*)))

# The oldest of everything that we say will do.
test-lowest: $(LOWEST)/.test
	$(call install-afresh,$(LOWEST))
	$(MAKE) run-lowest

run-lowest: run-lowest-first run-lowest-second

run-lowest-first run-lowest-second: run-lowest-%:
	$(ON_FILES) $(LOWEST)/bin/pytest -m "not long and not stress and not pure and not machine" $($*)

test-long: $(SA21)/.test
	$(ON_FILES) $(SA21)/bin/python -m pytest -m "long or not long"

# What the plug-in costs: docs/performance.md says what comes out.
bench: $(BENCH)/.bench
	$(BENCH)/bin/python -m benchmarks

format: $(SA21)/.test
	$(SA21)/bin/ruff check --fix
	$(SA21)/bin/ruff format

clean:
	rm -rf $(SA21) $(SA20) $(LOWEST) $(BENCH) build dist *.egg-info tests/receivers/node/node_modules*

# setuptools keeps what it once built in build/, deleted modules too.
define install-afresh
rm -rf build
$(1)/bin/python -m $(PIP) --force-reinstall --no-deps .
endef

# A pip that knows dependency groups.
$(SA21)/.pip $(SA20)/.pip $(LOWEST)/.pip $(BENCH)/.pip: %/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $*
	$*/bin/python -m $(PIP) --upgrade "pip>=25.1"
	touch $@

$(SA21)/.demo: $(SA21)/.pip $(SETUP)
	$(SA21)/bin/python -m $(PIP) --editable . --group demo
	touch $@

$(SA21)/.test: $(SA21)/.demo
	$(SA21)/bin/python -m $(PIP) --upgrade "SQLAlchemy>=2.1,<2.2" --group lint
	touch $@

$(SA20)/.test: $(SA20)/.pip $(SETUP)
	$(SA20)/bin/python -m $(PIP) . "SQLAlchemy>=2.0.30,<2.1" --group test
	touch $@

$(LOWEST)/.test: $(LOWEST)/.pip $(SETUP)
	$(LOWEST)/bin/python -m $(PIP) . $(BOUNDS) --group test
	touch $@

$(BENCH)/.bench: $(BENCH)/.pip $(SETUP)
	$(BENCH)/bin/python -m $(PIP) --editable . --upgrade "SQLAlchemy>=2.1,<2.2" --group bench
	touch $@
