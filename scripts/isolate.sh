#!/bin/sh
# Runs a command in mount and PID namespaces of its own. When the command dies, however it dies, the kernel ends every process it
# started and drops every mount it made: a crash leaves nothing on the host. When this script dies, so does the command. SIGINT, SIGTERM
# and SIGHUP are passed on. On a cgroup v1/v2 hybrid the unified hierarchy is hidden inside, because crun refuses hybrids whose v2 side
# has controllers. An unmount inside also reaches namespaces that were made from this one, which would otherwise keep a volume's device busy.
set -eu

# A root shell that plain su has made lacks the directories of the tools that it calls.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

# Kernel calls that may block run on Node's worker threads; four, its default, are too few for several volumes at once.
export UV_THREADPOOL_SIZE="${UV_THREADPOOL_SIZE:-16}"

# The C library learns from one large block to keep the next ones, and a server that clients have sent long headers then stays twice as large as
# it must be: blocks from here on always go back to the kernel.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.mmap_threshold=262144}"

# A background command gets no standard input of its own accord, so it is handed over.
exec 3<&0
# Since Linux 6.14 a PID namespace has a limit of its own, which begins high: inside it is the host's, so that the server shares out what there is.
pid_max=$(cat /proc/sys/kernel/pid_max)
setpriv --pdeathsig KILL -- \
  unshare --mount --propagation slave --pid --fork --kill-child=SIGKILL --mount-proc -- sh -c '
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    mount --make-rshared /
    if [ "$(cat /proc/sys/kernel/pid_max)" != "$0" ]; then echo "$0" >/proc/sys/kernel/pid_max; fi
    exec tini -s -- "$@"
  ' "$pid_max" "$@" <&3 3<&- &
outer=$!
exec 3<&-

# unshare itself ignores these signals; the command is its only child.
forward() {
  inner=$(pgrep -P "$outer" || true)
  [ -z "$inner" ] || kill -"$1" "$inner" 2>/dev/null || true
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP

# A trapped signal interrupts wait, so it is asked again until the command is gone.
while :; do
  status=0
  wait "$outer" || status=$?
  kill -0 "$outer" 2>/dev/null || exit "$status"
done
