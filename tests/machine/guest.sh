#!/bin/sh
# What the emulated machine runs: hands the data disk over, then the command that it was given, or those parts of parts.txt that its kernel's command
# line names. What it prints, the host prints; results.sh reads the lines about parts.
set -u
export LC_ALL=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export CI=true CAISSON_TEST_TIMEOUT_SCALE=30 CAISSON_TEST_VERBOSE=1
until [ -e /dev/virtio-ports/caisson ]; do sleep 1; done
exec >/dev/virtio-ports/caisson 2>&1
. /machine/environment

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

# Prints how it ended. What runs too long ends with all that it has started, because test.sh and the server run in namespaces of their own.
part() { # NAME MINUTES COMMAND
  echo "== machine: begins $1"
  startedS=$(date +%s)
  timeout --kill-after=60 "$2m" sh -c "$3"
  status=$?
  case $status in
    0) verdict=passed ;;
    124 | 137) verdict="failed: not done" ;;
    *) verdict="failed: exit code $status" ;;
  esac
  echo "== machine: $1 $verdict after $(($(date +%s) - startedS)) s"
  return "$status"
}

finish() {
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
# The rest runs in a new machine after a part that has failed, because that may have left anything behind.
for name in $(sed 's/.*caisson\.parts=\([^ ]*\).*/\1/; s/,/ /g' /proc/cmdline); do
  line=$(grep "^$name; " /machine/parts.txt) || finish 1
  minutes=${line#*; }
  part "$name" "${minutes%%;*}" "${minutes#*; }" || finish 1
done
finish 0
