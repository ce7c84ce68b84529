# Everything a person or a machine does with this repository. `make help` lists it.
.POSIX:
.DEFAULT_GOAL = help
.PHONY: help run test test-vllm check bench bench-idle bench-spill simulate faults outages lock clean install-worker install-dev install-plot compiled
SHELL = /bin/sh

# Where the virtual environments are, the second for vLLM alone; PYTHON=… names the interpreter it is made with; ARGS=… is passed on.
VENV = .venv
VLLM_VENV = .venv-vllm
PYTHON =
ARGS =
# How many tests `make test` runs at once: as many as there are cores.
JOBS = logical

python = "$(VENV)/bin/python"
setup = VENV="$(VENV)" PYTHON="$(PYTHON)" sh deploy/setup.sh

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

run: install-worker ## start everything here, show one real request, stay up until Ctrl-C
	@exec $(python) -m app up $(ARGS)

test: install-dev compiled ## the whole suite, on a real PostgreSQL and a real model
	@$(python) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

test-vllm: install-dev ## the real vLLM, its CPU build: installed, started, and held to its contract through the gateway
	@VENV="$(VLLM_VENV)" PYTHON="$(PYTHON)" sh deploy/fits_vllm.sh
	@VENV="$(VLLM_VENV)" PYTHON="$(PYTHON)" sh deploy/setup.sh vllm
	@VLLM_PYTHON="$(VLLM_VENV)/bin/python" $(python) -m pytest tests/vllm --timeout 1200 $(ARGS)

check: install-dev ## everything that can be checked without running: lint, types, layers, house rules, deployment files
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	"$(VENV)/bin/lint-imports"
	$(python) -m yamllint --strict .
	@for script in deploy/*.sh deploy/locks/*.sh .ci/run; do sh -n "$$script" || exit 1; done
	$(python) -m pytest -q --numprocesses $(JOBS) tests/house tests/deploy

bench: install-dev ## what a request and a streamed chunk cost the gateway, in CPU time
	@$(python) -m tests.bench $(ARGS)

bench-idle: install-dev ## 10,000 streams that say nothing: memory of each, all alive, all settled (STREAMS=10000)
	@$(python) -m tests.bench.idle --streams $(or $(STREAMS),10000)

bench-spill: install-plot ## first tokens and the hosted share against load, by how a policy spills; draws spill.png (20 min)
	@$(python) -m tests.bench.spill $(ARGS)

simulate: install-dev ## budgets over several processes by seed: crashes, losses, delays (SEEDS=10000, or SEED=7 for one)
	@$(python) -m tests.simulator --seeds $(or $(SEEDS),10000) $(if $(SEED),--seed $(SEED))

faults: install-dev ## four processes under load while everything around them breaks; the books and the target's log must agree
	@$(python) -m tests.faults --requests $(or $(REQUESTS),10000) --seed $(or $(SEED),1)

outages: install-dev ## a minute of everything failing at 200 requests a second, 2,000 callers at once, 500 slow sockets: the figures (4 min)
	@STORM_S=60 STORM_RPS=200 HERD=2000 SLOW_SOCKETS=500 OTHERS=1000 $(python) -m pytest -q -s tests/journeys/test_outages.py tests/journeys/test_overload.py -k "while or herd or heads"

lock: install-dev ## write deploy/locks/*.txt anew from pyproject.toml (needs uv and the network)
	@PATH="$(VENV)/bin:$$PATH" sh deploy/locks/compile.sh

clean: ## remove the virtual environments and the tools' caches; the ledger in .breakeven stays
	rm -rf "$(VENV)" "$(VLLM_VENV)" .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find app migrations tests -name __pycache__ -prune -exec rm -rf {} +

install-worker:
	@$(setup) worker

install-dev:
	@$(setup) dev

install-plot:
	@$(setup) plot

# Where Python is told to write no bytecode, each of the hundreds of processes that tests start would compile all of app.
compiled: install-dev
	@$(python) -m compileall -q -j 0 app migrations tests
