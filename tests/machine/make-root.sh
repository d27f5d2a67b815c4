#!/bin/sh
# Makes the root disk, kernel and initial file system of an emulated Debian, unless they are in the cache, where each is named after what went into it.
# Leaves processes and mounts to the namespaces that run.sh gives it.
#   make-root.sh SUITE CACHE SCRATCH PACKAGES   writes the directory with root.ext4, vmlinuz and initrd to SCRATCH/directory
set -eu
PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C.UTF-8
suite=$1 cache=$2 scratch=$3 packages=$4

program=machine
library=$(dirname "$(readlink -f "$0")")/../../scripts/debian-root.sh
. "$library"

sources=$(list_sources "$suite")
list_apt_options >"$scratch/apt.conf"

# A new one each week, because Debian's packages change.
key=$({
  echo "$packages $sources $(date +%G-%V)"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cat '{}' +
  cat "$scratch/apt.conf" "$0" "$library"
} | sha256sum | cut -c1-16)
directory=$cache/$suite-$key
echo "$directory" >"$scratch/directory"
[ ! -e "$directory/initrd" ] || exit 0
echo "== machine: making Debian $suite" >&2

# Only what reaches the root disk is in the initial file system: loading more takes minutes under emulation.
# shellcheck disable=SC2016  # expanded by the hook
prepare_initramfs='mkdir -p "$1/etc/initramfs-tools/conf.d"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/machine"; printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"'
root=$scratch/root image=$scratch/image
mkdir -p "$root" "$image" "$scratch/tmp"
TMPDIR="$scratch/tmp" mmdebstrap --mode=root --variant=minbase --format=directory --quiet --dpkgopt=force-unsafe-io \
  "--include=$packages" "--aptopt=$scratch/apt.conf" "--essential-hook=$prepare_initramfs" "$suite" "$root" "$sources"

finish_root "$root" machine
printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/eth0.network"
cat >"$root/etc/systemd/system/caisson-machine.service" <<'UNIT'
# Runs what is on the second disk, and turns the machine off.
[Unit]
Description=Caisson's test
After=network.target dbus.service systemd-user-sessions.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStartPre=mkdir -p /machine
ExecStartPre=mount /dev/vdb /machine
ExecStart=sh /machine/guest.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
UNIT
for unit in /usr/lib/systemd/system/systemd-networkd.service /etc/systemd/system/caisson-machine.service; do
  ln -s "$unit" "$root/etc/systemd/system/multi-user.target.wants/"
done
# Nothing but the test is to run, and of AppArmor's profiles only those that concern it, because compiling them takes minutes.
rm -f "$root"/etc/systemd/system/timers.target.wants/*
find "$root/etc/apparmor.d" -maxdepth 1 -type f ! -name crun ! -name runc ! -name mmdebstrap -delete

truncate -s 16G "$image/root.ext4"
mkfs.ext4 -q -L root -d "$root" "$image/root.ext4"
cp "$root"/boot/vmlinuz-* "$image/vmlinuz"
cp "$root"/boot/initrd.img-* "$image/initrd"
rm -rf --one-file-system "$root" "$scratch/tmp"
# Older ones of this Debian go: each has a gigabyte. QEMU keeps what it has open.
rm -rf "$cache/$suite"-*
# What another run has made meanwhile is as good.
mv -T "$image" "$directory" 2>/dev/null || rm -rf "$image"
