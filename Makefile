# `make help` lists what there is. Settings come from the environment or .env, which the service reads itself.
PYTHON_FLOOR = 3.11
VENV = .venv
BIN = $(VENV)/bin
ARGS =

.PHONY: run test lint format hooks bench pairs torture fuzz mining screenshots requirements messages clean help
.DEFAULT_GOAL = help

help: ## this list
	@awk -F ' *## *' '/^[a-z]+:.*## / { sub(/:.*/, "", $$1); printf "make %-14s%s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run-stamp ## set up what is missing, then serve on http://127.0.0.1:8000 (ARGS="--port 9000")
	@exec $(BIN)/python manage.py serve $(ARGS)

test: $(VENV)/.dev-stamp ## every check, on SQLite, on PostgreSQL and in a browser (ARGS="-k name" or ARGS="--stage types"; ARGS=--help)
	@exec $(BIN)/python -m tests.run $(ARGS)

lint: $(VENV)/.dev-stamp ## ruff and mypy
	@exec $(BIN)/python -m tests.run --stage lint --stage format --stage types

format: $(VENV)/.dev-stamp ## let ruff format the code and repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(VENV)/.dev-stamp ## check what is committed: ruff, format and mypy on the changed files
	@$(BIN)/pre-commit install

bench: $(VENV)/.bench-stamp ## measure turns, streams, long histories, big tables and memory next to a baseline
	@exec $(BIN)/python -m trials.bench $(ARGS)

pairs: $(VENV)/.run-stamp ## compare the CPU time of a turn with another checkout's (ARGS="--against ../before --rounds 4")
	@exec $(BIN)/python -m trials.bench.pairs $(ARGS)

torture: $(VENV)/.dev-stamp ## try the promises with kills, restarts and faults, for some minutes (ARGS="--scale 0.02")
	@exec $(BIN)/python -m trials.torture $(ARGS)

fuzz: $(VENV)/.dev-stamp ## send 10,000 generated requests on each database (ARGS="--seed 7 --cases 2000")
	@exec $(BIN)/python -m trials.fuzz $(ARGS)

mining: $(VENV)/.dev-stamp $(VENV)/.pm4py-stamp ## let a swarm talk, and pm4py read its event logs (500 MB of packages)
	@exec $(BIN)/python -m trials.mining $(VENV)/pm4py/bin/python

screenshots: $(VENV)/.dev-stamp ## take the README's pictures anew, of a scratch service in a real browser (needs Chromium)
	@exec $(BIN)/python -m tests.support.screenshots

COMPILE = $(BIN)/uv pip compile --universal --python-version $(PYTHON_FLOOR) --generate-hashes --no-emit-index-url \
	--no-header --quiet

requirements: $(VENV)/.dev-stamp ## compile the .in files to exact versions with hashes (ARGS=--upgrade for newer ones)
	$(COMPILE) $(ARGS) requirements.in --output-file requirements.txt
	$(COMPILE) $(ARGS) requirements-dev.in --output-file requirements-dev.txt
	$(COMPILE) $(ARGS) -c requirements.txt trials/bench/requirements.in --output-file trials/bench/requirements.txt
	$(COMPILE) $(ARGS) trials/mining/requirements.in --output-file trials/mining/requirements.txt
	$(COMPILE) $(ARGS) --no-deps testing/llama/requirements.in --output-file testing/llama/requirements.txt

messages: $(VENV)/.run-stamp ## collect the texts to translate in locale/, and compile their translations (needs gettext)
	@command -v xgettext > /dev/null && command -v msgfmt > /dev/null || { \
		echo "GNU gettext was not found. On Debian and Ubuntu: apt-get install gettext" >&2; exit 1; }
	$(BIN)/python manage.py makemessages --locale pt_BR --no-location --no-wrap --no-obsolete \
		--ignore tests --ignore testing --ignore trials --ignore var
	$(BIN)/python manage.py compilemessages --locale pt_BR --ignore '.*'

clean: ## remove what the targets above made; conversations in var/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as old as the last complete installation, so that a second start asks pip nothing.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.run-stamp: requirements.txt
	@$(MAKE) --no-print-directory $(VENV)/.usable
	$(INSTALL) --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev-stamp: requirements-dev.txt $(VENV)/.run-stamp
	$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.bench-stamp: trials/bench/requirements.txt $(VENV)/.run-stamp
	$(INSTALL) --require-hashes -r trials/bench/requirements.txt
	@touch $@

$(VENV)/.pm4py-stamp: trials/mining/requirements.txt $(VENV)/.run-stamp
	$(BIN)/python -m venv --clear $(VENV)/pm4py
	$(VENV)/pm4py/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r trials/mining/requirements.txt
	@touch $@

# The stage and the step that need it make it by themselves: testing/llama/server.py.
$(VENV)/.llama-stamp: testing/llama/requirements.txt $(VENV)/.run-stamp
	$(BIN)/python -m venv --clear $(VENV)/llama
	$(VENV)/llama/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
		-r testing/llama/requirements.txt
	@touch $@

# Where the Python behind the venv is gone (an upgrade of the system), what was installed counts for nothing.
$(shell test -x $(BIN)/python || rm -f $(VENV)/.*-stamp)

# The first Python that is new enough; PYTHON=/path/to/python is asked first. A venv that no longer works is made anew.
.PHONY: $(VENV)/.usable
$(VENV)/.usable:
	@$(BIN)/python -m pip --version > /dev/null 2>&1 && exit 0; \
	for python in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11; do \
		test -n "$$python" || continue; \
		"$$python" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(PYTHON_FLOOR)".split("."))))' \
			2> /dev/null || continue; \
		echo "Making $(VENV) with $$("$$python" --version) ($$(command -v "$$python"))"; \
		"$$python" -m venv --clear $(VENV) && exit 0; \
		rm -rf $(VENV); \
		echo "$$python can't make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	done; \
	echo "BancoBot needs Python $(PYTHON_FLOOR) or later, and none was found in PATH." >&2; \
	echo "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or: make run PYTHON=/path/to/python" >&2; \
	exit 1
