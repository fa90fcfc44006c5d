#!/bin/sh
# For every save: types, style, and the tests that need no server, no token and no database. Style is looked at beside
# the tests, and again only where a file has changed: `make test` looks at every file.
set -eu
cd "$(dirname "$0")/.."
said=$(mktemp)
trap 'rm -f "$said"' EXIT
npm run --silent typecheck
npx --no-install eslint --cache --cache-strategy content --cache-location build/eslint-cache . >"$said" 2>&1 &
style=$!
tests=0
KMS_TEST_RING=check npm run --silent test || tests=$?
wait "$style" || { cat "$said"; echo "style: see above"; exit 1; }
exit "$tests"
