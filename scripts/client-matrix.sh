#!/usr/bin/env bash
# Runs the published OKMS clients against a server and says plainly which ran, which did not, and why.
#
# Usage: scripts/client-matrix.sh [NAME…]     clients by name, all of them by default
#
# Each client is a folder of test/clients with a script `run ADMIN.JSON`: exit code 0 passed, 77 not run, with the reason
# as its last line; anything else failed. This script ends with 0 only if every client that ran passed.
#
# Environment: KMS_HOME, an installation whose server runs; without it one is made for the occasion and removed.
# KMS_CLIENTS, another folder of clients.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
clients=${KMS_CLIENTS:-$root/test/clients}
logs=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || :
    wait "$server" 2>/dev/null || :
  fi
  rm -rf "$logs"
}
trap finish EXIT

fail() { echo "client-matrix: $*" >&2; exit 2; }

# A server of its own, on free ports, in a home that goes with the logs.
serve() {
  [ -x "$root/dist/cli/main.js" ] || fail "dist is not built: run make build"
  export KMS_HOME=$logs/home
  read -r KMS_PORT KMS_PUBLIC_PORT KMS_METRICS_PORT < <(node -e '
    const servers = [1, 2, 3].map(() => require("node:net").createServer().listen(0, "127.0.0.1"));
    setTimeout(() => { console.log(servers.map((s) => s.address().port).join(" ")); process.exit(); }, 100);')
  export KMS_PORT KMS_PUBLIC_PORT KMS_METRICS_PORT
  node "$root/dist/cli/main.js" init --dev >"$logs/init" 2>&1 || { cat "$logs/init" >&2; fail "kms init failed"; }
  node "$root/dist/cli/main.js" serve >"$logs/serve" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    ! grep -q '^ready ' "$logs/serve" || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$logs/serve" >&2
  fail "the server did not become ready"
}

[ -n "${KMS_HOME:-}" ] || serve
admin=$(cd "$KMS_HOME" && pwd)/clients/admin.json
[ -r "$admin" ] || fail "no installation: $admin cannot be read"

[ $# -gt 0 ] || set -- $(cd "$clients" && for script in */run; do dirname "$script"; done)
passed=0 failed=0 skipped=0
for name; do
  [ -x "$clients/$name/run" ] || fail "no client $name in $clients"
  code=0
  (cd "$clients/$name" && ./run "$admin") >"$logs/$name" 2>&1 </dev/null || code=$?
  case $code in
    0) passed=$((passed + 1)); echo "passed   $name: $(tail -n 1 "$logs/$name")" ;;
    77) skipped=$((skipped + 1)); echo "not run  $name: $(tail -n 1 "$logs/$name")" ;;
    *) failed=$((failed + 1)); echo "FAILED   $name (exit code $code):"; sed 's/^/         | /' "$logs/$name" ;;
  esac
done
echo "clients: $passed passed, $failed failed, $skipped not run"
[ "$failed" -eq 0 ]
