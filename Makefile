# The front door. `make dev` runs a development node, `make test` passes all tests; both install what is missing first.
#
# One profile (release), one feature set and the whole workspace everywhere: RocksDB takes many minutes to compile, and
# any difference here would compile it again.

CARGO ?= cargo
CARGO_ARGS = --release --workspace
# What `cargo test` builds, the programs among it: with the same features, so that nothing is built twice.
TESTED = $(CARGO_ARGS) --lib --bins --tests --examples
# Randomised tests repeat themselves from these; `make test SEED=7` tries other cases.
SEED ?= 20150730
export PROPTEST_RNG_SEED ?= $(SEED)
export RUSTORIUM_SEED ?= $(SEED)
# How long `make torture` takes.
SECONDS ?= 3600
export RUSTORIUM_TORTURE_SECONDS ?= $(SECONDS)
# Further arguments of the node, as in `make dev ARGS="--rpc-port 0 -v"`.
ARGS ?=
WASM = wasm32-unknown-unknown
TARGET = $${CARGO_TARGET_DIR:-target}
BIN = $(TARGET)/release
# The stores that ours is held against are a feature of the tests; RocksDB is compiled the same with it.
BENCH = $(CARGO) build $(CARGO_ARGS) --features rustorium-tests/peers --bin bench && $(BIN)/bench --folder $(TARGET)

.PHONY: help setup setup-native setup-wasm dev build test fmt lint wasm bench bench-quick torture
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: setup ## Start a development node (ARGS="…" are passed on)
	$(CARGO) build $(CARGO_ARGS)
	exec $(BIN)/rustorium run --dev $(ARGS)

build: setup ## Build everything; the node is target/release/rustorium
	$(CARGO) build $(CARGO_ARGS)

test: setup ## Pass all tests (SEED=… for other random cases)
	@echo "RUSTORIUM_SEED=$$RUSTORIUM_SEED PROPTEST_RNG_SEED=$$PROPTEST_RNG_SEED"
	$(CARGO) build $(TESTED)
	$(CARGO) test $(CARGO_ARGS)

fmt: ## Format the code
	$(CARGO) fmt --all

lint: setup ## Formatting, clippy and the documentation, warnings being errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_ARGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_ARGS) --no-deps

wasm: setup ## Check that what a light client needs compiles for wasm
	$(CARGO) check --release --target $(WASM) -p rustorium-verkle -p rustorium-chain-spec

bench: setup ## Measure this and other stores: up to 15 minutes, 10 GB of disk (ARGS="--help" for choices)
	$(BENCH) $(ARGS)

bench-quick: setup ## The same with less of everything: up to 2 minutes
	$(BENCH) --quick $(ARGS)

torture: setup ## Crash the state engine in every way for an hour (SECONDS=…), then the node 100 times (RUSTORIUM_CRASHES=…)
	@echo "RUSTORIUM_SEED=$$RUSTORIUM_SEED"
	$(CARGO) build $(TESTED)
	$(BIN)/torture
	RUSTORIUM_CRASHES=$${RUSTORIUM_CRASHES:-100} $(CARGO) test $(CARGO_ARGS) --test scenarios crash -- --nocapture

# Looks first, so that nothing runs when all is there.
setup: setup-native setup-wasm

# A C++ compiler for RocksDB, libclang and its own headers for the bindings.
setup-native:
	@set -eu; \
	command -v $(firstword $(CARGO)) >/dev/null || { \
	  echo "cargo is missing: install Rust from https://rustup.rs, open a new shell and try again" >&2; exit 1; }; \
	missing=; \
	{ command -v c++ && command -v cc; } >/dev/null || missing="$$missing g++"; \
	ls $${LIBCLANG_PATH:+$$LIBCLANG_PATH/libclang*.so*} /usr/lib/llvm-*/lib/libclang*.so* /usr/lib64/libclang*.so* \
	  /usr/lib/libclang*.so* /usr/lib/*-linux-gnu*/libclang*.so* /usr/local/lib/libclang*.so* 2>/dev/null \
	  | grep -qv libclang-cpp && \
	ls $${LIBCLANG_PATH:+$$LIBCLANG_PATH/clang/*/include/stddef.h} /usr/lib/llvm-*/lib/clang/*/include/stddef.h \
	  /usr/lib*/clang/*/include/stddef.h /usr/local/lib/clang/*/include/stddef.h 2>/dev/null \
	  | grep -q . || missing="$$missing libclang-dev"; \
	[ -n "$$missing" ] || exit 0; \
	echo "missing:$$missing"; \
	command -v apt-get >/dev/null || { \
	  echo "install them with this system's package manager (a C++ compiler, libclang) and try again" >&2; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	[ -z "$$sudo" ] || command -v sudo >/dev/null || { \
	  echo "ask root to run: apt-get install$$missing" >&2; exit 1; }; \
	$$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing \
	  || { echo "could not install$$missing: see apt-get's messages above" >&2; exit 1; }

setup-wasm:
	@set -eu; \
	[ ! -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM)" ] || exit 0; \
	command -v rustup >/dev/null && rustup target add $(WASM) && exit 0; \
	echo "could not add the Rust target $(WASM): 'make wasm' will fail, all else goes without it" >&2
