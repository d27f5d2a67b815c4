#!/bin/sh
# What the emulated machine runs: hands the data disk over, then both README commands' first one, the doctor, and the suites in which version 2 of
# cgroups, systemd, udev and Debian's kernels make a difference. What it prints, the host prints.
set -u
export LC_ALL=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export CI=true CAISSON_TEST_TIMEOUT_SCALE=30 CAISSON_TEST_VERBOSE=1
until [ -e /dev/virtio-ports/caisson ]; do sleep 1; done
exec >/dev/virtio-ports/caisson 2>&1
. /machine/environment

suites='packages/linux/src/**/*.test.ts packages/runtime/src/**/*.test.ts packages/storage/src/**/*.test.ts
  tests/workflow.test.ts tests/volumes.test.ts tests/snapshots.test.ts tests/server.test.ts tests/lifetime.test.ts
  tests/processes.test.ts tests/isolation/*.test.ts'

# Everything that Caisson stores is on the data disk: data directories below /tmp, and the default one.
prepare() {
  set -e
  mount /dev/vdc /tmp
  chmod 1777 /tmp
  mkdir -p /tmp/.data /var/lib/caisson /var/cache/caisson/images
  mount --bind /tmp/.data /var/lib/caisson
  mount --bind /machine/images /var/cache/caisson/images
  tries=0
  until grep -q "^eth0.00000000" /proc/net/route; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "the network did not come up" && return 1; }
    sleep 1
  done
}

failed=''
part() {
  echo "== $*"
  startedS=$(date +%s)
  "$@"
  status=$?
  echo "== $*: exit code $status after $(($(date +%s) - startedS)) s"
  [ "$status" -eq 0 ] || failed="$failed, $*"
}
# As a program of a service, and as one of a user who has logged in: both start in a cgroup that systemd made for them.
in_session() { systemd-run --quiet --pipe --wait --collect -p PAMName=login -p User=root --working-directory="$PWD" "$@"; }

finish() {
  [ -z "$failed" ] || echo "== failed on this machine: ${failed#, }"
  echo "machine: ended with $1"
  exit "$1"
}

echo "== $(. /etc/os-release && echo "$PRETTY_NAME"), Linux $(uname -r), $(cat /proc/1/comm), up $(cut -d. -f1 /proc/uptime) s"
(prepare) || finish 1
echo "== data on $(findmnt --noheadings --output FSTYPE --source /dev/vdc | head -n 1)"
cd /machine/caisson || finish 1
if [ -e /machine/command ]; then
  PATH="$PWD/node_modules/.bin:$PATH" sh -c "$(cat /machine/command)"
  finish $?
fi
part ./caisson doctor
part ./caisson quickstart
part in_session ./caisson quickstart
# shellcheck disable=SC2086 # one word for each suite
part scripts/test.sh $suites
[ -z "$failed" ]
finish $?
