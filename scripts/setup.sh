#!/bin/sh
# Installs what is missing and says what and why before it does. Nothing missing: silent, and a few milliseconds.
#   setup.sh npm       Node 24, Deno and the libraries, into node_modules
#   setup.sh debian    the Debian packages that Caisson calls, through apt-get
#   setup.sh tests     those that only its tests call
set -eu
here=$(dirname "$(dirname "$(readlink -f "$0")")")

stamp="$here/node_modules/.caisson-installed"
is_installed() { [ -x "$here/node_modules/.bin/node" ] && cmp -s "$here/package-lock.json" "$stamp"; }

install_npm() {
  if is_installed; then return; fi
  # Two first runs at once: the second waits for the first.
  exec 9<"$here/package-lock.json"
  flock 9
  if is_installed; then return; fi
  # The system's npm on the system's Node.js. Under npm, node_modules/.bin comes first on the PATH: the Node.js there is about to be replaced,
  # and unlike Debian's it does not trust the host's own certificates unless it is told to.
  PATH=$(echo "$PATH" | tr ':' '\n' | grep -v '/node_modules/' | paste -sd:)
  export PATH NODE_USE_SYSTEM_CA=1
  if ! command -v npm >/dev/null; then
    echo "caisson: npm is missing. Install Node.js with npm first, for example: apt-get install nodejs npm" >&2
    exit 1
  fi
  echo "Installing the npm packages of package-lock.json into node_modules: Node 24 runs Caisson, Deno runs inside its sandboxes." >&2
  (cd "$here" && npm ci --no-audit --no-fund --loglevel=error >&2 9<&-)
  cp "$here/package-lock.json" "$stamp"
}

# A line for each: what succeeds where it is installed; Debian package; what for.
debian_packages='command -v crun; crun; starts sandboxes
command -v mkfs.ext4; e2fsprogs; makes and checks the file systems of volumes
command -v mkfs.xfs; xfsprogs; makes the storage pool
command -v mmdebstrap; mmdebstrap; makes the Debian 13 image
command -v nft; nftables; separates the networks of sandboxes
command -v ip; iproute2; connects the networks of sandboxes
command -v tini-static; tini; is the first process of server and sandboxes
command -v unshare; util-linux; gives the server namespaces of its own
command -v pgrep; procps; passes signals on to the server'
test_packages='command -v mkfs.btrfs; btrfs-progs; makes a second kind of pool for the tests
python3 -c "import ensurepip, venv"; python3-venv; runs the tests of the Python SDK'

install_debian() {
  missing=$(echo "$1" | while IFS=';' read -r check package reason; do
    sh -c "$check" >/dev/null 2>&1 || echo "$package:$reason"
  done)
  [ -n "$missing" ] || return 0
  echo "Installing Debian packages with apt-get:" >&2
  echo "$missing" >&2
  if [ "$(id -u)" -ne 0 ]; then
    echo "caisson: this needs root. Run the same command with sudo." >&2
    exit 1
  fi
  packages=$(echo "$missing" | cut -d: -f1 | sort -u)
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # one word for each package
  apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || {
    apt-get update -qq >&2
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $packages >&2
  }
}

PATH="$PATH:/usr/sbin:/sbin"
case "${1:-}" in
  npm) install_npm ;;
  debian) install_debian "$debian_packages" ;;
  tests) install_debian "$test_packages" ;;
  *) echo "usage: setup.sh npm|debian|tests" >&2; exit 2 ;;
esac
