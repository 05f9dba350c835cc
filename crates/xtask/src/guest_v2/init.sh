#!/bin/busybox sh
# First process of the guest, in the initial memory file system: the drivers, then the disk.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
# Some need others, so that they may have to wait for a later round.
for round in 1 2 3 4; do
    for module in /modules/*.ko; do
        [ -e "$module" ] && $b insmod "$module" 2>/dev/null && $b rm "$module"
    done
done
for module in /modules/*.ko; do
    [ -e "$module" ] && echo "cannot insert $module" && $b insmod "$module"
done
if ! $b mount -t ext4 /dev/vda /disk; then
    $b poweroff -f
fi
$b umount /proc
$b umount /sys
$b umount /dev
exec $b switch_root /disk /guest/run.sh
