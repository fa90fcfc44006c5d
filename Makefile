# Where all state lives; exported so that every command below sees the same place.
ifeq ($(strip $(KMS_HOME)),)
KMS_HOME := ./var
endif
export KMS_HOME

# Directories are listed too: their time changes when a source is removed.
SOURCES := $(shell find src 2>/dev/null)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run check test test-full test-chaos bench bench-starts bench-store test-timing lint build clean prepare prepare-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: dist/.built ## install what is missing, build, initialise $KMS_HOME (default ./var) once, serve
	@node dist/cli/main.js init --dev
	@node dist/cli/main.js migrate > /dev/null
	@exec node dist/cli/main.js serve

check: dist/.built ## under a minute, for every save: types, style, every test without server, token and database
	@scripts/check.sh

test: prepare-test dist/.built build/fault ## install what is missing, build, check types and style, every test in its short form
	@npm run --silent typecheck
	@npm run --silent lint
	@npm run --silent test

test-full: prepare-test dist/.built build/fault ## the same with every test in its full form: hours
	@npm run --silent typecheck
	@npm run --silent lint
	@KMS_TEST_FULL=1 npm run --silent test

bench: dist/.built build/fault ## measure token layer and store, as ratios inside one run
	@mkdir -p var
	@node bench/token-layer.mjs; token=$$?; node bench/store.mjs && node bench/starts.mjs && exit $$token

bench-starts: dist/.built ## only starts: commands and service, in processor time
	@mkdir -p var
	@node bench/starts.mjs

bench-store: dist/.built | prepare-test ## only the store: a million keys ÷ 1,100; BENCH_ROWS and BENCH_DATABASES choose
	@mkdir -p var
	@node bench/store.mjs

test-chaos: prepare-test dist/.built build/fault ## only the chaos scenarios, in their full form
	@KMS_TEST_FULL=1 npm run --silent test -- --maxWorkers=1 test/chaos test/hosts/outage

test-timing: dist/.built ## compare the times of foreign and unknown names, and load with ten thousand connections
	@node bench/timing.mjs

lint: prepare ## check types and style
	@npm run --silent typecheck
	@npm run --silent lint

build: dist/.built build/fault ## compile src into dist, and what tests need into build

clean: ## remove what build and test made; keeps node_modules and $KMS_HOME
	rm -rf dist build coverage

prepare:
	@scripts/prepare.sh run

prepare-test:
	@scripts/prepare.sh test

# PKCS#11 modules for tests: one that fails on demand, and NSS in FIPS mode.
FAULT_SOURCES := $(addprefix test/fault/,shim.c rules.c tables.c counts.c gcm.c)
FAULT_HEADERS := $(addprefix test/fault/,shim.h pkcs11.h)
MODULE_FLAGS := -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread

build/fault: build/fault/libkmsfault.so build/fault/libnssfips.so

# It stays loaded, see shim.c.
build/fault/libkmsfault.so: $(FAULT_SOURCES) $(FAULT_HEADERS) | prepare-test
	@mkdir -p $(@D)
	@$(CC) $(MODULE_FLAGS) -Wl,-z,nodelete -o $@ $(FAULT_SOURCES) -ldl

build/fault/libnssfips.so: test/fault/nss-fips.c test/fault/pkcs11.h | prepare-test
	@mkdir -p $(@D)
	@$(CC) $(MODULE_FLAGS) -o $@ $< -ldl

dist/.built: $(SOURCES) scripts/build.mjs tsconfig.json tsconfig.build.json package.json package-lock.json | prepare
	@npm run --silent build
	@touch $@
