#!/bin/sh
# Proves what the README promises where nothing is preinstalled: makes a minimal Debian root with that Debian's git, Node.js and npm, clones the
# committed state of a repository into it and runs a command there, as root, on the real kernel, in a network of its own. However it ends, it
# takes its processes, mounts, network and files with it.
#
#   fresh-machine.sh                          runs ./caisson quickstart, ./caisson doctor and npm test
#   fresh-machine.sh './caisson quickstart'   runs that instead, with sh -e
#
#   FRESH_REPOSITORY=DIRECTORY  what to clone: its HEAD (default: the repository of the current directory)
#   FRESH_SUITE=NAME            the Debian to make, for example trixie (default: this machine's own)
#   FRESH_PACKAGES=A,B          what is installed in it (default: git,nodejs,npm,ca-certificates)
#   FRESH_ROOT=DIRECTORY        keep the root there, and enter it again as it was left (default: a new one, removed at the end)
#
# The bare root, before anything of the repository is in it, is kept for a week as a tar archive below CAISSON_CACHE (default: /var/cache/caisson).
#
# Needs root on Debian and 6 GB free below TMPDIR; installs mmdebstrap and slirp4netns where they are missing. What one needs here
# to reach mirrors and registries is taken over: apt's mirrors, local CA certificates, addresses of npm's and pip's registries. An address with a
# password in it is refused. Cgroups and loop devices are the host's: a run that is killed may leave empty cgroups named caisson-*.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C.UTF-8

fail() {
  echo "fresh-machine: $*" >&2
  exit 1
}
refuse_password() {
  case "$1" in *://*@*) fail "the address of $2 carries a password" ;; esac
}

[ "$(id -u)" -eq 0 ] || fail "this needs root"
for tool in mmdebstrap slirp4netns; do
  command -v "$tool" >/dev/null && continue
  echo "fresh-machine: installing $tool with apt-get" >&2
  apt-get install -y -qq --no-install-recommends "$tool" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$tool"; } >&2
done
command=${*:-./caisson quickstart; ./caisson doctor; npm test}
repository=$(git -C "${FRESH_REPOSITORY:-.}" rev-parse --show-toplevel)
host_suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
suite=${FRESH_SUITE:-$host_suite}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/fresh-machine.XXXXXX")
unset TMPDIR
cache=${CAISSON_CACHE:-/var/cache/caisson}/fresh
root=${FRESH_ROOT:-$scratch/root}
mkdir -p "$root"
root=$(readlink -f "$root")

# Everything else is made in namespaces, which end with their first process, and that one with this script.
first='' network=''
end() {
  trap - EXIT HUP INT TERM
  for pid in $first $network; do kill -KILL "$pid" 2>/dev/null || true; done
  wait
  rm -rf --one-file-system "$scratch"
}
trap end EXIT
trap 'end; exit 129' HUP
trap 'end; exit 130' INT
trap 'end; exit 143' TERM

# In the background, because a shell answers signals only between commands of the foreground.
begin() {
  setpriv --pdeathsig KILL -- unshare --mount --propagation private --pid --fork --kill-child=SIGKILL --mount-proc "$@" &
  first=$!
}
finish() {
  status=0
  wait "$first" || status=$?
  first=''
  return "$status"
}

# This machine's mirrors of its own release, with the wanted one in its place.
list_sources() {
  apt-get indextargets --no-release-info --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    while read -r site release component; do
      case "$release $component" in
        "$host_suite main" | "$host_suite-updates main" | "$host_suite-security main")
          echo "deb $site $suite${release#"$host_suite"} main" ;;
      esac
    done
}

make_root() {
  sources=$(list_sources)
  [ -n "$sources" ] || fail "apt has no mirror of Debian $host_suite"
  refuse_password "$sources" "an apt mirror"
  set -- --mode=root --variant=minbase --format=tar --quiet --dpkgopt=force-unsafe-io
  set -- "$@" "--include=${FRESH_PACKAGES:-git,nodejs,npm,ca-certificates}"
  for option in Check-Valid-Until Check-Date ForceIPv4 http::Proxy https::Proxy; do
    value=$(apt-config dump --format '%v' "Acquire::$option")
    refuse_password "$value" "apt's proxy"
    [ -z "$value" ] || set -- "$@" "--aptopt=Acquire::$option \"$value\";"
  done
  # A new one each week, because Debian's packages change.
  key=$(printf '%s\n' "$@" "$suite" "$sources" "$(date +%G-%V)" | sha256sum | cut -c1-16)
  archive="$cache/fresh-$suite-$key.tar"
  if [ ! -e "$archive" ]; then
    echo "== fresh machine: making a root of Debian $suite" >&2
    mkdir -p "$cache"
    # What it keeps for itself goes with the scratch directory, also when it is killed.
    begin -- env TMPDIR="$scratch" mmdebstrap "$@" "$suite" "$scratch/root.tar" "$sources"
    finish
    rm -f "$cache/fresh-$suite"-*
    cp "$scratch/root.tar" "$archive.$$"
    rm "$scratch/root.tar"
    mv "$archive.$$" "$archive"
  fi
  tar --extract --numeric-owner --xattrs --xattrs-include='*' --directory "$root" --file "$archive"

  # What an installer writes and a bare root lacks.
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
  echo fresh >"$root/etc/hostname"
  echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp '{}' "$root/usr/local/share/ca-certificates/" ';'
  chroot "$root" update-ca-certificates >/dev/null 2>&1 || fail "certificates cannot be installed in $root"
  git clone --quiet --no-hardlinks "$repository" "$root/root/caisson"
}

# The root becomes that of the whole namespace, because the kernel refuses user namespaces in a mere chroot.
# shellcheck disable=SC2016  # expanded inside
enter='
  mount --bind "$1" "$1"
  cd "$1"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount --rbind /sys/fs/cgroup sys/fs/cgroup
  mount --rbind /dev dev
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  mount -t tmpfs -o mode=755 tmpfs run
  mkdir run/host
  pivot_root . run/host
  cd /root/caisson
  umount --lazy /run/host
  rmdir /run/host
  tries=0
  until grep -q "^tap0.00000000" /proc/net/route; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "fresh-machine: the network did not come up" >&2; exit 1; }
    sleep 0.1
  done
  shift
  "$@"
  exit
'

if [ ! -e "$root/root/caisson" ]; then
  make_root
fi

echo "== fresh machine, Debian $suite: $command" >&2
set -- HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
registry=$(npm config get registry 2>/dev/null) || registry=''
index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null)} || index=''
refuse_password "$registry$index" "a registry"
[ -z "$registry" ] || set -- "$@" "npm_config_registry=$registry"
[ -z "$index" ] || set -- "$@" "PIP_INDEX_URL=$index"
# Shells start what is in the background with interrupts ignored.
begin --net -- sh -ec "$enter" fresh-machine "$root" env -i --default-signal "$@" sh -ec "$command"
# A network without a trace in this machine's own: no interfaces, addresses or rules that others would meet, or it theirs.
until [ "$(readlink "/proc/$first/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
setpriv --pdeathsig KILL -- slirp4netns --configure --disable-host-loopback "$first" tap0 >/dev/null 2>&1 &
network=$!
finish
