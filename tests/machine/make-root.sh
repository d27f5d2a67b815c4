#!/bin/sh
# Makes the root disk, kernel and initial file system of an emulated Debian, unless they are in the cache, where each is named after what went into it.
# Leaves processes and mounts to the namespaces that run.sh gives it.
#   make-root.sh SUITE CACHE SCRATCH PACKAGES   writes the directory with root.ext4, vmlinuz and initrd to SCRATCH/directory
set -eu
PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C.UTF-8
suite=$1 cache=$2 scratch=$3 packages=$4

fail() {
  echo "machine: $*" >&2
  exit 1
}
refuse_password() {
  case "$1" in *://*@*) fail "the address of $2 carries a password" ;; esac
}

# This machine's mirrors of its own release, with the wanted one in its place.
host_suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
list_sources() {
  apt-get indextargets --no-release-info --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    while read -r site release component; do
      case "$release $component" in
        "$host_suite main" | "$host_suite-updates main" | "$host_suite-security main")
          echo "deb $site $suite${release#"$host_suite"} main" ;;
      esac
    done
}
sources=$(list_sources)
[ -n "$sources" ] || fail "apt has no mirror of Debian $host_suite"
refuse_password "$sources" "an apt mirror"

key=$({
  echo "$packages $sources"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cat '{}' +
  cat "$0"
} | sha256sum | cut -c1-16)
directory=$cache/$suite-$key
echo "$directory" >"$scratch/directory"
[ ! -e "$directory/initrd" ] || exit 0
echo "== machine: making Debian $suite" >&2

set -- --mode=root --variant=minbase --format=directory --quiet --dpkgopt=force-unsafe-io "--include=$packages"
for option in Check-Valid-Until Check-Date ForceIPv4 http::Proxy https::Proxy; do
  value=$(apt-config dump --format '%v' "Acquire::$option")
  refuse_password "$value" "apt's proxy"
  [ -z "$value" ] || set -- "$@" "--aptopt=Acquire::$option \"$value\";"
done
# Only what reaches the root disk is in the initial file system: loading more takes minutes under emulation.
# shellcheck disable=SC2016  # expanded by the hook
set -- "$@" '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/machine"; printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"'
root=$scratch/root image=$scratch/image
mkdir -p "$root" "$image" "$scratch/tmp"
TMPDIR="$scratch/tmp" mmdebstrap "$@" "$suite" "$root" "$sources"

# What an installer writes, and a bare root lacks.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
echo machine >"$root/etc/hostname"
echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/eth0.network"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp '{}' "$root/usr/local/share/ca-certificates/" ';'
chroot "$root" update-ca-certificates >/dev/null 2>&1 || fail "certificates cannot be installed in Debian $suite"
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
# What another run has made meanwhile is as good.
mv -T "$image" "$directory" 2>/dev/null || rm -rf "$image"
