#!/bin/sh
# Runs a command in mount and PID namespaces of its own. When the command dies, however it dies, the kernel ends every process it
# started and drops every mount it made: a crash leaves nothing on the host. On a cgroup v1/v2 hybrid the unified hierarchy is hidden
# inside, because crun refuses hybrids whose v2 side has controllers.
set -eu
exec unshare --mount --propagation slave --pid --fork --kill-child=SIGKILL --mount-proc -- sh -c '
  if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
  exec tini -s -- "$@"
' isolate "$@"
