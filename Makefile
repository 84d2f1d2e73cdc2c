# `make run` serves the default models on http://127.0.0.1:8000; `make test` runs every fast check; `make help` lists the rest.
PORT ?= 8000
HOST ?= 127.0.0.1
MODELS ?= smollm2 r1-tiny
CUDA ?= 0
PRESET := $(if $(filter 1,$(CUDA)),cuda,release)
JOBS ?= $(shell nproc)
PYTHON := .venv/bin/python
export GANTRY_MODEL_DIR := $(CURDIR)/.cache/models
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

.PHONY: help setup setup-test build run model test unit-test e2e-test lint tidy format asan tsan clang fuzz dist fresh clean

help:
	@grep -E '^[a-z][a-z0-9-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

setup: ## install what a build needs
	@tools/setup

setup-test: ## install what the tests need as well
	@tools/setup --test

build: setup ## build/gantry; CUDA=1 adds the CUDA backend
	@mkdir -p build && { cmake --preset $(PRESET) > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }; }
	@cmake --build build/$(PRESET) --target gantry -j $(JOBS)
	@ln -sf $(PRESET)/src/cli/gantry build/gantry

model: setup ## fetch the default model once
	@$(PYTHON) tools/get-model smollm2

run: build model ## serve the default models on HOST:PORT
	@exec build/gantry serve $(MODELS) --host $(HOST) --port $(PORT)

test: setup-test unit-test e2e-test ## build and run everything
	@tools/tidy/check

unit-test: setup-test model
	@cmake --preset dev > /dev/null
	@cmake --build build/dev -j $(JOBS)
	@ln -sf dev/src/cli/gantry build/gantry
	@GANTRY_TEST_DATA=$(CURDIR)/.cache ctest --test-dir build/dev --output-on-failure

e2e-test: unit-test
	@GANTRY_BIN=$(CURDIR)/build/gantry GANTRY_TEST_MODEL=$(GANTRY_MODEL_DIR)/smollm2.gguf \
	    $(PYTHON) -m pytest -q tests

lint: setup-test ## include directions, the tree, banned calls, clang-format
	@tools/tidy/check
	@tools/tidy/format --check

tidy: setup-test ## clang-tidy over every source; several minutes
	@cmake --preset clang > /dev/null
	@cmake --build build/clang --target gantry_replica_proto  # generated headers
	@tools/tidy/clang-tidy build/clang

format: ## rewrite sources as clang-format wants them
	@tools/tidy/format

TESTS ?=
asan tsan clang: setup-test model ## unit tests under address and undefined, or thread sanitizer; or built by clang; TESTS="base comm" for some
	@cmake --preset $@ > /dev/null
	@cmake --build build/$@ -j $(JOBS) --target $(or $(TESTS:%=%_test),all)
	@GANTRY_TEST_DATA=$(CURDIR)/.cache ASAN_OPTIONS=intercept_memmem=0 TSAN_OPTIONS=intercept_memmem=0 \
	    ctest --test-dir build/$@ -j $(JOBS) --output-on-failure \
	    $(if $(TESTS),-R '^($(shell echo $(TESTS) | tr ' ' '|'))$$')  # their memmem reads the whole haystack at each call

FUZZ_SECONDS ?= 30
fuzz: setup-test ## every parser's fuzz target for FUZZ_SECONDS, under address and undefined sanitizer
	@cmake --preset fuzz > /dev/null
	@cmake --build build/fuzz -j $(JOBS) --target fuzz_targets
	@tests/fuzz/run build/fuzz $(FUZZ_SECONDS) $(JOBS)

dist: build ## build/dist: the binary with its libraries, to copy to another machine
	@tools/dist build/gantry build/dist

fresh: ## clone into a fresh Debian 12 (chroot) and run the README's two commands there; needs root and debootstrap
	@tools/fresh

clean:
	rm -rf build

.PHONY: simulate
SEEDS ?= 1000000
simulate: setup-test ## the scheduler under SEEDS random worlds (1000000: about 20 minutes of a core)
	@cmake --preset dev > /dev/null
	@cmake --build build/dev --target sched_test -j $(JOBS)
	@mkdir -p bench/results
	@python3 bench/simulation/simulate.py --seeds $(SEEDS) --out bench/results/simulation.json

.PHONY: determinism
REQUESTS ?= 500
determinism: setup-test ## REQUESTS seeded requests, alone and together under every chunk size: the same bits
	@cmake --preset dev > /dev/null
	@cmake --build build/dev --target engine_test -j $(JOBS)
	@GANTRY_DETERMINISM_REQUESTS=$(REQUESTS) build/dev/src/engine/engine_test --gtest_filter='*ForEveryChunkSize'

PEER := .cache/peers/llama_cpp
.PHONY: bench-llama-cpp
bench-llama-cpp: build model ## Gantry against llama.cpp, built from its source distribution
	@test -x $(PEER)/bin/python || python3 -m venv $(PEER)
	@CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" $(PEER)/bin/python -m pip install --quiet \
	    --no-binary llama-cpp-python llama-cpp-python==0.3.36
	@cmake --build build/release --target model_bench -j $(JOBS)
	@mkdir -p bench/results
	@$(PYTHON) bench/llama_cpp/compare.py $(GANTRY_MODEL_DIR)/smollm2.gguf --bench build/release/bench/model/model_bench \
	    --peer-python $(PEER)/bin/python --out bench/results/llama_cpp.json

.PHONY: eval-r1-tiny
eval-r1-tiny: build ## r1-tiny's accuracy on 500 held-out problems a task, on every CPU kernel path
	@python3 models/r1-tiny/evaluate_paths.py build/gantry bench/results/r1_tiny_accuracy.json --count $${COUNT:-500}

.PHONY: kill-workers
KILLS ?= 1000
STREAMS ?= 20000
kill-workers: build ## KILLS kill -9 of workers under STREAMS seeded streams
	@bench/scenarios/kill_workers.py --model r1-tiny --kills $(KILLS) --streams $(STREAMS) --stops $$(($(KILLS) / 20)) \
	    --out bench/results
