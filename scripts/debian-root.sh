# What fresh-machine.sh and tests/machine share: a root of a given Debian, made from this machine's own mirrors. To be sourced;
# messages begin with $program.
# shellcheck shell=sh

fail() {
  echo "$program: $*" >&2
  exit 1
}
refuse_password() {
  case "$1" in *://*@*) fail "the address of $2 carries a password" ;; esac
}

# Installs each PROGRAM:PACKAGE whose program is missing.
install_tools() {
  for tool in "$@"; do
    command -v "${tool%:*}" >/dev/null && continue
    echo "$program: installing ${tool#*:} with apt-get" >&2
    apt-get install -y -qq --no-install-recommends "${tool#*:}" >/dev/null 2>&1 ||
      { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${tool#*:}"; } >&2
  done
}

# This machine's mirrors of its own release, with the wanted one in its place.
list_sources() {
  host_suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016  # apt's own variables
  mirrors=$(apt-get indextargets --no-release-info --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    while read -r site release component; do
      case "$release $component" in
        "$host_suite main" | "$host_suite-updates main" | "$host_suite-security main")
          echo "deb $site $1${release#"$host_suite"} main" ;;
      esac
    done)
  [ -n "$mirrors" ] || fail "apt has no mirror of Debian $host_suite"
  refuse_password "$mirrors" "an apt mirror"
  echo "$mirrors"
}

# What apt needs here to reach them, as lines of its configuration.
list_apt_options() {
  for option in Check-Valid-Until Check-Date ForceIPv4 http::Proxy https::Proxy; do
    value=$(apt-config dump --format '%v' "Acquire::$option")
    refuse_password "$value" "apt's proxy"
    [ -z "$value" ] || echo "Acquire::$option \"$value\";"
  done
}

# The addresses of registries that npm and pip use here, as NAME=ADDRESS.
list_registries() {
  registry=$(npm config get registry 2>/dev/null) || registry=''
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null)} || index=''
  refuse_password "$registry$index" "a registry"
  [ -z "$registry" ] || echo "npm_config_registry=$registry"
  [ -z "$index" ] || echo "PIP_INDEX_URL=$index"
}

# What an installer writes, and a bare root lacks; and this machine's own certificates.
finish_root() {
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$1/etc/hosts"
  echo "$2" >"$1/etc/hostname"
  echo nameserver 10.0.2.3 >"$1/etc/resolv.conf"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp '{}' "$1/usr/local/share/ca-certificates/" ';'
  # In there the host's directory for temporary files need not exist.
  env --unset=TMPDIR chroot "$1" update-ca-certificates >/dev/null 2>&1 || fail "certificates cannot be installed in $1"
}
