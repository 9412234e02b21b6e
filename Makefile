# Four words: make demo, make test, make check, make bench. `make setup` alone makes .venv with the `spool` command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := true
# Nothing here is compiled when it is installed: each module is when a process first needs it, and then kept. Where the
# environment forbids to keep it, hundreds of processes would compile the same again and again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup tools aws interop browser screenshots demo demo-show dev test outage hostile loudness model chaos crash episode plants talk check check-infra deploy rehearse bench bench-long bench-smoke bench-tables soak lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Spool needs Python 3.11 or newer: set PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

# Servers that the tests talk to, apart from what Spool itself needs: they pin other versions of the same packages.
tools: $(VENV)-tools/.ready

$(VENV)-tools/.ready: requirements/tools.txt $(VENV)/.ready
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)-tools
	@$(BIN)/uv pip install -q --python $(VENV)-tools/bin/python --require-hashes -r requirements/tools.txt
	@touch $@

# A database client that is not ours, for the test that both understand each other.
interop: $(VENV)-interop/.ready

$(VENV)-interop/.ready: requirements/interop.txt $(VENV)/.ready
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)-interop
	@$(BIN)/uv pip install -q --python $(VENV)-interop/bin/python --require-hashes -r requirements/interop.txt
	@touch $@

# What checks and deploys the template in infra/.
aws: $(VENV)-aws/.ready

$(VENV)-aws/.ready: requirements/aws.txt $(VENV)/.ready
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)-aws
	@$(BIN)/uv pip install -q --python $(VENV)-aws/bin/python --require-hashes -r requirements/aws.txt
	@touch $@

demo: setup
	@$(BIN)/spool demo

# The whole show in examples/show: recordings, checks, mastering, mix, chapters, cover, four files.
demo-show: setup
	@$(BIN)/spool demo --show

dev: setup
	@$(BIN)/spool dev

# The pages are tested in Debian's own Chromium; nothing is downloaded from anywhere else.
browser: setup
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium >/dev/null; \
	  else echo "No Chromium: the tests of the pages will be skipped. Install it, as root with: apt-get install chromium"; fi

# Every page in light and dark, on a desktop and on a phone; three of them go into docs/images, for the README.
screenshots: setup browser
	@$(BIN)/python -m tests.browser.screenshots

# Half of a test's time is waiting, for leases to end, for disks, for servers and workers to start: so two more than there
# are cores. tests/conftest.py says who takes what.
TESTS_AT_ONCE ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 2)')
test: setup
	@$(MAKE) -s -j 3 tools interop browser
	@$(BIN)/python -m pytest -n $(TESTS_AT_ONCE)

# The database away for one minute and for ten, and lost in a silent network for two, with the settings of production; and
# a thousand jobs in a network that spoils exchanges.
outage: setup
	@OUTAGE_S=60,600 $(BIN)/python -m pytest tests/network/test_outages.py tests/network/test_whole_way.py --timeout 1800

# Every kind of file broken in many ways, and the bombs that take minutes to defuse.
hostile: setup
	@HOSTILE_SEEDS=$${HOSTILE_SEEDS:-12} $(BIN)/python -m pytest tests/hostile --timeout 3600

# Every kind of recording mastered in every format, and each file heard by two judges.
loudness: setup
	@LOUDNESS=full $(BIN)/python -m pytest tests/flow/test_ingest.py -k exactly_the_loudness

# An episode of twelve tracks of half an hour over four workers, two of which are killed: how long it takes, and why.
episode: setup
	@EPISODE_S=$${EPISODE_S:-1800} $(BIN)/python -m pytest tests/flow/test_episode.py --timeout 3600

# Workers and APIs die at every crash point, on every way to it, on SQLite and on libSQL; `make test` takes one way to each
# that leaves something of its own.
crash: setup
	@CRASH=full $(BIN)/python -m pytest tests/chaos/test_crash_points.py --timeout 3600

# The queue against its oracle, with examples that no run had before; `make test` takes the same few every time.
model: setup
	@$(BIN)/python -m pytest tests/model --hypothesis-profile=long

# Processes, clock, disk, database and network harmed at random for CHAOS_S seconds on each database, then an audit.
CHAOS_S ?= 300
chaos: setup
	@CHAOS_S=$(CHAOS_S) $(BIN)/python -m pytest tests/chaos/test_chaos.py

# Fifteen agents that speak five times a second for a minute, and every way in which a worker can leave its programs.
talk: setup
	@AGENT_S=60 $(BIN)/python -m pytest tests/worker/test_agent.py tests/worker/test_workflow.py --timeout 600

# Copies of the code with one fault planted in each: every one must be noticed, by chaos or where a test stages it.
plants: setup
	@$(BIN)/python -m tests.chaos.plants

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# The template as AWS's own tools see it.
check-infra: setup aws
	@$(VENV)-aws/bin/cfn-lint infra/template.yaml
	@cd infra && SAM_CLI_TELEMETRY=0 ../$(VENV)-aws/bin/sam validate --lint --region eu-central-1

# `make deploy DATABASE_URL=libsql://…` builds and deploys to the AWS account of the environment; docs/deploy.md. Files of
# programs and presets (`PROGRAMS=…`, `PRESETS=…`) go into the zip, and the function is told of them.
deploy: export SAM_CLI_TELEMETRY := 0
deploy: setup aws
	@for file in $(PROGRAMS) $(PRESETS); do test -f "$$file" || { echo "There is no file $$file"; exit 1; }; done
	@cd infra && ../$(VENV)-aws/bin/sam build && \
	  ../$(VENV)-aws/bin/sam deploy --parameter-overrides DatabaseUrl=$(DATABASE_URL) \
	  $(if $(PROGRAMS),Programs=programs.toml) $(if $(PRESETS),Presets=presets.toml) $(PARAMETERS)

# A whole deployment on this machine, without any account: build, deploy, a job, teardown.
rehearse: setup tools aws
	@$(BIN)/python -m tests.deploy.rehearse

# A quarter of an hour on a machine that has nothing else to do; bench/results/ keeps the tables and the numbers.
bench: setup
	@$(BIN)/python -m bench

# A million jobs waiting, a million done.
bench-long: setup
	@$(BIN)/python -m bench --long

# Whether the benchmarks still work, by what they count, in less than a minute.
bench-smoke: setup
	@$(BIN)/python -m bench --smoke

# The newest figures into the README and docs/scaling.md.
bench-tables: setup
	@$(BIN)/python -m bench.page

# A day in production in ten minutes, on two cores that have nothing else to do: size and memory must stay bounded.
SOAK_S ?= 600
SOAK_JOBS ?= 20000
soak: setup
	@$(BIN)/python -m bench.soak --seconds $(SOAK_S) --jobs $(SOAK_JOBS)

# Requirement files carry hashes and no addresses, so that they install from any index.
lock: setup
	@for name in api cli otel dev; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	    --no-emit-package spool --extra $$name -o requirements/$$name.txt pyproject.toml; \
	done
	@for name in tools aws interop; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	    --group $$name -o requirements/$$name.txt; \
	done

clean:
	rm -rf $(VENV) $(VENV)-tools $(VENV)-aws $(VENV)-interop infra/.aws-sam .spool .media build dist *.egg-info
