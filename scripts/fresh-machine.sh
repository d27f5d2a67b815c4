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

program=fresh-machine
. "$(dirname "$(readlink -f "$0")")/debian-root.sh"

[ "$(id -u)" -eq 0 ] || fail "this needs root"
install_tools mmdebstrap:mmdebstrap slirp4netns:slirp4netns
command=${*:-./caisson quickstart; ./caisson doctor; npm test}
repository=$(git -C "${FRESH_REPOSITORY:-.}" rev-parse --show-toplevel)
suite=${FRESH_SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/fresh-machine.XXXXXX")
unset TMPDIR
cache=${CAISSON_CACHE:-/var/cache/caisson}/fresh
root=${FRESH_ROOT:-$scratch/root}
mkdir -p "$root"
root=$(readlink -f "$root")

# Everything else is made in namespaces, which end with their first process, and that one with this script.
first='' network=''
end() {
  trap - EXIT
  # A second signal, which timeout(1) sends to the group, is not to keep anything from being removed.
  trap '' HUP INT TERM
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

make_root() {
  sources=$(list_sources "$suite")
  packages=${FRESH_PACKAGES:-git,nodejs,npm,ca-certificates}
  list_apt_options >"$scratch/apt.conf"
  # A new one each week, because Debian's packages change.
  key=$(printf '%s\n' "$packages" "$suite" "$sources" "$(cat "$scratch/apt.conf")" "$(date +%G-%V)" | sha256sum | cut -c1-16)
  archive="$cache/fresh-$suite-$key.tar"
  if [ ! -e "$archive" ]; then
    echo "== fresh machine: making a root of Debian $suite" >&2
    mkdir -p "$cache"
    # What it keeps for itself goes with the scratch directory, also when it is killed.
    begin -- env TMPDIR="$scratch" mmdebstrap --mode=root --variant=minbase --format=tar --quiet --dpkgopt=force-unsafe-io \
      "--include=$packages" "--aptopt=$scratch/apt.conf" "$suite" "$scratch/root.tar" "$sources"
    finish
    rm -f "$cache/fresh-$suite"-*
    cp "$scratch/root.tar" "$archive.$$"
    rm "$scratch/root.tar"
    mv "$archive.$$" "$archive"
  fi
  tar --extract --numeric-owner --xattrs --xattrs-include='*' --directory "$root" --file "$archive"

  finish_root "$root" fresh
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
registries=$(list_registries)
# shellcheck disable=SC2086  # one word for each
set -- "$@" $registries
# Shells start what is in the background with interrupts ignored.
begin --net -- sh -ec "$enter" fresh-machine "$root" env -i --default-signal "$@" sh -ec "$command"
# A network without a trace in this machine's own: no interfaces, addresses or rules that others would meet, or it theirs.
until [ "$(readlink "/proc/$first/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
setpriv --pdeathsig KILL -- slirp4netns --configure --disable-host-loopback "$first" tap0 >/dev/null 2>&1 &
network=$!
finish
