#!/bin/sh
# Boots Debian's own kernel and systemd in an emulated machine and runs Caisson there: plain cgroup v2, as on nearly every user's host. No KVM is
# needed, so everything takes 10 to 30 times as long as on the machine itself. docs/test-machine.md says what it proves and how long it takes.
#
#   run.sh                       Debian 12 with its data on ext4, then Debian 13 with its data on XFS
#   run.sh bookworm:xfs trixie:xfs
#   run.sh trixie:ext4 -- 'scripts/isolate.sh node --test packages/linux/src/blocks/*.test.ts'
#                                runs that instead of the parts, as root in the repository, with node_modules/.bin in PATH
#
# What has passed is not run again for the same commit: a run that was ended, or in which something failed, goes on where it was. The cache has the
# output of each part in results/COMMIT/MACHINE.
#
#   MACHINE_PARTS='volumes bombs' which parts of parts.txt to run (default: all)
#   MACHINE_AGAIN=1               also what has passed
#   MACHINE_REPOSITORY=DIRECTORY  what to clone: its HEAD (default: the repository of the current directory)
#   MACHINE_CACHE=DIRECTORY       where roots are kept, by content (default: /var/cache/caisson/machine)
#   MACHINE_BARE=1                nothing is prepared: the guest gets git, nodejs and npm, and fetches and builds all else itself
#   MACHINE_CONSOLE=FILE          where the kernel's messages go (default: they are shown when the machine fails to start)
#   MACHINE_DEADLINE=TIME         when a machine that hangs is given up, as timeout(1) reads it (default: 12h); its next parts run in a new one
#   MACHINE_MEMORY=MIB            default: 5120
#   MACHINE_CPUS=NUMBER           default: 1, because with two, QEMU 7.2 has made Debian 13's scheduler panic
#
# Needs root on Debian, 12 GB free in the cache and below TMPDIR. Installs mmdebstrap and qemu-system-x86 where they are missing. What one needs here
# to reach mirrors and registries is taken over. An address with a password in it is refused. Ends with QEMU and its disks gone, however it ends.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C.UTF-8
here=$(dirname "$(readlink -f "$0")")

program=machine
. "$here/../../scripts/debian-root.sh"
. "$here/results.sh"

[ "$(id -u)" -eq 0 ] || fail "this needs root"
install_tools mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs

legs=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case "$1" in
    bookworm:ext4 | bookworm:xfs | trixie:ext4 | trixie:xfs) legs="$legs $1" ;;
    *) fail "unknown machine $1: use bookworm or trixie, then :ext4 or :xfs" ;;
  esac
  shift
done
[ $# -eq 0 ] || shift
command=$*
repository=$(git -C "${MACHINE_REPOSITORY:-.}" rev-parse --show-toplevel)
commit=$(git -C "$repository" rev-parse --short=12 HEAD)
cache=${MACHINE_CACHE:-/var/cache/caisson/machine}
results=$cache/results/$commit${MACHINE_BARE:+-bare}
all_parts=$(sed '/^#/d; s/;.*//' "$here/parts.txt")
parts=${MACHINE_PARTS:-$all_parts}
for part in $parts; do
  echo "$all_parts" | grep -qxF -e "$part" || fail "unknown part $part: use some of $(echo "$all_parts" | paste -sd' ')"
done
bare=${MACHINE_BARE:-}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/machine.XXXXXX")
unset TMPDIR
mkdir -p "$cache"

# All work is done by children that end with this script.
child=''
end() {
  trap - EXIT
  # A second signal, which timeout(1) sends to the group, is not to keep anything from being removed.
  trap '' HUP INT TERM
  [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
  # The reader of the guest's output ends when nobody can write to it any more, this shell included.
  exec >/dev/null
  wait
  rm -rf --one-file-system "$scratch"
}
trap end EXIT
trap 'end; exit 129' HUP
trap 'end; exit 130' INT
trap 'end; exit 143' TERM

# In the background, because a shell answers signals only between commands of the foreground.
run() {
  setpriv --pdeathsig KILL -- "$@" &
  child=$!
  status=0
  wait "$child" || status=$?
  child=''
  return "$status"
}

# A system as Debian's installer leaves it, as far as Caisson can tell, and the three packages that README.md asks for. Unless the machine is bare,
# also what Caisson would install there.
packages=systemd-sysv,dbus,udev,libpam-systemd,apparmor,linux-image-cloud-amd64,initramfs-tools,git,nodejs,npm,ca-certificates
[ -n "$bare" ] || packages=$packages,$(sed '/^#/d' "$repository/scripts/host-tools.txt" | cut -d';' -f3 | tr -d ' ' | sort -u | paste -sd,)

# The disk with what belongs to this run: the clone, the addresses, and unless all is to be made there, what the host has made already.
make_payload() {
  payload=$scratch/payload
  mkdir -p "$payload/images"
  git clone --quiet --no-hardlinks "$repository" "$payload/caisson"
  list_registries | sed "s/\(=\)\(.*\)/\1'\2'/; s/^/export /" >"$payload/environment"
  cp "$here/guest.sh" "$here/parts.txt" "$payload/"
  if [ -n "$command" ]; then printf '%s\n' "$command" >"$payload/command"; fi
  if [ -z "$bare" ]; then
    (cd "$repository" && scripts/setup.sh npm)
    cp -a "$repository/node_modules" "$payload/caisson/"
    # What was compiled here is for this processor.
    (cd "$payload/caisson" && ./caisson --version >/dev/null && rm -rf packages/cli/dist/*/compiled)
    cp -a --sparse=always /var/cache/caisson/images/*.ext4 "$payload/images/" 2>/dev/null || true
  fi
  truncate -s 8G "$scratch/payload.ext4"
  run mkfs.ext4 -q -d "$payload" "$scratch/payload.ext4"
  rm -rf --one-file-system "$payload"
}

# Runs the guest with these parts, prints and records what it says, and gives its exit code.
boot() { # PARTS DIRECTORY
  run unshare --mount --propagation private --pid --fork --kill-child=SIGKILL --mount-proc -- \
    "$here/make-root.sh" "$suite" "$cache" "$scratch" "$packages" || return 1
  directory=$(cat "$scratch/directory")
  [ -e "$scratch/payload.ext4" ] || make_payload
  rm -f "$scratch/data.img" "$scratch/output"
  truncate -s 24G "$scratch/data.img"
  run "mkfs.$disk" -q "$scratch/data.img"
  console=${MACHINE_CONSOLE:-$scratch/console}
  mkfifo "$scratch/output"
  record_guest "$2" "$scratch/ended" <"$scratch/output" &
  reader=$!
  # The kernel's check that the timer interrupts works by waiting for it, which panics when the host lets the emulation wait.
  # A session of its own, because the scheduler weighs sessions before programs. Where the guest writes to the disks that are kept, the writes go to
  # a file without a name.
  # shellcheck disable=SC2016  # expanded inside
  run timeout --signal=KILL "${MACHINE_DEADLINE:-12h}" setpriv --pdeathsig KILL -- env TMPDIR="$scratch" setsid --wait sh -c '{ echo 19 >/proc/$$/autogroup; } 2>/dev/null; exec nice -n 19 "$@"' machine qemu-system-x86_64 \
    -nodefaults -display none -monitor none -no-reboot \
    -machine q35,sata=off -cpu Nehalem -accel tcg,thread=multi,tb-size=1024 -smp "${MACHINE_CPUS:-1}" -m "${MACHINE_MEMORY:-5120}" \
    -kernel "$directory/vmlinuz" -initrd "$directory/initrd" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off net.ifnames=0 systemd.getty_auto=no no_timer_check caisson.parts=$1" \
    -drive "file=$directory/root.ext4,format=raw,snapshot=on,if=virtio,cache=unsafe" \
    -drive "file=$scratch/payload.ext4,format=raw,snapshot=on,if=virtio,cache=unsafe" \
    -drive "file=$scratch/data.img,format=raw,if=virtio,cache=unsafe,discard=unmap" \
    -nic user,model=virtio-net-pci -device virtio-rng-pci \
    -chardev "file,id=console,path=$console" -serial chardev:console \
    -chardev file,id=output,path=/dev/stdout -device virtio-serial -device virtserialport,chardev=output,name=caisson \
    </dev/null >"$scratch/output" || true
  wait "$reader"
  ended=$(cat "$scratch/ended")
  if [ -z "$ended" ]; then
    tail -n 60 "$console" >&2
    echo "machine: Debian $suite went away before it had finished; its last messages are above" >&2
    return 1
  fi
  return "$ended"
}

# Runs all parts that have no result, in as many machines as that takes.
run_parts() { # DIRECTORY
  while left=$(list_parts_left "$parts" "$1"); [ -n "$left" ]; do
    boot "${left%,}" "$1" || true
    [ "$(list_parts_left "$parts" "$1")" != "$left" ] || break
  done
}

# The results of other commits go.
find "$cache/results" -mindepth 1 -maxdepth 1 ! -path "$results" -exec rm -rf '{}' + 2>/dev/null || true
result=0 directories=''
for leg in ${legs:-bookworm:ext4 trixie:xfs}; do
  suite=${leg%:*} disk=${leg#*:}
  echo "== machine: Debian $suite, data on $disk" >&2
  if [ -n "$command" ]; then
    boot '' "$scratch" || result=1
    continue
  fi
  directories="$directories $results/$leg"
  mkdir -p "$results/$leg"
  [ -z "${MACHINE_AGAIN:-}" ] || rm -rf "$results/$leg"/*
  forget_failures "$results/$leg"
  run_parts "$results/$leg"
done
[ -z "$command" ] || exit "$result"
# shellcheck disable=SC2086 # one word for each directory
print_results "$parts" $directories
# shellcheck disable=SC2086
have_all_passed "$parts" $directories
