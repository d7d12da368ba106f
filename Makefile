# Everything a contributor runs has a target here; CI runs the same ones. `make` alone lists them.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv
PACKAGES := common gateway router worker convert agent chaos cli
PYTEST_FLAGS ?=
MODEL ?=
BENCH_FLAGS ?=
CHAOS_FLAGS ?=
UP_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run demo check format lint types layers protos protos-go protos-check protos-lint \
        protos-release test test-fast test-e2e conformance client-go wheel-test leaks soak chaos bench bench-cluster \
        bench-latency bench-lookup bench-router bench-doors bench-prefix bench-peers sim tools docs docs-check lock clean \
        client-java client-cpp browser page-figures toolchains

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## ---- environment ----

setup: $(READY) ## Make the environment in .venv from the hash-locked requirements

$(READY): requirements/bootstrap.lock requirements/dev.lock pyproject.toml $(wildcard worker/kernels/src/*.[ch] worker/kernels/src/isa/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lepton needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 setup"; exit 2; }
	@echo "Making $(VENV) (once; about 150 MB to download)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) # begun, but never finished
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

lock: $(READY) ## Resolve the locks in requirements/ again, with hashes
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements/bootstrap.in -o requirements/bootstrap.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements/base.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra cpu -o requirements/cpu.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra cpu --extra local --extra quantize -o requirements/local.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra gpu -o requirements/gpu.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra cpu --extra local --extra quantize --extra dev -o requirements/dev.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header training/demo/requirements.txt -o convert/builder.lock

## ---- use ----

run: $(READY) ## Start a local cluster and watch it answer; Ctrl-C ends it (UP_FLAGS="--port 0")
	@$(BIN)/lepton up --workers 2 $(if $(MODEL),--model $(MODEL)) $(UP_FLAGS)

demo: $(READY) ## The same, but ends by itself: one answer, its trace, exit code 0
	@$(BIN)/lepton up --workers 2 --demo $(if $(MODEL),--model $(MODEL)) $(UP_FLAGS)

bench: $(READY) ## How fast the engine decodes and prefills, alone; into docs/performance.md (MODEL=DIR prints only)
	@$(BIN)/python -m loadtest.engines --kernels portable --threads $$(nproc) --tokens 192 --context-max 1024 \
	  --prompts 32,128,512,896 $(if $(MODEL),--model $(MODEL),--model models/demo --title "Demo model" \
	  --save docs/figures/engine.json --write docs/performance.md) $(BENCH_FLAGS)

bench-latency: $(READY) ## What router and gRPC add, long prompts among streams, second turns, memory (MODEL=DIR)
	@$(BIN)/python -m loadtest.latency --model $(or $(MODEL),models/demo) $(BENCH_FLAGS)

bench-lookup: $(READY) ## What prompt lookup gains where answers repeat something, and costs where not (MODEL=DIR)
	@$(BIN)/python -m loadtest.lookup --model $(or $(MODEL),models/demo) $(BENCH_FLAGS)

bench-router: $(READY) ## What a relayed token costs: directly, through nginx, through one and two router processes
	@$(BIN)/python -m loadtest.router $(BENCH_FLAGS)

bench-doors: $(READY) ## What gRPC, REST and WebSocket cost beside each other, at one router process
	@$(BIN)/python -m loadtest.doors $(BENCH_FLAGS)

bench-prefix: $(READY) ## What prefix affinity finds in caches, over what an all-knowing cluster would, on 4 oracle workers
	@$(BIN)/python -m loadtest.prefix $(BENCH_FLAGS)

sim: $(READY) ## The router's core in hundreds of simulated clusters with faults, by seed (SEEDS=50)
	@$(BIN)/python -m loadtest.sim --seeds $(or $(SEEDS),50) $(BENCH_FLAGS)

bench-cluster: $(READY) ## A load on a cluster of its own, through router and gRPC (BENCH_FLAGS of `lepton bench`)
	@$(BIN)/python -m loadtest $(BENCH_FLAGS)

bench-peers: $(READY) ## Beside onnxruntime-genai, OpenVINO GenAI and llama.cpp (SHAPE=135m or 1b; 7 GB to download, once)
	@loadtest/peers/bench-peers $(BENCH_FLAGS)

## ---- check ----

check: $(READY) lint types layers protos-lint protos-check docs-check ## All that needs no running process: format, lint, types, layers, protos, docs

lint: $(READY) ## Format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(READY) ## Format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

layers: $(READY) ## Who may import whom
	$(BIN)/lint-imports

protos-lint: $(READY) ## Lint the protos; nothing released may break (protos/released.binpb)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released.binpb

protos-release: $(READY) ## At a release: what is there now may not break from here on
	$(BIN)/buf build --path protos/lepton/v1 --output protos/released.binpb

protos: $(READY) ## Generate common/gen from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=common/gen --pyi_out=common/gen \
	  --grpc_python_out=common/gen protos/lepton/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=common/gen --pyi_out=common/gen \
	  protos/lepton/etcd/v1/*.proto protos/lepton/kserve/v2/*.proto

protos-go: $(READY) ## Generate clients/go/leptonv1 from protos/ (needs Go)
	$(BIN)/python tools/protos_go.py

protos-check: $(READY) ## Is common/gen in step with protos/?
	$(BIN)/python tools/protos_check.py

docs: $(READY) ## Write the generated pages: settings, errors, telemetry
	$(BIN)/python tools/reference_docs.py

docs-check: $(READY) ## Are the generated pages in step with the code?
	$(BIN)/python tools/reference_docs.py --check

## ---- test ----

test: $(READY) tools browser toolchains wheel-test ## Everything CI runs: unit, property, contract, integration, end to end, the wheel
	$(BIN)/pytest $(PYTEST_FLAGS)

test-fast: $(READY) ## Without the end-to-end suite
	$(BIN)/pytest -m "not e2e" $(PYTEST_FLAGS)

test-e2e: $(READY) tools browser ## Real processes, real faults
	$(BIN)/pytest -m e2e $(PYTEST_FLAGS)

client-go: ## Build and test the Go client (needs Go)
	cd clients/go && gofmt -l . | (! grep .) && go vet ./... && go test ./... && cd examples/otel && go vet ./...

toolchains: ## What the clients are built with, where CI runs; on your machine: clients/cpp/setup
	@[ -z "$$CI" ] || clients/cpp/setup

conformance: $(READY) ## Every client of clients/ in every case, as a table (CLIENT=go)
	@$(BIN)/python -m tests.conformance.run $(if $(CLIENT),--client $(CLIENT))

client-java: ## The Java client: build, unit tests, jar (clients/java)
	cd clients/java && mvn -q -B package

client-cpp: ## Build the C++ client and test it (what it needs, by apt-get: clients/cpp/setup)
	@clients/cpp/setup
	@cmake -S clients/cpp -B clients/cpp/build >/dev/null
	@cmake --build clients/cpp/build --parallel $$(nproc)
	@ctest --test-dir clients/cpp/build --output-on-failure

leaks: $(READY) ## Half an hour, never in CI: each small bad input a thousand times, and nothing may be left of it
	@LEPTON_LEAK_REPEATS=1000 $(BIN)/pytest -v -x --show-capture=no tests/parity/test_leaks.py $(PYTEST_FLAGS)

soak: $(READY) ## Minutes of random work, never in CI: the engine fuzzed, then a worker whose memory must stay flat (MINUTES=5)
	@seed=$${SEED:-$$RANDOM}; echo "SEED=$$seed"; \
	LEPTON_FUZZ_STEPS=100000 LEPTON_FUZZ_SEED=$$seed $(BIN)/pytest -v --show-capture=no tests/property/test_engine_fuzz.py && \
	$(BIN)/python -m loadtest.soak --minutes $(or $(MINUTES),5) --seed $$seed --model $(or $(MODEL),models/demo)

chaos: $(READY) ## Break everything that can break, under load: the ledger, into docs/reliability.md (SEED=1, ONLY=kill-worker,…)
	@$(BIN)/python -m loadtest.chaos --seed $(or $(SEED),1) $(if $(ONLY),--only $(ONLY),--save docs/figures/reliability.json \
	  --write docs/reliability.md) $(CHAOS_FLAGS)

wheel-test: $(READY) ## Build the wheel, install it elsewhere, run a cluster from it
	@tools/wheel-test $(BIN)

browser: ## Chromium, for the tests of the page
	@tools/browser

page-figures: $(READY) browser ## The pictures of docs/page.md, from a cluster of its own
	@$(BIN)/python tools/page_figures.py

tools: .tools/grpcurl ## grpcurl, built with Go (skipped when Go is missing)

.tools/grpcurl: tools/go.mod tools/go.sum
	@if command -v go >/dev/null; then mkdir -p .tools && echo "Building grpcurl (once, about a minute)" && \
	  (cd tools && go build -o ../.tools/grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl); \
	else echo "Go is missing: tests that use grpcurl are skipped"; fi

clean: ## Remove what was built (not .venv)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .lepton clients/cpp/build
