# In a new root, by chroot: kernel, the packages and the environment of ./enter, the guest's own service.
# arguments: suite, kernel's suite and package; the tree is at /src, and this host's package sources are in place
set -eu
suite=$1 kernel_suite=$2 kernel=$3
unset ASSAY_RUNNER_STATE PYTHONPATH BCC_KERNEL_SOURCE # those of the one that makes this root
export DEBIAN_FRONTEND=noninteractive HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# the drivers of the emulated machine alone: a small initrd is unpacked sooner
mkdir -p /etc/initramfs-tools/conf.d
echo MODULES=list >/etc/initramfs-tools/conf.d/guest
printf '%s\n' virtio_pci virtio_blk virtio_console ext4 >>/etc/initramfs-tools/modules
if [ "$kernel_suite" != "$suite" ]; then
  sed -n "s/^\(deb .*\) $suite \(.*\)/\1 $kernel_suite \2/p" /etc/apt/sources.list >/etc/apt/sources.list.d/kernel.list
fi
apt-get -qq update
quietly() { apt-get -qq -y --no-install-recommends "$@" >/dev/null; }
if [ "$kernel_suite" = "$suite" ]; then
  quietly install "$kernel"
else # the meta package may want more than the archive has at the moment: the newest parts that can be had
  newest=$(apt-cache search -n '^linux-binary-[0-9].*amd64$' | cut -d' ' -f1 | grep -E -v -- '-(rt|cloud)-' | sort -V | tail -n 1)
  release=${newest#linux-binary-}
  quietly install -t "$kernel_suite" "$newest" "linux-modules-$release"
fi
quietly install iptables # what the system's own dockerd wants for its bridge
release=$(ls /lib/modules | sort -V | tail -n 1)
kernel=/boot/vmlinuz-$release
[ -e "$kernel" ] || kernel=/usr/lib/modules/$release/vmlinuz
[ -e "/boot/initrd.img-$release" ] || update-initramfs -c -k "$release"
cp "$kernel" /made/vmlinuz
cp "/boot/initrd.img-$release" /made/initrd
echo "$release" >/made/release
echo "$release" >/made/osrelease
# headers are looked for by the kernel that will run here, not by the one that builds this root
mount --bind /made/osrelease /proc/sys/kernel/osrelease
cd /src
./enter true
umount /proc/sys/kernel/osrelease
systemctl disable docker.service docker.socket containerd.service 2>/dev/null || true
systemctl mask systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer \
  fstrim.timer getty@tty1.service serial-getty@ttyS0.service 2>/dev/null
cat >/etc/systemd/system/guest-job.service <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/bin/sh -c 'mkdir -p /job && tar -C /job -xf /dev/disk/by-id/virtio-job && exec /job/guest'
TasksMax=infinity
LimitNOFILE=1048576
[Install]
WantedBy=default.target
UNIT
systemctl enable guest-job.service 2>/dev/null
printf 'LABEL=root / ext4 defaults 0 1\nLABEL=cache /var/lib/assay-runner/cache ext4 nofail 0 2\n' >/etc/fstab
mkdir -p /var/lib/assay-runner/cache
echo guest >/etc/hostname
rm -f /usr/sbin/policy-rc.d /etc/resolv.conf
apt-get clean
rm -rf /var/lib/apt/lists/*
