# Where all state lives; exported so that every command below sees the same place.
ifeq ($(strip $(KMS_HOME)),)
KMS_HOME := ./var
endif
export KMS_HOME

# Directories are listed too: their time changes when a source is removed.
SOURCES := $(shell find src 2>/dev/null)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint build clean prepare prepare-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: dist/.built ## install what is missing, build, initialise $KMS_HOME (default ./var) once, serve
	@node dist/cli/main.js init --dev
	@exec node dist/cli/main.js serve

test: prepare-test dist/.built ## install what is missing, build, check types and style, run every test
	@npm run --silent typecheck
	@npm run --silent lint
	@npm run --silent test

lint: prepare ## check types and style
	@npm run --silent typecheck
	@npm run --silent lint

build: dist/.built ## compile src into dist

clean: ## remove what build and test made; keeps node_modules and $KMS_HOME
	rm -rf dist coverage

prepare:
	@scripts/prepare.sh run

prepare-test:
	@scripts/prepare.sh test

dist/.built: $(SOURCES) tsconfig.json tsconfig.build.json package.json package-lock.json | prepare
	@npm run --silent build
	@touch $@
