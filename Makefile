# Needs Python >= 3.11, git and make; what the demo runs is installed in .venv from requirements-demo.lock, what the tests
# need from requirements-dev.lock, the peers of the benchmarks in .venv-bench from requirements-bench.lock, and the builder
# of the documentation site in .venv-docs from requirements-docs.lock.

export PIP_DISABLE_PIP_VERSION_CHECK := 1

PYTHONS ?= python3.13 python3.12 python3.11 python3
BIN := .venv/bin
DEMO_STAMP := .venv/.installed-for-the-demo
STAMP := .venv/.installed
BENCH_BIN := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed
DOCS_BIN := .venv-docs/bin
DOCS_STAMP := .venv-docs/.installed
# Tests of Kafka and of networks wait more than they work: on two cores, three processes take the least time.
JOBS ?= 3
PYTEST := $(BIN)/python -m pytest --ignore=tests/style -n $(JOBS) --dist loadfile --no-loadscope-reorder
CHAT_FILE ?= $(or $(LASTSEEN_CHAT_FILE),../shared/data/ubuntu-irc.jsonl.gz)

UV := var/lock/bin/uv
# One lock for every Python and platform: what differs between them has a marker.
PIN := $(UV) pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links $(UPGRADE)

# The first Python that is new enough and can make an environment; says what is missing where there is none.
define FIND_PYTHON
found=; old=; bare=; \
for candidate in $(PYTHONS); do \
	"$$candidate" -c '' >/dev/null 2>&1 || continue; \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$old $$candidate"; continue; }; \
	"$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 || { bare="$$bare $$candidate"; continue; }; \
	found="$$candidate"; break; \
done; \
if [ -z "$$found" ]; then \
	if [ -n "$$bare" ]; then \
		echo "lastseen: found$$bare, but without ensurepip, so it cannot make an environment." >&2; \
		echo "  On Debian and Ubuntu: apt-get install python3-venv; then run make again." >&2; \
	else \
		echo "lastseen: needs Python 3.11 or newer; tried: $(PYTHONS)$${old:+; too old:$$old}." >&2; \
		echo "  Install one, or name it: make PYTHONS=/path/to/python3.12" >&2; \
	fi; \
	exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo check lint types types-windows house-rules kafka kafka-cluster kafka-jars browser curl test test-all test-busy replay-check crash kafka-crash faults simulate mutants fuzz torture soak fuzz-codec bench bench-quick bench-setup real-gateway docs docs-setup docs-site lock locks-check quick test-pythons fresh clean no-python
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

no-python:

setup: $(STAMP) ## create .venv from the hash-pinned lock and install lastseen in it

# Rebuilt rather than updated, so that nothing stays behind that a lock no longer names; and rebuilt where its
# Python has gone, which leaves a dangling link behind. The demo's environment becomes the developer's by what is added.
$(DEMO_STAMP): requirements-demo.lock pyproject.toml $(if $(realpath $(BIN)/python),,no-python)
	@$(FIND_PYTHON); \
	echo "lastseen: making .venv with $$found"; \
	"$$found" -m venv --clear .venv || { \
		rm -rf .venv; \
		echo "lastseen: $$found could not make an environment in .venv; see its message above." >&2; \
		echo "  On Debian and Ubuntu: apt-get install python3-venv; or name another: make PYTHONS=..." >&2; \
		exit 1; \
	}
	@# Wheels only: building a source archive would fetch build tools that no hash pins.
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-demo.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(DEMO_STAMP)

$(STAMP): $(DEMO_STAMP) requirements.lock requirements-dev.lock
	@if [ -e $(STAMP) ]; then rm -rf .venv && $(MAKE) --no-print-directory $(DEMO_STAMP); fi
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $(STAMP)

demo: $(DEMO_STAMP) ## replay the chat recording in the repository; log and snapshot stay in var/demo
	@mkdir -p var/demo
	$(BIN)/lastseen replay lastseen/replay/data/ubuntu-irc-slice.jsonl.gz --log sqlite:///var/demo/chat.db --fresh

check: setup ## lint, formatting, types and the house rules
	@# At once, since each takes one core; what each prints stays together.
	@$(MAKE) --no-print-directory --jobs --output-sync=target lint types types-windows house-rules

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

types-windows: setup
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32

house-rules: setup
	$(BIN)/python -m pytest tests/style

kafka: setup ## run a real Kafka broker on loopback until Ctrl-C
	$(BIN)/python -m infra.kafka one

kafka-cluster: setup ## run three Kafka brokers on loopback until Ctrl-C
	$(BIN)/python -m infra.kafka three

kafka-jars: setup ## make ready what the tests run Kafka with: a container engine, or Java and the jars
	$(BIN)/python -m infra.kafka jars

browser: setup ## make ready the browser of the tests
	$(BIN)/python -m tests.service.browser

curl: setup ## make ready curl, which the tests run what the documentation shows with
	$(BIN)/python -m tests.service.curl_program

test: check kafka-jars browser curl docs-setup ## check, then what a change is tested with: real Kafka, browser and SQLite, in 6 minutes
	$(PYTEST) -m "not thorough and not full"

test-all: setup kafka-jars browser curl faults bench-setup docs-setup real-gateway ## all other tests: clusters, networks, chaos, soak, full disks, the harness, a guard of speed
	$(PYTEST) -m "thorough and not full"
	$(BENCH_BIN)/python -m benchmarks --quick

test-busy: setup kafka-jars browser curl docs-setup ## the tests of make test beside eight busy loops: load must not fail one
	$(BIN)/python -m tests.busy 8 $(PYTEST) -m "not thorough and not full"

replay-check: setup ## replay the whole recording against the naive model (LASTSEEN_CHAT_FILE=...)
	@[ -f "$(CHAT_FILE)" ] || { echo "lastseen: no recording at $(CHAT_FILE); name it: make replay-check LASTSEEN_CHAT_FILE=..." >&2; exit 1; }
	LASTSEEN_CHAT_FILE="$(CHAT_FILE)" $(BIN)/python -m pytest tests/replay -m full

crash: setup ## kill -9 at random moments, 500 times
	LASTSEEN_CRASH_CYCLES=500 $(BIN)/python -m pytest tests/durability/test_kill.py

kafka-crash: setup kafka-jars ## kill -9 engines and writers on one topic, 500 times
	LASTSEEN_KAFKA_CYCLES=500 $(BIN)/python -m pytest tests/kafka/test_chaos.py

simulate: setup ## histories under simulated faults (RUNS=100000 SEED=7)
	$(BIN)/python -m tests.simulation --runs $(or $(RUNS),10000) $(if $(SEED),--seed $(SEED))

mutants: setup ## seed every known bug, and see which test kills it; writes docs/mutants.md
	$(BIN)/python -m tests.simulation.mutants

torture: setup kafka-jars ## hours: many histories, kills, losses of power, and bad inputs
	$(BIN)/python -m tests.simulation --runs $(or $(RUNS),100000) $(if $(SEED),--seed $(SEED))
	LASTSEEN_CRASH_CYCLES=2000 $(BIN)/python -m pytest tests/durability/test_kill.py
	LASTSEEN_KAFKA_CYCLES=100 $(BIN)/python -m pytest tests/kafka/test_chaos.py
	$(BIN)/python -m tests.durability.power_loss --points $(or $(POINTS),500) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),100000) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.durability.corruption --damages $(or $(DAMAGES),6000) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.durability.recovery --kills $(or $(KILLS),50)

faults: setup ## make ready what the tests break things with: libfaketime
	$(BIN)/python -m tests.faults

soak: setup ## a steady load, and whether all stays flat (MINUTES=30 LOAD=0.5 KAFKA=1)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) --load $(or $(LOAD),0.5) $(if $(KAFKA),--kafka)

fuzz: setup ## bad input for every interface (INPUTS=100000 SEED=7)
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),100000) $(if $(SEED),--seed $(SEED))

bench-setup: $(BENCH_STAMP) ## create .venv-bench: the runtime's pins, and the peers that it is measured beside

$(BENCH_STAMP): requirements.lock requirements-bench.lock pyproject.toml $(if $(realpath $(BENCH_BIN)/python),,no-python)
	@$(FIND_PYTHON); \
	echo "lastseen: making .venv-bench with $$found"; \
	"$$found" -m venv --clear .venv-bench
	$(BENCH_BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-bench.lock
	$(BENCH_BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(BENCH_STAMP)

real-gateway: setup ## fetch hermes-agent and make its environment, for the tests of the drop-in in the real gateway
	$(BIN)/python -m tests.real_gateway.environment

fuzz-codec: setup ## the codec under libFuzzer, Linux on x86-64 only (RUNS=1000000 SEED=7)
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r tests/fuzz/atheris.txt
	$(BIN)/python -m tests.fuzz.codec_atheris --runs $(or $(RUNS),1000000) $(if $(SEED),--seed $(SEED))

bench: bench-setup kafka-jars ## measure side by side with what people use instead, in 15 minutes; writes docs/benchmarks.md
	$(BENCH_BIN)/python -m benchmarks.server_programs
	$(BENCH_BIN)/python -m benchmarks

bench-quick: bench-setup ## the same on few sessions, in 2 minutes; fails if the engine has become much slower
	$(BENCH_BIN)/python -m benchmarks --quick

docs: setup ## regenerate the generated pages
	$(BIN)/python -m lastseen.docs

docs-setup: $(DOCS_STAMP) ## create .venv-docs, which builds the documentation site

$(DOCS_STAMP): requirements-docs.lock $(if $(realpath $(DOCS_BIN)/python),,no-python)
	@$(FIND_PYTHON); \
	echo "lastseen: making .venv-docs with $$found"; \
	"$$found" -m venv --clear .venv-docs
	$(DOCS_BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-docs.lock
	@touch $(DOCS_STAMP)

docs-site: docs-setup ## build the documentation site in var/site; open var/site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --strict
	@echo "lastseen: open var/site/index.html; it needs no server"

# The tool that pins, and that installs for other Pythons; it is in no lock of ours but its own.
$(UV): requirements-uv.lock $(if $(realpath var/lock/bin/python),,no-python)
	@$(FIND_PYTHON); "$$found" -m venv --clear var/lock
	var/lock/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-uv.lock
	@touch $(UV)

lock: $(UV) ## pin requirements*.in again, for every Python and platform (newest versions: make lock UPGRADE=--upgrade)
	$(PIN) requirements.in --output-file requirements.lock
	$(PIN) pyproject.toml --extra client --extra service requirements-demo.in --output-file requirements-demo.lock
	$(PIN) requirements-dev.in --output-file requirements-dev.lock
	$(PIN) requirements-bench.in --output-file requirements-bench.lock
	$(PIN) requirements-docs.in --output-file requirements-docs.lock
	$(PIN) benchmarks/unpacked.in --output-file benchmarks/unpacked.lock
	$(PIN) tests/real_gateway/environment.in --output-file tests/real_gateway/environment.lock
	$(PIN) requirements-uv.in --output-file requirements-uv.lock
	$(PIN) tests/http/generated/openapi-python-client.in --output-file tests/http/generated/openapi-python-client.lock

locks-check: setup $(UV) ## see that every lock holds for every Python, on x86-64 and arm64: all named, all with wheels and hashes
	$(BIN)/python -m tests.locks $(UV)

quick: setup ## the quick tier: what needs no broker, no browser and no root, in 2 to 3 minutes
	$(BIN)/python -m tests.pythons.tier

test-pythons: setup $(UV) ## the quick tier on every other Python 3.11 or newer that the machine has
	$(BIN)/python -m tests.pythons $(UV)

fresh: ## make demo, the quick tier and the check of the locks on a fresh Debian 12, in a root that debootstrap makes
	@$(FIND_PYTHON); "$$found" -m tests.fresh

clean: ## remove the environment, the caches, and what the demo and the brokers left
	rm -rf .venv .venv-bench .venv-docs var/site var/demo var/kafka var/lock var/peers var/pythons var/fresh build dist *.egg-info .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
