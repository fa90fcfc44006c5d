#!/bin/sh
# Installs what `make run` (or, with the argument `test`, `make test`) needs. Silent when nothing is missing.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-run}
stamp=node_modules/.kms-installed

fail() { echo "prepare: $*" >&2; exit 1; }

case $mode in run|test) ;; *) fail "usage: scripts/prepare.sh [run|test]" ;; esac

command -v node >/dev/null || fail "Node.js 20.19 or newer is needed, and no node command was found"
command -v npm >/dev/null || fail "npm is needed, and no npm command was found; it comes with Node.js, or as Debian package npm"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "Node.js 20.19 or newer is needed; this is $(node --version)"

log=$(mktemp)
pid=
trap 'rm -f "$log"' EXIT
# A command in the background does not receive Ctrl-C, and npm puts SIGTERM off until it has finished. npm has a
# process group of its own and can be killed with its compilers, as the next run starts afresh; apt-get is asked.
stop() { [ -z "$pid" ] || kill -KILL "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || :; }
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM

# slow COMMAND…: runs it with its output in the log, and shows every ten seconds that it is alive.
slow() {
  "$@" >"$log" 2>&1 &
  pid=$!
  seconds=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    [ $((seconds % 10)) -ne 0 ] || echo "  … $seconds s"
  done
  status=0
  wait "$pid" || status=$?
  pid=
  # npm says first what is wrong and then prints pages of usage; compilers say it last.
  [ "$status" -eq 0 ] || { head -n 15 "$log"; echo "  [ … ]"; tail -n 40 "$log"; } >&2
  return "$status"
}

any_exists() {
  for file do [ ! -e "$file" ] || return 0; done
  return 1
}

missing_packages() {
  [ -e /usr/lib/softhsm/libsofthsm2.so ] && command -v softhsm2-util >/dev/null || echo softhsm2
  command -v g++ >/dev/null && command -v make >/dev/null || echo build-essential
  command -v python3 >/dev/null || echo python3
  command -v openssl >/dev/null || echo openssl
  [ "$mode" = test ] || return 0
  any_exists /usr/lib/pkcs11-spy.so /usr/lib/*/pkcs11-spy.so /usr/lib/*/pkcs11/pkcs11-spy.so || echo opensc-pkcs11
  # NSS softokn is the second token of the contract suite.
  any_exists /usr/lib/libsoftokn3.so /usr/lib/*/libsoftokn3.so /usr/lib/*/nss/libsoftokn3.so || echo libnss3
  command -v curl >/dev/null || echo curl
  any_exists /usr/lib/postgresql/*/bin/postgres || echo postgresql
}

# Debian's package makes and starts a cluster on port 5432 unless told not to; the tests make their own servers.
CLUSTERS=/etc/postgresql-common/createcluster.d
install_packages() {
  case " $* " in
    *" postgresql "*)
      $root mkdir -p "$CLUSTERS"
      echo 'create_main_cluster = false' | $root tee "$CLUSTERS/kms-prepare.conf" >/dev/null ;;
  esac
  installed=0
  slow $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || installed=$?
  # Only this installation is meant, not one that somebody makes later.
  [ ! -e "$CLUSTERS/kms-prepare.conf" ] || $root rm -f "$CLUSTERS/kms-prepare.conf"
  return "$installed"
}

packages=$(missing_packages | paste -sd ' ' -)
if [ -n "$packages" ]; then
  command -v apt-get >/dev/null || fail "these are missing, and there is no apt-get to install them: $packages"
  root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "these are missing, and there is no sudo; run as root: apt-get install $packages"
    root=sudo
  fi
  echo "installing Debian packages: $packages"
  # A stale index may still hold what is needed, so a failed update is not the end.
  slow $root apt-get update || :
  install_packages $packages || fail "apt-get install failed"
  packages=$(missing_packages | paste -sd ' ' -)
  [ -z "$packages" ] || fail "installed, but still not found: $packages"
fi

# The browser tests skip themselves without one, and not every system has it as a package: no reason to fail.
has_browser() { any_exists /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; }
if [ "$mode" = test ] && ! has_browser && command -v apt-get >/dev/null; then
  echo "installing Debian packages: chromium"
  root=
  [ "$(id -u)" -eq 0 ] || root=sudo
  slow $root apt-get update || :
  install_packages chromium && has_browser || echo "no Chromium could be installed: the browser tests will be skipped"
fi

# better-sqlite3 is compiled for one Node ABI, so another Node needs another installation.
wanted="$(cksum <package-lock.json) $(node -p '`${process.versions.modules} ${process.platform} ${process.arch}`')"
if [ "$(cat "$stamp" 2>/dev/null || :)" != "$wanted" ]; then
  echo "installing npm packages (about two minutes: two native modules are compiled) …"
  rm -f "$stamp"
  # No prebuilt file is asked for, and the headers beside this Node are used when it has them.
  export npm_config_build_from_source=true
  # An older npm runs every install script; this one would report the installation to somebody.
  export SCARF_ANALYTICS=false
  prefix=$(node -p 'path.dirname(path.dirname(process.execPath))')
  [ ! -f "$prefix/include/node/node.h" ] || export npm_config_nodedir="$prefix"
  slow setsid npm ci --include=dev || fail "npm ci failed"
  echo "$wanted" >"$stamp"
fi
